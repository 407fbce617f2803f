/* Stage 7.2: does one task with the engine. Blocking, for a pool thread; several may run.
 */
#ifndef AGENT_WORK_WORK_H
#define AGENT_WORK_WORK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "agent/shell/config.h"
#include "common/base/err.h"
#include "stillpoint/v1/records.pb-c.h"

/* One task being done. The fields up to `cancel` are the starter's; `task` becomes the
 * result: ids and counts, not its state. */
struct work {
    const struct config *conf;        /* borrowed */
    Stillpoint__V1__TaskRecord *task; /* owned by the starter */
    const char
        *journal_dir; /* where snapshot files are kept until their task is reported */
    char *superseded; /* result: a capture that was the base and is not needed; owned */
    atomic_bool cancel;
    /* Progress, read by the loop while the work runs. */
    atomic_llong files;
    atomic_llong bytes_read;
    atomic_llong bytes_stored;
};

/* Upload: stores the capture as a snapshot; the snapshot file is journaled first, so that
 * a repetition stores the same one (I7). Verify: every blob is present and, while the
 * capture is there, the tree equals it. Seal: stores set.json. Restore: writes below a
 * directory that the agent's file permits (I10). RELEASE is not for here: the guardian
 * removes captures. Errors: INVALID and DENIED are final, the others may go away. */
struct err *work_run(struct work *w) MUST_USE;

/* True if the capture is the base of the partition's next upload: it must stay. */
bool work_needs_base(const struct config *conf, const char *partition,
                     const char *capture);

/* Forgets the journaled snapshot file of a task that has been reported. */
void work_forget(const char *journal_dir, const char *task);

#endif
