/* Removes the snapshots that a policy does not keep. What only they used is freed by
 * `reclaim` later. Any number of backups may run meanwhile. */
#ifndef COMMON_ENGINE_FORGET_H
#define COMMON_ENGINE_FORGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/retain.h"
#include "common/repo/lock.h"
#include "common/repo/repo.h"

enum { FORGET_SET_GRACE_S = 7 * 24 * 3600 };

struct forget_opts {
    struct retain_policy policy;
    /* The policy counts within groups of equal host, paths, tags. */
    bool by_host;
    bool by_paths;
    bool by_tags;
    /* Only snapshots of this host, with this path, and with all tags of one list. */
    const char *host;
    const char *path;
    const struct strings *tags;
    size_t tags_n;
    bool allow_empty; /* of a group, nothing may stay */
    struct go_time now;
    struct repo_lock *lock; /* held by the caller; checked before each removal */
    bool dry_run;
    /* Snapshots removed of those to be. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t todo);
    void *progress_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

/* What is decided of one snapshot. */
struct forget_item {
    struct snapshot snapshot; /* owned */
    size_t group;             /* equal numbers: the same group */
    bool keep;
    bool removed; /* done */
};

struct forget_plan {
    struct forget_item *items; /* by group, newest first within */
    size_t n;
    size_t groups;
};
void forget_plan_fini(struct forget_plan *p);

/* Lists the snapshots and decides. INVALID: the policy is empty. CONFLICT: nothing of
 * some group would stay.
 *
 * The parts of a set and its record are one unit: a set has parts tagged `set=NAME` and
 * is complete once a snapshot tagged `stillpoint-set` and `set=NAME` exists.
 *  - Of a complete set all is kept as soon as one part is kept; its record alone keeps
 *    nothing, unless the set has no other part here.
 *  - Parts whose set has no record yet belong to an upload that still runs, or to a
 * damaged set: they are kept for FORGET_SET_GRACE_S after their time, and judged alone
 * then. A filter applies to units: the whole set goes or stays if one part matches. */
struct err *forget_plan(struct repo_io *io, const struct forget_opts *opts,
                        struct forget_plan *out) MUST_USE;

/* Plans to remove the named snapshots (ids or prefixes) and, of a complete set, all of
 * it. CONFLICT: one of them is pinned. */
struct err *forget_plan_named(struct repo_io *io, const char *const *names, size_t n,
                              const struct forget_opts *opts,
                              struct forget_plan *out) MUST_USE;

/* Removes what the plan does not keep, the records of sets first, so that no set ever
 * looks complete without being so. What is gone already is no error. */
struct err *forget_run(struct repo_io *io, const struct forget_opts *opts,
                       struct forget_plan *plan) MUST_USE;

#endif
