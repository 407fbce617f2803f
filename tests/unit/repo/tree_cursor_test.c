#include "common/repo/tree_cursor.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "tests/unit/suite.h"

enum { NODES = 40 };

/* Files with 0, 1, 2… ids, directories, links and names that both forms escape. */
static void make_tree(struct tree *t)
{
    for (int i = 0; i < NODES; i++) {
        struct node *nd = tree_add(t);
        nd->name = mem_printf("%02d%s", i, i % 7 == 3 ? "\"<\n\\é" : "");
        nd->type = i % 5 == 4 ? NODE_DIR : i % 11 == 7 ? NODE_SYMLINK : NODE_FILE;
        nd->mode = 0644 + (uint32_t)i;
        nd->inode = (uint64_t)i * 1000003;
        nd->mtime.nsec = (uint32_t)i * 1000;
        nd->has_subtree = nd->type == NODE_DIR;
        hash_bytes(&i, sizeof i, &nd->subtree);
        if (nd->type == NODE_SYMLINK)
            nd->target = mem_strdup("}{\",[\\\"");
        for (int j = 0; nd->type == NODE_FILE && j < i % 4; j++) {
            struct digest id;
            hash_bytes(&j, sizeof j, &id);
            node_add_content(nd, &id);
        }
        if (i % 6 == 2)
            node_add_xattr(nd, "user.}]\"", "value", 5);
    }
}

/* Ways to give a list: whole, then so many bytes at a time. */
static const size_t steps[] = {0, 1, 7, 100, 1 << 20};

struct parts {
    const char *at;
    size_t n;
    size_t step;
};

static void give_part(void *ctx, size_t n, struct buf *text)
{
    struct parts *p = ctx;
    n = n < p->step ? n : p->step;
    n = n < p->n ? n : p->n;
    buf_add(text, p->at, n);
    p->at += n;
    p->n -= n;
}

static void begin(struct tree_cursor *c, struct parts *p)
{
    if (p->step)
        tree_cursor_init_on(c, give_part, p);
    else
        tree_cursor_init(c, p->at, p->n);
}

START_TEST(nodes_that_read_the_same_are_recognised)
{
    AUTO_TREE struct tree t = {0};
    AUTO_BUF struct buf json = {0};
    struct tree_cursor c;
    size_t matched = 0;
    make_tree(&t);
    tree_write(&t, &json);
    struct parts parts = {json.data, json.len, steps[_i]};
    begin(&c, &parts);
    for (size_t i = 0; i < t.n; i++) {
        const struct node *nd = &t.nodes[i];
        AUTO_BUF struct buf head = {0};
        struct tree_rest rest;
        struct node other = *nd;
        other.mtime.nsec += 1;
        tree_write_head(&head, &other);
        ck_assert(!tree_cursor_match(&c, &head, &rest));
        ck_assert_str_eq(tree_cursor_name(&c), nd->name);
        buf_clear(&head);
        tree_write_head(&head, nd);
        if (nd->xattrs_n) { /* the head of who has not read them */
            other = *nd;
            other.xattrs_n = 0;
            buf_clear(&head);
            tree_write_head(&head, &other);
            ck_assert(!tree_cursor_match(&c, &head, &rest));
            tree_cursor_skip(&c);
            continue;
        }
        ck_assert(tree_cursor_match(&c, &head, &rest));
        matched++;
        ck_assert_uint_eq(rest.ids_n, nd->content_n);
        for (size_t j = 0; j < rest.ids_n; j++) {
            struct digest id;
            tree_rest_id(&rest, j, &id);
            ck_assert(digest_equal(&id, &nd->content[j]));
        }
        ck_assert_int_eq(rest.has_subtree, nd->has_subtree);
        if (nd->has_subtree)
            ck_assert(digest_equal(&rest.subtree, &nd->subtree));
    }
    ck_assert_uint_eq(matched, NODES - 7); /* of which 7 have attributes */
    ck_assert_ptr_null(tree_cursor_name(&c));
    tree_cursor_fini(&c);
}
END_TEST

