/* A process that dies at the n-th write to the repository, for every n, in backup, copy,
 * forget, reclaim and repair, and a store whose n-th call fails: nothing needs repair,
 * and the same work done again succeeds. */
#include <sys/wait.h>

#include "common/engine/backup.h"
#include "common/engine/check.h"
#include "common/engine/copy.h"
#include "common/engine/forget.h"
#include "common/engine/reclaim.h"
#include "common/engine/reindex.h"
#include "tests/unit/engine/temp_repo.h"
#include "tests/unit/store/fault_store.h"

enum { WRITES_MAX = 200, CALLS_MAX = 1000, PAUSE_MS = 1 };

static atomic_int left;
static enum fault what; /* happens at the call that `left` counts down to */
static bool every_call; /* reads count as well */

/* Before write number `left` (or call), counting down; locks do not count. */
static enum fault countdown(void *ctx, const struct store_call *c)
{
    (void)ctx;
    bool writes = c->op == STORE_PUT || c->op == STORE_REMOVE;
    /* Of a put in pieces the beginning and the end count as one. */
    if (!(writes || every_call) || (c->in_pieces && c->bytes) ||
        strncmp(c->name, "locks", 5) == 0)
        return FAULT_NONE;
    return atomic_fetch_sub(&left, 1) == 1 ? what : FAULT_NONE;
}

static struct err *open_at(const char *name, bool index, struct repo **out)
{
    struct store *store = NULL;
    struct repo *opened = NULL;
    TRY(store_open(temp_path(name), STORE_RECLAIM, &store));
    TRY(repo_open(fault_wrap(store, countdown, NULL), "pw", 2, &opened));
    AUTO(repo) struct repo *r = opened;
    if (index)
        TRY(repo_load_index(r));
    *out = STEAL(r);
    return NULL;
}

/* ---- the work ---- */

/* Files of which each round changes a third, so that packs are used in part. */
static void fill(unsigned round)
{
    enum { FILES = 24, N = 20000 };
    char data[N];
    mkdir(temp_path("src"), 0700);
    mkdir(temp_path("src/d"), 0700);
    for (unsigned i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "src/%s%u", i % 2 ? "d/" : "", i);
        temp_noise(i % 3 ? i : i + 1000 * round, data, N);
        temp_write(name, data, N);
    }
}

static struct err *backup_with(struct repo *r)
{
    struct backup_result res;
    const struct backup_opts o = {.source = temp_path("src"),
                                  .path = "/p",
                                  .hostname = "h",
                                  .time = {1700000000, 0},
                                  .workers = 1};
    struct err *e = backup_run(r, &o, &res);
    backup_result_fini(&res);
    return e;
}

static struct err *do_backup(void)
{
    AUTO(repo) struct repo *r = NULL;
    TRY(open_at("repo", true, &r));
    return backup_with(r);
}

static struct err *do_forget(void)
{
    struct forget_plan plan = {0};
    const struct forget_opts o = {.by_host = true, .policy.keep[RETAIN_LAST] = 1};
    AUTO(repo) struct repo *r = NULL;
    TRY(open_at("repo", false, &r));
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct err *e = forget_plan(io, &o, &plan);
    if (!e)
        e = forget_run(io, &o, &plan);
    forget_plan_fini(&plan);
    return e;
}

static struct err *do_reclaim(void)
{
    struct reclaim_result res;
    struct reclaim_opts o = {.max_wait_ms = -1, .pause_ms = PAUSE_MS};
    AUTO(repo) struct repo *r = NULL;
    TRY(open_at("repo", false, &r));
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    TRY(repo_lock_as(r, LOCK_RECLAIM, &lock));
    o.lock = lock;
    struct err *e = reclaim_run(r, &o, &res);
    reclaim_result_fini(&res);
    return e;
}

static struct err *copy_with(struct repo *from, struct repo *to, struct repo_lock *lock)
{
    struct copy_result res;
    struct snapshot *list = NULL;
    size_t n = 0;
    AUTO(repo_io) struct repo_io *io = repo_io_new(from);
    const struct copy_opts o = {.workers = 1, .to_lock = lock};
    TRY(repo_snapshots(io, &list, &n));
    struct err *e = copy_run(from, to, list, n, &o, &res);
    repo_free_snapshots(list, n);
    return e;
}

