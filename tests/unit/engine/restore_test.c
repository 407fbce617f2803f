/* Restores of hostile repositories, made with our own writer: a file beside the target
 * must never change. */
#include "common/engine/restore.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include "common/base/mem.h"
#include "common/engine/backup.h"
#include "common/engine/beneath.h"
#include "tests/unit/engine/temp_tree.h"

static void set_up(void)
{
    temp_enter();
    temp_canary_make();
}

static struct err *restore(struct repo *r, const struct digest *tree, uint64_t *problems)
{
    struct restore_result res;
    const struct restore_opts o = {.target = temp_path("out"), .workers = 2};
    struct err *e = restore_run(r, tree, &o, &res);
    *problems = problems_total(&res.problems);
    restore_result_fini(&res);
    return e;
}

#define NODES(x) "{\"nodes\":[" x "]}\n"
#define CONTENT ",\"type\":\"file\",\"content\":[]}"

START_TEST(names_that_climb_are_refused)
{
    static const char *const trees[] = {
        NODES("{\"name\":\"..\"" CONTENT),
        NODES("{\"name\":\"../canary\"" CONTENT),
        NODES("{\"name\":\"/canary\"" CONTENT),
        NODES("{\"name\":\"x/../../canary\"" CONTENT),
        NODES("{\"name\":\"\\\\x2e\\\\x2e\"" CONTENT),
        NODES("{\"name\":\"..\\\\x2fcanary\"" CONTENT),
        NODES("{\"name\":\"\"" CONTENT),
        NODES("{\"name\":\"a\"" CONTENT ",{\"name\":\"a\",\"type\":\"symlink\","
              "\"linktarget\":\"../canary\"}"),
    };
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        struct digest id;
        uint64_t problems;
        temp_save_raw(io, trees[i], &id);
        ck_ok(repo_flush(io));
        ck_err(restore(r, &id, &problems), ERR_CORRUPT);
        temp_canary_check();
    }
}
END_TEST

/* The target already holds a symbolic link where the snapshot has a directory. */
START_TEST(a_link_in_place_of_a_directory_is_not_followed)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree inner = {0};
    AUTO_TREE struct tree outer = {0};
    struct repo_saved saved;
    struct digest sub, top;
    uint64_t problems;
    temp_node_text(io, temp_node(&inner, NODE_FILE, "planted"), "evil");
    ck_ok(repo_save_tree(io, &inner, &sub, &saved));
    struct node *dir = temp_node(&outer, NODE_DIR, "dir");
    dir->has_subtree = true;
    dir->subtree = sub;
    ck_ok(repo_save_tree(io, &outer, &top, &saved));
    ck_ok(repo_flush(io));
    ck_assert_int_eq(mkdir(temp_path("out"), 0700), 0);
    ck_assert_int_eq(symlink("../outside", temp_path("out/dir")), 0);
    ck_err(restore(r, &top, &problems), ERR_IO);
    ck_assert_uint_eq(problems, 1);
    temp_canary_check();
}
END_TEST

START_TEST(nothing_that_exists_is_replaced)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct digest top;
    uint64_t problems;
    struct stat st;
    temp_node_text(io, temp_node(&t, NODE_FILE, "a"), "evil");
    temp_node_text(io, temp_node(&t, NODE_FILE, "b"), "evil");
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    ck_assert_int_eq(mkdir(temp_path("out"), 0700), 0);
    ck_assert_int_eq(symlink("../canary", temp_path("out/a")), 0);
    temp_write("out/b", "mine", 4);
    ck_err(restore(r, &top, &problems), ERR_IO);
    ck_assert_uint_eq(problems, 2);
    ck_assert_int_eq(stat(temp_path("out/b"), &st), 0);
    ck_assert_int_eq(st.st_size, 4);
    temp_canary_check();
}
END_TEST

/* Hard link whose first name is a symbolic link out of the target; and one whose first
 * name exists already as a link to the canary. */
START_TEST(hard_links_do_not_reach_outside)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct digest top;
    uint64_t problems;
    struct stat st;
    struct node *nd = temp_node(&t, NODE_SYMLINK, "a");
    nd->target = mem_strdup("../canary");
    nd->links = 2;
    nd->inode = 7;
    nd = temp_node(&t, NODE_FILE, "b");
    nd->links = 2;
    nd->inode = 7;
    nd = temp_node(&t, NODE_FILE, "c");
    temp_node_text(io, nd, "evil");
    nd->links = 2;
    nd->inode = 8;
    nd = temp_node(&t, NODE_FILE, "d");
    nd->links = 2;
    nd->inode = 8;
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    ck_assert_int_eq(mkdir(temp_path("out"), 0700), 0);
    ck_assert_int_eq(symlink("../canary", temp_path("out/c")), 0);
    ck_err(restore(r, &top, &problems), ERR_IO);
    ck_assert_uint_eq(problems, 2); /* c exists, d has nothing to be linked to */
    ck_assert_int_eq(stat(temp_path("canary"), &st), 0);
    ck_assert_uint_eq(st.st_nlink, 1);
    temp_canary_check();
}
END_TEST

