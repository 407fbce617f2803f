#include "agent/guardian/clock.h"

#include <assert.h>
#include <time.h>

int64_t clock_ns(void)
{
    struct timespec t;
    int r = clock_gettime(CLOCK_BOOTTIME, &t);
    assert(r == 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ms(void)
{
    return clock_ns() / 1000000;
}
