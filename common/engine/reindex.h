/* Makes the index files anew from what the packs themselves say. */
#ifndef COMMON_ENGINE_REINDEX_H
#define COMMON_ENGINE_REINDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/problems.h"
#include "common/repo/lock.h"
#include "common/repo/repo.h"

struct reindex_opts {
    struct repo_lock *lock; /* exclusive, held by the caller */
    bool read_all;          /* read the header of every pack, trust no index file */
    bool dry_run;
    void (*progress)(void *ctx, uint64_t done, uint64_t todo); /* may be NULL */
    void *progress_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

struct reindex_result {
    uint64_t packs;       /* in the new index */
    uint64_t read;        /* whose headers were read, because no index was right */
    uint64_t missing;     /* indexed, but not there: taken out */
    uint64_t bad_indexes; /* index files, or entries of theirs, that were damaged */
    bool changed;         /* index files were replaced */
    struct problems
        problems; /* damaged index files; packs that cannot be read: left out */
};
void reindex_result_fini(struct reindex_result *r);

/* Needs: the exclusive lock, STORE_RECLAIM. Leaves the index alone if nothing is wrong
 * with it. New files are stored before the old ones go. Fills *out, also on failure. */
struct err *reindex_run(struct repo *r, const struct reindex_opts *opts,
                        struct reindex_result *out) MUST_USE;

#endif
