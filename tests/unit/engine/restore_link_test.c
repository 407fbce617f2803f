/* Hard links of a restore into a directory that holds something already. */
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/backup.h"
#include "common/engine/restore.h"
#include "tests/unit/engine/temp_tree.h"

/* A file with two names, src/a and src/d/b, and its snapshot. */
static void back_up_pair(struct repo *r, struct digest *tree)
{
    struct backup_result made;
    ck_assert_int_eq(mkdir(temp_path("src"), 0755), 0);
    ck_assert_int_eq(mkdir(temp_path("src/d"), 0751), 0);
    temp_write("src/a", "stored", 6);
    ck_assert_int_eq(chmod(temp_path("src/a"), 0640), 0);
    ck_assert_int_eq(link(temp_path("src/a"), temp_path("src/d/b")), 0);
    const struct backup_opts o = {
        .source = temp_path("src"), .path = "/s", .hostname = "h"};
    ck_ok(backup_run(r, &o, &made));
    *tree = made.tree;
    backup_result_fini(&made);
    ck_assert_int_eq(mkdir(temp_path("out"), 0755), 0);
    ck_assert_int_eq(mkdir(temp_path("out/d"), 0755), 0);
}

static struct err *restore(struct repo *r, const struct digest *tree,
                           enum restore_existing existing, struct restore_result *res)
{
    const struct restore_opts o = {
        .target = temp_path("out"), .strip = "/s", .existing = existing};
    return restore_run(r, tree, &o, res);
}

