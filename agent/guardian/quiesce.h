/* Ways to pause the writers of one freeze domain. Each is one row of a table, so that a
 * new way is a new file. open, freeze and recheck belong to the doer and may block; thaw
 * works on a descriptor that open left behind, allocates nothing, and is for the keeper,
 * for the doer when its keeper has died, and for the start after a crash. */
#ifndef AGENT_GUARDIAN_QUIESCE_H
#define AGENT_GUARDIAN_QUIESCE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/flow/hold.h"
#include "agent/guardian/command.h"
#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/model/cut.h"

/* Processes of a domain, by what names each for the life of this boot. */
struct quiesce_task {
    int pid;
    uint64_t start; /* field 22 of /proc/PID/stat */
};

/* One domain as the doer holds it. */
struct quiesce {
    const struct quiesce_ops *ops;
    const struct config_partition *part; /* its first member; borrowed */
    char *target;  /* what is paused: mount path, cgroup folder; owned, may be NULL */
    int thaw_fd;   /* -1 if thawing needs none */
    int events_fd; /* cgroup.events, else -1 */
    struct quiesce_task *tasks; /* cgroup: as they were when it was frozen; owned */
    size_t n_tasks;
};

enum quiesce_thaw {
    QUIESCE_THAWED,
    QUIESCE_NOT_FROZEN, /* somebody else had thawed it, or it is gone */
    QUIESCE_THAW_FAILED,
};

struct quiesce_ops {
    const char *name; /* as in agent.yaml */
    enum hold_kind kind;
    enum evidence evidence;
    /* Before anything is paused: opens what the rest needs and refuses what cannot work,
     * foreign freezes included. q is zeroed but for ops, part, fds of -1. */
    struct err *(*open)(struct quiesce *q, const struct config *c);
    /* Pauses; NULL only when all of the domain is. At until_ms (CLOCK_BOOTTIME) it gives
     * up with TIMEOUT. *undo: after an error something may be paused all the same. */
    struct err *(*freeze)(struct quiesce *q, int64_t until_ms, bool *undo);
    /* NULL when it is still as freeze left it, as far as the kernel tells. */
    struct err *(*recheck)(struct quiesce *q);
    /* NULL for hooks: the keeper starts their command. */
    enum quiesce_thaw (*thaw)(int thaw_fd);
};

extern const struct quiesce_ops quiesce_none, quiesce_fsfreeze, quiesce_cgroup,
    quiesce_hook;

/* The row for a method of enum config_quiesce. */
const struct quiesce_ops *quiesce_of(int method);
const struct quiesce_ops *quiesce_by_name(const char *name);

struct err *quiesce_open(struct quiesce *q, const struct config *c,
                         const struct config_partition *part) MUST_USE;
void quiesce_close(struct quiesce *q);

/* Opens for thawing what a journal names, without asking whether it is frozen. */
struct err *quiesce_thaw_target(const struct quiesce_ops *ops, const char *target,
                                int *thaw_fd) MUST_USE;

#endif
