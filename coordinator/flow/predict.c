#include "coordinator/flow/predict.h"

#include <assert.h>

struct err *predict_check(int64_t pause_ms, int64_t flush_ms)
{
    if (flush_ms >= 0 && pause_ms >= flush_ms && pause_ms <= PREDICT_MAX_MS)
        return NULL;
    return err_new(ERR_CORRUPT, "a predicted pause of %lld ms, %lld ms of it the flush",
                   (long long)pause_ms, (long long)flush_ms);
}

int64_t predict_pauses(struct predict_part *parts, size_t n_parts,
                       struct predict_node *nodes, size_t n_nodes, int64_t *reach_ms)
{
    for (size_t i = 0; i < n_nodes; i++)
        nodes[i].freeze_ms = nodes[i].capture_ms = 0;
    for (size_t i = 0; i < n_parts; i++) {
        assert(parts[i].node < n_nodes);
        nodes[parts[i].node].freeze_ms += parts[i].flush_ms;
        nodes[parts[i].node].capture_ms += parts[i].capture_ms;
    }
    int64_t slowest_ms[PREDICT_MAX_WAVES] = {0};
    for (size_t i = 0; i < n_nodes; i++) {
        int64_t ms = nodes[i].freeze_ms + (nodes[i].round_trip_us + 999) / 1000;
        assert(nodes[i].wave < PREDICT_MAX_WAVES);
        if (ms > slowest_ms[nodes[i].wave])
            slowest_ms[nodes[i].wave] = ms;
    }
    *reach_ms = 0;
    for (size_t wave = 0; wave < PREDICT_MAX_WAVES; wave++)
        *reach_ms += slowest_ms[wave];
    int64_t longest = 0;
    for (size_t i = 0; i < n_parts; i++) {
        parts[i].pause_ms = *reach_ms + nodes[parts[i].node].capture_ms;
        if (parts[i].pause_ms > longest)
            longest = parts[i].pause_ms;
    }
    return longest;
}

struct err *predict_judge(int64_t pause_ms, int64_t hold_limit_ms)
{
    if (pause_ms <= hold_limit_ms / 2)
        return NULL;
    return err_new(
        ERR_CONFLICT,
        "the pause of the group is expected to take %lld ms, more than half of "
        "hold_limit "
        "(%lld ms): raise hold_limit, choose capture btrfs or reflink, or make several "
        "groups of it",
        (long long)pause_ms, (long long)hold_limit_ms);
}