static struct err *do_copy(void)
{
    AUTO(repo) struct repo *from = temp_open(true);
    AUTO(repo) struct repo *to = NULL;
    TRY(open_at("second", true, &to));
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    TRY(repo_lock(to, false, &lock));
    return copy_with(from, to, lock);
}

/* One index file for all packs. */
static struct err *do_reindex(void)
{
    struct reindex_result res;
    struct reindex_opts o = {.read_all = true};
    AUTO(repo) struct repo *r = NULL;
    TRY(open_at("repo", false, &r));
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    TRY(repo_lock(r, true, &lock));
    o.lock = lock;
    struct err *e = reindex_run(r, &o, &res);
    reindex_result_fini(&res);
    return e;
}

typedef struct err *work_fn(void);

/* ---- killing it ---- */

/* Runs the work in a process that dies at write n; true if it died there. */
static bool dies_at(int n, work_fn *work)
{
    int status = 0;
    atomic_store(&left, n);
    pid_t pid = fork();
    if (!pid) {
        what = FAULT_KILL;
        struct err *e = work();
        _exit(e != NULL);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        ck_assert_int_eq(WTERMSIG(status), SIGKILL);
    else
        ck_assert_int_eq(WEXITSTATUS(status), 0);
    atomic_store(&left, -1);
    return WIFSIGNALED(status);
}

static size_t count_clean(const char *name)
{
    struct check_result res;
    const struct check_opts o = {.read_data = true};
    AUTO(repo) struct repo *r = NULL;
    ck_ok(open_at(name, false, &r));
    ck_ok(check_run(r, &o, &res));
    size_t n = res.snapshots;
    check_result_fini(&res);
    return n;
}

static size_t count_files(const char *name, enum repo_kind kind)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    AUTO(repo) struct repo *r = NULL;
    ck_ok(open_at(name, false, &r));
    ck_ok(repo_list(r, kind, &files, &n));
    free(files);
    return n;
}

static void run_shell(const char *fmt, const char *a, const char *b)
{
    AUTO(str) char *command = mem_printf(fmt, a, b);
    ck_assert_int_eq(system(command), 0);
}

/* From the same state each time: dies at the first write, at the second, and so on until
 * it ends alive. After each death the repository is clean, and the work done again is
 * done, which leaves `snapshots`. */
static int sweep(const char *name, size_t snapshots, work_fn *work)
{
    int n = 1;
    run_shell("mv %s %s", temp_path(name), temp_path("start"));
    for (;; n++) {
        ck_assert_int_lt(n, WRITES_MAX);
        run_shell("cp -a %s %s", temp_path("start"), temp_path(name));
        bool died = dies_at(n, work);
        count_clean(name);
        if (!died)
            break;
        ck_ok(work());
        ck_assert_uint_eq(count_clean(name), snapshots);
        run_shell("rm -rf %s %s", temp_path(name), "");
    }
    ck_assert_uint_eq(count_clean(name), snapshots);
    return n;
}

/* A second death at each place before the repetition ends. */
static void sweep_on(const char *name, work_fn *work)
{
    run_shell("rm -rf %s %s", temp_path(name), "");
    run_shell("cp -a %s %s", temp_path("start"), temp_path(name));
    for (int n = 1; dies_at(n, work); n++)
        count_clean(name);
}

/* ---- calls that fail ---- */

/* From the same state each time: the n-th call to the store fails, once. Then either the
 * work says so, or could do without; the repository is clean, and the work done again is
 * done. */
