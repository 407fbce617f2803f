/* Locks: whom they exclude, when they are lost, and how long somebody is waited for. */
#include "common/repo/lock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/repo/lock_watch.h"
#include "common/store/layer.h"
#include "tests/unit/engine/temp_repo.h"

/* ---- waiting ---- */

enum { MINUTE_MS = 60 * 1000 };

static struct lock_claim claim_of(const char *host, long pid, uint8_t file)
{
    struct lock_claim c = {.pid = pid, .id.b = {file}};
    snprintf(c.hostname, sizeof c.hostname, "%s", host);
    return c;
}

static struct lock_watch watch_from(const struct lock_claim *list, size_t n)
{
    const struct lock_claim own = {.hostname = "here", .session = "own", .boot = "b"};
    struct lock_watch w;
    lock_watch_init(&w, &own);
    lock_watch_see(&w, list, n, 0);
    lock_watch_see(&w, list, n, 1000);
    return w;
}

START_TEST(nobody_is_waited_for_when_nobody_is_there)
{
    struct lock_claim own = {.session = "own"};
    struct lock_watch w = watch_from(&own, 1);
    ck_assert_uint_eq(lock_watch_left(&w), 0);
    lock_watch_fini(&w);
}
END_TEST

START_TEST(one_listing_may_miss_a_lock_two_may_not)
{
    const struct lock_claim c = claim_of("a", 5, 1);
    struct lock_watch w = watch_from(&c, 1);
    lock_watch_see(&w, NULL, 0, 2000);
    ck_assert_uint_eq(lock_watch_left(&w), 1);
    lock_watch_see(&w, &c, 1, 3000);
    lock_watch_see(&w, NULL, 0, 4000);
    ck_assert_uint_eq(lock_watch_left(&w), 1);
    lock_watch_see(&w, NULL, 0, 5000);
    ck_assert_uint_eq(lock_watch_left(&w), 0);
    lock_watch_fini(&w);
}
END_TEST

START_TEST(the_first_listings_add_up)
{
    const struct lock_claim own = {.session = "own"}, c = claim_of("a", 5, 1);
    struct lock_watch w;
    lock_watch_init(&w, &own);
    lock_watch_see(&w, NULL, 0, 0); /* in the middle of its refresh */
    lock_watch_see(&w, &c, 1, 1000);
    ck_assert_uint_eq(lock_watch_left(&w), 1);
    lock_watch_fini(&w);
}
END_TEST

START_TEST(a_holder_is_followed_across_refreshes)
{
    struct lock_claim c = claim_of("a", 5, 1);
    struct lock_watch w = watch_from(&c, 1);
    for (int minute = 5; minute < 300; minute += 5) {
        c.id.b[0]++; /* its clock says the same all the time: it is not asked */
        lock_watch_see(&w, &c, 1, (int64_t)minute * MINUTE_MS);
        ck_assert_uint_eq(lock_watch_left(&w), 1);
    }
    /* Another process there is another holder, and came too late to matter. */
    c.pid = 6;
    lock_watch_see(&w, &c, 1, 300 * MINUTE_MS);
    lock_watch_see(&w, &c, 1, 301 * MINUTE_MS);
    ck_assert_uint_eq(lock_watch_left(&w), 0);
    lock_watch_fini(&w);
}
END_TEST

START_TEST(who_does_not_refresh_for_half_an_hour_is_gone)
{
    const struct lock_claim c = claim_of("a", 5, 1);
    struct lock_watch w = watch_from(&c, 1);
    lock_watch_see(&w, &c, 1, 30 * MINUTE_MS);
    ck_assert_uint_eq(lock_watch_left(&w), 1);
    lock_watch_see(&w, &c, 1, 30 * MINUTE_MS + 1);
    ck_assert_uint_eq(lock_watch_left(&w), 0);
    lock_watch_fini(&w);
}
END_TEST

START_TEST(two_runs_of_one_process_are_two_holders)
{
    struct lock_claim both[2] = {claim_of("a", 5, 1), claim_of("a", 5, 2)};
    strcpy(both[0].session, "s1");
    strcpy(both[1].session, "s2");
    struct lock_watch w = watch_from(both, 2);
    ck_assert_uint_eq(lock_watch_left(&w), 2);
    lock_watch_see(&w, &both[1], 1, 2000);
    lock_watch_see(&w, &both[1], 1, 3000);
    ck_assert_uint_eq(lock_watch_left(&w), 1);
    lock_watch_fini(&w);
}
END_TEST

