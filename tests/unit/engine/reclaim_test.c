/* Reclaiming beside backups: what they want again lives on, and nothing is deleted before
 * everybody who could want it has gone. */
#include "common/engine/reclaim.h"

#include "common/engine/backup.h"
#include "common/engine/check.h"
#include "tests/unit/engine/temp_repo.h"
#include "tests/unit/store/fault_store.h"

enum { FILE_BYTES = 300000, PAUSE_MS = 1 };

static struct repo *open_repo(bool index)
{
    struct store *store = NULL;
    struct repo *r = NULL;
    ck_ok(store_open(temp_path("repo"), STORE_RECLAIM, &store));
    ck_ok(repo_open(store, "pw", 2, &r));
    if (index)
        ck_ok(repo_load_index(r));
    return r;
}

static void fill(unsigned round)
{
    static char data[FILE_BYTES];
    mkdir(temp_path("src"), 0700);
    temp_noise(round, data, sizeof data);
    temp_write("src/file", data, sizeof data);
}

static uint64_t backup_with(struct repo *r)
{
    struct backup_result res;
    const struct backup_opts o = {.source = temp_path("src"),
                                  .path = "/p",
                                  .hostname = "h",
                                  .time = {1700000000, 0},
                                  .workers = 1};
    ck_ok(backup_run(r, &o, &res));
    uint64_t fresh = res.summary.data_blobs;
    backup_result_fini(&res);
    return fresh;
}

static void backup(unsigned round)
{
    fill(round);
    AUTO(repo) struct repo *r = open_repo(true);
    backup_with(r);
}

static void forget_all(void)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    AUTO(repo) struct repo *r = open_repo(false);
    ck_ok(repo_list(r, REPO_SNAPSHOT, &files, &n));
    for (size_t i = 0; i < n; i++)
        ck_ok(repo_remove_file(r, REPO_SNAPSHOT, &files[i].id));
    free(files);
}

static size_t count(enum repo_kind kind)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    AUTO(repo) struct repo *r = open_repo(false);
    ck_ok(repo_list(r, kind, &files, &n));
    free(files);
    return n;
}

static void check_clean(size_t snapshots)
{
    struct check_result res;
    const struct check_opts o = {.read_data = true};
    AUTO(repo) struct repo *r = open_repo(false);
    ck_ok(check_run(r, &o, &res));
    ck_assert_uint_eq(res.snapshots, snapshots);
    check_result_fini(&res);
}

static struct reclaim_result reclaim(struct reclaim_opts o)
{
    struct reclaim_result res;
    AUTO(repo) struct repo *r = open_repo(false);
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    ck_ok(repo_lock_as(r, LOCK_RECLAIM, &lock));
    o.lock = lock;
    o.pause_ms = PAUSE_MS;
    ck_ok(reclaim_run(r, &o, &res));
    return res;
}

/* Somebody who uses the repository while it is reclaimed. */
struct other {
    struct repo *repo;
    struct repo_lock *lock;
    struct digest foreign; /* a lock of restic's */
    unsigned asked;        /* how often we were waited for */
    size_t packs;
};

static void other_begin(struct other *w)
{
    *w = (struct other){.repo = open_repo(false)};
    ck_ok(repo_lock(w->repo, false, &w->lock));
    ck_ok(repo_load_index(w->repo));
}

static void other_end(struct other *w)
{
    repo_lock_free(w->lock);
    repo_close(w->repo);
    w->lock = NULL;
    w->repo = NULL;
}

/* ---- wanted again ---- */

/* The first snapshot's file, as it was before it was forgotten. */
static struct {
    struct digest id;
    struct buf bytes;
} kept;

static void keep_snapshot(void)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    AUTO(repo) struct repo *r = open_repo(false);
    ck_ok(repo_list(r, REPO_SNAPSHOT, &files, &n));
    ck_assert_uint_eq(n, 1);
    kept.id = files[0].id;
    ck_ok(repo_get_raw(r, REPO_SNAPSHOT, &kept.id, &kept.bytes));
    free(files);
}