static void ck_content(const char *name, const char *want)
{
    char got[32] = "";
    FILE *f = fopen(temp_path(name), "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fread(got, 1, sizeof got - 1, f), strlen(want));
    ck_assert_str_eq(got, want);
    ck_assert_int_eq(fclose(f), 0);
}

static const enum restore_existing sparing[] = {RESTORE_NEVER, RESTORE_IF_NEWER};

/* What is left alone under the first name is not the snapshot's file. */
START_TEST(a_name_is_not_linked_to_what_was_left_alone)
{
    AUTO(repo) struct repo *r = temp_open(true);
    struct restore_result res;
    struct digest tree;
    back_up_pair(r, &tree);
    temp_write("out/a", "mine", 4);
    ck_ok(restore(r, &tree, sparing[_i], &res));
    restore_result_fini(&res);
    ck_content("out/a", "mine");
    ck_content("out/d/b", "stored");
}
END_TEST

START_TEST(a_second_name_that_is_to_be_left_alone_is)
{
    AUTO(repo) struct repo *r = temp_open(true);
    struct restore_result res;
    struct digest tree;
    back_up_pair(r, &tree);
    temp_write("out/d/b", "mine", 4);
    ck_ok(restore(r, &tree, sparing[_i], &res));
    ck_assert_uint_eq(res.files, 1);
    ck_assert_uint_eq(res.kept, 1);
    restore_result_fini(&res);
    ck_content("out/a", "stored");
    ck_content("out/d/b", "mine");
}
END_TEST

START_TEST(an_older_second_name_is_linked_anew)
{
    const struct timespec old[2] = {{1000, 0}, {1000, 0}};
    AUTO(repo) struct repo *r = temp_open(true);
    struct restore_result res;
    struct digest tree;
    struct stat a, b;
    back_up_pair(r, &tree);
    temp_write("out/d/b", "mine", 4);
    ck_assert_int_eq(utimensat(AT_FDCWD, temp_path("out/d/b"), old, 0), 0);
    ck_ok(restore(r, &tree, RESTORE_IF_NEWER, &res));
    restore_result_fini(&res);
    ck_assert_int_eq(stat(temp_path("out/a"), &a), 0);
    ck_assert_int_eq(stat(temp_path("out/d/b"), &b), 0);
    ck_assert_uint_eq(a.st_ino, b.st_ino);
    ck_content("out/d/b", "stored");
}
END_TEST

START_TEST(a_newer_file_in_place_of_a_directory_is_left_alone)
{
    AUTO(repo) struct repo *r = temp_open(true);
    struct restore_result res;
    struct digest tree;
    back_up_pair(r, &tree);
    ck_assert_int_eq(rmdir(temp_path("out/d")), 0);
    temp_write("out/d", "mine", 4);
    ck_err(restore(r, &tree, RESTORE_IF_NEWER, &res), ERR_IO);
    ck_assert_uint_eq(res.problems.n, 1);
    ck_assert_str_eq(res.problems.items[0].path, "d");
    restore_result_fini(&res);
    ck_content("out/d", "mine");
    ck_content("out/a", "stored");
}
END_TEST

/* A file that is as it should be but for its metadata may have names elsewhere. */
START_TEST(metadata_does_not_reach_a_name_elsewhere)
{
    static const enum restore_existing all[] = {RESTORE_IF_CHANGED, RESTORE_ALWAYS};
    AUTO(repo) struct repo *r = temp_open(true);
    struct restore_result res;
    struct digest tree;
    struct stat st;
    back_up_pair(r, &tree); /* with another mode than 0600 */
    ck_assert_int_eq(stat(temp_path("src/a"), &st), 0);
    ck_assert_uint_ne(st.st_mode & 07777, 0600);
    const struct timespec times[2] = {st.st_mtim, st.st_mtim};
    temp_write("elsewhere", "stored", 6);
    ck_assert_int_eq(chmod(temp_path("elsewhere"), 0600), 0);
    ck_assert_int_eq(utimensat(AT_FDCWD, temp_path("elsewhere"), times, 0), 0);
    ck_assert_int_eq(link(temp_path("elsewhere"), temp_path("out/a")), 0);
    ck_ok(restore(r, &tree, all[_i], &res));
    restore_result_fini(&res);
    ck_assert_int_eq(stat(temp_path("elsewhere"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_uint_eq(st.st_nlink, 1);
    ck_content("out/a", "stored");
    ck_content("out/d/b", "stored");
}
END_TEST

START_TEST(names_that_are_linked_already_stay_so)
{
    AUTO(repo) struct repo *r = temp_open(true);
    struct restore_result res;
    struct digest tree;
    struct stat before, after;
    back_up_pair(r, &tree);
    ck_ok(restore(r, &tree, RESTORE_IF_CHANGED, &res));
    restore_result_fini(&res);
    ck_assert_int_eq(stat(temp_path("out/a"), &before), 0);
    ck_ok(restore(r, &tree, RESTORE_IF_CHANGED, &res));
    ck_assert_uint_eq(res.files, 0);
    ck_assert_uint_eq(res.kept, 2);
    restore_result_fini(&res);
    ck_assert_int_eq(stat(temp_path("out/d/b"), &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
}
END_TEST

/* Neither name can be restored: both are told, and their directories are finished. */
START_TEST(names_of_a_file_that_is_not_in_the_index_are_told)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree inner = {0};
    AUTO_TREE struct tree outer = {0};
    struct restore_result res;
    struct repo_saved saved;
    struct digest sub, top, gone = {{1}};
    struct stat st;
    struct node *nd = temp_node(&inner, NODE_FILE, "b");
    nd->links = 2;
    nd->inode = 7;
    node_add_content(nd, &gone);
    ck_ok(repo_save_tree(io, &inner, &sub, &saved));
    nd = temp_node(&outer, NODE_FILE, "a");
    nd->links = 2;
    nd->inode = 7;
    node_add_content(nd, &gone);
    nd = temp_node(&outer, NODE_DIR, "d");
    nd->mode = node_mode(S_IFDIR | 0751);
    nd->has_subtree = true;
    nd->subtree = sub;
    ck_ok(repo_save_tree(io, &outer, &top, &saved));
    ck_ok(repo_flush(io));
    const struct restore_opts o = {.target = temp_path("out")};
    ck_err(restore_run(r, &top, &o, &res), ERR_IO);
    ck_assert_uint_eq(res.problems.n, 2);
    restore_result_fini(&res);
    ck_assert_int_eq(stat(temp_path("out/d"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0751);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("restore_link");
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, temp_enter, NULL);
    tcase_add_loop_test(tc, a_name_is_not_linked_to_what_was_left_alone, 0,
                        ARRAY_LEN(sparing));
    tcase_add_loop_test(tc, a_second_name_that_is_to_be_left_alone_is, 0,
                        ARRAY_LEN(sparing));
    tcase_add_test(tc, an_older_second_name_is_linked_anew);
    tcase_add_test(tc, a_newer_file_in_place_of_a_directory_is_left_alone);
    tcase_add_loop_test(tc, metadata_does_not_reach_a_name_elsewhere, 0, 2);
    tcase_add_test(tc, names_that_are_linked_already_stay_so);
    tcase_add_test(tc, names_of_a_file_that_is_not_in_the_index_are_told);
    return suite_main("restore_link", tc);
}