START_TEST(only_our_own_dead_are_judged_by_number)
{
    /* No process has this number. */
    struct lock_claim c = claim_of("here", 0x7ffffff0, 1);
    struct lock_watch w = watch_from(&c, 1);
    ck_assert_uint_eq(lock_watch_left(&w), 1);
    lock_watch_fini(&w);
    strcpy(c.session, "s1");
    strcpy(c.boot, "other");
    w = watch_from(&c, 1);
    ck_assert_uint_eq(lock_watch_left(&w), 1);
    lock_watch_fini(&w);
    strcpy(c.boot, "b");
    w = watch_from(&c, 1);
    ck_assert_uint_eq(lock_watch_left(&w), 0);
    lock_watch_fini(&w);
}
END_TEST

/* ---- holding ---- */

START_TEST(modes_exclude_each_other)
{
    static const bool together[3][3] = {
        [LOCK_SHARED] = {true, true, false},
        [LOCK_RECLAIM] = {true, false, false},
        [LOCK_EXCLUSIVE] = {false, false, false},
    };
    AUTO(repo) struct repo *r = temp_open(false);
    for (int a = LOCK_SHARED; a <= LOCK_EXCLUSIVE; a++) {
        struct repo_lock *first = NULL;
        ck_ok(repo_lock_as(r, (enum lock_mode)a, &first));
        for (int b = LOCK_SHARED; b <= LOCK_EXCLUSIVE; b++) {
            struct repo_lock *second = NULL;
            struct err *e = repo_lock_as(r, (enum lock_mode)b, &second);
            if (together[a][b])
                ck_ok(e);
            else
                ck_err(e, ERR_CONFLICT);
            repo_lock_free(second);
        }
        repo_lock_free(first);
    }
}
END_TEST

