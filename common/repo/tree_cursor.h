/* The nodes of a stored tree one after the other, as text: a node that reads exactly as
 * it would be written now is recognised without being taken apart. Pure. */
#ifndef COMMON_REPO_TREE_CURSOR_H
#define COMMON_REPO_TREE_CURSOR_H

#include "common/repo/tree.h"

/* Appends the next bytes of a list, at most n, to `text`; none at its end. */
typedef void tree_more(void *ctx, size_t n, struct buf *text);

struct tree_cursor {
    const char *at; /* a node's '{' (once it `arrived`), or the end */
    const char *end;
    const char *next; /* behind the node at `at`; NULL: not looked for yet */
    bool arrived;     /* false: `at` is what is in front of the node */
    bool first;       /* then no comma is */
    struct buf name;  /* of that node */
    tree_more *more;  /* NULL: what there is is all there is */
    void *ctx;
    struct buf text; /* of a list that comes in parts */
};

/* Begins at the front of a tree's JSON, which stays the caller's. Text of another form
 * than tree_write() makes is a tree without (further) nodes. */
void tree_cursor_init(struct tree_cursor *c, const char *json, size_t n);
/* The same for a list that comes in parts: held is one part and one node. */
void tree_cursor_init_on(struct tree_cursor *c, tree_more *more, void *ctx);
void tree_cursor_fini(struct tree_cursor *c);
/* The raw name of the node here, or NULL at the end; borrowed until the next move. */
const char *tree_cursor_name(struct tree_cursor *c);
/* Reads the node here into an empty tree, of which it becomes the only node. Needs:
 * tree_cursor_name() is not NULL. */
struct err *tree_cursor_read(struct tree_cursor *c, struct tree *out) MUST_USE;
/* Goes on behind the node here. */
void tree_cursor_skip(struct tree_cursor *c);

/* What follows a node's head; borrowed until the next move. */
struct tree_rest {
    const char *ids; /* content: "id","id",…; tree_rest_id() reads one */
    size_t ids_n;
    bool has_subtree;
    struct digest subtree;
};
/* If the node here begins with `head` (of tree_write_head()) and has only content and
 * subtree behind it, goes on behind it and tells these. Ids were checked. */
bool tree_cursor_match(struct tree_cursor *c, const struct buf *head,
                       struct tree_rest *out);
void tree_rest_id(const struct tree_rest *r, size_t i, struct digest *out);

#endif
