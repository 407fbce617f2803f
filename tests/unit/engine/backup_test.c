#include "common/engine/backup.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "common/base/mem.h"
#include "common/engine/check.h"
#include "common/engine/find.h"
#include "common/engine/restore.h"
#include "tests/unit/engine/temp_repo.h"

enum { BIG = 5 << 20 };
static const char *const two_tags[] = {"stillpoint", "set=1"};

/* Each test works on a repository and source of its own. */
static void set_up(void)
{
    AUTO(str) char *big = mem_alloc(BIG);
    temp_enter();
    temp_noise(1, big, BIG);
    ck_assert_int_eq(mkdir(temp_path("src"), 0750), 0);
    ck_assert_int_eq(mkdir(temp_path("src/sub"), 0711), 0);
    temp_write("src/big", big, BIG);
    temp_write("src/sub/small", "small", 5);
    temp_write("src/empty", "", 0);
    ck_assert_int_eq(link(temp_path("src/big"), temp_path("src/sub/hard")), 0);
    ck_assert_int_eq(symlink("/etc/passwd", temp_path("src/away")), 0);
    ck_assert_int_eq(chmod(temp_path("src/sub/small"), 04755), 0);
}

static struct backup_opts opts_of(void)
{
    return (struct backup_opts){
        .source = temp_path("src"),
        .path = "/data/part",
        .hostname = "db1",
        .tags = two_tags,
        .tags_n = 2,
        .time = {1700000000, 0},
    };
}

static void backup_ok(struct repo *r, const struct backup_opts *o, struct digest *id,
                      struct backup_result *out)
{
    ck_ok(backup_run(r, o, out));
    *id = out->snapshot;
    backup_result_fini(out);
}

static size_t count_snapshots(struct repo *r)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    ck_ok(repo_list(r, REPO_SNAPSHOT, &files, &n));
    free(files);
    return n;
}

START_TEST(what_is_backed_up_is_restored)
{
    struct backup_result res;
    struct restore_result got;
    struct digest id;
    struct stat a, b;
    char target[64];
    AUTO(repo) struct repo *r = temp_open(true);
    const struct backup_opts o = opts_of();
    backup_ok(r, &o, &id, &res);
    ck_assert_uint_eq(res.summary.total_files_processed, 4);
    ck_assert_uint_eq(res.summary.total_bytes_processed, 2 * BIG + 5);
    const struct check_compare cmp = {
        .dir = temp_path("src"), .path = "/data/part", .content = true};
    ck_ok(check_snapshot(r, &id, &cmp));
    const struct restore_opts ro = {.target = temp_path("out"), .strip = "/data/part"};
    ck_ok(restore_run(r, &res.tree, &ro, &got));
    ck_assert_uint_eq(got.files, 4);
    restore_result_fini(&got);
    const struct check_compare back = {
        .dir = temp_path("out"), .path = "/data/part", .content = true};
    ck_ok(check_snapshot(r, &id, &back));
    ck_assert_int_eq(stat(temp_path("out"), &a), 0);
    ck_assert_uint_eq(a.st_mode & 07777, 0750);
    ck_assert_int_eq(stat(temp_path("out/sub/small"), &a), 0);
    ck_assert_int_eq(stat(temp_path("src/sub/small"), &b), 0);
    ck_assert_uint_eq(a.st_mode, b.st_mode);
    ck_assert_int_eq(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec);
    ck_assert_int_eq(stat(temp_path("out/sub/hard"), &a), 0);
    ck_assert_int_eq(stat(temp_path("out/big"), &b), 0);
    ck_assert_uint_eq(a.st_ino, b.st_ino);
    ck_assert_int_eq(readlink(temp_path("out/away"), target, sizeof target), 11);
    ck_assert_mem_eq(target, "/etc/passwd", 11);
}
END_TEST

