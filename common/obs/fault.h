/* What a drill does to the process itself. Any thread. */
#ifndef COMMON_OBS_FAULT_H
#define COMMON_OBS_FAULT_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* As if the machine had taken it: SIGKILL. Does not return. */
_Noreturn void fault_die(void);

/* Stops all threads of this process, and has another process wake them after `ms`.
 * Returns then. Nothing is stopped unless the waker runs: IO. */
struct err *fault_stand_still(int64_t ms) MUST_USE;

#endif