/* A writer that looks at nothing when it stores its snapshot, as restic does. */
static void want_again(void *ctx, const struct reclaim_progress *now)
{
    struct other *w = ctx;
    if (now->stage != RECLAIM_WAIT || !w->repo)
        return;
    /* By now nobody who loads the index finds the old blobs. */
    AUTO(repo) struct repo *fresh = open_repo(true);
    ck_assert_uint_eq(index_blobs(repo_index(fresh)), 0);
    ck_ok(
        repo_put_file(w->repo, REPO_SNAPSHOT, &kept.id, kept.bytes.data, kept.bytes.len));
    other_end(w);
}

START_TEST(what_a_running_backup_wants_again_lives_on)
{
    struct other w;
    backup(1);
    keep_snapshot();
    size_t wanted = count(REPO_DATA);
    backup(2);
    forget_all();
    other_begin(&w);
    struct reclaim_result r = reclaim((struct reclaim_opts){
        .max_wait_ms = -1, .progress = want_again, .progress_ctx = &w});
    ck_assert_uint_gt(r.dead_packs, wanted);
    ck_assert_uint_eq(r.revived_packs, wanted);
    ck_assert_uint_eq(r.deleted_packs, r.dead_packs - wanted);
    check_clean(1);
    buf_fini(&kept.bytes);
}
END_TEST

START_TEST(what_nobody_wants_is_deleted)
{
    backup(1);
    backup(2);
    forget_all();
    backup(2);
    size_t before = count(REPO_DATA);
    struct reclaim_result r = reclaim((struct reclaim_opts){.max_wait_ms = -1});
    ck_assert_uint_gt(r.deleted_packs, 0);
    ck_assert_uint_lt(count(REPO_DATA), before);
    ck_assert_uint_ge(r.freed_bytes, FILE_BYTES);
    check_clean(1);
}
END_TEST

/* ---- waiting ---- */

