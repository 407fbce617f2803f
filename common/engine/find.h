/* Looking into snapshots: one entry, a listing, a search, a small file's content. */
#ifndef COMMON_ENGINE_FIND_H
#define COMMON_ENGINE_FIND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/repo/idset.h"
#include "common/repo/repo.h"

/* The entry at an absolute path below `tree`, copied into a zeroed node. "/" gives a
 * directory node without name and metadata. NOT_FOUND. Needs: index loaded. */
struct err *find_node(struct repo_io *io, const struct digest *tree, const char *path,
                      struct node *out) MUST_USE;

/* Told of each entry; `path` is absolute in the snapshot. */
typedef struct err *find_visit(void *ctx, const char *path, const struct node *nd);
/* Visits the entry at `path` and, for a directory, what it holds (with `recursive`: all
 * below), in the order of the trees. */
struct err *find_list(struct repo_io *io, const struct digest *tree, const char *path,
                      bool recursive, find_visit *visit, void *ctx) MUST_USE;

/* What to look for: entries that match any of the patterns, as in fnmatch(3); a pattern
 * with a '/' is held against the whole path, others against the name. */
struct find_query {
    const char *const *patterns;
    size_t patterns_n;
    bool ignore_case;
    enum node_type type; /* NODE_NONE: any */
};
/* Visits what matches below `tree`. `barren` (empty before the first snapshot) collects
 * trees in which nothing matched, so that later snapshots skip them. */
struct err *find_match(struct repo_io *io, const struct digest *tree,
                       const struct find_query *query, struct idset *barren,
                       find_visit *visit, void *ctx) MUST_USE;

/* Appends the content of a file. LIMIT: it is larger than `limit` bytes; INVALID: it is
 * no file. */
struct err *find_dump(struct repo_io *io, const struct digest *tree, const char *path,
                      size_t limit, struct buf *out) MUST_USE;

#endif