START_TEST(a_difference_to_the_capture_is_found)
{
    struct backup_result res;
    struct digest id;
    AUTO(repo) struct repo *r = temp_open(true);
    const struct backup_opts o = opts_of();
    backup_ok(r, &o, &id, &res);
    struct check_compare cmp = {.dir = temp_path("src"), .path = "/data/part"};
    temp_write("src/sub/small", "sMall", 5);
    ck_assert_int_eq(chmod(temp_path("src/sub/small"), 04755), 0);
    ck_ok(check_snapshot(r, &id, &cmp)); /* the same size */
    cmp.content = true;
    ck_err(check_snapshot(r, &id, &cmp), ERR_CORRUPT);
    cmp.content = false;
    temp_write("src/sub/small", "smaller", 7);
    ck_err(check_snapshot(r, &id, &cmp), ERR_CORRUPT);
    ck_assert_int_eq(unlink(temp_path("src/sub/small")), 0);
    ck_err(check_snapshot(r, &id, &cmp), ERR_CORRUPT);
}
END_TEST

START_TEST(unchanged_files_are_taken_from_the_parent)
{
    struct backup_result res;
    struct digest id;
    bool found = false;
    AUTO_SNAPSHOT struct snapshot parent = {0};
    AUTO(repo) struct repo *r = temp_open(true);
    struct backup_opts o = opts_of();
    ck_ok(backup_find_parent(r, &o, NULL, 0, &parent, &found));
    ck_assert(!found);
    backup_ok(r, &o, &id, &res);
    struct digest tree = res.tree;
    ck_ok(backup_find_parent(r, &o, (const char *[]){"set=2"}, 1, &parent, &found));
    ck_assert(!found);
    ck_ok(backup_find_parent(r, &o, two_tags, 1, &parent, &found));
    ck_assert(found);
    o.parent = &parent;
    backup_ok(r, &o, &id, &res);
    ck_assert_uint_eq(res.summary.files_unmodified, 4);
    ck_assert_uint_eq(res.summary.data_blobs, 0);
    ck_assert(digest_equal(&tree, &res.tree));
    /* A changed file of the same size is read. */
    temp_write("src/sub/small", "other", 5);
    backup_ok(r, &o, &id, &res);
    ck_assert_uint_eq(res.summary.files_unmodified, 3);
    ck_assert_uint_eq(res.summary.files_changed, 1);
    ck_assert_uint_eq(res.summary.data_blobs, 1);
    o.hostname = "db2";
    AUTO_SNAPSHOT struct snapshot other = {0};
    ck_ok(backup_find_parent(r, &o, NULL, 0, &other, &found));
    ck_assert(!found);
}
END_TEST

/* Whatever changed, taking over from the parent gives the tree that reading all gives. */
/* A manifest of two files, one changed `ms` before the capture was finished. */
static struct manifest *manifest_of_two(int ms)
{
    struct stat st;
    struct manifest *m = NULL;
    AUTO_BUF struct buf text = {0};
    buf_printf(&text, "stillpoint manifest 1\n%d 1600000000.000000001 1 empty", 7);
    buf_char(&text, '\0');
    temp_write("manifest", "", 0);
    const struct timespec made[2] = {{1600000100, 40000000}, {1600000100, 40000000}};
    buf_printf(&text, "8 %d.%09d 1 sub/small", ms <= 40 ? 1600000100 : 1600000099,
               ms <= 40 ? (40 - ms) * 1000000 + 1 : (1040 - ms) * 1000000 + 1);
    buf_char(&text, '\0');
    buf_printf(&text, "end 2");
    buf_char(&text, '\0');
    temp_write("manifest", text.data, text.len);
    ck_assert_int_eq(utimensat(AT_FDCWD, temp_path("manifest"), made, 0), 0);
    ck_assert_int_eq(stat(temp_path("manifest"), &st), 0);
    ck_ok(manifest_open(temp_path("manifest"), &m));
    return m;
}

