/* A restore that is killed before the n-th step of giving a file its owner, attributes,
 * times and mode, for every n: the same restore, which overwrites nothing, finishes the
 * work. */
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/engine/restore.h"
#include "tests/unit/engine/temp_tree.h"

enum { OWNER = 1234, MODE = 04751, STEPS_MAX = 20, KILLED = 9 };

static int left; /* steps until the end; 0: for ever */

static void step(void)
{
    if (left > 0 && --left == 0)
        _exit(KILLED);
}

/* In place of the C library's, which the engine calls. */
int fchownat(int fd, const char *path, uid_t uid, gid_t gid, int flags)
{
    step();
    return (int)syscall(SYS_fchownat, fd, path, uid, gid, flags);
}

int fsetxattr(int fd, const char *name, const void *value, size_t n, int flags)
{
    step();
    return (int)syscall(SYS_fsetxattr, fd, name, value, n, flags);
}

int fchmod(int fd, mode_t mode)
{
    step();
    return (int)syscall(SYS_fchmod, fd, mode);
}

int futimens(int fd, const struct timespec times[2])
{
    step();
    return (int)syscall(SYS_utimensat, fd, NULL, times, 0);
}

/* user::rwx user:1:r-x group::r-- mask::r-x other::--x, as linux/posix_acl_xattr.h lays
 * it out. */
static const uint16_t acl[] = {
    2, 0,      0x01,   7,    0xffff, 0xffff, 0x02,   5,    1, 0,      0x04,
    4, 0xffff, 0xffff, 0x10, 5,      0xffff, 0xffff, 0x20, 1, 0xffff, 0xffff,
};

static void save(struct repo_io *io, bool listed, struct digest *id)
{
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct node *nd = temp_node(&t, NODE_FILE, "f");
    nd->mode = node_mode(S_IFREG | MODE);
    nd->uid = nd->gid = OWNER;
    nd->mtime.sec = 1700000000;
    nd->size = 4;
    temp_node_text(io, nd, "text");
    node_add_xattr(nd, "user.a", "1", 1);
    if (listed)
        node_add_xattr(nd, "system.posix_acl_access", acl, sizeof acl);
    ck_ok(repo_save_tree(io, &t, id, &saved));
    ck_ok(repo_flush(io));
}

static uint64_t restore(struct repo *r, const struct digest *tree)
{
    struct restore_result res;
    const struct restore_opts o = {.target = temp_path("out"), .workers = 1};
    struct err *e = restore_run(r, tree, &o, &res);
    uint64_t problems = problems_total(&res.problems) + (e != NULL);
    err_free(e);
    restore_result_fini(&res);
    return problems;
}

static void is_as_saved(bool listed)
{
    struct stat st;
    char value[64];
    const char *path = temp_path("out/f");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, MODE);
    ck_assert_uint_eq(st.st_uid, OWNER);
    ck_assert_int_eq(st.st_mtim.tv_sec, 1700000000);
    ck_assert_int_eq(getxattr(path, "user.a", value, sizeof value), 1);
    if (listed) {
        ck_assert_int_eq(getxattr(path, "system.posix_acl_access", value, sizeof value),
                         sizeof acl);
        ck_assert_mem_eq(value, acl, sizeof acl);
    }
}

/* Killed before step n; false: there are not so many. */
static bool killed_at(struct repo *r, const struct digest *tree, int n)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        left = n;
        _exit(restore(r, tree) ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED);
    return WEXITSTATUS(status) == KILLED;
}

/* An access list changes the mode by which a file that is being written is known: right
 * behind that, and only there, the next restore may tell of it instead. */
START_TEST(it_is_finished)
{
    bool listed = _i;
    struct digest tree;
    {
        AUTO(repo) struct repo *r = temp_open(true);
        AUTO(repo_io) struct repo_io *io = repo_io_new(r);
        save(io, listed, &tree);
    }
    int n = 1, told = 0;
    for (bool died = true; died; n++) {
        AUTO(repo) struct repo *r = temp_open(false);
        ck_ok(repo_load_index(r));
        ck_assert_int_lt(n, STEPS_MAX);
        died = killed_at(r, &tree, n);
        uint64_t problems = restore(r, &tree);
        struct stat st;
        ck_assert_int_eq(stat(temp_path("out/f"), &st), 0);
        told += problems > 0;
        ck_assert_msg(told <= listed,
                      "before step %d: left with mode %o, owner %u, time %lld", n,
                      st.st_mode & 07777, st.st_uid, (long long)st.st_mtim.tv_sec);
        if (problems == 0)
            is_as_saved(listed);
        ck_assert_int_eq(unlink(temp_path("out/f")), 0);
    }
    ck_assert_int_gt(n, 4);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("restore_kill");
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, temp_enter, NULL);
    tcase_add_loop_test(tc, it_is_finished, 0, 2);
    return suite_main("restore_kill", tc);
}
