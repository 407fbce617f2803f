/* Hostile repositories: whatever they say, and whoever exchanges directories meanwhile,
 * nothing outside the target changes, and memory stays bounded. */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "common/engine/check.h"
#include "common/engine/restore.h"
#include "tests/unit/engine/temp_tree.h"
#include "tests/unit/store/fault_store.h"

enum { BOMB_BYTES = 128 << 20, MEMORY_KIB = 160 << 10 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEASURES_MEMORY = 0 }; /* these keep much more than the program asks for */
#else
enum { MEASURES_MEMORY = 1 };
#endif

static void set_up(void)
{
    temp_enter();
    temp_canary_make();
    temp_canary_check();
}

static struct err *restore_with(struct repo *r, const struct digest *tree,
                                const struct restore_opts *o)
{
    struct restore_result res;
    struct err *e = restore_run(r, tree, o, &res);
    restore_result_fini(&res);
    temp_canary_check();
    return e;
}

static struct err *restore(struct repo *r, const struct digest *tree)
{
    const struct restore_opts o = {.target = temp_path("out"), .workers = 2};
    return restore_with(r, tree, &o);
}

#define NODES(x) "{\"nodes\":[" x "]}\n"
#define FILE_NODE "\"type\":\"file\",\"mode\":420,\"content\":[]"
#define XATTR(name, value)                                                               \
    "\"extended_attributes\":[{\"name\":\"" name "\",\"value\":\"" value "\"}]"
#define TEXT_100                                                                         \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
    "xxxx"                                                                               \
    "xxxxxxxxxxxxxx"
#define TEXT_1000                                                                        \
    TEXT_100 TEXT_100 TEXT_100 TEXT_100 TEXT_100 TEXT_100 TEXT_100 TEXT_100 TEXT_100     \
        TEXT_100
#define TEXT_5000 TEXT_1000 TEXT_1000 TEXT_1000 TEXT_1000 TEXT_1000

static const char *const odd_trees[] = {
    /* links out, and children through them */
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget\":\"../outside\"},"
          "{\"name\":\"a\",\"type\":\"file\",\"content\":[]}"),
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget\":\"../outside\"},"
          "{\"name\":\"a/f1\"," FILE_NODE "}"),
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget\":\"/proc/self/cwd\"}"),
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget\":\"" TEXT_5000 "\"}"),
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget\":\"\"}"),
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget\":\"a\\u0000b\"}"),
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget_raw\":\"!!\"}"),
    /* one file with a symbolic link as its other name, and a directory as well */
    NODES("{\"name\":\"a\",\"type\":\"symlink\",\"linktarget\":\"../canary\",\"links\":3,"
          "\"inode\":9},{\"name\":\"b\"," FILE_NODE ",\"links\":3,\"inode\":9}"),
    NODES("{\"name\":\"a\"," FILE_NODE ",\"links\":18446744073709551615,\"inode\":1},"
          "{\"name\":\"b\"," FILE_NODE ",\"links\":2,\"inode\":1}"),
    /* names */
    NODES("{\"name\":\"" TEXT_100 TEXT_100 TEXT_100 "\"," FILE_NODE "}"),
    NODES("{\"name\":\"a\\u0000b\"," FILE_NODE "}"),
    NODES("{\"name\":\".\"," FILE_NODE "}"),
    NODES("{\"name\":\"b\"," FILE_NODE "},{\"name\":\"a\"," FILE_NODE "}"),
    NODES("{" FILE_NODE "}"),
    /* devices, set-id bits, owners */
    NODES("{\"name\":\"a\",\"type\":\"chardev\",\"mode\":69206454,\"device\":257}"),
    NODES("{\"name\":\"a\",\"type\":\"dev\",\"device\":18446744073709551615}"),
    NODES("{\"name\":\"a\",\"type\":\"file\",\"mode\":12583405,\"content\":[]}"),
    NODES("{\"name\":\"a\",\"type\":\"file\",\"mode\":4294967295,\"content\":[],"
          "\"uid\":4294967295,\"gid\":4294967295}"),
    NODES("{\"name\":\"a\",\"type\":\"socket\"}"),
    NODES("{\"name\":\"a\",\"type\":\"irregular\"}"),
    /* sizes and times */
    NODES("{\"name\":\"a\"," FILE_NODE ",\"size\":18446744073709551615}"),
    NODES("{\"name\":\"a\"," FILE_NODE ",\"size\":18446744073709551616}"),
    NODES("{\"name\":\"a\"," FILE_NODE ",\"mtime\":\"9999-12-31T23:59:59.999999999Z\"}"),
    NODES("{\"name\":\"a\"," FILE_NODE ",\"mtime\":\"yesterday\"}"),
    /* attributes */
    NODES("{\"name\":\"a\"," FILE_NODE "," XATTR("", "eA==") "}"),
    NODES("{\"name\":\"a\"," FILE_NODE "," XATTR("user." TEXT_1000, "eA==") "}"),
    NODES("{\"name\":\"a\"," FILE_NODE "," XATTR("security.capability", "AAAA") "}"),
    NODES("{\"name\":\"a\"," FILE_NODE "," XATTR("system.posix_acl_access", "AAAA") "}"),
    NODES("{\"name\":\"a\"," FILE_NODE "," XATTR("user.x", "=") "}"),
    NODES("{\"name\":\"a\"," FILE_NODE "," XATTR("../canary", "eA==") "}"),
    /* structure */
    NODES("{\"name\":\"a\",\"type\":\"dir\"}"),
    NODES("{\"name\":\"a\",\"type\":\"dir\",\"subtree\":\"00\"}"),
    NODES("{\"name\":\"a\",\"type\":\"file\",\"content\":null}"),
    NODES("{\"name\":\"a\",\"type\":\"file\",\"content\":[[[[[[]]]]]]}"),
    NODES("{\"name\":\"a\",\"type\":\"file\",\"content\":{}}"),
    NODES("null"),
    "{\"nodes\":null}\n",
    "{}\n",
    "[]\n",
    "",
    NODES("") "{}",
};

