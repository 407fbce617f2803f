/* A directory's list in one piece: what goes in comes out. */
#include "common/engine/dirlist.h"

#include "common/base/mem.h"
#include "tests/unit/suite.h"

enum { ENTRIES = 200 };

/* Every part is there in some entry and absent in another. */
static void make_tree(struct tree *t)
{
    for (int i = 0; i < ENTRIES; i++) {
        struct node *nd = tree_add(t);
        nd->name =
            mem_printf("%03d%.*s", i, i % 50, "nananananananananananananananananananana");
        nd->type = i % 5 == 4 ? NODE_DIR : i % 7 == 6 ? NODE_SYMLINK : NODE_FILE;
        nd->mode = (uint32_t)i * 7;
        nd->uid = (uint32_t)i;
        nd->gid = ~(uint32_t)i;
        nd->size = (uint64_t)i << 33;
        nd->inode = (uint64_t)i * 1000003;
        nd->device_id = i % 9 == 8 ? 77 : 5;
        nd->links = (uint64_t)i % 3;
        nd->device = i % 4 == 1 ? 300 : 0;
        nd->mtime = (struct go_time){-i, (uint32_t)i};
        nd->atime = i % 2 ? nd->mtime : (struct go_time){i, 1};
        nd->ctime = (struct go_time){i, (uint32_t)i + 1};
        nd->has_subtree = nd->type == NODE_DIR;
        if (nd->has_subtree)
            hash_bytes(&i, sizeof i, &nd->subtree);
        if (nd->type == NODE_SYMLINK)
            nd->target = mem_printf("to/%d", i);
        for (int k = 0; nd->type == NODE_FILE && k < i % 4; k++) {
            struct digest id;
            hash_bytes(&k, sizeof k, &id);
            node_add_content(nd, &id);
        }
        for (int k = 0; k < i % 6; k++)
            node_add_xattr(nd, k ? "user.b" : "user.a", "\0value", (size_t)k);
    }
}

static void same(const struct node *a, const struct dirlist_entry *e)
{
    const struct node *b = &e->node;
    struct dirlist_attr attr;
    const char *at = e->attrs;
    ck_assert_str_eq(a->name, b->name);
    ck_assert(a->type == b->type && a->mode == b->mode && a->uid == b->uid &&
              a->gid == b->gid && a->size == b->size && a->inode == b->inode &&
              a->device_id == b->device_id && a->links == b->links &&
              a->device == b->device && a->has_subtree == b->has_subtree);
    ck_assert(a->mtime.sec == b->mtime.sec && a->mtime.nsec == b->mtime.nsec &&
              a->atime.sec == b->atime.sec && a->atime.nsec == b->atime.nsec &&
              a->ctime.sec == b->ctime.sec && a->ctime.nsec == b->ctime.nsec);
    ck_assert(digest_equal(&a->subtree, &b->subtree));
    ck_assert_int_eq(a->target == NULL, b->target == NULL);
    if (a->target)
        ck_assert_str_eq(a->target, b->target);
    ck_assert_uint_eq(a->content_n, b->content_n);
    for (size_t i = 0; i < a->content_n; i++)
        ck_assert(digest_equal(&a->content[i], &b->content[i]));
    for (size_t i = 0; i < a->xattrs_n; i++) {
        ck_assert(dirlist_next_attr(&at, &attr));
        ck_assert_str_eq(attr.name, a->xattrs[i].name);
        ck_assert_uint_eq(attr.n, a->xattrs[i].n);
        ck_assert(!attr.n || memcmp(attr.value, a->xattrs[i].value, attr.n) == 0);
    }
    ck_assert(!dirlist_next_attr(&at, &attr));
}

START_TEST(what_goes_in_comes_out)
{
    AUTO_TREE struct tree t = {0};
    struct dirlist l = {0};
    struct dirlist_entry e;
    make_tree(&t);
    for (size_t i = 0; i < t.n; i++)
        dirlist_add(&l, &t.nodes[i]);
    dirlist_trim(&l);
    for (size_t i = 0; i < t.n; i++) {
        dirlist_get(&l, i, &e);
        same(&t.nodes[i], &e);
        ck_assert(dirlist_find(&l, t.nodes[i].name, &e));
        same(&t.nodes[i], &e);
        ck_assert_str_eq(dirlist_name(&l, i), t.nodes[i].name);
    }
    ck_assert(!dirlist_find(&l, "", &e));
    ck_assert(!dirlist_find(&l, "100!", &e));
    ck_assert(!dirlist_find(&l, "zzz", &e));
    dirlist_fini(&l);
    dirlist_trim(&l);
    ck_assert(!dirlist_find(&l, "a", &e));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("dirlist");
    tcase_add_test(tc, what_goes_in_comes_out);
    return suite_main("engine dirlist", tc);
}
