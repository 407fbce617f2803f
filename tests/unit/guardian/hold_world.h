/* What tests of the hold share: a hold fed by hand, and what its last step asked for. */
#ifndef TESTS_UNIT_GUARDIAN_HOLD_WORLD_H
#define TESTS_UNIT_GUARDIAN_HOLD_WORLD_H

#include <string.h>

#include "agent/flow/hold.h"
#include "tests/unit/suite.h"

/* A hold with its actions of the last step. Time stands still unless a test moves it. */
struct world {
    struct hold hold;
    struct hold_acts acts;
    int64_t now_ms;
};

static inline void step(struct world *w, struct hold_event ev)
{
    ev.now_ms = w->now_ms;
    hold_step(&w->hold, &ev, &w->acts);
    hold_check(&w->hold);
}

static inline unsigned count(const struct world *w, enum hold_act_kind kind)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->acts.n; i++)
        n += w->acts.items[i].kind == kind;
    return n;
}

static inline bool did(const struct world *w, enum hold_act_kind kind, unsigned index)
{
    for (unsigned i = 0; i < w->acts.n; i++)
        if (w->acts.items[i].kind == kind && w->acts.items[i].index == index)
            return true;
    return false;
}

static inline bool answered(const struct world *w, enum hold_request req,
                            enum hold_verdict v)
{
    for (unsigned i = 0; i < w->acts.n; i++)
        if (w->acts.items[i].kind == HOLD_ANSWER && w->acts.items[i].index == req)
            return w->acts.items[i].verdict == v;
    return false;
}

static inline struct epoch epoch_of(unsigned domain)
{
    struct epoch e;
    memset(&e, (int)(0xa0 + domain), sizeof(e));
    return e;
}

static inline void armed(struct world *w, const enum hold_kind *kinds, unsigned n_domains,
                         const uint16_t *domains, unsigned n_members)
{
    static const bool all_ok[HOLD_MAX_MEMBERS] = {[0 ... HOLD_MAX_MEMBERS - 1] = true};
    w->now_ms = 1000;
    hold_init(&w->hold, kinds, n_domains, domains, n_members, &w->acts);
    ck_assert(did(w, HOLD_DO_ARM, 0));
    hold_check(&w->hold);
    step(w, (struct hold_event){.kind = HOLD_EV_ARMED, .member_ok = all_ok});
    ck_assert(answered(w, HOLD_REQ_ARM, HOLD_OK));
}

static inline void ask_freeze(struct world *w)
{
    step(w, (struct hold_event){
                .kind = HOLD_EV_FREEZE, .hold_ms = 10000, .freeze_timeout_ms = 5000});
}

static inline void report_frozen(struct world *w, unsigned domain)
{
    step(w, (struct hold_event){.kind = HOLD_EV_FROZEN,
                                .index = domain,
                                .ok = true,
                                .at_ns = w->now_ms * 1000000,
                                .epoch = epoch_of(domain)});
}

static inline void ask_commit(struct world *w, unsigned n)
{
    static struct hold_want wants[HOLD_MAX_MEMBERS];
    for (unsigned i = 0; i < n; i++)
        wants[i] = (struct hold_want){.member = (uint16_t)i,
                                      .epoch = epoch_of(w->hold.members[i].domain)};
    step(w, (struct hold_event){.kind = HOLD_EV_COMMIT, .wants = wants, .n_wants = n});
}

static inline void report(struct world *w, enum hold_event_kind kind, unsigned index,
                          bool ok)
{
    step(w, (struct hold_event){.kind = kind,
                                .index = index,
                                .ok = ok,
                                .was_frozen = true,
                                .at_ns = w->now_ms * 1000000});
}

/* One partition in one cgroup, frozen and answered. */
static inline void frozen_one(struct world *w)
{
    armed(w, (enum hold_kind[]){HOLD_CGROUP}, 1, (uint16_t[]){0}, 1);
    ask_freeze(w);
    ck_assert(did(w, HOLD_DO_FREEZE, 0));
    report_frozen(w, 0);
    ck_assert(answered(w, HOLD_REQ_FREEZE, HOLD_OK));
}

/* The same, its capture under way. */
static inline void capturing_one(struct world *w)
{
    frozen_one(w);
    ask_commit(w, 1);
    ck_assert(did(w, HOLD_DO_CAPTURE, 0));
}

#endif
