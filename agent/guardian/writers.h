/* Who else writes a partition: processes outside its cgroup that hold a writable
 * descriptor or a shared writable mapping. A writer that opens later, or that another
 * process namespace hides, is not seen: a documented limit. Doer only. */
#ifndef AGENT_GUARDIAN_WRITERS_H
#define AGENT_GUARDIAN_WRITERS_H

#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

/* CONFLICT naming the first process outside `cgroup` that can write files of the
 * partition, and the file. */
struct err *writers_check(const struct config_partition *p, const char *cgroup) MUST_USE;

#endif