/* Backs up with the manifest on `parent`; returns how many files were taken from it. */
static uint64_t unmodified_with(struct repo *r, const struct manifest *m,
                                struct digest *parent)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_SNAPSHOT struct snapshot old = {0};
    struct backup_opts o = opts_of();
    struct backup_result res;
    bool first = parent->b[0] == 0 && parent->b[1] == 0;
    if (!first)
        ck_ok(repo_read_snapshot(io, parent, &old));
    o.parent = first ? NULL : &old;
    o.manifest = m;
    ck_ok(backup_run(r, &o, &res));
    *parent = res.snapshot;
    uint64_t n = res.summary.files_unmodified;
    backup_result_fini(&res);
    return n;
}

/* Of two files in the manifest, the one changed just before the capture may have been
 * changed again in the same tick. */
START_TEST(a_change_just_before_the_capture_hides_none_after_it)
{
    AUTO(repo) struct repo *r = temp_open(true);
    static const struct {
        int ms;
        uint64_t unmodified; /* the two others changed after their "capture" */
    } cases[] = {{900, 2}, {60, 2}, {45, 1}, {5, 1}, {0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(manifest) struct manifest *m = manifest_of_two(cases[i].ms);
        struct digest id = {0};
        ck_assert_uint_eq(unmodified_with(r, m, &id), 0);
        manifest_close(STEAL(m));
        m = manifest_of_two(cases[i].ms);
        ck_assert_uint_eq(unmodified_with(r, m, &id), cases[i].unmodified);
    }
}
END_TEST

/* Stores a directory that holds one other, changed just before the "capture". */
static void store_one(struct repo *r, struct digest *id)
{
    static const char manifest[] =
        "stillpoint manifest 1\n9 1600000100.030000001 1 d\0end 1";
    const struct timespec made[2] = {{1600000100, 40000000}, {1600000100, 40000000}};
    struct manifest *m = NULL;
    temp_write("manifest", manifest, sizeof manifest);
    ck_assert_int_eq(utimensat(AT_FDCWD, temp_path("manifest"), made, 0), 0);
    ck_ok(manifest_open(temp_path("manifest"), &m));
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_SNAPSHOT struct snapshot old = {0};
    struct backup_opts o = opts_of();
    struct backup_result res;
    o.source = temp_path("one");
    o.manifest = m;
    if (id->b[0] || id->b[1]) {
        ck_ok(repo_read_snapshot(io, id, &old));
        o.parent = &old;
    }
    ck_ok(backup_run(r, &o, &res));
    *id = res.snapshot;
    backup_result_fini(&res);
    manifest_close(m);
}

/* Of a directory that was changed just before each of two captures, no time tells what
 * changed in between. */
START_TEST(an_attribute_of_a_directory_is_not_taken_for_unchanged)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_SNAPSHOT struct snapshot s = {0};
    struct digest id = {0};
    struct node nd = {0};
    ck_assert_int_eq(mkdir(temp_path("one"), 0700), 0);
    ck_assert_int_eq(mkdir(temp_path("one/d"), 0700), 0);
    store_one(r, &id);
    ck_assert_int_eq(setxattr(temp_path("one/d"), "user.a", "new", 3, 0), 0);
    store_one(r, &id);
    ck_ok(repo_read_snapshot(io, &id, &s));
    ck_ok(find_node(io, &s.tree, "/data/part/d", &nd));
    ck_assert_uint_eq(nd.xattrs_n, 1);
    node_fini(&nd);
}
END_TEST

