#include "common/obs/notify.h"

#include <systemd/sd-daemon.h>

static struct loop_timer timer;
static int64_t interval_ms;

static void beat(void *arg)
{
    struct loop *l = arg;
    sd_notify(0, "WATCHDOG=1");
    loop_timer_set(l, &timer, interval_ms, beat, l);
}

void notify_ready(struct loop *l, const char *status)
{
    uint64_t usec = 0;
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
    if (!l || sd_watchdog_enabled(0, &usec) <= 0)
        return;
    interval_ms = (int64_t)(usec / 2000);
    beat(l);
}

void notify_status(const char *status)
{
    sd_notifyf(0, "STATUS=%s", status);
}

void notify_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}