START_TEST(a_damaged_file_is_named_and_not_left_behind)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    AUTO(str) char *noise = mem_zalloc(100001);
    struct repo_saved saved;
    struct restore_result res;
    struct digest top;
    temp_noise(3, noise, 100000);
    for (int i = 0; i < 100000; i++)
        noise[i] |= 1; /* no NUL inside */
    temp_node_text(io, temp_node(&t, NODE_FILE, "bad"), noise);
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    struct blob_entry e;
    ck_assert(index_find(repo_index(r), BLOB_DATA, &t.nodes[0].content[0], 0, &e));
    temp_flip(REPO_DATA, &index_pack(repo_index(r), e.pack)->id);
    const struct restore_opts o = {.target = temp_path("out")};
    ck_err(restore_run(r, &top, &o, &res), ERR_CORRUPT);
    ck_assert_uint_eq(res.problems.n, 1);
    ck_assert_str_eq(res.problems.items[0].path, "bad");
    restore_result_fini(&res);
    ck_assert_int_eq(access(temp_path("out/bad"), F_OK), -1);
}
END_TEST

/* An earlier restore may have left a link inside the only directory that may be written
 * to. */
START_TEST(no_link_leads_to_a_target_below)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct restore_result res;
    struct digest top;
    AUTO(str) char *below = mem_printf("%s/", temp_path("out"));
    struct restore_opts o = {.below = below};
    temp_node_text(io, temp_node(&t, NODE_FILE, "planted"), "evil");
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    ck_assert_int_eq(mkdir(below, 0700), 0);
    ck_assert_int_eq(symlink("../outside", temp_path("out/way")), 0);
    static const char *const bad[] = {"out/way", "out/way/sub", "out/way/new/er",
                                      "outside", "outer"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        o.target = temp_path(bad[i]);
        struct err *e = restore_run(r, &top, &o, &res);
        ck_assert_msg(e != NULL, "restored to %s", bad[i]);
        err_free(e);
        restore_result_fini(&res);
        temp_canary_check();
    }
    static const char *const good[] = {"out", "out/a/b", "out/c/"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        o.target = temp_path(good[i]);
        ck_ok(restore_run(r, &top, &o, &res));
        restore_result_fini(&res);
        AUTO(str) char *file = mem_printf("%s/planted", o.target);
        ck_assert_int_eq(access(file, F_OK), 0);
    }
}
END_TEST

START_TEST(holes_come_back_as_holes)
{
    enum { BYTES = 20 << 20 };
    struct restore_result res;
    struct backup_result made;
    struct stat st;
    AUTO(repo) struct repo *r = temp_open(true);
    ck_assert_int_eq(mkdir(temp_path("src"), 0700), 0);
    temp_write("src/sparse", "", 0);
    ck_assert_int_eq(truncate(temp_path("src/sparse"), BYTES), 0);
    int fd = open(temp_path("src/sparse"), O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "data", 4, 9 << 20), 4);
    close(fd);
    const struct backup_opts b = {
        .source = temp_path("src"), .path = "/s", .hostname = "h"};
    ck_ok(backup_run(r, &b, &made));
    backup_result_fini(&made);
    struct restore_opts o = {.target = temp_path("out"), .strip = "/s"};
    ck_ok(restore_run(r, &made.tree, &o, &res));
    restore_result_fini(&res);
    ck_assert_int_eq(stat(temp_path("out/sparse"), &st), 0);
    ck_assert_int_eq(st.st_size, BYTES);
    ck_assert_int_le(st.st_blocks, 64);
    o.target = temp_path("full");
    o.no_sparse = true;
    ck_ok(restore_run(r, &made.tree, &o, &res));
    restore_result_fini(&res);
    ck_assert_int_eq(stat(temp_path("full/sparse"), &st), 0);
    ck_assert_int_ge(st.st_blocks, BYTES / 512);
}
END_TEST

/* How many of the pages [from, to) of the file are in memory. */
static size_t cached_pages(const char *path, size_t from, size_t to)
{
    enum { PAGE = 4096 };
    unsigned char in[4096];
    size_t n = 0;
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    void *map =
        mmap(NULL, (to - from) * PAGE, PROT_READ, MAP_SHARED, fd, (off_t)(from * PAGE));
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_uint_le(to - from, sizeof in);
    ck_assert_int_eq(mincore(map, (to - from) * PAGE, in), 0);
    for (size_t i = 0; i < to - from; i++)
        n += in[i] & 1;
    munmap(map, (to - from) * PAGE);
    close(fd);
    return n;
}

