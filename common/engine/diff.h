/* What differs between two snapshots. Trees with equal ids are not even read. */
#ifndef COMMON_ENGINE_DIFF_H
#define COMMON_ENGINE_DIFF_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/repo.h"

/* As restic prints them. */
enum diff_what {
    DIFF_ADDED = '+',
    DIFF_REMOVED = '-',
    DIFF_CONTENT = 'M',
    DIFF_TYPE = 'T',
    DIFF_METADATA = 'U', /* same content; owner, mode, times or attributes differ */
};

struct diff_change {
    enum diff_what what;
    const char *path;          /* absolute in the snapshots */
    const struct node *before; /* NULL: added */
    const struct node *after;  /* NULL: removed */
};
typedef struct err *diff_visit(void *ctx, const struct diff_change *change);

struct diff_result {
    uint64_t added; /* entries of any kind */
    uint64_t removed;
    uint64_t changed; /* content or type */
    uint64_t metadata;
    uint64_t bytes_added; /* file sizes; of a changed file both count */
    uint64_t bytes_removed;
};

struct diff_opts {
    diff_visit *visit;
    void *visit_ctx;
    /* Directories that differ so far, before every hundredth. May be NULL. */
    void (*progress)(void *ctx, uint64_t dirs);
    void *progress_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

/* Visits every difference below two trees, in the order of names. Needs: index loaded. */
struct err *diff_trees(struct repo_io *io, const struct digest *before,
                       const struct digest *after, const struct diff_opts *opts,
                       struct diff_result *out) MUST_USE;

#endif
