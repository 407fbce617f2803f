/* Drills: faults that an operator has caused on purpose while a set is taken, to see that
 * the promises hold on this very installation. A table, and no more. No I/O, no clock. */
#ifndef COORDINATOR_FLOW_DRILL_H
#define COORDINATOR_FLOW_DRILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum drill_moment {
    DRILL_WHEN_FROZEN,   /* all are; Commit has not been sent to whom it concerns */
    DRILL_WHEN_CAPTURED, /* all are; the record has not been written */
};

enum drill_what {
    DRILL_AGENT_DIES,
    DRILL_AGENT_SLEEPS,
    DRILL_GUARDIAN_DIES,
    DRILL_COMMIT_IS_LATE,
    DRILL_LEADER_DIES,
    DRILL_LEADER_SLEEPS,
    DRILL_ETCD_IS_CUT,
};

struct drill {
    const char *name;
    const char *summary;
    enum drill_moment when;
    enum drill_what what;
};

extern const struct drill drills[];
extern const size_t n_drills;

/* NOT_FOUND names all there are. *out is for ever. */
struct err *drill_find(const char *name, const struct drill **out) MUST_USE;
bool drill_is_on_agent(const struct drill *d);
/* How long the fault lasts by itself; 0: until somebody starts what died. Beyond what the
 * hold and the lease survive. */
int64_t drill_fault_ms(const struct drill *d, int64_t hold_limit_ms, int64_t lease_ms);

#endif