static void put_foreign_lock(struct other *w)
{
    static const char json[] =
        "{\"time\":\"1970-01-01T00:00:00Z\",\"exclusive\":false,"
        "\"hostname\":\"elsewhere\",\"username\":\"u\",\"pid\":77,\"uid\":5}";
    AUTO(repo) struct repo *r = open_repo(false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_BUF struct buf sealed = {0};
    struct digest old = w->foreign, fresh;
    repo_seal_file(io, json, sizeof json - 1, &sealed, &fresh);
    ck_ok(repo_put_file(r, REPO_LOCK, &fresh, sealed.data, sealed.len));
    w->foreign = fresh;
    err_free(repo_remove_file(r, REPO_LOCK, &old)); /* the first time there is none */
}

static void refresh_then_go(void *ctx, const struct reclaim_progress *now)
{
    struct other *w = ctx;
    if (now->stage != RECLAIM_WAIT)
        return;
    ck_assert_str_eq(now->holder->hostname, "elsewhere");
    ck_assert_uint_eq(count(REPO_DATA), w->packs);
    if (++w->asked < 5) {
        put_foreign_lock(w); /* restic's refresh: another file, the same process */
        return;
    }
    AUTO(repo) struct repo *r = open_repo(false);
    err_free(repo_remove_file(r, REPO_LOCK, &w->foreign));
}

START_TEST(restics_lock_is_waited_for_across_refreshes)
{
    struct other w = {0};
    backup(1);
    forget_all();
    put_foreign_lock(&w);
    w.packs = count(REPO_DATA);
    struct reclaim_result r = reclaim((struct reclaim_opts){
        .max_wait_ms = -1, .progress = refresh_then_go, .progress_ctx = &w});
    ck_assert_uint_ge(w.asked, 5);
    ck_assert_uint_eq(r.waiting, 0);
    ck_assert_uint_eq(count(REPO_DATA), 0);
}
END_TEST

START_TEST(a_wait_given_up_is_gone_on_with)
{
    struct other w;
    backup(1);
    forget_all();
    other_begin(&w);
    size_t packs = count(REPO_DATA);
    struct reclaim_result r = reclaim((struct reclaim_opts){.max_wait_ms = 0});
    ck_assert_uint_eq(r.waiting, 1);
    ck_assert_uint_eq(r.pending_packs, packs);
    ck_assert_uint_eq(count(REPO_DATA), packs);
    other_end(&w);
    check_clean(0);
    r = reclaim((struct reclaim_opts){.max_wait_ms = 0});
    ck_assert_uint_eq(r.deleted_packs, packs);
    ck_assert_uint_eq(count(REPO_DATA), 0);
}
END_TEST

START_TEST(who_comes_after_the_publication_is_not_waited_for)
{
    struct other first, later;
    backup(1);
    forget_all();
    other_begin(&first);
    reclaim((struct reclaim_opts){.max_wait_ms = 0});
    other_end(&first);
    /* It finds nothing of the dying packs, so it stores anew. */
    other_begin(&later);
    fill(1);
    ck_assert_uint_gt(backup_with(later.repo), 0);
    other_end(&later);
    reclaim((struct reclaim_opts){.max_wait_ms = -1});
    check_clean(1);
}
END_TEST

/* As if the reclaim had been killed behind its publication: nobody looks again. The
 * snapshot must be whole for everybody, also for those who know of no dying packs. */
static enum fault listed_before(void *ctx, const struct store_call *call)
{
    bool *done = ctx;
    if (call->op != STORE_PUT || strncmp(call->name, "snapshots/", 10) != 0)
        return FAULT_NONE;
    AUTO(repo) struct repo *fresh = open_repo(true);
    const struct index *ix = repo_index(fresh);
    for (size_t i = 0; i < index_packs(ix); i++) {
        struct index_cursor c = index_blobs_of(ix, i);
        *done |= index_next(&c) && c.blob.type == BLOB_DATA;
    }
    return FAULT_NONE;
}

START_TEST(a_snapshot_takes_back_what_a_killed_reclaim_gave_up)
{
    struct other w = {0};
    struct store *store = NULL;
    bool done = false;
    backup(1);
    forget_all();
    ck_ok(store_open(temp_path("repo"), 0, &store));
    ck_ok(repo_open(fault_wrap(store, listed_before, &done), "pw", 2, &w.repo));
    ck_ok(repo_lock(w.repo, false, &w.lock));
    ck_ok(repo_load_index(w.repo));
    struct reclaim_result r = reclaim((struct reclaim_opts){.max_wait_ms = 0});
    ck_assert_uint_gt(r.pending_packs, 1);
    fill(1);
    ck_assert_uint_eq(backup_with(w.repo), 0);
    ck_assert(done);
    other_end(&w);
    check_clean(1);
    /* What it did not need is gone after all. */
    size_t packs = count(REPO_DATA);
    reclaim((struct reclaim_opts){.max_wait_ms = -1});
    ck_assert_uint_lt(count(REPO_DATA), packs);
    check_clean(1);
}
END_TEST

/* The publication falls between a writer's look at the index and its snapshot. */
static enum fault publish_first(void *ctx, const struct store_call *call)
{
    bool *done = ctx;
    if (*done || call->op != STORE_PUT || strncmp(call->name, "snapshots/", 10) != 0)
        return FAULT_NONE;
    *done = true;
    reclaim((struct reclaim_opts){.max_wait_ms = 0});
    return FAULT_NONE;
}

START_TEST(a_publication_just_before_a_snapshot_is_noticed)
{
    bool done = false;
    struct store *store = NULL;
    struct other w = {0};
    backup(1);
    forget_all();
    ck_ok(store_open(temp_path("repo"), 0, &store));
    ck_ok(repo_open(fault_wrap(store, publish_first, &done), "pw", 2, &w.repo));
    ck_ok(repo_lock(w.repo, false, &w.lock));
    ck_ok(repo_load_index(w.repo));
    fill(1);
    ck_assert_uint_eq(backup_with(w.repo), 0);
    ck_assert(done);
    other_end(&w);
    check_clean(1);
}
END_TEST

/* A snapshot that is stored between a reclaim's first listing and its publication: its
 * writer looked at the index too early, and the reclaim is stopped before it waits. */
static enum fault store_first(void *ctx, const struct store_call *call)
{
    struct other *w = ctx;
    if (!w->repo || call->op != STORE_PUT || strncmp(call->name, "index/", 6) != 0)
        return FAULT_NONE;
    struct repo *r = STEAL(w->repo);
    backup_with(r);
    repo_lock_free(STEAL(w->lock));
    repo_close(r);
    return FAULT_NONE;
}

START_TEST(a_snapshot_just_before_the_publication_is_noticed)
{
    struct other w;
    struct store *store = NULL;
    struct reclaim_result res;
    backup(1);
    forget_all();
    fill(1);
    other_begin(&w);
    ck_ok(store_open(temp_path("repo"), STORE_RECLAIM, &store));
    struct repo *r = NULL;
    ck_ok(repo_open(fault_wrap(store, store_first, &w), "pw", 2, &r));
    struct repo_lock *lock = NULL;
    ck_ok(repo_lock_as(r, LOCK_RECLAIM, &lock));
    struct other keeps; /* somebody to be waited for */
    other_begin(&keeps);
    const struct reclaim_opts o = {.lock = lock, .pause_ms = PAUSE_MS};
    ck_ok(reclaim_run(r, &o, &res));
    ck_assert_ptr_null(w.repo);
    ck_assert_uint_eq(res.waiting, 1);
    check_clean(1);
    other_end(&keeps);
    repo_lock_free(lock);
    repo_close(r);
}
END_TEST

/* ---- in flight ---- */

START_TEST(packs_of_a_running_backup_stay_indexed)
{
    struct other w;
    struct repo_saved saved;
    struct digest id;
    other_begin(&w);
    struct repo_io *io = repo_io_new(w.repo);
    ck_ok(repo_save_blob(io, BLOB_DATA, "in flight", 9, &id, &saved));
    ck_ok(repo_flush(io));
    struct reclaim_result r = reclaim((struct reclaim_opts){.max_wait_ms = 0});
    ck_assert_uint_eq(r.in_flight_packs, 1);
    ck_assert_uint_eq(r.dead_packs, 0);
    struct repo *fresh = open_repo(true);
    ck_assert(repo_has_blob(fresh, BLOB_DATA, &id, NULL));
    repo_close(fresh);
    repo_io_free(io);
    other_end(&w);
    /* It ended without a snapshot: now they are nobody's. */
    r = reclaim((struct reclaim_opts){.max_wait_ms = -1});
    ck_assert_uint_eq(r.deleted_packs, 1);
}
END_TEST

/* ---- loading meanwhile ---- */

/* A pack with one blob that is needed and one that is not. */
static void half_used(void)
{
    struct repo_saved saved;
    struct digest id;
    static char data[FILE_BYTES];
    fill(1);
    AUTO(repo) struct repo *r = open_repo(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    for (unsigned i = 0; i < 24; i++) { /* blobs choose between two packs by chance */
        temp_noise(100 + i, data, sizeof data);
        ck_ok(repo_save_blob(io, BLOB_DATA, data, sizeof data, &id, &saved));
    }
    backup_with(r);
}

/* The first time an index file is read, it has just been replaced. */
static enum fault replace_first(void *ctx, const struct store_call *call)
{
    bool *done = ctx;
    if (*done || call->op != STORE_STAT || strncmp(call->name, "index/", 6) != 0)
        return FAULT_NONE;
    *done = true;
    reclaim((struct reclaim_opts){.max_wait_ms = 0});
    return FAULT_NONE;
}

START_TEST(an_index_replaced_while_it_is_loaded_is_loaded_anew)
{
    bool done = false;
    struct store *store = NULL;
    struct repo *r = NULL;
    half_used();
    ck_ok(store_open(temp_path("repo"), 0, &store));
    ck_ok(repo_open(fault_wrap(store, replace_first, &done), "pw", 2, &r));
    ck_ok(repo_load_index(r));
    ck_assert(done);
    size_t packs = index_packs(repo_index(r));
    repo_close(r);
    r = open_repo(true);
    ck_assert_uint_eq(index_packs(repo_index(r)), packs);
    repo_close(r);
}
END_TEST

/* ---- limits ---- */

START_TEST(a_dry_run_changes_nothing)
{
    backup(1);
    forget_all();
    size_t packs = count(REPO_DATA), indexes = count(REPO_INDEX);
    struct reclaim_result r = reclaim((struct reclaim_opts){.dry_run = true});
    ck_assert_uint_eq(r.dead_packs, packs);
    ck_assert_uint_eq(count(REPO_DATA), packs);
    ck_assert_uint_eq(count(REPO_INDEX), indexes);
}
END_TEST

START_TEST(repacking_is_limited)
{
    half_used();
    struct reclaim_result r = reclaim((struct reclaim_opts){
        .max_unused_percent = -1, .max_unused_bytes = UINT64_MAX, .max_wait_ms = -1});
    ck_assert_uint_eq(r.repack_packs, 0);
    ck_assert_uint_gt(r.unused_bytes, 0);
    r = reclaim((struct reclaim_opts){.max_repack_bytes = 1, .max_wait_ms = -1});
    ck_assert_uint_eq(r.repack_packs, 0);
    r = reclaim((struct reclaim_opts){.max_wait_ms = -1});
    ck_assert_uint_gt(r.repack_packs, 0);
    ck_assert_uint_eq(r.unused_bytes, 0);
    check_clean(1);
    r = reclaim((struct reclaim_opts){.max_wait_ms = -1});
    ck_assert_uint_eq(r.repack_packs + r.dead_packs, 0);
    ck_assert_uint_eq(r.bytes, r.needed_bytes + r.packs * (CRYPT_OVERHEAD + 4));
}
END_TEST

START_TEST(a_damaged_repository_is_left_as_it_is)
{
    struct reclaim_result res;
    struct reclaim_opts o = {.max_wait_ms = -1};
    struct repo_file *files = NULL;
    size_t n = 0;
    backup(1);
    AUTO(repo) struct repo *r = open_repo(false);
    ck_ok(repo_list(r, REPO_DATA, &files, &n));
    ck_ok(repo_remove_file(r, REPO_DATA, &files[0].id));
    free(files);
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    ck_ok(repo_lock_as(r, LOCK_RECLAIM, &lock));
    o.lock = lock;
    size_t packs = count(REPO_DATA), indexes = count(REPO_INDEX);
    ck_err(reclaim_run(r, &o, &res), ERR_NOT_FOUND);
    reclaim_result_fini(&res);
    ck_assert_uint_eq(count(REPO_DATA), packs);
    ck_assert_uint_eq(count(REPO_INDEX), indexes);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("reclaim");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, temp_enter, NULL);
    tcase_add_test(tc, what_a_running_backup_wants_again_lives_on);
    tcase_add_test(tc, what_nobody_wants_is_deleted);
    tcase_add_test(tc, restics_lock_is_waited_for_across_refreshes);
    tcase_add_test(tc, a_wait_given_up_is_gone_on_with);
    tcase_add_test(tc, who_comes_after_the_publication_is_not_waited_for);
    tcase_add_test(tc, a_snapshot_takes_back_what_a_killed_reclaim_gave_up);
    tcase_add_test(tc, a_publication_just_before_a_snapshot_is_noticed);
    tcase_add_test(tc, a_snapshot_just_before_the_publication_is_noticed);
    tcase_add_test(tc, packs_of_a_running_backup_stay_indexed);
    tcase_add_test(tc, an_index_replaced_while_it_is_loaded_is_loaded_anew);
    tcase_add_test(tc, a_dry_run_changes_nothing);
    tcase_add_test(tc, repacking_is_limited);
    tcase_add_test(tc, a_damaged_repository_is_left_as_it_is);
    return suite_main("reclaim", tc);
}
