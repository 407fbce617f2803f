#include "common/obs/notify.h"

#include <systemd/sd-daemon.h>

static struct loop_timer timer;
static int64_t interval_ms;

int notify_interval_ms(void)
{
    uint64_t usec = 0;
    return sd_watchdog_enabled(0, &usec) > 0 ? (int)(usec / 2000) : -1;
}

void notify_beat(void)
{
    sd_notify(0, "WATCHDOG=1");
}

static void beat(void *arg)
{
    struct loop *l = arg;
    notify_beat();
    loop_timer_set(l, &timer, interval_ms, beat, l);
}

void notify_ready(struct loop *l, const char *status)
{
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
    interval_ms = notify_interval_ms();
    if (l && interval_ms > 0)
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
