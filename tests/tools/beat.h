/* When a writer wrote: shared by guard_beat, which notes it, and beat_gap, which asks. */
#ifndef TESTS_TOOLS_BEAT_H
#define TESTS_TOOLS_BEAT_H

#include <stdint.h>

enum { BEATS = 65536 }; /* eleven minutes of one every 10 ms */

/* A file of this size, mapped: noting a beat costs no call. */
struct beats {
    uint64_t n;        /* beats so far */
    int64_t ns[BEATS]; /* CLOCK_BOOTTIME of beat i at i % BEATS */
};

#endif
