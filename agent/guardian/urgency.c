#include "agent/guardian/urgency.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "common/obs/log.h"

enum { RUNAWAY_US = 10000000, CHORE_NICE = 5 };

static int start_nice;

void urgency_init(void)
{
    start_nice = getpriority(PRIO_PROCESS, 0);
    struct rlimit r = {.rlim_cur = RUNAWAY_US, .rlim_max = RUNAWAY_US};
    setrlimit(RLIMIT_RTTIME, &r);
    struct sched_param p = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR, &p) != 0)
        log_info("guardian", "urgency", "realtime=no reason=\"%s\"", strerror(errno));
    p.sched_priority = 0;
    sched_setscheduler(0, SCHED_OTHER, &p);
}

static void be_real_time(int priority)
{
    struct sched_param p = {.sched_priority = priority};
    sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &p);
}

static void be_nice(int nice)
{
    struct sched_param p = {.sched_priority = 0};
    if (sched_getscheduler(0) == (SCHED_RR | SCHED_RESET_ON_FORK))
        sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &p);
    setpriority(PRIO_PROCESS, 0, nice); /* the thread's */
}

void urgency_set(enum urgency u)
{
    switch (u) {
    case URGENCY_KEEP:
        be_real_time(2);
        break;
    case URGENCY_HOLD:
        be_real_time(1);
        break;
    case URGENCY_COPY:
        be_nice(start_nice);
        break;
    case URGENCY_CHORE:
        be_nice(start_nice > CHORE_NICE ? start_nice : CHORE_NICE);
        break;
    }
}