START_TEST(a_parent_never_changes_the_tree)
{
    struct backup_result res, all;
    struct digest id;
    bool found = false;
    uint64_t unmodified = 0;
    AUTO(repo) struct repo *r = temp_open(true);
    struct backup_opts o = opts_of();
    for (int i = 0; i < 60; i++) {
        char name[64];
        snprintf(name, sizeof name, "src/%sf%02d\"<\n", i % 2 ? "sub/" : "", i);
        temp_write(name, &i, i % 3 ? sizeof i : 0);
        if (i % 10 == 0)
            ck_assert_int_eq(setxattr(temp_path(name), "user.a}", "]", 1, 0), 0);
    }
    o.source = temp_path("src"); /* the buffer was used again */
    backup_ok(r, &o, &id, &res);
    for (int round = 0; round < 12; round++) {
        char name[64];
        int file = round * 3 + (round == 4); /* the fifth removes one below sub */
        AUTO_SNAPSHOT struct snapshot parent = {0};
        o.time.sec++;
        o.source = temp_path("src");
        ck_ok(backup_find_parent(r, &o, NULL, 0, &parent, &found));
        snprintf(name, sizeof name, "src/%sf%02d\"<\n", file % 2 ? "sub/" : "", file);
        if (round % 4 == 0)
            unlink(temp_path(name));
        else if (round % 4 == 1)
            temp_write(name, "longer than before", (size_t)round + 5);
        else if (round % 4 == 2)
            ck_assert_int_eq(mkdir(temp_path((const char *[]){"src/d", "src/sub/d",
                                                              "src/d/d"}[round / 4]),
                                   0700),
                             0);
        else
            chmod(temp_path("src/sub"), 0700 + (mode_t)round);
        o.parent = &parent;
        backup_ok(r, &o, &id, &res);
        unmodified += res.summary.files_unmodified;
        o.parent = NULL;
        backup_ok(r, &o, &id, &all);
        ck_assert(digest_equal(&res.tree, &all.tree));
        ck_assert_uint_eq(all.summary.data_blobs + all.summary.tree_blobs, 0);
        ck_assert_uint_eq(res.summary.total_files_processed,
                          all.summary.total_files_processed);
    }
    ck_assert_uint_gt(unmodified, 12 * 40);
}
END_TEST

/* One changed page costs one piece and the lists above it; the same data again costs
 * nothing under any profile, and every profile restores it. */
/* Its list is written part by part: the id must be that of the bytes as a whole. */
START_TEST(a_long_list_is_stored_as_a_short_one_is)
{
    enum { FILES = 6000 };
    struct backup_result res;
    struct digest id, real;
    struct tree t = {0};
    struct node sub = {0};
    AUTO_BUF struct buf json = {0};
    ck_assert_int_eq(mkdir(temp_path("src/many"), 0755), 0);
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "src/many/file-%04d", i);
        temp_write(name, name, i % 3 ? strlen(name) : 0);
    }
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    const struct backup_opts o = opts_of();
    backup_ok(r, &o, &id, &res);
    ck_ok(find_node(io, &res.tree, "/data/part/many", &sub));
    ck_ok(repo_load_tree(io, &sub.subtree, &t));
    ck_assert_uint_eq(t.n, FILES);
    tree_write(&t, &json);
    ck_assert_uint_gt(json.len, REPO_HELD_MAX);
    hash_bytes(json.data, json.len, &real);
    ck_assert(digest_equal(&real, &sub.subtree));
    const struct check_compare cmp = {
        .dir = temp_path("src"), .path = "/data/part", .content = true};
    ck_ok(check_snapshot(r, &id, &cmp));
    tree_fini(&t);
    node_fini(&sub);
    /* The next backup reads it part by part, too. */
    struct snapshot parent = {0};
    struct backup_opts with = opts_of();
    ck_ok(repo_read_snapshot(io, &id, &parent));
    with.parent = &parent;
    const struct digest first = res.tree;
    backup_ok(r, &with, &id, &res);
    ck_assert(digest_equal(&res.tree, &first));
    ck_assert_uint_eq(res.summary.files_unmodified, FILES + 4);
    ck_assert_uint_eq(res.summary.data_blobs, 0);
    temp_write("src/many/file-3001", "other", 5);
    backup_ok(r, &with, &id, &res);
    ck_assert_uint_eq(res.summary.files_changed, 1);
    ck_assert_uint_eq(res.summary.files_unmodified, FILES + 3);
    ck_assert_uint_eq(res.summary.data_blobs, 1);
    ck_ok(check_snapshot(r, &id, &cmp));
    snapshot_fini(&parent);
}
END_TEST