static bool can_be_direct(const char *path)
{
    struct statx st;
    ck_assert_int_eq(statx(AT_FDCWD, path, 0, STATX_DIOALIGN, &st), 0);
    return (st.stx_mask & STATX_DIOALIGN) && st.stx_dio_offset_align;
}

/* Noise with a hole that begins and ends inside of blocks, the same noise again at
 * another distance from a block's start, and an odd length. */
START_TEST(a_large_file_is_the_same_whichever_way_it_is_written)
{
    enum { BYTES = (11 << 20) + 123, HOLE = (5 << 20) + 77, COPY = (7 << 20) + 1001 };
    struct backup_result made;
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(str) char *data = mem_zalloc(BYTES);
    AUTO(str) char *got = mem_alloc(BYTES);
    temp_noise(3, data, HOLE);
    temp_noise(4, data + HOLE + (1 << 20), COPY - HOLE - (1 << 20));
    memcpy(data + COPY, data, BYTES - COPY);
    ck_assert_int_eq(mkdir(temp_path("src"), 0700), 0);
    temp_write("src/large", data, BYTES);
    const struct backup_opts b = {
        .source = temp_path("src"), .path = "/s", .hostname = "h"};
    ck_ok(backup_run(r, &b, &made));
    backup_result_fini(&made);
    for (int way = RESTORE_WRITES_QUICKEST; way <= RESTORE_WRITES_DIRECT; way++) {
        struct restore_result res;
        struct stat st;
        char name[32];
        snprintf(name, sizeof name, "out%d", way);
        const struct restore_opts o = {
            .target = temp_path(name), .strip = "/s", .writes = (enum restore_writes)way};
        ck_ok(restore_run(r, &made.tree, &o, &res));
        restore_result_fini(&res);
        snprintf(name, sizeof name, "out%d/large", way);
        size_t cached = cached_pages(temp_path(name), 0, (HOLE >> 12) - 16);
        if (way != RESTORE_WRITES_DIRECT)
            ck_assert_uint_gt(cached, 64);
        else if (can_be_direct(temp_path(name)))
            ck_assert_uint_le(cached, 64);
        int fd = open(temp_path(name), O_RDONLY);
        ck_assert_int_eq(fstat(fd, &st), 0);
        ck_assert_int_eq(st.st_size, BYTES);
        ck_assert_int_eq(read(fd, got, BYTES), BYTES);
        ck_assert_int_eq(memcmp(data, got, BYTES), 0);
        ck_assert_int_le(st.st_blocks, (BYTES - (1 << 20)) / 512 + 32);
        close(fd);
    }
}
END_TEST

START_TEST(includes_choose_and_missing_ones_are_told)
{
    static const char *const includes[] = {"/s/a/b", "/s/none"};
    struct restore_result res;
    struct backup_result made;
    AUTO(repo) struct repo *r = temp_open(true);
    ck_assert_int_eq(mkdir(temp_path("src"), 0700), 0);
    ck_assert_int_eq(mkdir(temp_path("src/a"), 0700), 0);
    ck_assert_int_eq(mkdir(temp_path("src/a/b"), 0700), 0);
    temp_write("src/a/b/in", "1", 1);
    temp_write("src/a/out", "1", 1);
    temp_write("src/a/bb", "1", 1);
    const struct backup_opts b = {
        .source = temp_path("src"), .path = "/s", .hostname = "h"};
    ck_ok(backup_run(r, &b, &made));
    backup_result_fini(&made);
    const struct restore_opts o = {
        .target = temp_path("out"), .includes = includes, .includes_n = 2};
    ck_err(restore_run(r, &made.tree, &o, &res), ERR_IO);
    ck_assert_uint_eq(res.problems.total, 1);
    ck_assert_str_eq(res.problems.items[0].path, "/s/none");
    ck_assert_uint_eq(res.files, 1);
    restore_result_fini(&res);
    ck_assert_int_eq(access(temp_path("out/s/a/b/in"), F_OK), 0);
    ck_assert_int_eq(access(temp_path("out/s/a/bb"), F_OK), -1);
}
END_TEST

/* 300 levels of 100 bytes: longer than any path the kernel takes at once. */
START_TEST(paths_beyond_path_max_are_restored)
{
    enum { LEVELS = 300 };
    struct restore_result res;
    struct backup_result made;
    char name[101];
    AUTO(repo) struct repo *r = temp_open(true);
    memset(name, 'n', 100);
    name[100] = '\0';
    ck_assert_int_eq(mkdir(temp_path("src"), 0700), 0);
    int fd = open(temp_path("src"), O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < LEVELS; i++) {
        ck_assert_int_eq(mkdirat(fd, name, 0700), 0);
        int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
        close(fd);
        fd = next;
    }
    close(openat(fd, "leaf", O_CREAT | O_WRONLY, 0600));
    close(fd);
    const struct backup_opts b = {
        .source = temp_path("src"), .path = "/s", .hostname = "h"};
    ck_ok(backup_run(r, &b, &made));
    backup_result_fini(&made);
    const struct restore_opts o = {.target = temp_path("out")};
    ck_ok(restore_run(r, &made.tree, &o, &res));
    ck_assert_uint_eq(res.files, 1);
    ck_assert_uint_eq(res.dirs, LEVELS + 1);
    restore_result_fini(&res);
}
END_TEST

