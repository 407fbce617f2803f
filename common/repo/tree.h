/* Directory lists ("trees") and their entries ("nodes") in restic's JSON form. Pure. */
#ifndef COMMON_REPO_TREE_H
#define COMMON_REPO_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/repo/gotext.h"

enum node_type {
    NODE_NONE, /* only in memory: an entry that is left out when written */
    NODE_FILE,
    NODE_DIR,
    NODE_SYMLINK,
    NODE_DEV,
    NODE_CHARDEV,
    NODE_FIFO,
    NODE_SOCKET,
};

struct node_xattr {
    char *name;
    void *value;
    size_t n;
};

struct node {
    enum node_type type;
    char *name;    /* raw bytes, owned */
    uint32_t mode; /* Go's fs.FileMode, see node_mode() */
    struct go_time mtime;
    struct go_time atime;
    struct go_time ctime;
    uint32_t uid;
    uint32_t gid;
    char *user;  /* for information; may be NULL; owned */
    char *group; /* the same */
    uint64_t inode;
    uint64_t device_id;
    uint64_t size;  /* files: bytes of the content */
    uint64_t links; /* 0 for directories and fifos */
    char *target;   /* symlinks: raw bytes, owned */
    struct node_xattr *xattrs;
    size_t xattrs_n;
    size_t xattrs_cap;
    uint64_t device; /* dev_t of devices */
    struct digest *content;
    size_t content_n;
    size_t content_cap;
    bool has_content; /* read: "content" was a list, not null */
    bool has_subtree;
    struct digest subtree;
};

struct tree {
    struct node *nodes;
    size_t n;
    size_t cap;
};

void node_fini(struct node *nd);
void node_add_xattr(struct node *nd, const char *name, const void *value, size_t n);
void node_add_content(struct node *nd, const struct digest *id);
/* st_mode to Go's mode and back (permission, setuid, setgid and sticky bits only). */
uint32_t node_mode(uint32_t st_mode);
uint32_t node_permissions(uint32_t mode);
enum node_type node_type_of(uint32_t st_mode);
/* "file", "dir"…: static. */
const char *node_type_name(enum node_type t);

/* A zeroed struct is an empty tree. */
void tree_fini(struct tree *t);
#define AUTO_TREE CLEANUP(tree_fini)
/* Appends a zeroed node and returns it, valid until the next tree_add. */
struct node *tree_add(struct tree *t);
void tree_sort(struct tree *t);

/* Appends the tree's exact bytes, with the newline. NODE_NONE entries are left out.
 * Needs: sorted. */
void tree_write(const struct tree *t, struct buf *out);
/* A node's text up to its content. */
void tree_write_head(struct buf *out, const struct node *nd);

/* Takes a part of a tree's bytes, borrowed for the call. */
typedef struct err *tree_sink(void *ctx, const void *data, size_t n);
/* The same bytes in pieces of some 64 KiB, for lists that are too long to be held. Errors
 * are the sink's. */
struct tree_writer {
    tree_sink *sink;
    void *ctx;
    struct buf text; /* not given to the sink yet */
    bool any;        /* there is a node before the next one */
};
void tree_writer_init(struct tree_writer *w, tree_sink *sink, void *ctx);
void tree_writer_fini(struct tree_writer *w);
#define AUTO_TREE_WRITER CLEANUP(tree_writer_fini)
/* Nodes come in the order of their names. */
struct err *tree_writer_add(struct tree_writer *w, const struct node *nd) MUST_USE;
struct err *tree_writer_end(struct tree_writer *w) MUST_USE;
/* Reads a tree into an empty `out`. CORRUPT: not a tree, names not strictly ascending,
 * or a name that is empty, ".", "..", or holds '/' or NUL. */
struct err *tree_read(const void *json, size_t n, struct tree *out) MUST_USE;
/* The same for a text that comes in pieces: begin; feed, then next until it has none, …;
 * end. */
struct tree_reader;
struct tree_reader *tree_reader_begin(void);
struct err *tree_reader_feed(struct tree_reader *r, const void *json, size_t n) MUST_USE;
/* A whole node, borrowed until the next feed, which its reader may empty; NULL: there is
 * none yet. */
struct node *tree_reader_next(struct tree_reader *r);
/* Frees it; nodes not asked for go to *rest, unless that is NULL. CORRUPT: the text was
 * not whole; after an error of feed that is told again as whatever it looks like. */
struct err *tree_reader_end(struct tree_reader *r, struct tree *rest) MUST_USE;

#endif
