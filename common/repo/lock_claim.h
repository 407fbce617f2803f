/* What a lock file says, and whether its holder can still be writing. */
#ifndef COMMON_REPO_LOCK_CLAIM_H
#define COMMON_REPO_LOCK_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/repo.h"

enum {
    LOCK_STALE_S = 30 * 60, /* restic's figure: who did not refresh for so long is gone */
    LOCK_HOST_BYTES = 256,
    LOCK_WORD_BYTES = 40,
};

/* One lock file. The last four are empty in locks of other programs: restic ignores and
 * keeps apart what it does not know. */
struct lock_claim {
    struct digest id; /* of the file; a refresh changes it */
    struct go_time time;
    bool exclusive;
    long pid;
    uint32_t uid;
    char hostname[LOCK_HOST_BYTES];
    char username[LOCK_HOST_BYTES];
    char session[LOCK_WORD_BYTES]; /* random, the same across refreshes */
    char boot[LOCK_WORD_BYTES];    /* boot id of the holder's machine */
    char pidns[LOCK_WORD_BYTES];   /* its PID namespace */
    bool reclaims;                 /* it removes packs: one at a time */
};

/* What a lock of this process says, without id and time. */
void lock_claim_own(struct lock_claim *out);
void lock_claim_write(const struct lock_claim *c, struct buf *out);
/* CORRUPT: it is no lock file. Does not set the id. */
struct err *lock_claim_read(const void *json, size_t n, struct lock_claim *out) MUST_USE;

/* True if the holder ran on this machine and is dead, as far as `own` (lock_claim_own)
 * can tell: the same host name, and for our own locks the same boot and PID namespace. */
bool lock_claim_is_dead(const struct lock_claim *c, const struct lock_claim *own);
/* restic's rule: dead, or not refreshed for 30 minutes by the clocks. */
bool lock_claim_is_stale(const struct lock_claim *c, struct go_time now,
                         const struct lock_claim *own);
/* True if both are of the same run of a program, whatever refreshes lie between. */
bool lock_claim_same_holder(const struct lock_claim *a, const struct lock_claim *b);

/* All locks of a repository; empty files are ignored, as restic does. *out is malloc. */
struct err *lock_list(struct repo_io *io, struct lock_claim **out, size_t *n) MUST_USE;
/* Removes stale locks, or all of them. Reports how many went. */
struct err *lock_remove_stale(struct repo_io *io, bool all, size_t *removed) MUST_USE;

#endif
