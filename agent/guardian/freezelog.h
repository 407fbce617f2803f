/* What is or may be frozen, in small files on a tmpfs: written before each freeze call,
 * so that the next guardian thaws it first of all. A reboot forgets it, and every freeze
 * with it. Keeper only.
 *
 * One file per hold slot, "hold-<slot>". A line per domain:
 *     <state> <method> <what>
 * with state '-' (nothing) or 'F' (may be frozen), one byte that is rewritten in place:
 * neither disk space nor memory is needed while something is frozen. <what> is the path
 * to thaw, or the name of the partition whose hook it is. */
#ifndef AGENT_GUARDIAN_FREEZELOG_H
#define AGENT_GUARDIAN_FREEZELOG_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/flow/hold.h"
#include "agent/guardian/quiesce.h"
#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

struct freezelog {
    int fd; /* -1: no hold is written down */
    off_t state_at[HOLD_MAX_DOMAINS];
    off_t end;
};

/* Begins the file of a slot, with no domain yet. */
struct err *freezelog_open(struct freezelog *l, const char *dir, unsigned slot) MUST_USE;
/* Adds domain `i`, not frozen. */
struct err *freezelog_add(struct freezelog *l, unsigned i, const struct quiesce_ops *ops,
                          const char *what) MUST_USE;
/* Says that domain `i` may be frozen from now on, or is not any more. */
struct err *freezelog_mark(struct freezelog *l, unsigned i, bool may_be_frozen) MUST_USE;
void freezelog_close(struct freezelog *l, const char *dir, unsigned slot);

/* Thaws whatever the files of a dead guardian name, in the reverse order of their lines,
 * logs each, and removes the files of which nothing is left. Returns the number of
 * domains that could not be thawed. */
unsigned freezelog_recover(const struct config *c, const char *dir);

#endif
