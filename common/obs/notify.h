/* What a service tells systemd (sd_notify(3)); without systemd nothing happens. Loop
 * thread. */
#ifndef COMMON_OBS_NOTIFY_H
#define COMMON_OBS_NOTIFY_H

#include "common/loop/loop.h"

/* READY=1, and from then on WATCHDOG=1 at half the interval that systemd asked for: the
 * loop itself sends it, so a loop that hangs is noticed. NULL: a process without a
 * loop, which beats by itself, see below. */
void notify_ready(struct loop *l, const char *status);
/* For a process without such a loop: half of the watchdog's interval, -1 if there is
 * none; and the beat itself, due that often. */
int notify_interval_ms(void);
void notify_beat(void);
void notify_status(const char *status);
void notify_stopping(void);

#endif
