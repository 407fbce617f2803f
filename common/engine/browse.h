/* Reading snapshots at random, as a mounted filesystem does: lists and blobs are kept in
 * a cache of bounded size, and what a reader will want next is decoded ahead. Any thread.
 *
 * Memory: BROWSE_BLOB_BYTES of blobs and BROWSE_TREE_BYTES of directory lists
 * (dirlist.h), besides those in use: a blob for each thread that reads, a list for each
 * open directory; or the one that was used last, should it be larger. */
#ifndef COMMON_ENGINE_BROWSE_H
#define COMMON_ENGINE_BROWSE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/dirlist.h"
#include "common/repo/repo.h"

enum { BROWSE_BLOB_BYTES = 24 << 20, BROWSE_TREE_BYTES = 8 << 20 };

struct browse;
/* Needs: index loaded; the repository outlives it. */
struct err *browse_new(struct repo *r, struct browse **out) MUST_USE;
void browse_free(struct browse *b);
DEFINE_AUTO(browse, struct browse *, browse_free);

/* A directory's list, borrowed until browse_list_put. */
struct err *browse_list_get(struct browse *b, const struct digest *id,
                            const struct dirlist **out) MUST_USE;
void browse_list_put(struct browse *b, const struct dirlist *l);

/* An open file: where each of its blobs begins. Threads may share it. */
struct browse_file;
/* Copies what it needs of the node. NOT_FOUND: a blob is not in the index. */
struct err *browse_open(struct browse *b, const struct node *nd,
                        struct browse_file **out) MUST_USE;
void browse_close(struct browse_file *f);
/* Reads up to n bytes; *got is less at the end only. */
struct err *browse_read(struct browse_file *f, uint64_t offset, void *out, size_t n,
                        size_t *got) MUST_USE;

/* A part of a file in the cache's own memory. */
struct browse_piece {
    const char *data;
    size_t n;
    void *item; /* what holds it */
};
enum { BROWSE_PIECES = 16 };
/* The same without a copy: up to BROWSE_PIECES pieces, borrowed until browse_unhold, also
 * when the file was closed before.
 * *pieces_n is 0 when the range has more: then copy it. */
struct err *browse_hold(struct browse_file *f, uint64_t offset, size_t n,
                        struct browse_piece pieces[BROWSE_PIECES],
                        size_t *pieces_n) MUST_USE;
void browse_unhold(struct browse *b, struct browse_piece *pieces, size_t n);

#endif
