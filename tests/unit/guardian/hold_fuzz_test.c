/* Any order of events whatever. */
#include "agent/flow/hold.h"

#include <string.h>

#include "common/base/rng.h"
#include "tests/unit/guardian/hold_world.h"

/* What the outside remembers of the actions it has to answer. */
struct outside {
    struct rng rng;
    int doer_act; /* the request under way, -1: none */
    unsigned doer_index;
    bool dying, dead;
    bool thawing[HOLD_MAX_DOMAINS];
    bool kernel_frozen[HOLD_MAX_DOMAINS];
    int64_t frozen_since_ms[HOLD_MAX_DOMAINS];
};

static void perform(struct outside *o, const struct world *w)
{
    for (unsigned i = 0; i < w->acts.n; i++) {
        const struct hold_act *a = &w->acts.items[i];
        if (a->kind == HOLD_THAW) {
            ck_assert(!o->thawing[a->index]);
            o->thawing[a->index] = true;
        } else if (a->kind == HOLD_KILL_DOER) {
            /* It may come with the very step that feeds the death. */
            ck_assert(!o->dying);
            o->dying = !o->dead;
        } else if (a->kind != HOLD_ANSWER) {
            ck_assert(o->doer_act < 0 && !o->dead);
            o->doer_act = (int)a->kind;
            o->doer_index = a->index;
            if (a->kind == HOLD_DO_FREEZE)
                o->frozen_since_ms[a->index] = w->now_ms;
        }
    }
}

static void fuzz_step(struct outside *o, struct world *w, struct hold_event ev)
{
    step(w, ev);
    perform(o, w);
}

static void fuzz_doer_result(struct outside *o, struct world *w)
{
    static const enum hold_event_kind results[] = {
        [HOLD_DO_ARM] = HOLD_EV_ARMED,         [HOLD_DO_FREEZE] = HOLD_EV_FROZEN,
        [HOLD_DO_CAPTURE] = HOLD_EV_CAPTURED,  [HOLD_DO_RECHECK] = HOLD_EV_RECHECKED,
        [HOLD_DO_PUBLISH] = HOLD_EV_PUBLISHED, [HOLD_DO_REMOVE] = HOLD_EV_REMOVED,
    };
    bool member_ok[HOLD_MAX_MEMBERS];
    for (unsigned i = 0; i < w->hold.n_members; i++)
        member_ok[i] = rng_below(&o->rng, 8) != 0;
    struct hold_event ev = {.kind = results[o->doer_act],
                            .index = o->doer_index,
                            .ok = rng_below(&o->rng, 8) != 0,
                            .undo = rng_below(&o->rng, 2),
                            .at_ns = w->now_ms * 1000000,
                            .epoch = epoch_of(o->doer_index),
                            .member_ok = member_ok};
    if (o->doer_act == HOLD_DO_FREEZE)
        o->kernel_frozen[o->doer_index] = ev.ok || ev.undo;
    o->doer_act = -1;
    fuzz_step(o, w, ev);
}

static void fuzz_keeper(struct outside *o, struct world *w)
{
    for (unsigned i = 0; i < w->hold.n_domains; i++) {
        if (!o->thawing[i])
            continue;
        o->thawing[i] = false;
        bool ok = rng_below(&o->rng, 8) != 0;
        bool was = o->kernel_frozen[i];
        if (ok)
            o->kernel_frozen[i] = false;
        fuzz_step(o, w,
                  (struct hold_event){.kind = HOLD_EV_THAWED,
                                      .index = i,
                                      .ok = ok,
                                      .was_frozen = was,
                                      .at_ns = w->now_ms * 1000000});
    }
}

static void fuzz_death(struct outside *o, struct world *w)
{
    /* A freeze call under way completes although its caller dies. */
    if (o->doer_act == HOLD_DO_FREEZE)
        o->kernel_frozen[o->doer_index] = true;
    o->doer_act = -1;
    o->dying = false;
    o->dead = true;
    fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
}