static void fail_each(const char *name, size_t snapshots, work_fn *work)
{
    bool failed = true;
    run_shell("mv %s %s", temp_path(name), temp_path("start"));
    for (int n = 1; failed;
         n += 1 + n / 4) { /* each of the first, a sample of the later */
        ck_assert_int_lt(n, CALLS_MAX);
        run_shell("cp -a %s %s", temp_path("start"), temp_path(name));
        every_call = true;
        what = FAULT_BROKEN;
        atomic_store(&left, n);
        struct err *e = work();
        failed = atomic_load(&left) <= 0;
        every_call = false;
        atomic_store(&left, -1);
        bool told = e != NULL;
        err_free(e);
        size_t now = count_clean(name);
        ck_assert(told || now == snapshots);
        ck_ok(work());
        ck_assert_uint_eq(count_clean(name), snapshots);
        run_shell("rm -rf %s %s", temp_path(name), "");
    }
}

static void several_snapshots(void)
{
    for (unsigned i = 1; i <= 4; i++) {
        fill(i);
        ck_ok(do_backup());
    }
}

START_TEST(a_forget_survives_any_failing_call)
{
    several_snapshots();
    fail_each("repo", 1, do_forget);
}
END_TEST

START_TEST(a_reclaim_survives_any_failing_call)
{
    several_snapshots();
    ck_ok(do_reindex());
    ck_ok(do_forget());
    fail_each("repo", 1, do_reclaim);
}
END_TEST

START_TEST(a_copy_survives_any_failing_call)
{
    struct store *store = NULL;
    ck_ok(store_open(temp_path("second"), STORE_CREATE, &store));
    ck_ok(repo_init(store, "pw", 2, &temp_cost));
    store_close(store);
    several_snapshots();
    fail_each("second", 4, do_copy);
}
END_TEST

START_TEST(a_backup_killed_at_any_write)
{
    fill(1);
    ck_ok(do_backup());
    fill(2);
    ck_assert_int_gt(sweep("repo", 2, do_backup), 3); /* packs, index, snapshot */
    sweep_on("repo", do_backup);
    ck_assert_uint_eq(count_clean("repo"), 2);
}
END_TEST

START_TEST(a_forget_killed_at_any_write)
{
    several_snapshots();
    ck_assert_int_eq(sweep("repo", 1, do_forget), 4);
}
END_TEST

START_TEST(a_reclaim_killed_at_any_write)
{
    /* Dead packs, packs used in part, orphans of a killed backup, several index files. */
    several_snapshots();
    ck_ok(do_reindex()); /* now one file lists packs that stay and packs that go */
    ck_ok(do_forget());
    fill(9);
    ck_assert(dies_at(3, do_backup));
    /* Copies, index, removals of index files and packs, index again. */
    ck_assert_int_gt(sweep("repo", 1, do_reclaim), 10);
    size_t packs = count_files("repo", REPO_DATA);
    ck_ok(do_reclaim());
    ck_assert_uint_eq(count_files("repo", REPO_DATA), packs);
    sweep_on("repo", do_reclaim);
    ck_ok(do_backup());
    ck_assert_uint_eq(count_clean("repo"), 2);
}
END_TEST

START_TEST(a_repair_killed_at_any_write)
{
    several_snapshots();
    ck_assert_int_gt(sweep("repo", 4, do_reindex), 4);
}
END_TEST

START_TEST(a_copy_killed_at_any_write)
{
    struct store *store = NULL;
    ck_ok(store_open(temp_path("second"), STORE_CREATE, &store));
    ck_ok(repo_init(store, "pw", 2, &temp_cost));
    store_close(store);
    several_snapshots();
    ck_assert_int_gt(sweep("second", 4, do_copy), 8);
    sweep_on("second", do_copy);
    ck_assert_uint_eq(count_clean("second"), 4);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("kill");
    tcase_set_timeout(tc, 240);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, temp_enter, NULL);
    tcase_add_test(tc, a_forget_survives_any_failing_call);
    tcase_add_test(tc, a_reclaim_survives_any_failing_call);
    tcase_add_test(tc, a_copy_survives_any_failing_call);
    tcase_add_test(tc, a_backup_killed_at_any_write);
    tcase_add_test(tc, a_forget_killed_at_any_write);
    tcase_add_test(tc, a_reclaim_killed_at_any_write);
    tcase_add_test(tc, a_repair_killed_at_any_write);
    tcase_add_test(tc, a_copy_killed_at_any_write);
    return suite_main("killed at any write", tc);
}
