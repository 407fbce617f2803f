/* Frees the space of what no snapshot needs any more, while backups go on.
 *
 * How it goes: (1) mark what the snapshots need; (2) copy what is needed out of packs
 * that are mostly waste; (3) publish index files in which the other packs are `dying`:
 * nobody who loads the index from then on deduplicates against them; (4) wait until
 * everybody who held a lock at that moment has gone; (5) look at the snapshots again, and
 * let packs live on whose blobs a backup has used after all; (6) delete the rest. The
 * argument why no retained snapshot can lose a blob is in README.md.
 *
 * Killed anywhere, the repository stays whole and a repeated run goes on: the state is in
 * the index files alone. */
#ifndef COMMON_ENGINE_RECLAIM_H
#define COMMON_ENGINE_RECLAIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/problems.h"
#include "common/repo/lock.h"
#include "common/repo/repo.h"

enum reclaim_stage {
    RECLAIM_LOAD,   /* of index files */
    RECLAIM_MARK,   /* of snapshots */
    RECLAIM_REPACK, /* of packs */
    RECLAIM_WAIT,   /* for holders of locks, `todo` of them */
    RECLAIM_LOOK,   /* again at new snapshots */
    RECLAIM_DELETE, /* of packs */
};

struct reclaim_progress {
    enum reclaim_stage stage;
    uint64_t done;
    uint64_t todo;
    const struct lock_claim *holder; /* WAIT: one of those waited for; else NULL */
};

struct reclaim_opts {
    struct repo_lock *lock; /* LOCK_RECLAIM, held by the caller */
    /* Waste that may stay: bytes, or with max_unused_percent >= 0 that part of what stays
     * in all. Packs without any needed blob always go. */
    uint64_t max_unused_bytes; /* UINT64_MAX: repack nothing */
    double max_unused_percent; /* < 0: by bytes */
    uint64_t max_repack_bytes; /* copy no more than this in one run; 0: no limit */
    int64_t max_wait_ms;       /* give up waiting after this; < 0: never */
    int64_t pause_ms;          /* between looks at locks; 0: LOCK_WATCH_PAUSE_MS */
    bool dry_run;              /* find out, change nothing */
    /* From the calling thread. May be NULL. */
    void (*progress)(void *ctx, const struct reclaim_progress *now);
    void *progress_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

struct reclaim_result {
    uint64_t snapshots;
    uint64_t packs; /* before; as all until `freed` */
    uint64_t bytes;
    uint64_t needed_bytes;
    uint64_t dead_packs; /* nothing in them is needed */
    uint64_t dead_bytes;
    uint64_t in_flight_packs; /* of backups that run */
    uint64_t orphan_packs;    /* in no index file: left by killed backups */
    uint64_t orphan_bytes;
    uint64_t repack_packs; /* to be replaced by what is needed of them */
    uint64_t repack_bytes;
    uint64_t copied_bytes;  /* the needed part of those */
    uint64_t unused_bytes;  /* waste that stays */
    uint64_t revived_packs; /* used after all */
    uint64_t deleted_packs;
    uint64_t freed_bytes;    /* deleted less what repacking added */
    uint64_t waiting;        /* holders of locks still there when the wait was given up */
    uint64_t pending_packs;  /* that the next run deletes therefore */
    uint64_t leftover_files; /* unfinished files of killed programs, removed */
    uint64_t leftover_bytes;
    struct problems problems; /* packs that could not be read for copying: they stay */
};
void reclaim_result_fini(struct reclaim_result *r);

/* Needs: the lock; a store opened with STORE_RECLAIM; the index *not* loaded. CORRUPT or
 * NOT_FOUND: the repository is damaged, nothing was deleted. UNAVAILABLE: the lock was
 * lost. Fills *out, also on failure. */
struct err *reclaim_run(struct repo *r, const struct reclaim_opts *opts,
                        struct reclaim_result *out) MUST_USE;

#endif