static void fuzz_request(struct outside *o, struct world *w)
{
    static struct hold_want wants[HOLD_MAX_MEMBERS];
    bool domains[HOLD_MAX_DOMAINS];
    for (unsigned i = 0; i < HOLD_MAX_DOMAINS; i++)
        domains[i] = rng_below(&o->rng, 2);
    unsigned n = 0;
    switch (rng_below(&o->rng, 12)) {
    case 0:
        fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_ABORT});
        break;
    case 1:
        fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_CLOSED});
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        fuzz_step(o, w,
                  (struct hold_event){.kind = HOLD_EV_FREEZE,
                                      .domains = rng_below(&o->rng, 8) ? NULL : domains,
                                      .hold_ms = 400,
                                      .freeze_timeout_ms = 200});
        break;
    default:
        for (unsigned i = 0; i < w->hold.n_members; i++) {
            const struct hold_domain *d = &w->hold.domains[w->hold.members[i].domain];
            if (d->has_epoch && rng_below(&o->rng, 8) != 0)
                wants[n++] = (struct hold_want){.member = (uint16_t)i, .epoch = d->epoch};
        }
        fuzz_step(
            o, w,
            (struct hold_event){.kind = HOLD_EV_COMMIT, .wants = wants, .n_wants = n});
    }
}

static void fuzz_anything(struct outside *o, struct world *w)
{
    w->now_ms += (int64_t)rng_below(&o->rng, 40);
    uint64_t dice = rng_below(&o->rng, 100);
    if (o->dying || (dice < 2 && !o->dead))
        fuzz_death(o, w);
    else if (o->dead) {
        o->dead = false;
        fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_DOER_READY});
    } else if (dice < 60 && o->doer_act >= 0)
        fuzz_doer_result(o, w);
    else if (dice < 80)
        fuzz_keeper(o, w);
    else
        fuzz_request(o, w);
    /* The keeper's timer is never late. */
    if (hold_timer_ms(&w->hold) <= w->now_ms)
        fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_TIMER});
}

static void fuzz_settle(struct outside *o, struct world *w)
{
    fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_ABORT});
    for (int i = 0; i < 4000 && !hold_is_settled(&w->hold); i++) {
        w->now_ms += 10;
        if (o->dying)
            fuzz_death(o, w);
        if (o->dead) {
            o->dead = false;
            fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_DOER_READY});
        }
        if (o->doer_act >= 0)
            fuzz_doer_result(o, w);
        fuzz_keeper(o, w);
        fuzz_step(o, w, (struct hold_event){.kind = HOLD_EV_TIMER});
    }
    ck_assert(hold_is_settled(&w->hold));
    for (unsigned i = 0; i < w->hold.n_domains; i++)
        ck_assert(!o->kernel_frozen[i]);
}

START_TEST(no_order_of_events_leaves_anything_frozen_or_lets_a_broken_epoch_win)
{
    unsigned kept = 0, expired = 0; /* or the runs prove nothing */
    for (uint64_t seed = 1; seed <= 5000; seed++) {
        struct outside o = {.doer_act = -1};
        struct world w = {.now_ms = 1000};
        rng_init(&o.rng, seed);
        unsigned domains = 1 + (unsigned)rng_below(&o.rng, 5);
        unsigned members = domains + (unsigned)rng_below(&o.rng, 4);
        enum hold_kind kinds[8];
        uint16_t of[16];
        for (unsigned i = 0; i < domains; i++)
            kinds[i] = (enum hold_kind)rng_below(&o.rng, 4);
        for (unsigned i = 0; i < members; i++)
            of[i] = (uint16_t)(i < domains ? i : rng_below(&o.rng, domains));
        hold_init(&w.hold, kinds, domains, of, members, &w.acts);
        perform(&o, &w);
        for (int i = 0; i < 120; i++) {
            fuzz_anything(&o, &w);
            for (unsigned d = 0; d < domains; d++)
                if (w.hold.domains[d].sm.state == HOLD_D_FROZEN)
                    ck_assert_msg(w.now_ms - o.frozen_since_ms[d] < 400, "seed %lu",
                                  (unsigned long)seed);
        }
        for (unsigned i = 0; i < members; i++)
            kept += hold_member_is_kept(&w.hold, i);
        for (unsigned i = 0; i < domains; i++)
            expired += w.hold.domains[i].breach == HOLD_EXPIRED;
        fuzz_settle(&o, &w);
    }
    ck_assert_uint_gt(kept, 100);
    ck_assert_uint_gt(expired, 100);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("hold");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc,
                   no_order_of_events_leaves_anything_frozen_or_lets_a_broken_epoch_win);
    return suite_main("hold_fuzz", tc);
}