START_TEST(whatever_a_tree_says_nothing_outside_changes)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    for (size_t i = 0; i < ARRAY_LEN(odd_trees); i++) {
        struct digest id;
        const struct restore_opts again = {
            .target = temp_path("out"), .existing = RESTORE_ALWAYS, .remove = true};
        if (!*odd_trees[i])
            continue; /* an empty blob cannot be stored at all */
        temp_save_raw(io, odd_trees[i], &id);
        ck_ok(repo_flush(io));
        err_free(restore(r, &id));
        err_free(restore_with(r, &id, &again));
        temp_remove(AT_FDCWD, temp_path("out"));
    }
}
END_TEST

START_TEST(a_file_whose_blob_is_missing_is_not_made)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct digest top, nowhere;
    memset(&nowhere, 7, sizeof nowhere);
    temp_node_text(io, temp_node(&t, NODE_FILE, "good"), "text");
    struct node *bad = temp_node(&t, NODE_FILE, "gone");
    temp_node_text(io, bad, "text");
    node_add_content(bad, &nowhere);
    tree_sort(&t);
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    ck_err(restore(r, &top), ERR_IO);
    ck_assert_int_eq(access(temp_path("out/good"), F_OK), 0);
    ck_assert_int_eq(access(temp_path("out/gone"), F_OK), -1);
}
END_TEST

/* What the process took at most. */
static long memory_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void save_bomb(struct repo_io *io, enum blob_type type, struct digest *id)
{
    struct repo_saved saved;
    /* Reading what calloc gave costs no memory. */
    char *zeros = mem_array(BOMB_BYTES, 1);
    ck_ok(repo_save_blob(io, type, zeros, BOMB_BYTES, id, &saved));
    ck_assert_uint_lt(saved.stored, 1 << 20);
    free(zeros);
}

START_TEST(a_bomb_in_a_file_is_refused)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct digest top, bomb;
    save_bomb(io, BLOB_DATA, &bomb);
    node_add_content(temp_node(&t, NODE_FILE, "bomb"), &bomb);
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    ck_err(restore(r, &top), ERR_IO);
    ck_assert_int_eq(access(temp_path("out/bomb"), F_OK), -1);
    ck_assert(!MEASURES_MEMORY || memory_kib() < MEMORY_KIB);
}
END_TEST

START_TEST(a_bomb_in_a_tree_is_refused)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct digest bomb;
    save_bomb(io, BLOB_TREE, &bomb);
    ck_ok(repo_flush(io));
    ck_err(restore(r, &bomb), ERR_IO);
    ck_assert(!MEASURES_MEMORY || memory_kib() < MEMORY_KIB);
}
END_TEST

START_TEST(a_bomb_in_an_index_is_refused)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    char *blanks = mem_array(BOMB_BYTES, 1); /* JSON as far as one can see */
    memset(blanks, ' ', BOMB_BYTES);
    repo_seal_file(io, blanks, BOMB_BYTES, &sealed, &id);
    free(blanks);
    ck_ok(repo_put_file(r, REPO_INDEX, &id, sealed.data, sealed.len));
    AUTO(repo) struct repo *second = temp_open(false);
    ck_err(repo_load_index(second), ERR_LIMIT);
    ck_assert(!MEASURES_MEMORY || memory_kib() < MEMORY_KIB);
}
END_TEST

