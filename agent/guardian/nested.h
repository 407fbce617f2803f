/* What lies inside a partition but would not be in its capture: mounts, and btrfs
 * subvolumes (a nested one is an empty folder in the snapshot). And what is served from
 * inside it to writers that no local pause stops. Doer only. */
#ifndef AGENT_GUARDIAN_NESTED_H
#define AGENT_GUARDIAN_NESTED_H

#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

/* INVALID naming the first mount or subvolume that is not in `exclude`. */
struct err *nested_check(const struct config_partition *p) MUST_USE;
/* INVALID naming the first loop device that is backed by a file of the partition, or the
 * NFS export that serves it. */
struct err *nested_check_served(const struct config_partition *p) MUST_USE;

#endif
