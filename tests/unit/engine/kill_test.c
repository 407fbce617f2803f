/* A process that dies at the n-th write to the repository, for every n, in backup, copy,
 * forget and reclaim: nothing needs repair, and the same work done again succeeds. */
#include <sys/wait.h>

#include "common/engine/backup.h"
#include "common/engine/check.h"
#include "common/engine/copy.h"
#include "common/engine/forget.h"
#include "common/engine/reclaim.h"
#include "tests/unit/engine/temp_repo.h"
#include "tests/unit/store/fault_store.h"

enum { WRITES_MAX = 200, PAUSE_MS = 1 };

/* Dies before write number `left`, counting down; locks do not count. */
static enum fault countdown(void *ctx, const struct store_call *c)
{
    atomic_int *left = ctx;
    bool writes = c->op == STORE_PUT || c->op == STORE_REMOVE;
    /* Of a put in pieces the beginning and the end count as one. */
    if (!writes || (c->in_pieces && c->bytes) || strncmp(c->name, "locks", 5) == 0)
        return FAULT_NONE;
    return atomic_fetch_sub(left, 1) == 1 ? FAULT_KILL : FAULT_NONE;
}

static atomic_int left;

static struct repo *open_at(const char *name, bool index)
{
    struct store *store = NULL;
    struct repo *r = NULL;
    ck_ok(store_open(temp_path(name), STORE_RECLAIM, &store));
    ck_ok(repo_open(fault_wrap(store, countdown, &left), "pw", 2, &r));
    if (index)
        ck_ok(repo_load_index(r));
    return r;
}

/* ---- the work ---- */

static void fill(unsigned round)
{
    enum { N = 400000 };
    AUTO(str) char *data = mem_alloc(N);
    mkdir(temp_path("src"), 0700);
    mkdir(temp_path("src/d"), 0700);
    temp_noise(round, data, N);
    temp_write("src/changing", data, N);
    temp_noise(7, data, N);
    temp_write("src/d/steady", data, N);
}

static void do_backup(void)
{
    struct backup_result res;
    const struct backup_opts o = {.source = temp_path("src"),
                                  .path = "/p",
                                  .hostname = "h",
                                  .time = {1700000000, 0},
                                  .workers = 1};
    AUTO(repo) struct repo *r = open_at("repo", true);
    ck_ok(backup_run(r, &o, &res));
    backup_result_fini(&res);
}

static void do_forget(void)
{
    struct forget_plan plan = {0};
    const struct forget_opts o = {.by_host = true, .policy.keep[RETAIN_LAST] = 1};
    AUTO(repo) struct repo *r = open_at("repo", false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    ck_ok(forget_plan(io, &o, &plan));
    ck_ok(forget_run(io, &o, &plan));
    forget_plan_fini(&plan);
}

static void do_reclaim(void)
{
    struct reclaim_result res;
    struct reclaim_opts o = {.max_wait_ms = -1, .pause_ms = PAUSE_MS};
    AUTO(repo) struct repo *r = open_at("repo", false);
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    ck_ok(repo_lock_as(r, LOCK_RECLAIM, &lock));
    o.lock = lock;
    ck_ok(reclaim_run(r, &o, &res));
    reclaim_result_fini(&res);
}

static void do_copy(void)
{
    struct copy_result res;
    struct snapshot *list = NULL;
    size_t n = 0;
    AUTO(repo) struct repo *from = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(from);
    AUTO(repo) struct repo *to = open_at("second", true);
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    struct copy_opts o = {.workers = 1};
    ck_ok(repo_lock(to, false, &lock));
    o.to_lock = lock;
    ck_ok(repo_snapshots(io, &list, &n));
    ck_ok(copy_run(from, to, list, n, &o, &res));
    repo_free_snapshots(list, n);
}

/* ---- killing it ---- */

/* Runs the work in a process that dies at write n; true if it died there. */
static bool dies_at(int n, void (*work)(void))
{
    int status = 0;
    atomic_store(&left, n);
    pid_t pid = fork();
    if (!pid) {
        work();
        _exit(0);
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
    AUTO(repo) struct repo *r = open_at(name, false);
    ck_ok(check_run(r, &o, &res));
    size_t n = res.snapshots;
    check_result_fini(&res);
    return n;
}

static size_t count_files(const char *name, enum repo_kind kind)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    AUTO(repo) struct repo *r = open_at(name, false);
    ck_ok(repo_list(r, kind, &files, &n));
    free(files);
    return n;
}

/* Kills the work at its first write, the repeated work at its second, and so on, until it
 * ends alive; `prepare` (may be NULL) makes something to do for each time. */
static int sweep(const char *name, void (*prepare)(unsigned), void (*work)(void))
{
    int n = 1;
    for (;; n++) {
        if (prepare)
            prepare((unsigned)n);
        ck_assert_int_lt(n, WRITES_MAX);
        if (!dies_at(n, work))
            break;
        count_clean(name);
    }
    count_clean(name);
    return n;
}

START_TEST(a_backup_killed_at_any_write)
{
    int n = sweep("repo", fill, do_backup);
    ck_assert_int_gt(n, 3); /* packs, index, snapshot */
    ck_assert_uint_eq(count_clean("repo"), 1);
}
END_TEST

static void several_snapshots(unsigned round)
{
    for (unsigned i = 0; i < 3; i++) {
        fill(round * 10 + i);
        do_backup();
    }
}

START_TEST(a_forget_killed_at_any_write)
{
    int n = sweep("repo", several_snapshots, do_forget);
    ck_assert_int_gt(n, 2);
    ck_assert_uint_eq(count_clean("repo"), 1);
}
END_TEST

/* Dead packs, half-used packs, orphans of a killed backup, and several index files. */
static void garbage(unsigned round)
{
    several_snapshots(round);
    do_forget();
    fill(round * 10 + 9);
    ck_assert(dies_at(2, do_backup));
}

START_TEST(a_reclaim_killed_at_any_write)
{
    int n = sweep("repo", garbage, do_reclaim);
    ck_assert_int_gt(n, 6); /* copies, index, removals of index files and packs, index */
    ck_assert_uint_eq(count_clean("repo"), 1);
    /* What the killed ones began, the last one has ended. */
    size_t packs = count_files("repo", REPO_DATA);
    do_reclaim();
    ck_assert_uint_eq(count_files("repo", REPO_DATA), packs);
    do_backup();
    ck_assert_uint_eq(count_clean("repo"), 2);
}
END_TEST

START_TEST(a_copy_killed_at_any_write)
{
    struct store *store = NULL;
    ck_ok(store_open(temp_path("second"), STORE_CREATE, &store));
    ck_ok(repo_init(store, "pw", 2, &temp_cost));
    store_close(store);
    several_snapshots(1);
    int n = sweep("second", NULL, do_copy);
    ck_assert_int_gt(n, 3);
    ck_assert_uint_eq(count_clean("second"), 3);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("kill");
    tcase_set_timeout(tc, 240);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, temp_enter, NULL);
    tcase_add_test(tc, a_backup_killed_at_any_write);
    tcase_add_test(tc, a_forget_killed_at_any_write);
    tcase_add_test(tc, a_reclaim_killed_at_any_write);
    tcase_add_test(tc, a_copy_killed_at_any_write);
    return suite_main("killed at any write", tc);
}
