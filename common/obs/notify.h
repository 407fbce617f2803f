/* What a service tells systemd (sd_notify(3)); without systemd nothing happens. Loop
 * thread. */
#ifndef COMMON_OBS_NOTIFY_H
#define COMMON_OBS_NOTIFY_H

#include "common/loop/loop.h"

/* READY=1, and from then on WATCHDOG=1 at half the interval that systemd asked for: the
 * loop itself sends it, so a loop that hangs is noticed. NULL: a process without a
 * loop, which the watchdog must not be set for. */
void notify_ready(struct loop *l, const char *status);
void notify_status(const char *status);
void notify_stopping(void);

#endif
