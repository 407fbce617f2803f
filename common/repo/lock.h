/* restic's locks: files that say who uses a repository. They keep stock `restic prune`
 * away from running backups. */
#ifndef COMMON_REPO_LOCK_H
#define COMMON_REPO_LOCK_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/repo.h"

struct repo_lock;

/* Takes a lock and keeps it fresh from a thread of its own. CONFLICT: another process has
 * one that excludes it (the message says which). Locks of dead processes on this host and
 * locks older than 30 minutes do not count. Takes 200 ms. From the first call on, SIGHUP
 * is ignored unless the process handles it: restic probes holders of locks with it. */
struct err *repo_lock(struct repo *r, bool exclusive, struct repo_lock **out) MUST_USE;
/* An error once the lock could not be kept: stop writing. Any thread. */
struct err *repo_lock_check(struct repo_lock *l) MUST_USE;
/* Gives the lock back. */
void repo_lock_free(struct repo_lock *l);
DEFINE_AUTO(repo_lock, struct repo_lock *, repo_lock_free);

/* What a lock file says; for the staleness rule. */
struct lock_claim {
    struct go_time time;
    bool exclusive;
    long pid;
    char hostname[256];
};
/* True if the holder must be gone: older than 30 minutes, or of this host and dead. */
bool lock_claim_is_stale(const struct lock_claim *c, struct go_time now,
                         const char *hostname);

#endif
