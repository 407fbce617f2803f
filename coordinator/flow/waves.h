/* The order in which a group's partitions freeze: waves, each when the one before stands
 * still. No I/O, no clock. */
#ifndef COORDINATOR_FLOW_WAVES_H
#define COORDINATOR_FLOW_WAVES_H

#include <stddef.h>

#include "common/base/err.h"
#include "coordinator/flow/round.h"

enum { WAVES_MAX = ROUND_MAX_WAVES };

/* Borrowed names: "node/partition". */
struct wave {
    char *const *partitions;
    size_t n;
};

/* Whether `waves` order the group's partitions: INVALID, naming the field, if there are
 * too many, one is empty, or a partition is in none of them, in two, or not of the group.
 * No waves are in order. Needs: the names are well formed. */
struct err *waves_check(char *const *partitions, size_t n, const struct wave *waves,
                        size_t n_waves) MUST_USE;
/* The wave of a partition, from 0; 0 if it is in none. */
size_t waves_find(const struct wave *waves, size_t n_waves, const char *node,
                  const char *partition);

/* Until when the wave that a round freezes now has time: all of freeze_timeout. In a
 * relaxed round a silent node costs the waves behind it nothing of their share, and each
 * has its share, however late. */
int64_t waves_deadline_ms(const struct round *r, int64_t now_ms);
/* The pause to expect: the first wave stays frozen until the last one is captured, so it
 * is the sum of what each wave's slowest node expects. */
int64_t waves_predict_ms(const struct round *r);

/* Remembers in which order nodes answered Freeze for the first time: since then they have
 * had something that stands still. */
void waves_note_frozen(struct round *r, size_t node);

#endif
