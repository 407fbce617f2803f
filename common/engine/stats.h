/* How much snapshots hold, and what that takes in the repository. */
#ifndef COMMON_ENGINE_STATS_H
#define COMMON_ENGINE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/repo.h"

struct stats {
    uint64_t snapshots;
    uint64_t files; /* over all snapshots, as a restore of each would make them */
    uint64_t dirs;
    uint64_t bytes;
    uint64_t blobs;        /* that these snapshots need, each once */
    uint64_t blob_bytes;   /* their content */
    uint64_t stored_bytes; /* what they take in packs */
    uint64_t packs;        /* of the whole repository, from here on */
    uint64_t pack_bytes;
    uint64_t pack_blobs;
    uint64_t index_files;
};

struct stats_opts {
    /* Directories looked at, before every hundredth. May be NULL. */
    void (*progress)(void *ctx, uint64_t dirs);
    void *progress_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

/* Counts over the given snapshots. */
struct err *stats_run(struct repo_io *io, const struct snapshot *list, size_t n,
                      const struct stats_opts *opts, struct stats *out) MUST_USE;

#endif
