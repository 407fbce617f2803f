/* restic's locks: files that say who uses a repository. They keep stock `restic prune`
 * away from running backups, and tell `reclaim` whom to wait for. */
#ifndef COMMON_REPO_LOCK_H
#define COMMON_REPO_LOCK_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/lock_claim.h"
#include "common/repo/repo.h"

struct repo_lock;

enum lock_mode {
    LOCK_SHARED, /* beside other shared ones */
    /* Shared, but only one such lock at a time: an old one of another machine has to be
     * removed by hand (lock_remove_stale). */
    LOCK_RECLAIM,
    LOCK_EXCLUSIVE, /* beside none */
};

/* Takes a lock and keeps it fresh from a thread of its own. CONFLICT: another process has
 * one that excludes it (the message says which). Locks of dead processes on this host and
 * locks older than 30 minutes do not count. Takes 200 ms where lists of the store may
 * lag. From the first call on, SIGHUP is ignored unless the process handles it: restic
 * probes holders of locks with it. */
struct err *repo_lock_as(struct repo *r, enum lock_mode mode,
                         struct repo_lock **out) MUST_USE;
/* The same without the 200 ms, for who begins by reading: whatever anybody stores through
 * `r` waits until they are over, and for the verdict, which is there at once where lists
 * do not lag. CONFLICT: as above, if the other
 * one was there before. */
struct err *repo_lock_begin(struct repo *r, enum lock_mode mode,
                            struct repo_lock **out) MUST_USE;
/* Waits for the verdict on a lock that was begun. CONFLICT: another process began one at
 * the same time; from now on nothing can be stored. Any thread. */
struct err *repo_lock_settle(struct repo_lock *l) MUST_USE;
/* The same as repo_lock_as, shared or exclusive. */
struct err *repo_lock(struct repo *r, bool exclusive, struct repo_lock **out) MUST_USE;
/* An error once the lock could not be kept, or somebody removed it: stop writing. Any
 * thread. */
struct err *repo_lock_check(struct repo_lock *l) MUST_USE;
/* What our lock says, but for its changing id and time. */
const struct lock_claim *repo_lock_claim(const struct repo_lock *l);
/* Writes the lock anew now, as the thread does every five minutes. For tests. */
void repo_lock_refresh(struct repo_lock *l);
/* True if nobody else holds a lock now. Of those that look stale only our own dead do not
 * count. Takes 200 ms if so. */
struct err *repo_lock_is_alone(struct repo_lock *l, bool *alone) MUST_USE;
/* Gives the lock back. */
void repo_lock_free(struct repo_lock *l);
DEFINE_AUTO(repo_lock, struct repo_lock *, repo_lock_free);

#endif
