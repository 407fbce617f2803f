/* Waiting until everybody who holds a lock now has gone. A holder is one run of a
 * program, followed across its refreshes: ours by the session in their locks, restic's by
 * host, PID and user. Fed with listings and a clock; pure but for the question whether a
 * process of this machine lives. One thread. */
#ifndef COMMON_REPO_LOCK_WATCH_H
#define COMMON_REPO_LOCK_WATCH_H

#include "common/repo/lock_claim.h"

enum {
    /* A directory is not listed in one instant: between the making of a new lock and the
     * removal of the old one, a listing may miss both. Two in a row cannot. */
    LOCK_WATCH_LISTINGS = 2,
    LOCK_WATCH_PAUSE_MS =
        1000, /* between listings, at least; refreshes are 5 min apart */
};

struct lock_holder {
    struct lock_claim claim; /* of its newest lock seen */
    unsigned missed;         /* listings in a row without it */
    int64_t fresh_ms;        /* when its lock last was a new file, by our clock */
    bool gone;
};

struct lock_watch {
    struct lock_claim own;
    struct lock_holder *holders;
    size_t n;
    size_t cap;
    unsigned listings; /* so far */
};

/* `own` is the waiter's own claim, who is not waited for. */
void lock_watch_init(struct lock_watch *w, const struct lock_claim *own);
void lock_watch_fini(struct lock_watch *w);
/* Takes a listing of all locks, taken at now_ms of a clock that never goes back. The
 * first LOCK_WATCH_LISTINGS add whom they show; from then on holders only go: when missed
 * by as many listings in a row, when one of ours is dead on this machine, or when 30
 * minutes brought no refresh, after which whoever keeps to the rules has stopped writing.
 * The time inside a lock is not believed: clocks of other machines may be wrong by any
 * amount. */
void lock_watch_see(struct lock_watch *w, const struct lock_claim *list, size_t n,
                    int64_t now_ms);
/* How many are still waited for; LOCK_WATCH_LISTINGS listings must have been seen. */
size_t lock_watch_left(const struct lock_watch *w);

#endif