START_TEST(nodes_are_read_and_skipped)
{
    AUTO_TREE struct tree t = {0};
    AUTO_BUF struct buf json = {0};
    struct tree_cursor c;
    size_t n = 0;
    make_tree(&t);
    tree_write(&t, &json);
    struct parts parts = {json.data, json.len, steps[_i]};
    begin(&c, &parts);
    for (; tree_cursor_name(&c); tree_cursor_skip(&c), n++) {
        AUTO_TREE struct tree one = {0};
        ck_ok(tree_cursor_read(&c, &one));
        ck_assert_uint_eq(one.n, 1);
        ck_assert_str_eq(one.nodes[0].name, t.nodes[n].name);
        ck_assert_uint_eq(one.nodes[0].content_n, t.nodes[n].content_n);
        ck_assert_uint_eq(one.nodes[0].xattrs_n, t.nodes[n].xattrs_n);
    }
    ck_assert_uint_eq(n, NODES);
    tree_cursor_fini(&c);
}
END_TEST

/* Cut anywhere, and with any byte another one: an end, never a look behind it. The copy
 * has its exact size, so that the address sanitizer sees one. */
START_TEST(damaged_text_ends_the_walk)
{
    AUTO_TREE struct tree t = {0};
    AUTO_BUF struct buf json = {0};
    make_tree(&t);
    tree_write(&t, &json);
    for (size_t i = 0; i < 2 * json.len; i++) {
        size_t n = i < json.len ? i : json.len, seen = 0;
        char *copy = mem_dup(json.data, n ? n : 1);
        struct tree_cursor c;
        struct tree_rest rest;
        AUTO_BUF struct buf head = {0};
        tree_write_head(&head, &t.nodes[0]);
        if (i >= json.len)
            copy[i - json.len] = "\"}\\,"[i % 4];
        struct parts parts = {copy, n, _i ? 100 : 0};
        begin(&c, &parts);
        tree_cursor_match(&c, &head, &rest);
        for (; tree_cursor_name(&c); tree_cursor_skip(&c)) {
            AUTO_TREE struct tree one = {0};
            err_free(tree_cursor_read(&c, &one));
            seen++;
        }
        ck_assert_uint_le(seen, NODES);
        tree_cursor_fini(&c);
        free(copy);
    }
}
END_TEST

static struct err *collect(void *ctx, const void *data, size_t n)
{
    buf_add(ctx, data, n);
    return NULL;
}

/* Some MB, with a node that is longer than what is held otherwise, in the midst and at
 * the end of a part. */
START_TEST(a_long_list_is_walked_in_little_memory)
{
    enum { LONG = 5000, IDS = 20000 };
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf head = {0};
    AUTO_TREE_WRITER struct tree_writer w;
    struct tree_cursor c;
    struct tree_rest rest;
    AUTO_TREE struct tree t = {0};
    tree_writer_init(&w, collect, &json);
    for (int i = 0; i < LONG; i++) {
        struct node *nd = tree_add(&t);
        nd->name = mem_printf("%05d", i);
        nd->type = NODE_FILE;
        for (int j = 0; j < (i % 1000 == 500 ? IDS : 1); j++) {
            struct digest id;
            hash_bytes(&j, sizeof j, &id);
            node_add_content(nd, &id);
        }
        ck_ok(tree_writer_add(&w, nd));
    }
    ck_ok(tree_writer_end(&w));
    struct parts parts = {json.data, json.len, 1 << 20};
    begin(&c, &parts);
    for (size_t i = 0; i < t.n; i++) {
        buf_clear(&head);
        tree_write_head(&head, &t.nodes[i]);
        if (i % 2) {
            ck_assert_str_eq(tree_cursor_name(&c), t.nodes[i].name);
            tree_cursor_skip(&c);
            continue;
        }
        ck_assert(tree_cursor_match(&c, &head, &rest));
        ck_assert_uint_eq(rest.ids_n, t.nodes[i].content_n);
    }
    ck_assert_ptr_null(tree_cursor_name(&c));
    ck_assert_uint_gt(json.len, 7 << 20);
    ck_assert_uint_lt(c.text.cap, 5 << 20);
    tree_cursor_fini(&c);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("tree cursor");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, nodes_that_read_the_same_are_recognised, 0, ARRAY_LEN(steps));
    tcase_add_loop_test(tc, nodes_are_read_and_skipped, 0, ARRAY_LEN(steps));
    tcase_add_loop_test(tc, damaged_text_ends_the_walk, 0, 2);
    tcase_add_test(tc, a_long_list_is_walked_in_little_memory);
    return suite_main("repo tree cursor", tc);
}
