/* Stage 4: what has to be done next for a set after its cut (I8). Decides from the record
 * alone, so any coordinator can ask again at any time and gets the same tasks with the
 * same ids. No I/O, no clock. Loop thread only.
 *
 * What a relaxed set misses is neither waited for nor counted as damage.
 *
 *   CAPTURED → UPLOADING: one upload a part → VALIDATING: one verify a part, then one
 * seal → COMPLETE: one release a part;  a task that failed for good → DAMAGED */
#ifndef COORDINATOR_FLOW_TASKS_H
#define COORDINATOR_FLOW_TASKS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/model/ids.h"

/* Numbers as in records.proto. */
enum set_state {
    STATE_PLANNED,
    STATE_PREPARING,
    STATE_FREEZING,
    STATE_CAPTURING,
    STATE_CAPTURED,
    STATE_UPLOADING,
    STATE_VALIDATING,
    STATE_COMPLETE,
    STATE_EXPIRED,
    STATE_ABORTED,
    STATE_DAMAGED,
};
enum part_state {
    PART_PENDING,
    PART_CAPTURED,
    PART_STORED,
    PART_VERIFIED,
    PART_FAILED,
    PART_MISSING, /* not in the cut of a relaxed set: nothing is to be done for it */
};
enum task_kind {
    TASK_UPLOAD,
    TASK_VERIFY,
    TASK_SEAL,
    TASK_RELEASE,
    TASK_RESTORE,
};

/* What the record says, as far as it decides. */
struct tasks_view {
    enum set_state state;
    const enum part_state *parts; /* borrowed */
    size_t n_parts;
    bool sealed; /* set.json is stored */
};

enum { TASKS_NO_PART = -1 };
struct tasks_need {
    enum task_kind kind;
    int part; /* index, or TASKS_NO_PART for the whole set */
};

/* What follows. Rewritten completely; `needs` is the caller's, 2 * n_parts + 1 long. */
struct tasks_next {
    enum set_state state; /* to record; equal to the view's: nothing changes */
    struct tasks_need *needs;
    size_t n_needs; /* tasks that must exist; creating one that exists changes nothing */
};

void tasks_decide(const struct tasks_view *v, struct tasks_next *out);
/* True when nothing will follow by itself. */
bool set_state_is_terminal(enum set_state s);
const char *task_kind_name(enum task_kind k);

#endif
