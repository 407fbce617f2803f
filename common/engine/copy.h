/* Copies snapshots to another repository: what is stored there already stays, the rest is
 * decrypted, checked and encrypted anew. Blob ids do not change. Each repository cuts
 * files by a key of its own, so later backups there share copied data only where files
 * were not cut at all, that is with small ones. One walking thread, several that move
 * blobs. */
#ifndef COMMON_ENGINE_COPY_H
#define COMMON_ENGINE_COPY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/lock.h"
#include "common/repo/repo.h"

struct copy_result {
    uint64_t snapshots; /* copied */
    uint64_t skipped;   /* were there already */
    uint64_t blobs;     /* stored */
    uint64_t bytes;     /* their content */
    uint64_t stored_bytes;
    uint64_t known_blobs; /* were there already */
};

struct copy_opts {
    /* Locks of both, held by the caller and checked; the source's may be NULL. */
    struct repo_lock *from_lock;
    struct repo_lock *to_lock;
    unsigned workers; /* 0: as many as processors */
    /* From the calling thread, often. May be NULL. */
    void (*progress)(void *ctx, const struct copy_result *now);
    void *progress_ctx;
    /* Told of each snapshot stored, with its new id. May be NULL. */
    void (*stored)(void *ctx, const struct snapshot *from, const struct digest *to);
    void *stored_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

/* Needs: the indexes of both loaded, after their locks were taken. A snapshot is stored
 * only once all it needs is; a repeated run goes on where a killed one ended. CORRUPT,
 * NOT_FOUND: the source is damaged. Fills *out, also on failure. */
struct err *copy_run(struct repo *from, struct repo *to, const struct snapshot *list,
                     size_t n, const struct copy_opts *opts,
                     struct copy_result *out) MUST_USE;

#endif