START_TEST(a_changed_page_costs_one_piece)
{
    static const char *const texts[] = {"database", "64KiB", "files"};
    static const size_t costs[] = {16 << 10, 64 << 10, 512 << 10};
    AUTO(str) char *big = mem_alloc(BIG);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct backup_result res;
        struct digest id;
        AUTO(repo) struct repo *r = temp_open(true);
        struct backup_opts o = opts_of();
        temp_noise(100 + i, big, BIG);
        temp_write("src/big", big, BIG);
        ck_ok(chunks_parse(texts[i], &o.chunks));
        backup_ok(r, &o, &id, &res);
        backup_ok(r, &o, &id, &res);
        ck_assert_uint_eq(res.summary.data_blobs, 0);
        big[3000000]++;
        temp_write("src/big", big, BIG);
        backup_ok(r, &o, &id, &res);
        ck_assert_uint_ge(res.summary.data_blobs, 1);
        if (i < 2) {
            ck_assert_uint_eq(res.summary.data_blobs, 1);
            ck_assert_uint_lt(res.summary.data_added, costs[i] + (64 << 10));
        } else {
            ck_assert_uint_gt(res.summary.data_added, costs[i]);
        }
        const struct check_compare cmp = {
            .dir = temp_path("src"), .path = "/data/part", .content = true};
        ck_ok(check_snapshot(r, &id, &cmp));
    }
}
END_TEST

