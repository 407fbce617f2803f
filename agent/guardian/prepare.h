/* Everything that can be found out before writers are paused (PROTOCOL.md 1.3), so that
 * nothing needs to be found out while they are. Doer only; takes as long as it takes. */
#ifndef AGENT_GUARDIAN_PREPARE_H
#define AGENT_GUARDIAN_PREPARE_H

#include <stdint.h>
#include <sys/types.h>

#include "agent/guardian/place.h"
#include "agent/guardian/quiesce.h"
#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

/* What is being prepared: members of one set and the domains they belong to. */
struct prepare {
    const struct config *config;
    const struct config_partition *members[HOLD_MAX_MEMBERS];
    uint16_t domain_of[HOLD_MAX_MEMBERS];
    unsigned n_members, n_domains;
    struct place at[HOLD_MAX_MEMBERS]; /* where the checked ones lie */
    struct quiesce *domains; /* n_domains, zeroed; opened here, the caller closes them */
    pid_t agent_pid;
    int64_t hold_ms; /* 0: the predicted pause is not judged */
};

/* What a pause of one member is made of. */
struct prepare_cost {
    int64_t flush_ms;    /* until it is frozen: how long its last flush took */
    int64_t capture_ms;  /* its capture, as its method expects */
    int64_t dirty_bytes; /* there when that flush began */
};

/* Opens domain `i`. */
struct err *prepare_domain(struct prepare *p, unsigned i) MUST_USE;
/* Checks member `i`, whose domain is open, and flushes its filesystem twice: the second
 * time predicts the pause. The error says why it cannot take part, and what to choose
 * instead; *out is filled as far as it came. */
struct err *prepare_member(struct prepare *p, unsigned i,
                           struct prepare_cost *out) MUST_USE;
/* Opens the folder of a member that was checked: CONFLICT if its path leads to another
 * one by now. The caller closes *out. */
struct err *prepare_open(const struct prepare *p, unsigned i, int *out) MUST_USE;

#endif
