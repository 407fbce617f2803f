#include "coordinator/flow/predict.h"

#include <assert.h>
#include <string.h>

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
    for (size_t i = 0; i < n_nodes; i++) {
        memset(nodes[i].freeze_ms, 0, sizeof nodes[i].freeze_ms);
        nodes[i].capture_ms = 0;
    }
    int64_t slowest_ms[PREDICT_MAX_WAVES] = {0};
    for (size_t i = 0; i < n_parts; i++) {
        const struct predict_part *p = &parts[i];
        assert(p->node < n_nodes && p->wave < PREDICT_MAX_WAVES);
        struct predict_node *n = &nodes[p->node];
        n->capture_ms += p->capture_ms;
        n->freeze_ms[p->wave] += p->flush_ms;
        int64_t ms = n->freeze_ms[p->wave] + (n->round_trip_us + 999) / 1000;
        if (ms > slowest_ms[p->wave])
            slowest_ms[p->wave] = ms;
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
