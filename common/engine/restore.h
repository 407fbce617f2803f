/* Writes a snapshot, or parts of it, into a directory. Nothing is written outside that
 * directory whatever the repository says, and nothing that exists is replaced. One
 * walking thread, several that load and write files. */
#ifndef COMMON_ENGINE_RESTORE_H
#define COMMON_ENGINE_RESTORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/problems.h"
#include "common/repo/repo.h"

struct restore_progress {
    uint64_t files;
    uint64_t bytes;
    uint64_t problems;
};

struct restore_opts {
    const char *target; /* made when missing */
    /* Directory of the snapshot whose content lands directly in target, target itself
     * getting its owner, mode and times; NULL or "/": everything. */
    const char *strip;
    const char *const *includes; /* absolute paths in the snapshot; none: everything */
    size_t includes_n;
    bool no_sparse;   /* write zeros instead of leaving holes */
    unsigned workers; /* 0: as many as processors */
    /* At most five times a second, from the calling thread. May be NULL. */
    void (*progress)(void *ctx, const struct restore_progress *now);
    void *progress_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

struct restore_result {
    uint64_t files;
    uint64_t dirs;
    uint64_t others; /* links, devices, fifos */
    uint64_t bytes;
    struct problems problems; /* every entry that could not be restored, or not fully */
};
void restore_result_fini(struct restore_result *r);

/* Needs: index loaded. Goes on behind single problems; then the error is CORRUPT if
 * stored data was damaged (such a file is not left behind), else IO. NOT_FOUND: strip or
 * an include names nothing. */
struct err *restore_run(struct repo *r, const struct digest *tree,
                        const struct restore_opts *opts,
                        struct restore_result *out) MUST_USE;

#endif
