/* How long the writers of each partition of a group will stand still, from what its
 * agents found while nothing did. No I/O, no clock. Loop thread only.
 *
 * One member frozen waits for the slowest of each wave to be frozen too, for that answer
 * to arrive and for Commit to come back; then the captures of its node follow one
 * another, as do the freezes before. */
#ifndef COORDINATOR_FLOW_PREDICT_H
#define COORDINATOR_FLOW_PREDICT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum { PREDICT_MAX_MS = 86400000, PREDICT_MAX_WAVES = 16 };

/* One partition; each value 0 to PREDICT_MAX_MS. */
struct predict_part {
    size_t node;        /* index of its node */
    size_t wave;        /* in which it freezes; below PREDICT_MAX_WAVES */
    int64_t flush_ms;   /* until it is frozen */
    int64_t capture_ms; /* its own capture */
    int64_t pause_ms;   /* out */
};

struct predict_node {
    int64_t round_trip_us;                /* to its agent and back */
    int64_t freeze_ms[PREDICT_MAX_WAVES]; /* out: its partitions of each wave */
    int64_t capture_ms;                   /* out: all of its partitions */
};

/* CORRUPT unless an agent's two numbers can be: a pause, of which the flush is a part. */
struct err *predict_check(int64_t pause_ms, int64_t flush_ms) MUST_USE;

/* Fills what is `out`; *reach_ms is the part that all have in common. Returns the longest
 * pause. */
int64_t predict_pauses(struct predict_part *parts, size_t n_parts,
                       struct predict_node *nodes, size_t n_nodes, int64_t *reach_ms);

/* CONFLICT when a pause like that leaves less than half of the hold limit spare. */
struct err *predict_judge(int64_t pause_ms, int64_t hold_limit_ms) MUST_USE;

#endif