START_TEST(opening_beneath_refuses_links_and_climbing)
{
    int fd = -1;
    const char *base = NULL;
    ck_assert_int_eq(mkdir(temp_path("root"), 0700), 0);
    ck_assert_int_eq(mkdir(temp_path("root/d"), 0700), 0);
    ck_assert_int_eq(symlink("d", temp_path("root/l")), 0);
    int root = open(temp_path("root"), O_RDONLY | O_DIRECTORY);
    ck_ok(beneath_open_dir(root, "d", &fd));
    close(fd);
    ck_ok(beneath_open_parent(root, "d/x", &fd, &base));
    ck_assert_str_eq(base, "x");
    close(fd);
    ck_err(beneath_open_dir(root, "l", &fd), ERR_IO);
    ck_err(beneath_open_dir(root, "..", &fd), ERR_IO);
    ck_err(beneath_open_dir(root, "d/../..", &fd), ERR_IO);
    ck_err(beneath_open_dir(root, "/tmp", &fd), ERR_IO);
    close(root);
}
END_TEST

/* More than a restore holds at once: the rest comes from a second reading of the list. */
START_TEST(a_directory_of_very_many_directories_is_restored)
{
    enum { DIRS = 3000 };
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree inner = {0};
    AUTO_TREE struct tree outer = {0};
    struct repo_saved saved;
    struct digest sub, top;
    char name[64];
    temp_node_text(io, temp_node(&inner, NODE_FILE, "f"), "text");
    ck_ok(repo_save_tree(io, &inner, &sub, &saved));
    for (int i = 0; i < DIRS; i++) {
        snprintf(name, sizeof name, "d%05d", i);
        struct node *nd = temp_node(&outer, i % 10 == 9 ? NODE_FIFO : NODE_DIR, name);
        nd->has_subtree = nd->type == NODE_DIR;
        nd->subtree = sub;
    }
    ck_ok(repo_save_tree(io, &outer, &top, &saved));
    ck_ok(repo_flush(io));
    for (int round = 0; round < 2; round++) {
        static const char *const excludes[] = {"/d00005", "/d02500"};
        struct restore_result res;
        const struct restore_opts o = {.target = temp_path("out"),
                                       .existing = RESTORE_IF_CHANGED,
                                       .remove = true,
                                       .excludes = excludes,
                                       .excludes_n = 2,
                                       .workers = 2};
        ck_ok(restore_run(r, &top, &o, &res));
        ck_assert_uint_eq(res.files, round ? 1 : DIRS / 10 * 9 - 2);
        ck_assert_uint_eq(res.removed, round ? 3 : 0);
        restore_result_fini(&res);
        for (int i = 0; i < DIRS; i++) {
            snprintf(name, sizeof name, "out/d%05d/f", i);
            bool file = i % 10 != 9 && i != 5 && i != 2500;
            ck_assert_int_eq(access(temp_path(name), F_OK), file ? 0 : -1);
        }
        /* What the second round has to remove, and to bring back. */
        ck_assert_int_eq(mkdir(temp_path("out/a"), 0700), 0);
        ck_assert_int_eq(mkdir(temp_path("out/d01500!"), 0700), 0);
        temp_write("out/zzz", "x", 1);
        ck_assert_int_eq(unlink(temp_path("out/d02000/f")), 0);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("restore");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, names_that_climb_are_refused);
    tcase_add_test(tc, a_link_in_place_of_a_directory_is_not_followed);
    tcase_add_test(tc, nothing_that_exists_is_replaced);
    tcase_add_test(tc, hard_links_do_not_reach_outside);
    tcase_add_test(tc, a_damaged_file_is_named_and_not_left_behind);
    tcase_add_test(tc, no_link_leads_to_a_target_below);
    tcase_add_test(tc, holes_come_back_as_holes);
    tcase_add_test(tc, a_large_file_is_the_same_whichever_way_it_is_written);
    tcase_add_test(tc, includes_choose_and_missing_ones_are_told);
    tcase_add_test(tc, paths_beyond_path_max_are_restored);
    tcase_add_test(tc, opening_beneath_refuses_links_and_climbing);
    tcase_add_test(tc, a_directory_of_very_many_directories_is_restored);
    return suite_main("engine restore", tc);
}
