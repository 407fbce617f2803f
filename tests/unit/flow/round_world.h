/* One round over the nodes of a sound cut, its clock, and what it asked for last: for the
 * tests of the round to drive step by step. */
#ifndef TESTS_UNIT_FLOW_ROUND_WORLD_H
#define TESTS_UNIT_FLOW_ROUND_WORLD_H

#include <string.h>

#include "common/base/mem.h"
#include "coordinator/flow/round.h"
#include "tests/unit/cut.h"
#include "tests/unit/suite.h"

enum { PREPARE_MS = 60000, FREEZE_MS = 5000, HOLD_MS = 10000, UNIX_MS = 1234567 };

struct world {
    struct round round;
    struct round_acts acts;
    struct cut cut;
    int64_t now_ms;
};

/* `change`: settings beside the usual ones; NULL: none. */
static inline void begin_with(struct world *w, const struct round_conf *change)
{
    *w = (struct world){.now_ms = 1000};
    cut_make(&w->cut);
    round_acts_init(&w->acts);
    struct round_conf conf = change ? *change : (struct round_conf){0};
    conf.set = w->cut.set;
    conf.token = w->cut.token;
    conf.prepare_timeout_ms = PREPARE_MS;
    conf.freeze_timeout_ms = FREEZE_MS;
    conf.hold_limit_ms = HOLD_MS;
    conf.n_parts = conf.n_nodes = CUT_NODES;
    round_init(&w->round, &conf);
}

static inline void begin(struct world *w)
{
    begin_with(w, NULL);
}

static inline void end(struct world *w)
{
    round_fini(&w->round);
    round_acts_fini(&w->acts);
}

static inline void feed(struct world *w, struct round_event ev)
{
    ev.now_ms = w->now_ms;
    ev.unix_ms = UNIX_MS;
    round_step(&w->round, &ev, &w->acts);
}

static inline void timer(struct world *w, int64_t now_ms)
{
    w->now_ms = now_ms;
    feed(w, (struct round_event){.kind = ROUND_EV_TIMER});
}

static inline void stored(struct world *w, enum round_stored outcome)
{
    feed(w, (struct round_event){.kind = ROUND_EV_STORED, .stored = outcome});
}

static inline void found(struct world *w, enum round_found what)
{
    feed(w, (struct round_event){.kind = ROUND_EV_READ, .found = what});
}

/* To Prepare: a pause of so many ms is expected, in the node's one wave of 0 or 1. */
static inline void prepared(struct world *w, size_t node, int64_t predicted_ms)
{
    struct round_event ev = {.kind = ROUND_EV_REPLY, .node = node, .call = CALL_PREPARE};
    ev.predicted_ms[w->round.nodes[node].waves / 2] = predicted_ms;
    feed(w, ev);
}

static inline void yes(struct world *w, size_t node, enum round_call call)
{
    struct round_event ev = {
        .kind = ROUND_EV_REPLY, .node = node, .call = call, .wave = w->round.wave};
    if (call == CALL_FREEZE) {
        ev.epochs = &w->cut.epochs[node];
        ev.n_epochs = 1;
    } else if (call == CALL_COMMIT) {
        ev.proofs = &w->cut.proofs[node];
        ev.n_proofs = 1;
    }
    feed(w, ev);
}

static inline void all_yes(struct world *w, enum round_call call)
{
    for (size_t i = 0; i < CUT_NODES; i++)
        yes(w, i, call);
}

static inline void no(struct world *w, size_t node, enum round_call call,
                      enum err_kind kind)
{
    AUTO(err) struct err *e = err_new(kind, "node %zu says no", node);
    feed(w, (struct round_event){
                .kind = ROUND_EV_REPLY, .node = node, .call = call, .err = e});
}

static inline void inspected(struct world *w, size_t node, enum session_view view)
{
    feed(w, (struct round_event){.kind = ROUND_EV_REPLY,
                                 .node = node,
                                 .call = CALL_INSPECT,
                                 .view = view,
                                 .epochs = w->cut.epochs,
                                 .n_epochs = CUT_NODES,
                                 .proofs = &w->cut.proofs[node],
                                 .n_proofs = view == VIEW_CAPTURED});
}

static inline size_t calls(const struct world *w, enum round_call call)
{
    size_t n = 0;
    for (size_t i = 0; i < w->acts.n; i++)
        n += w->acts.items[i].kind == ROUND_ACT_CALL && w->acts.items[i].call == call;
    return n;
}

static inline size_t count(const struct world *w, enum round_act_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < w->acts.n; i++)
        n += w->acts.items[i].kind == kind;
    return n;
}

static inline int64_t timer_at(const struct world *w)
{
    for (size_t i = 0; i < w->acts.n; i++)
        if (w->acts.items[i].kind == ROUND_ACT_TIMER)
            return w->acts.items[i].at_ms;
    return 0;
}

/* How often this call was sent to this node in the last step. */
static inline size_t calls_to(const struct world *w, enum round_call call, size_t node)
{
    size_t n = 0;
    for (size_t i = 0; i < w->acts.n; i++)
        n += w->acts.items[i].kind == ROUND_ACT_CALL && w->acts.items[i].call == call &&
             w->acts.items[i].node == node;
    return n;
}

#endif
