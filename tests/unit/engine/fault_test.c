/* The n-th call to the store fails, for every n: a backup then either says so or is
 * whole, and the next one with a healthy store succeeds. Also: a backup killed at its
 * worst moments. */
#include "common/engine/backup.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "common/base/mem.h"
#include "common/engine/check.h"
#include "common/engine/restore.h"
#include "common/repo/lock.h"
#include "tests/unit/engine/temp_repo.h"

/* A store that passes everything on but the call that `left` counts down to, or kills the
 * process before the put that `kill` counts down to. */
struct faulty {
    struct store store;
    struct store *inner;
    atomic_int left;
    atomic_int kill;
    bool behind_snapshot; /* the first call after a snapshot was stored fails */
};

static struct faulty *faulty_of(struct store *s)
{
    return (struct faulty *)s;
}

static struct err *trip(struct store *s)
{
    if (atomic_fetch_sub(&faulty_of(s)->left, 1) == 1)
        return err_os(EIO, "injected");
    return NULL;
}

static struct err *faulty_put(struct store *s, const char *name, const void *data,
                              size_t n)
{
    TRY(trip(s));
    if (atomic_fetch_sub(&faulty_of(s)->kill, 1) == 1)
        raise(SIGKILL);
    TRY(store_put(faulty_of(s)->inner, name, data, n));
    if (faulty_of(s)->behind_snapshot && strncmp(name, "snapshots/", 10) == 0)
        atomic_store(&faulty_of(s)->left, 1);
    return NULL;
}

static struct err *faulty_get(struct store *s, const char *name, uint64_t offset,
                              void *out, size_t n)
{
    TRY(trip(s));
    return store_get(faulty_of(s)->inner, name, offset, out, n);
}

static struct err *faulty_list(struct store *s, const char *dir, store_visit *visit,
                               void *ctx)
{
    TRY(trip(s));
    return store_list(faulty_of(s)->inner, dir, visit, ctx);
}

static struct err *faulty_stat(struct store *s, const char *name, uint64_t *bytes)
{
    TRY(trip(s));
    return store_stat(faulty_of(s)->inner, name, bytes);
}

static struct err *faulty_remove(struct store *s, const char *name)
{
    TRY(trip(s));
    return store_remove(faulty_of(s)->inner, name);
}

static void faulty_close(struct store *s)
{
    store_close(faulty_of(s)->inner);
    free(s);
}

static const struct store_vt faulty_vt = {
    .put = faulty_put,
    .get = faulty_get,
    .list = faulty_list,
    .stat = faulty_stat,
    .remove = faulty_remove,
    .close = faulty_close,
};

/* Fails call number n. */
static struct store *faulty_open(int n, struct faulty **out)
{
    struct faulty *f = mem_zalloc(sizeof *f);
    ck_ok(store_open(temp_path("repo"), 0, &f->inner));
    store_setup(&f->store, &faulty_vt, 0, "faulty");
    atomic_store(&f->left, n);
    *out = f;
    return &f->store;
}

static void set_up(void)
{
    AUTO(str) char *data = mem_alloc(3 << 20);
    temp_enter();
    ck_assert_int_eq(mkdir(temp_path("src"), 0700), 0);
    ck_assert_int_eq(mkdir(temp_path("src/d"), 0700), 0);
    temp_noise(11, data, 3 << 20);
    temp_write("src/data", data, 3 << 20);
    temp_write("src/d/small", "x", 1);
}

static struct backup_opts opts_of(void)
{
    return (struct backup_opts){.source = temp_path("src"),
                                .path = "/p",
                                .hostname = "h",
                                .time = {1700000000, 0},
                                .workers = 2};
}

static struct err *backup_through(struct store *store)
{
    struct repo *opened = NULL;
    struct backup_result res;
    const struct backup_opts o = opts_of();
    TRY(repo_open(store, "pw", 2, &opened));
    AUTO(repo) struct repo *r = opened;
    TRY(repo_load_index(r));
    struct err *e = backup_run(r, &o, &res);
    backup_result_fini(&res);
    return e;
}

static void check_repo(size_t want_snapshots)
{
    struct check_result res;
    const struct check_opts o = {.read_data = true};
    AUTO(repo) struct repo *r = temp_open(false);
    ck_ok(check_run(r, &o, &res));
    ck_assert_uint_eq(res.snapshots, want_snapshots);
    check_result_fini(&res);
}

/* Whether the error says that the snapshot is stored all the same. */
static bool says_stored(const struct err *e)
{
    AUTO(str) char *text = err_text(e);
    return strstr(text, "is stored, but") != NULL;
}

