/* How much a pause may have to wait for: what is written but not on the disk. Doer only.
 */
#ifndef AGENT_GUARDIAN_DIRTY_H
#define AGENT_GUARDIAN_DIRTY_H

#include <stdint.h>

#include "agent/shell/config.h"

/* Bytes of the partition's writers that are in memory only: those of its cgroup where
 * the kernel accounts for it, otherwise those of the whole machine. 0 when nothing can be
 * read: it explains a prediction and decides nothing. */
int64_t dirty_bytes(const struct config *c, const struct config_partition *p);

#endif
