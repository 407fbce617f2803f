/* Lists that are read entry by entry: short ones, and those of which only what is stored
 * is held. */
#include "common/repo/tree_stream.h"

#include <string.h>

#include "tests/unit/engine/temp_tree.h"

static void set_up(void)
{
    temp_enter();
}

/* A list of n files, each with a piece of its own. */
static void make_list(int n, struct tree *t)
{
    for (int i = 0; i < n; i++) {
        char name[32];
        struct digest id;
        snprintf(name, sizeof name, "file-%06d", i);
        struct node *nd = temp_node(t, NODE_FILE, name);
        nd->size = (uint64_t)i;
        hash_bytes(&i, sizeof i, &id);
        node_add_content(nd, &id);
    }
}

static void compare(struct repo_io *io, const struct digest *id, const struct tree *t)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    ck_ok(tree_stream_open(io, id, &s));
    for (size_t i = 0; i < t->n; i++) {
        ck_ok(tree_stream_next(s, &nd));
        ck_assert_ptr_nonnull(nd);
        ck_assert_str_eq(nd->name, t->nodes[i].name);
        ck_assert_uint_eq(nd->size, t->nodes[i].size);
        ck_assert_uint_eq(nd->content_n, 1);
        ck_assert(digest_equal(&nd->content[0], &t->nodes[i].content[0]));
        if (i % 3)
            continue;
        node_fini(nd); /* as if somebody kept it */
        *nd = (struct node){0};
    }
    ck_ok(tree_stream_next(s, &nd));
    ck_assert_ptr_null(nd);
    ck_ok(tree_stream_next(s, &nd));
    ck_assert_ptr_null(nd);
}

START_TEST(every_entry_is_told_once_in_order)
{
    static const int counts[] = {0, 1, 500, 20000};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        AUTO(repo) struct repo *r = temp_open(true);
        AUTO(repo_io) struct repo_io *io = repo_io_new(r);
        AUTO_TREE struct tree t = {0};
        struct repo_saved saved;
        struct digest id;
        uint64_t bytes = 0;
        make_list(counts[i], &t);
        ck_ok(repo_save_tree(io, &t, &id, &saved));
        ck_ok(repo_flush(io));
        ck_assert(repo_has_blob(r, BLOB_TREE, &id, &bytes));
        ck_assert_int_eq(bytes > TREE_STREAM_EASY, counts[i] == 20000);
        compare(io, &id, &t);
    }
}
END_TEST

static void read_stored(struct repo *r, const struct digest *id, struct blob_entry *e,
                        struct buf *sealed)
{
    struct digest pack;
    ck_assert(repo_locate(r, BLOB_TREE, id, e, &pack));
    ck_ok(repo_read_pack(r, &pack, e->offset, buf_room(sealed, e->length), e->length));
    sealed->len = e->length;
}

/* Nothing is told of a list that is not what it is taken for. */
START_TEST(what_a_list_hashes_to_is_checked_first)
{
    static const int counts[] = {10, 20000};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        AUTO(repo) struct repo *r = temp_open(true);
        AUTO(repo_io) struct repo_io *io = repo_io_new(r);
        AUTO_TREE struct tree t = {0};
        AUTO(tree_stream) struct tree_stream *s = NULL;
        struct repo_saved saved;
        struct digest id;
        struct blob_entry e;
        make_list(counts[i], &t);
        ck_ok(repo_save_tree(io, &t, &id, &saved));
        ck_ok(repo_flush(io));
        for (int how = 0; how < 3; how++) {
            AUTO_BUF struct buf sealed = {0};
            read_stored(r, &id, &e, &sealed);
            if (how == 0)
                e.id.b[5] ^= 1;
            else if (how == 1)
                e.plain++;
            else
                sealed.data[e.length / 2] ^= 1;
            ck_err(tree_stream_of(io, &e, &sealed, &s), ERR_CORRUPT);
            ck_assert_ptr_null(s);
        }
    }
}
END_TEST

START_TEST(a_list_that_is_none_is_refused)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    struct digest id;
    temp_save_raw(io, "{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"content\":[]},",
                  &id);
    ck_ok(repo_flush(io));
    ck_ok(tree_stream_open(io, &id, &s));
    struct err *e = tree_stream_next(s, &nd);
    if (!e) { /* the sound part may be told */
        ck_assert_str_eq(nd->name, "a");
        e = tree_stream_next(s, &nd);
    }
    ck_err(e, ERR_CORRUPT);
    ck_assert_ptr_null(nd);
    id.b[0] ^= 1;
    struct tree_stream *none = NULL;
    ck_err(tree_stream_open(io, &id, &none), ERR_NOT_FOUND);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("tree stream");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, every_entry_is_told_once_in_order);
    tcase_add_test(tc, what_a_list_hashes_to_is_checked_first);
    tcase_add_test(tc, a_list_that_is_none_is_refused);
    return suite_main("repo tree stream", tc);
}
