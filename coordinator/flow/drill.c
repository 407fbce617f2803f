#include "coordinator/flow/drill.h"

#include <string.h>

#include "common/base/buf.h"

const struct drill drills[] = {
    {"kill-agent-frozen", "one agent is killed while everything is frozen",
     DRILL_WHEN_FROZEN, DRILL_AGENT_DIES},
    {"pause-agent-frozen", "one agent stands still until the hold limit has passed",
     DRILL_WHEN_FROZEN, DRILL_AGENT_SLEEPS},
    {"kill-guardian", "the guardian of one node is killed while everything is frozen",
     DRILL_WHEN_FROZEN, DRILL_GUARDIAN_DIES},
    {"hold-expires", "Commit is held back until the hold limit has passed",
     DRILL_WHEN_FROZEN, DRILL_COMMIT_IS_LATE},
    {"kill-leader-frozen", "the leading coordinator is killed while everything is frozen",
     DRILL_WHEN_FROZEN, DRILL_LEADER_DIES},
    {"kill-leader-captured",
     "the leading coordinator is killed before it records the set", DRILL_WHEN_CAPTURED,
     DRILL_LEADER_DIES},
    {"pause-leader", "the leading coordinator stands still for two leases",
     DRILL_WHEN_FROZEN, DRILL_LEADER_SLEEPS},
    {"cut-etcd", "the leading coordinator does not reach etcd for two leases",
     DRILL_WHEN_FROZEN, DRILL_ETCD_IS_CUT},
};
const size_t n_drills = ARRAY_LEN(drills);

struct err *drill_find(const char *name, const struct drill **out)
{
    AUTO_BUF struct buf all;
    buf_init(&all);
    for (size_t i = 0; i < n_drills; i++) {
        if (strcmp(drills[i].name, name) == 0) {
            *out = &drills[i];
            return NULL;
        }
        buf_printf(&all, "%s%s", i ? ", " : "", drills[i].name);
    }
    return err_new(ERR_NOT_FOUND, "there is no drill '%.80s': there are %s", name,
                   buf_text(&all));
}

bool drill_is_on_agent(const struct drill *d)
{
    return d->what == DRILL_AGENT_DIES || d->what == DRILL_AGENT_SLEEPS ||
           d->what == DRILL_GUARDIAN_DIES;
}

int64_t drill_fault_ms(const struct drill *d, int64_t hold_limit_ms, int64_t lease_ms)
{
    switch (d->what) {
    case DRILL_AGENT_SLEEPS:
        return hold_limit_ms + 2000;
    case DRILL_COMMIT_IS_LATE:
        return hold_limit_ms + 500;
    case DRILL_LEADER_SLEEPS:
    case DRILL_ETCD_IS_CUT:
        return 2 * lease_ms;
    default:
        return 0;
    }
}