/* Replaces all index files by one that says what `text` does of the data blob. */
static void forge_index(struct repo_io *io, const struct digest *tree,
                        const struct digest *blob, const char *offset, const char *length,
                        const char *plain)
{
    struct repo *r = repo_io_repo(io);
    struct blob_entry te, de;
    struct digest tree_pack, pack, id;
    char tree_hex[65], blob_hex[65], tree_pack_hex[65], pack_hex[65];
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    ck_assert(repo_locate(r, BLOB_TREE, tree, &te, &tree_pack));
    ck_assert(repo_locate(r, BLOB_DATA, blob, &de, &pack));
    digest_hex(tree, tree_hex);
    digest_hex(blob, blob_hex);
    digest_hex(&tree_pack, tree_pack_hex);
    digest_hex(&pack, pack_hex);
    buf_printf(&json,
               "{\"packs\":[{\"id\":\"%s\",\"blobs\":[{\"id\":\"%s\",\"type\":\"tree\","
               "\"offset\":%u,\"length\":%u,\"uncompressed_length\":%u}]},"
               "{\"id\":\"%s\",\"blobs\":[{\"id\":\"%s\",\"type\":\"data\","
               "\"offset\":%s,\"length\":%s,\"uncompressed_length\":%s}]}]}\n",
               tree_pack_hex, tree_hex, te.offset, te.length, te.plain, pack_hex,
               blob_hex, offset, length, plain);
    temp_remove(AT_FDCWD, temp_path("repo/index"));
    ck_assert_int_eq(mkdir(temp_path("repo/index"), 0700), 0);
    repo_seal_file(io, json.data, json.len, &sealed, &id);
    ck_ok(repo_put_file(r, REPO_INDEX, &id, sealed.data, sealed.len));
}

START_TEST(an_index_that_lies_costs_the_file_only)
{
    static const char *const lies[][3] = {
        {"0", "4294967295", "5000"},  {"4294967280", "4294967295", "5000"},
        {"4294967295", "40", "5000"}, {"0", "33", "5000"},
        {"0", "100", "4294967295"},   {"0", "100", "1"},
        {"1", "100", "5000"},
    };
    char text[5001];
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct digest top;
    memset(text, 'x', 5000);
    text[5000] = '\0';
    temp_node_text(io, temp_node(&t, NODE_FILE, "a"), text);
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        const struct check_opts deep = {.read_data = true};
        struct check_result res;
        forge_index(io, &top, &t.nodes[0].content[0], lies[i][0], lies[i][1], lies[i][2]);
        AUTO(repo) struct repo *again = temp_open(true);
        struct err *e = restore(again, &top);
        ck_assert_msg(e != NULL, "lie %zu was believed", i);
        err_free(e);
        ck_assert_int_eq(access(temp_path("out/a"), F_OK), -1);
        AUTO(repo) struct repo *checked = temp_open(false);
        ck_err(check_run(checked, &deep, &res), ERR_CORRUPT);
        check_result_fini(&res);
    }
    ck_assert(!MEASURES_MEMORY || memory_kib() < MEMORY_KIB);
}
END_TEST

/* A list that contains itself cannot have its own hash; an index can say so all the same:
 * it gives the id of one list to the bytes of another. */
START_TEST(a_directory_that_contains_itself_is_refused)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf index = {0};
    AUTO_BUF struct buf sealed = {0};
    struct blob_entry entry;
    struct digest self, real, pack, id;
    char self_hex[65], pack_hex[65];
    memset(&self, 0x5a, sizeof self);
    digest_hex(&self, self_hex);
    buf_printf(&json, NODES("{\"name\":\"d\",\"type\":\"dir\",\"subtree\":\"%s\"}"),
               self_hex);
    temp_save_raw(io, buf_text(&json), &real);
    ck_ok(repo_flush(io));
    ck_assert(repo_locate(r, BLOB_TREE, &real, &entry, &pack));
    digest_hex(&pack, pack_hex);
    buf_printf(&index,
               "{\"packs\":[{\"id\":\"%s\",\"blobs\":[{\"id\":\"%s\",\"type\":\"tree\","
               "\"offset\":%u,\"length\":%u,\"uncompressed_length\":%u}]}]}\n",
               pack_hex, self_hex, entry.offset, entry.length, entry.plain);
    temp_remove(AT_FDCWD, temp_path("repo/index"));
    ck_assert_int_eq(mkdir(temp_path("repo/index"), 0700), 0);
    repo_seal_file(io, index.data, index.len, &sealed, &id);
    ck_ok(repo_put_file(r, REPO_INDEX, &id, sealed.data, sealed.len));
    AUTO(repo) struct repo *again = temp_open(true);
    ck_err(restore(again, &self), ERR_CORRUPT);
}
END_TEST