START_TEST(a_lock_survives_its_refresh)
{
    struct lock_claim *list = NULL;
    size_t n = 0;
    AUTO(repo) struct repo *r = temp_open(false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    ck_ok(repo_lock(r, false, &lock));
    ck_ok(lock_list(io, &list, &n));
    ck_assert_uint_eq(n, 1);
    const struct digest before = list[0].id;
    free(list);
    repo_lock_refresh(lock);
    ck_ok(repo_lock_check(lock));
    ck_ok(lock_list(io, &list, &n));
    ck_assert_uint_eq(n, 1);
    ck_assert(!digest_equal(&list[0].id, &before));
    ck_assert(lock_claim_same_holder(&list[0], repo_lock_claim(lock)));
    free(list);
}
END_TEST

START_TEST(a_lock_that_somebody_removed_is_lost)
{
    size_t removed = 0;
    AUTO(repo) struct repo *r = temp_open(false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    ck_ok(repo_lock(r, false, &lock));
    ck_ok(lock_remove_stale(io, false, &removed));
    ck_assert_uint_eq(removed, 0);
    ck_ok(lock_remove_stale(io, true, &removed));
    ck_assert_uint_eq(removed, 1);
    repo_lock_refresh(lock);
    ck_err(repo_lock_check(lock), ERR_UNAVAILABLE);
    /* It does not come back by itself. */
    repo_lock_refresh(lock);
    ck_err(repo_lock_check(lock), ERR_UNAVAILABLE);
}
END_TEST

START_TEST(a_claim_reads_as_it_was_written)
{
    struct lock_claim c, back;
    AUTO_BUF struct buf json = {0};
    lock_claim_own(&c);
    c.time = (struct go_time){1700000000, 5};
    c.reclaims = true;
    lock_claim_write(&c, &json);
    ck_ok(lock_claim_read(json.data, json.len, &back));
    ck_assert_str_eq(back.session, c.session);
    ck_assert_str_eq(back.pidns, c.pidns);
    ck_assert_str_eq(back.hostname, c.hostname);
    ck_assert(back.reclaims && !back.exclusive && back.pid == c.pid);
    ck_assert_int_eq(back.time.sec, 1700000000);
    ck_err(lock_claim_read("{}", 2, &back), ERR_CORRUPT);
    ck_err(lock_claim_read("[", 1, &back), ERR_CORRUPT);
}
END_TEST

/* ---- a lock that is not decided yet ---- */

/* As another machine would that locks at the same instant. */
static void plant_exclusive(struct repo *r)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct lock_claim c = claim_of("elsewhere", 5, 0);
    struct timespec now;
    struct digest id;
    clock_gettime(CLOCK_REALTIME, &now);
    c.time = (struct go_time){now.tv_sec, 0};
    c.exclusive = true;
    lock_claim_write(&c, &json);
    repo_seal_file(io, json.data, json.len, &sealed, &id);
    ck_ok(repo_put_file(r, REPO_LOCK, &id, sealed.data, sealed.len));
}

static size_t count(struct repo *r, enum repo_kind kind)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    ck_ok(repo_list(r, kind, &files, &n));
    free(files);
    return n;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What the filesystem below /tmp is does not matter. */
static struct repo *open_with(bool coherent)
{
    struct store *store = NULL;
    struct repo *r = NULL;
    ck_ok(store_open(temp_path("repo"), 0, &store));
    store->coherent = coherent;
    ck_ok(repo_open(store, "pw", 2, &r));
    ck_ok(repo_load_index(r));
    return r;
}

/* A lock that took as long as to be decided at once is given back and tried again. */
static struct repo_lock *begin_undecided(struct repo *r)
{
    enum { TRIES = 300, QUICK_MS = 90 };
    for (int i = 0; i < TRIES; i++) {
        struct repo_lock *l = NULL;
        int64_t began_ms = now_ms();
        ck_ok(repo_lock_begin(r, LOCK_SHARED, &l));
        if (now_ms() - began_ms < QUICK_MS)
            return l;
        repo_lock_free(l);
    }
    ck_abort_msg("no lock is written within %d ms", QUICK_MS);
}

START_TEST(nothing_is_stored_before_the_lock_is_decided)
{
    struct repo_saved saved;
    struct digest id;
    temp_enter();
    AUTO(repo) struct repo *r = open_with(false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct repo_lock *l = begin_undecided(r);
    plant_exclusive(r);
    ck_ok(repo_save_blob(io, BLOB_DATA, "new", 3, &id, &saved));
    ck_assert_uint_eq(count(r, REPO_DATA), 0);
    ck_err(repo_flush(io), ERR_CONFLICT);
    ck_err(repo_put_file(r, REPO_SNAPSHOT, &id, "x", 1), ERR_CONFLICT);
    ck_err(repo_remove_file(r, REPO_KEY, &id), ERR_CONFLICT);
    ck_err(repo_lock_settle(l), ERR_CONFLICT);
    ck_assert_uint_eq(count(r, REPO_DATA), 0);
    ck_assert_uint_eq(count(r, REPO_INDEX), 0);
    ck_assert_uint_eq(count(r, REPO_SNAPSHOT), 0);
    repo_lock_free(l);
    ck_assert_uint_eq(count(r, REPO_LOCK), 1);
}
END_TEST

START_TEST(what_is_stored_waits_for_the_verdict)
{
    struct repo_lock *l = NULL;
    struct repo_saved saved;
    struct digest id;
    temp_enter();
    AUTO(repo) struct repo *r = open_with(false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    ck_ok(repo_lock_begin(r, LOCK_SHARED, &l));
    ck_ok(repo_save_blob(io, BLOB_DATA, "new", 3, &id, &saved));
    ck_ok(repo_flush(io));
    plant_exclusive(r); /* too late to matter: that one has to give way */
    ck_ok(repo_lock_settle(l));
    ck_assert_uint_eq(count(r, REPO_DATA), 1);
    repo_lock_free(l);
}
END_TEST

/* A store that takes long to store the first lock; another machine is quicker. */
static struct repo *rival;

static struct err *dawdle(struct layer *l, struct store_call *call)
{
    (void)l;
    if (call->op != STORE_PUT || !rival)
        return NULL;
    plant_exclusive(rival);
    rival = NULL;
    nanosleep(&(const struct timespec){0, 150000000}, NULL);
    return NULL;
}

/* Else its index would be read while the other one removes packs, and the other one be
 * gone when it is looked for. */
START_TEST(a_lock_that_took_long_is_decided_before_anything_is_read)
{
    static const struct layer_hooks hooks = {.before = dawdle};
    struct repo_lock *l = NULL;
    struct store *inner = NULL;
    struct repo *slow = NULL;
    temp_enter();
    AUTO(repo) struct repo *r = temp_open(false);
    struct layer *layer = mem_zalloc(sizeof *layer);
    ck_ok(store_open(temp_path("repo"), 0, &inner));
    inner->coherent = false;
    layer_setup(layer, inner, &hooks, NULL);
    ck_ok(repo_open(&layer->store, "pw", 2, &slow));
    rival = r;
    ck_err(repo_lock_begin(slow, LOCK_SHARED, &l), ERR_CONFLICT);
    ck_assert_uint_eq(count(r, REPO_LOCK), 1);
    repo_close(slow);
}
END_TEST

/* ---- without a wait ---- */

static _Atomic unsigned holders;
static atomic_bool both;

static pthread_barrier_t together;

static void *lock_and_leave(void *repo)
{
    enum { ROUNDS = 100 };
    for (int i = 0; i < ROUNDS; i++) {
        struct repo_lock *l = NULL;
        pthread_barrier_wait(&together);
        AUTO(err) struct err *e = repo_lock(repo, true, &l);
        if (!e && atomic_fetch_add(&holders, 1) > 0)
            atomic_store(&both, true);
        pthread_barrier_wait(&together);
        if (l)
            atomic_fetch_sub(&holders, 1);
        repo_lock_free(l);
    }
    return NULL;
}

START_TEST(where_lists_do_not_lag_two_never_hold_it)
{
    enum { RIVALS = 3 };
    pthread_t threads[RIVALS];
    struct repo *repos[RIVALS];
    temp_enter();
    pthread_barrier_init(&together, NULL, RIVALS);
    for (int i = 0; i < RIVALS; i++)
        repos[i] = open_with(true);
    for (int i = 0; i < RIVALS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, lock_and_leave, repos[i]), 0);
    for (int i = 0; i < RIVALS; i++) {
        pthread_join(threads[i], NULL);
        repo_close(repos[i]);
    }
    pthread_barrier_destroy(&together);
    ck_assert(!atomic_load(&both));
}
END_TEST

START_TEST(where_lists_do_not_lag_the_verdict_is_at_hand)
{
    struct repo_lock *l = NULL;
    temp_enter();
    AUTO(repo) struct repo *r = open_with(true);
    ck_ok(repo_lock_begin(r, LOCK_SHARED, &l));
    plant_exclusive(r); /* too late to matter: that one has to give way */
    ck_ok(repo_lock_settle(l));
    repo_lock_free(l);
}
END_TEST

/* The kernel's own in memory is one of those that do not lag; its list of processes is
 * none that is known. */
START_TEST(filesystems_are_known)
{
    struct store *s = NULL;
    ck_ok(store_open("/dev/shm", 0, &s));
    ck_assert(s->coherent);
    store_close(s);
    ck_ok(store_open("/proc", 0, &s));
    ck_assert(!s->coherent);
    store_close(s);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("lock");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, temp_set_up, temp_tear_down);
    tcase_add_test(tc, nobody_is_waited_for_when_nobody_is_there);
    tcase_add_test(tc, one_listing_may_miss_a_lock_two_may_not);
    tcase_add_test(tc, the_first_listings_add_up);
    tcase_add_test(tc, a_holder_is_followed_across_refreshes);
    tcase_add_test(tc, who_does_not_refresh_for_half_an_hour_is_gone);
    tcase_add_test(tc, two_runs_of_one_process_are_two_holders);
    tcase_add_test(tc, only_our_own_dead_are_judged_by_number);
    tcase_add_test(tc, modes_exclude_each_other);
    tcase_add_test(tc, a_lock_survives_its_refresh);
    tcase_add_test(tc, a_lock_that_somebody_removed_is_lost);
    tcase_add_test(tc, nothing_is_stored_before_the_lock_is_decided);
    tcase_add_test(tc, what_is_stored_waits_for_the_verdict);
    tcase_add_test(tc, where_lists_do_not_lag_two_never_hold_it);
    tcase_add_test(tc, where_lists_do_not_lag_the_verdict_is_at_hand);
    tcase_add_test(tc, filesystems_are_known);
    tcase_add_test(tc, a_claim_reads_as_it_was_written);
    tcase_add_test(tc, a_lock_that_took_long_is_decided_before_anything_is_read);
    return suite_main("locks", tc);
}