START_TEST(any_failing_store_call_is_told_and_harms_nothing)
{
    size_t snapshots = 0;
    int n = 1;
    for (;; n++) {
        struct faulty *f = NULL;
        struct store *store = faulty_open(n, &f);
        ck_assert_int_lt(n, 200);
        AUTO(err) struct err *e = backup_through(store);
        if (!e)
            break;
        snapshots += says_stored(e);
        check_repo(snapshots);
    }
    /* The first success is the first n that no call reached. */
    check_repo(snapshots + 1);
    ck_assert_int_gt(n, 8); /* open, index, packs, index file, snapshot */
}
END_TEST

/* The second look at the index. */
START_TEST(what_fails_behind_the_snapshot_is_told_as_that)
{
    struct faulty *f = NULL;
    struct store *store = faulty_open(0, &f);
    f->behind_snapshot = true;
    AUTO(err) struct err *e = backup_through(store);
    ck_assert_ptr_nonnull(e);
    ck_assert(says_stored(e));
    check_repo(1);
}
END_TEST

START_TEST(any_failing_read_fails_a_restore_visibly)
{
    struct store *healthy = NULL;
    ck_ok(store_open(temp_path("repo"), 0, &healthy));
    ck_ok(backup_through(healthy));
    for (int n = 1;; n++) {
        struct faulty *f = NULL;
        struct repo *r = NULL;
        char name[32];
        struct snapshot s = {0};
        struct restore_result res;
        snprintf(name, sizeof name, "out%d", n);
        ck_assert_int_lt(n, 200);
        struct err *e = repo_open(faulty_open(n, &f), "pw", 2, &r);
        if (e) {
            err_free(e);
            continue;
        }
        struct repo_io *io = repo_io_new(r);
        e = repo_load_index(r);
        if (!e)
            e = repo_find_snapshot(io, "latest", &s);
        if (!e) {
            const struct restore_opts o = {.target = temp_path(name), .strip = "/p"};
            e = restore_run(r, &s.tree, &o, &res);
            restore_result_fini(&res);
        }
        bool done = e == NULL;
        err_free(e);
        snapshot_fini(&s);
        repo_io_free(io);
        repo_close(r);
        if (done) {
            ck_assert_int_eq(access(temp_path(name), F_OK), 0);
            break;
        }
    }
}
END_TEST

enum { LARGE = 40 << 20 };

static uint64_t stored_in_packs(struct repo *r)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    uint64_t bytes = 0;
    ck_ok(repo_list(r, REPO_DATA, &files, &n));
    for (size_t i = 0; i < n; i++)
        bytes += files[i].bytes;
    free(files);
    return bytes;
}

/* Backs up in a process that is killed before its n-th put; false: it ended earlier. */
static bool backup_until_killed(int n)
{
    int status = 0;
    pid_t pid = fork();
    if (!pid) {
        struct faulty *f = NULL;
        struct store *store = faulty_open(0, &f);
        atomic_store(&f->kill, n);
        err_free(backup_through(store));
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Whatever write it is killed at, the retry stores nothing that is in a pack already,
 * whether an index file lists it or not, and the repository is sound. */
START_TEST(a_killed_backup_is_continued_by_its_retry)
{
    AUTO(str) char *data = mem_alloc(LARGE);
    int n = 1;
    for (bool killed = true; killed; n++) {
        struct backup_result res;
        temp_noise(77 + (uint64_t)n, data, LARGE);
        temp_write("src/large", data, LARGE);
        AUTO(repo) struct repo *before = temp_open(true);
        uint64_t had = stored_in_packs(before);
        killed = backup_until_killed(n);
        AUTO(repo) struct repo *r = temp_open(true);
        uint64_t left = stored_in_packs(r) - had;
        struct backup_opts o = opts_of();
        o.resume = true;
        ck_ok(repo_lock(r, false, &o.lock));
        ck_ok(backup_run(r, &o, &res));
        /* Lists of directories, and what packs hold beside contents, are the slack. */
        ck_assert_uint_le(res.summary.data_added + left, LARGE + (3 << 20) + (64 << 10));
        backup_result_fini(&res);
        repo_lock_free(o.lock);
    }
    ck_assert_int_gt(n, 6); /* three packs, the trees', an index file, the snapshot */
    check_repo((size_t)n - 1 + 1); /* a retry each, and the one that was not killed */
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("fault");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, any_failing_store_call_is_told_and_harms_nothing);
    tcase_add_test(tc, what_fails_behind_the_snapshot_is_told_as_that);
    tcase_add_test(tc, any_failing_read_fails_a_restore_visibly);
    tcase_add_test(tc, a_killed_backup_is_continued_by_its_retry);
    return suite_main("engine fault", tc);
}