START_TEST(directories_without_end_are_refused)
{
    enum { LEVELS = 10100 };
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct digest id;
    temp_save_raw(io, NODES(""), &id);
    for (int i = 0; i < LEVELS; i++) {
        char json[200], hex[65];
        digest_hex(&id, hex);
        snprintf(json, sizeof json,
                 NODES("{\"name\":\"d\",\"type\":\"dir\",\"subtree\":\"%s\"}"), hex);
        temp_save_raw(io, json, &id);
    }
    ck_ok(repo_flush(io));
    /* Dry: making them takes quadratic time, and is another test's. */
    struct restore_result res;
    const struct restore_opts o = {.target = temp_path("out"), .dry_run = true};
    ck_err(restore_run(r, &id, &o, &res), ERR_IO);
    ck_assert_uint_eq(res.problems.total, 1);
    ck_assert_ptr_nonnull(strstr(res.problems.items[0].text, "deeper"));
    restore_result_fini(&res);
    ck_ok(check_tree(r, &id)); /* the check has no such limit */
}
END_TEST

START_TEST(a_directory_of_very_many_entries_is_restored)
{
    enum { ENTRIES = 30000 };
    struct restore_result res;
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_BUF struct buf json = {0};
    struct digest id;
    buf_str(&json, "{\"nodes\":[");
    for (int i = 0; i < ENTRIES; i++)
        buf_printf(&json, "%s{\"name\":\"f%06d\"," FILE_NODE "}", i ? "," : "", i);
    buf_str(&json, "]}\n");
    temp_save_raw(io, buf_text(&json), &id);
    ck_ok(repo_flush(io));
    const struct restore_opts o = {.target = temp_path("out")};
    ck_ok(restore_run(r, &id, &o, &res));
    ck_assert_uint_eq(res.files, ENTRIES);
    restore_result_fini(&res);
    ck_assert(!MEASURES_MEMORY || memory_kib() < MEMORY_KIB);
}
END_TEST

/* ---- somebody who plants links at files' names ---- */

struct planter {
    struct digest packs[3]; /* that hold the files' contents */
    bool done;
};

/* When the first content is read, no file was opened for writing yet. */
static enum fault plant(void *ctx, const struct store_call *call)
{
    struct planter *p = ctx;
    bool content = false;
    for (size_t i = 0; i < ARRAY_LEN(p->packs); i++) {
        char hex[65];
        digest_hex(&p->packs[i], hex);
        content |= strstr(call->name, hex) != NULL;
    }
    if (p->done || call->op != STORE_GET || !content)
        return FAULT_NONE;
    p->done = true;
    ck_assert_int_eq(symlink("../outside/f1", temp_path("out/absent")), 0);
    ck_assert_int_eq(link(temp_path("outside/f2"), temp_path("out/linked")), 0);
    ck_assert_int_eq(unlink(temp_path("out/present")), 0);
    ck_assert_int_eq(symlink("../outside/f3", temp_path("out/present")), 0);
    return FAULT_NONE;
}

START_TEST(links_planted_at_files_names_gain_nothing)
{
    static const char *const names[] = {"absent", "linked", "present"};
    struct planter p = {.done = true};
    struct store *store = NULL;
    struct repo *opened = NULL;
    AUTO_TREE struct tree t = {0};
    struct restore_result res;
    struct repo_saved saved;
    struct blob_entry entry;
    struct digest top;
    ck_ok(store_open(temp_path("repo"), 0, &store));
    ck_ok(repo_open(fault_wrap(store, plant, &p), "pw", 2, &opened));
    AUTO(repo) struct repo *r = opened;
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        temp_node_text(io, temp_node(&t, NODE_FILE, names[i]), "evil");
    ck_ok(repo_save_tree(io, &t, &top, &saved));
    ck_ok(repo_flush(io));
    for (size_t i = 0; i < t.n; i++)
        ck_assert(repo_locate(r, BLOB_DATA, &t.nodes[i].content[0], &entry, &p.packs[i]));
    ck_assert_int_eq(mkdir(temp_path("out"), 0700), 0);
    temp_write("out/present", "mine", 4);
    p.done = false;
    const struct restore_opts o = {
        .target = temp_path("out"), .workers = 1, .existing = RESTORE_ALWAYS};
    ck_err(restore_run(r, &top, &o, &res), ERR_IO);
    ck_assert(p.done);
    ck_assert_uint_eq(res.problems.total, 3);
    restore_result_fini(&res);
    ck_assert_int_eq(unlink(temp_path("out/linked")), 0);
    temp_canary_check();
}
END_TEST