/* Root reads everything, so the backup runs as nobody here. */
START_TEST(what_cannot_be_read_fails_the_backup)
{
    struct backup_result res;
    AUTO(repo) struct repo *r = temp_open(true);
    struct backup_opts o = opts_of();
    pid_t pid = fork();
    if (!pid) {
        /* Without privileges the file is unreadable. */
        ck_assert_int_eq(chmod(temp_path("src/big"), 0), 0);
        ck_assert_int_eq(chown(temp_path("src"), 65534, 65534), 0);
        ck_assert_int_eq(chown(temp_path("src/sub"), 65534, 65534), 0);
        ck_assert_int_eq(seteuid(65534), 0);
        struct err *e = backup_run(r, &o, &res);
        if (!e || (e->kind != ERR_IO && e->kind != ERR_DENIED))
            _exit(1);
        if (problems_total(&res.problems) != 2) /* big and sub/hard */
            _exit(2);
        if (strcmp(res.problems.items[0].path, "/big") != 0)
            _exit(3);
        _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(count_snapshots(r), 0);
}
END_TEST

/* JSON has no room for such a name: another one would come back. */
START_TEST(an_attribute_that_cannot_be_kept_fails_the_backup)
{
    AUTO(repo) struct repo *r = temp_open(true);
    struct backup_opts o = opts_of();
    struct backup_result res;
    ck_assert_int_eq(setxattr(temp_path("src/sub/small"), "user.\xff", "1", 1, 0), 0);
    ck_err(backup_run(r, &o, &res), ERR_IO);
    ck_assert_uint_eq(res.problems.n, 1);
    ck_assert_str_eq(res.problems.items[0].path, "/sub/small");
    backup_result_fini(&res);
}
END_TEST

START_TEST(excluded_entries_are_left_out)
{
    static const char *const excludes[] = {"*.tmp", "/sub", "/data/part/emp?y"};
    struct backup_result res;
    struct digest id;
    struct node nd = {0};
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct backup_opts o = opts_of();
    temp_write("src/x.tmp", "x", 1);
    o.excludes = excludes;
    o.excludes_n = 3;
    backup_ok(r, &o, &id, &res);
    ck_assert_uint_eq(res.summary.total_files_processed, 1);
    ck_ok(find_node(io, &res.tree, "/data/part/big", &nd));
    node_fini(&nd);
    ck_err(find_node(io, &res.tree, "/data/part/sub", &nd), ERR_NOT_FOUND);
    ck_err(find_node(io, &res.tree, "/data/part/empty", &nd), ERR_NOT_FOUND);
    const struct check_compare cmp = {.dir = temp_path("src"),
                                      .path = "/data/part",
                                      .excludes = excludes,
                                      .excludes_n = 3};
    ck_ok(check_snapshot(r, &id, &cmp));
}
END_TEST

struct journal {
    int calls;
    struct buf bytes;
    struct digest id;
    bool fail;
};

static struct err *keep(void *ctx, const struct digest *id, const void *bytes, size_t n)
{
    struct journal *j = ctx;
    j->calls++;
    j->id = *id;
    buf_clear(&j->bytes);
    buf_add(&j->bytes, bytes, n);
    return j->fail ? err_new(ERR_NO_SPACE, "journal is full") : NULL;
}

START_TEST(a_retry_stores_the_journaled_snapshot)
{
    struct backup_result res;
    struct digest id;
    struct journal j = {.fail = true};
    AUTO(repo) struct repo *r = temp_open(true);
    struct backup_opts o = opts_of();
    o.journal = keep;
    o.journal_ctx = &j;
    /* The crash: journaled, not uploaded. */
    ck_err(backup_run(r, &o, &res), ERR_NO_SPACE);
    backup_result_fini(&res);
    ck_assert_uint_eq(count_snapshots(r), 0);
    struct journal second = {0};
    AUTO(repo) struct repo *again = temp_open(true);
    o.journal_ctx = &second;
    o.journaled = j.bytes.data;
    o.journaled_n = j.bytes.len;
    o.time.sec += 100; /* would make another file */
    for (int i = 0; i < 2; i++) {
        backup_ok(again, &o, &id, &res);
        ck_assert(digest_equal(&id, &j.id));
        ck_assert_uint_eq(count_snapshots(r), 1);
    }
    ck_assert_int_eq(second.calls, 0);
    ck_ok(check_snapshot(again, &id, NULL));
    o.hostname = "other";
    ck_err(backup_run(again, &o, &res), ERR_INVALID);
    backup_result_fini(&res);
    buf_fini(&j.bytes);
    buf_fini(&second.bytes);
}
END_TEST

/* What the journaled snapshot refers to is gone: everything is stored again. */
START_TEST(a_retry_rechecks_what_it_reuses)
{
    struct backup_result res;
    struct digest id;
    struct journal j = {.fail = true};
    AUTO(str) char *old = mem_strdup(temp_path("repo/index"));
    {
        AUTO(repo) struct repo *r = temp_open(true);
        struct backup_opts o = opts_of();
        o.journal = keep;
        o.journal_ctx = &j;
        ck_err(backup_run(r, &o, &res), ERR_NO_SPACE);
        backup_result_fini(&res);
    }
    ck_assert_int_eq(rename(old, temp_path("lost-index")), 0);
    AUTO(repo) struct repo *r = temp_open(true);
    struct backup_opts o = opts_of();
    o.journaled = j.bytes.data;
    o.journaled_n = j.bytes.len;
    backup_ok(r, &o, &id, &res);
    ck_assert(digest_equal(&id, &j.id)); /* the same tree came out */
    AUTO(repo) struct repo *fresh = temp_open(true);
    ck_ok(check_snapshot(fresh, &id, NULL));
    buf_fini(&j.bytes);
}
END_TEST

START_TEST(a_cancelled_backup_leaves_no_snapshot)
{
    struct backup_result res;
    atomic_bool cancel = true;
    AUTO(repo) struct repo *r = temp_open(true);
    struct backup_opts o = opts_of();
    o.cancel = &cancel;
    ck_err(backup_run(r, &o, &res), ERR_CANCELLED);
    backup_result_fini(&res);
    ck_assert_uint_eq(count_snapshots(r), 0);
}
END_TEST

/* The repository's disk fills up: no snapshot, a clear error, and after making room the
 * next backup succeeds. */
START_TEST(a_full_repository_loses_nothing)
{
    struct backup_result res;
    struct check_result checked;
    struct digest id;
    struct store *store = NULL;
    struct repo *r = NULL;
    AUTO(str) char *disk = mem_strdup(temp_path("disk"));
    AUTO(str) char *url = mem_strdup(temp_path("disk/repo"));
    const struct backup_opts o = opts_of();
    const struct check_opts co = {.read_data = true};
    ck_assert_int_eq(mkdir(disk, 0700), 0);
    ck_assert_int_eq(mount("tmpfs", disk, "tmpfs", 0, "size=3m"), 0);
    ck_ok(store_open(url, STORE_CREATE, &store));
    ck_ok(repo_init(store, "pw", 2, &temp_cost));
    ck_ok(repo_open(store, "pw", 2, &r));
    ck_ok(repo_load_index(r));
    struct err *e = backup_run(r, &o, &res);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_NO_SPACE);
    err_free(e);
    backup_result_fini(&res);
    ck_assert_uint_eq(count_snapshots(r), 0);
    repo_close(r);
    ck_assert_int_eq(mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=30m"), 0);
    ck_ok(store_open(url, 0, &store));
    ck_ok(repo_open(store, "pw", 2, &r));
    ck_ok(repo_load_index(r));
    backup_ok(r, &o, &id, &res);
    repo_close(r);
    ck_ok(store_open(url, 0, &store));
    ck_ok(repo_open(store, "pw", 2, &r));
    ck_ok(check_run(r, &co, &checked));
    check_result_fini(&checked);
    repo_close(r);
}
END_TEST

START_TEST(a_set_record_is_stored_and_dumped)
{
    static const struct backup_memory_file files[] = {
        {"set.json", "{\"set\":1}", 9}, {"empty", "", 0}, {"a", "b", 1}};
    struct digest id;
    AUTO_BUF struct buf got = {0};
    AUTO_SNAPSHOT struct snapshot s = {0};
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct backup_opts o = opts_of();
    o.path = "/stillpoint-set";
    ck_ok(backup_memory(r, &o, files, 3, &id));
    ck_ok(check_snapshot(r, &id, NULL));
    ck_ok(repo_find_snapshot(io, "latest", &s));
    ck_ok(find_dump(io, &s.tree, "/set.json", 100, &got));
    ck_assert_str_eq(buf_text(&got), "{\"set\":1}");
    ck_err(find_dump(io, &s.tree, "/set.json", 8, &got), ERR_LIMIT);
    ck_err(find_dump(io, &s.tree, "/none", 8, &got), ERR_NOT_FOUND);
    ck_err(find_dump(io, &s.tree, "/", 8, &got), ERR_INVALID);
}
END_TEST

START_TEST(check_names_every_kind_of_damage)
{
    struct backup_result res;
    struct check_result checked;
    struct digest id;
    const struct backup_opts o = opts_of();
    const struct check_opts quick = {0}, deep = {.read_data = true};
    char hex[65];
    {
        AUTO(repo) struct repo *r = temp_open(true);
        backup_ok(r, &o, &id, &res);
    }
    {
        AUTO(repo) struct repo *r = temp_open(false);
        ck_ok(check_run(r, &deep, &checked));
        ck_assert_uint_eq(checked.snapshots, 1);
        ck_assert_uint_eq(checked.trees, 4); /* /, data, part, sub */
        check_result_fini(&checked);
    }
    AUTO(repo) struct repo *r = temp_open(true);
    const struct index *ix = repo_index(r);
    struct digest data_pack = {0};
    for (size_t i = 0; i < index_packs(ix); i++) {
        struct index_cursor c = index_blobs_of(ix, i);
        if (index_next(&c) && c.blob.type == BLOB_DATA)
            data_pack = index_pack(ix, i)->id;
    }
    temp_flip(REPO_DATA, &data_pack);
    AUTO(repo) struct repo *second = temp_open(false);
    ck_ok(check_run(second, &quick, &checked)); /* does not read data */
    check_result_fini(&checked);
    AUTO(repo) struct repo *third = temp_open(false);
    ck_err(check_run(third, &deep, &checked), ERR_CORRUPT);
    digest_hex(&data_pack, hex);
    ck_assert_ptr_nonnull(strstr(checked.problems.items[0].path, hex));
    check_result_fini(&checked);
    /* A missing and a cut pack show without reading data. */
    AUTO(str) char *name = mem_printf("repo/data/%.2s/%s", hex, hex);
    ck_assert_int_eq(truncate(temp_path(name), 100), 0);
    AUTO(repo) struct repo *fourth = temp_open(false);
    ck_err(check_run(fourth, &quick, &checked), ERR_CORRUPT);
    check_result_fini(&checked);
    ck_err(check_snapshot(r, &id, NULL), ERR_CORRUPT);
    ck_assert_int_eq(unlink(temp_path(name)), 0);
    AUTO(repo) struct repo *fifth = temp_open(false);
    ck_err(check_run(fifth, &quick, &checked), ERR_CORRUPT);
    check_result_fini(&checked);
    ck_err(check_snapshot(r, &id, NULL), ERR_NOT_FOUND);
}
END_TEST

static void store_record(struct repo *r, int64_t sec, const char *host, const char *tag,
                         struct digest *id)
{
    const struct backup_memory_file file = {"f", host, strlen(host)};
    const struct backup_opts o = {
        .path = "/p", .hostname = host, .tags = &tag, .tags_n = 1, .time = {sec, 5}};
    ck_ok(backup_memory(r, &o, &file, 1, id));
}

START_TEST(the_latest_is_no_record_of_a_set_and_no_part_by_chance)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_SNAPSHOT struct snapshot first = {0}, second = {0}, third = {0};
    struct digest record, part, other, later;
    ck_err(repo_find_snapshot(io, "latest", &first), ERR_NOT_FOUND);
    store_record(r, 1000, "w", "stillpoint-set", &record);
    ck_ok(repo_find_snapshot(io, "latest", &first));
    ck_assert(digest_equal(&first.id, &record));
    store_record(r, 1000, "a", "stillpoint", &part);
    ck_ok(repo_find_snapshot(io, "latest", &second));
    ck_assert(digest_equal(&second.id, &part));
    store_record(r, 1000, "b", "stillpoint", &other);
    ck_err(repo_find_snapshot(io, "latest", &third), ERR_INVALID);
    store_record(r, 2000, "a", "stillpoint", &later);
    ck_ok(repo_find_snapshot(io, "latest", &third));
    ck_assert(digest_equal(&third.id, &later));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("backup");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, what_is_backed_up_is_restored);
    tcase_add_test(tc, a_difference_to_the_capture_is_found);
    tcase_add_test(tc, unchanged_files_are_taken_from_the_parent);
    tcase_add_test(tc, a_change_just_before_the_capture_hides_none_after_it);
    tcase_add_test(tc, an_attribute_of_a_directory_is_not_taken_for_unchanged);
    tcase_add_test(tc, a_parent_never_changes_the_tree);
    tcase_add_test(tc, a_long_list_is_stored_as_a_short_one_is);
    tcase_add_test(tc, a_changed_page_costs_one_piece);
    tcase_add_test(tc, what_cannot_be_read_fails_the_backup);
    tcase_add_test(tc, an_attribute_that_cannot_be_kept_fails_the_backup);
    tcase_add_test(tc, excluded_entries_are_left_out);
    tcase_add_test(tc, a_retry_stores_the_journaled_snapshot);
    tcase_add_test(tc, a_retry_rechecks_what_it_reuses);
    tcase_add_test(tc, a_cancelled_backup_leaves_no_snapshot);
    tcase_add_test(tc, a_full_repository_loses_nothing);
    tcase_add_test(tc, a_set_record_is_stored_and_dumped);
    tcase_add_test(tc, check_names_every_kind_of_damage);
    tcase_add_test(tc, the_latest_is_no_record_of_a_set_and_no_part_by_chance);
    return suite_main("engine backup", tc);
}
