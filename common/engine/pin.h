/* Pinning snapshots that exist: `forget` keeps what is tagged RETAIN_PIN (retain.h). */
#ifndef COMMON_ENGINE_PIN_H
#define COMMON_ENGINE_PIN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/lock.h"
#include "common/repo/repo.h"

struct pin_opts {
    bool unpin;             /* take the pins away instead */
    const char *label;      /* why: the tag is "pin=LABEL"; NULL: "pin", or every pin */
    struct repo_lock *lock; /* shared, held by the caller */
    /* Told of each snapshot and its id afterwards, the same if there was nothing to do.
     * May be NULL. */
    void (*done)(void *ctx, const struct snapshot *s, const struct digest *after);
    void *done_ctx;
};

/* Stored snapshots never change: each gets a successor with other tags, the same tree and
 * its first id as `original`, and is removed, in this order; a run that was killed
 * between the two is repeated. A name that is part of a set stands for the set's record,
 * whose pin keeps the whole set: the record names its parts by their ids, so these stay
 * as they are. INVALID: such a set has no record, or the label cannot be one. Needs: a
 * store opened with STORE_RECLAIM. */
struct err *pin_run(struct repo_io *io, const char *const *names, size_t n,
                    const struct pin_opts *opts) MUST_USE;

#endif