/* ---- somebody who exchanges directories ---- */

enum { SWAPS = 100000 };
static atomic_bool swapping;
static atomic_uint swaps;

/* Exchanges the restored directory with a link out of the target, again and again. What
 * the restore replaced is put there again. */
static void *swap(void *arg)
{
    (void)arg;
    char dir[256], away[256];
    snprintf(dir, sizeof dir, "%s/out/dir", temp_dir);
    snprintf(away, sizeof away, "%s/out/link", temp_dir);
    while (atomic_load(&swapping)) {
        if (renameat2(AT_FDCWD, dir, AT_FDCWD, away, RENAME_EXCHANGE) == 0) {
            atomic_fetch_add(&swaps, 1);
            continue;
        }
        if (symlink("../outside", away))
            mkdir(dir, 0700);
    }
    return NULL;
}

/* Small files, one of two pieces, fifos, links; in a directory and one below it. */
static void make_target_of_swaps(struct repo_io *io, struct digest *top)
{
    AUTO_TREE struct tree inner = {0};
    AUTO_TREE struct tree outer = {0};
    struct repo_saved saved;
    struct digest sub;
    char name[16];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "f%d", i);
        struct node *nd = temp_node(&inner, i % 4 == 3 ? NODE_FIFO : NODE_FILE, name);
        nd->links = i % 4 == 2 ? 2 : 0;
        nd->inode = 77;
        if (i % 4 == 3)
            continue;
        temp_node_text(io, nd, name);
        if (i % 4 == 1)
            temp_node_text(io, nd, "more");
    }
    tree_sort(&inner);
    ck_ok(repo_save_tree(io, &inner, &sub, &saved));
    struct node *below = temp_node(&inner, NODE_DIR, "sub");
    below->has_subtree = true;
    below->subtree = sub;
    tree_sort(&inner);
    ck_ok(repo_save_tree(io, &inner, &sub, &saved));
    struct node *dir = temp_node(&outer, NODE_DIR, "dir");
    dir->has_subtree = true;
    dir->subtree = sub;
    ck_ok(repo_save_tree(io, &outer, top, &saved));
    ck_ok(repo_flush(io));
}

START_TEST(swapping_a_directory_for_a_link_gains_nothing)
{
    static const char *const excludes[] = {"/link"};
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    pthread_t thread;
    struct digest top;
    make_target_of_swaps(io, &top);
    ck_assert_int_eq(mkdir(temp_path("out"), 0700), 0);
    ck_assert_int_eq(mkdir(temp_path("out/dir"), 0700), 0);
    ck_assert_int_eq(symlink("../outside", temp_path("out/link")), 0);
    atomic_store(&swapping, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, swap, NULL), 0);
    for (unsigned i = 0; atomic_load(&swaps) < SWAPS; i++) {
        const struct restore_opts o = {
            .target = temp_path("out"),
            .workers = 2,
            .existing = i % 3 == 0   ? RESTORE_REFUSE
                        : i % 3 == 1 ? RESTORE_ALWAYS
                                     : RESTORE_IF_CHANGED,
            .remove = i % 3 != 0,
            .excludes = excludes,
            .excludes_n = 1,
        };
        err_free(restore_with(r, &top, &o));
    }
    atomic_store(&swapping, false);
    pthread_join(thread, NULL);
    temp_canary_check();
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("hostile");
    tcase_set_timeout(tc, 300);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, whatever_a_tree_says_nothing_outside_changes);
    tcase_add_test(tc, a_file_whose_blob_is_missing_is_not_made);
    tcase_add_test(tc, a_bomb_in_a_file_is_refused);
    tcase_add_test(tc, a_bomb_in_a_tree_is_refused);
    tcase_add_test(tc, a_bomb_in_an_index_is_refused);
    tcase_add_test(tc, an_index_that_lies_costs_the_file_only);
    tcase_add_test(tc, a_directory_that_contains_itself_is_refused);
    tcase_add_test(tc, directories_without_end_are_refused);
    tcase_add_test(tc, a_directory_of_very_many_entries_is_restored);
    tcase_add_test(tc, links_planted_at_files_names_gain_nothing);
    tcase_add_test(tc, swapping_a_directory_for_a_link_gains_nothing);
    return suite_main("engine hostile", tc);
}
