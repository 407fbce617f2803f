/* Keeper, doer and kernel as a model around the product's hold core. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

static void feed(struct world *w, struct sim_node *n, struct sim_hold *h,
                 struct hold_event *ev);

/* ---- the kernel: what it froze stays frozen, whoever dies ---- */

static void kernel_freeze(struct world *w, struct sim_node *n, int set)
{
    assert(!n->kernel.frozen);
    n->kernel = (struct sim_kernel){.frozen = true, .frozen_at_ms = w->now_ms};
    n->freezes_of_set[set]++;
}

static bool kernel_thaw(struct world *w, struct sim_node *n)
{
    if (!n->kernel.frozen)
        return false;
    int64_t pause = w->now_ms - n->kernel.frozen_at_ms;
    if (pause > n->longest_pause_ms)
        n->longest_pause_ms = pause;
    for (int i = 0; i < SIM_CAPTURES; i++) {
        struct sim_capture *c = &n->captures[i];
        if (c->exists && c->thawed_ms == 0 && c->frozen_from_ms == n->kernel.frozen_at_ms)
            c->thawed_ms = w->now_ms;
    }
    n->kernel = (struct sim_kernel){0};
    return true;
}

/* ---- captures ---- */

static struct sim_capture *find_capture(struct sim_node *n, const struct set_id *set)
{
    for (int i = 0; i < SIM_CAPTURES; i++)
        if (n->captures[i].exists && strcmp(n->captures[i].set.text, set->text) == 0)
            return &n->captures[i];
    return NULL;
}

static void make_capture(struct world *w, struct sim_node *n, const struct set_id *set)
{
    for (int i = 0; i < SIM_CAPTURES; i++) {
        struct sim_capture *c = &n->captures[i];
        if (c->exists)
            continue;
        *c = (struct sim_capture){.exists = true, .set = *set, .at_ms = w->now_ms};
        c->frozen_from_ms = n->kernel.frozen ? n->kernel.frozen_at_ms : -1;
        return;
    }
    assert(!"captures leak");
}

/* ---- the doer ---- */

struct work {
    enum hold_act_kind act;
    struct set_id set;
};

static struct sim_hold *find_hold(struct sim_node *n, const struct set_id *set)
{
    for (int i = 0; i < SIM_HOLDS; i++)
        if (n->holds[i].used && strcmp(n->holds[i].set.text, set->text) == 0)
            return &n->holds[i];
    return NULL;
}

static void on_work_done(struct world *w, struct event *ev)
{
    static const bool yes[] = {true};
    struct sim_node *n = ev->owner;
    struct work *work = ev->data;
    struct sim_hold *h = find_hold(n, &work->set);
    struct hold_event he = {.ok = true, .at_ns = w->now_ms * 1000000};
    switch (work->act) {
    case HOLD_DO_ARM:
        he.kind = HOLD_EV_ARMED;
        he.member_ok = yes;
        break;
    case HOLD_DO_FREEZE:
        kernel_freeze(w, n, sim_set_number(&work->set));
        he.kind = HOLD_EV_FROZEN;
        for (size_t i = 0; i < sizeof he.epoch.b; i++)
            he.epoch.b[i] = (uint8_t)rng_next(&w->rng);
        break;
    case HOLD_DO_CAPTURE:
        he.kind = HOLD_EV_CAPTURED;
        he.ok = n->fail_captures == 0;
        n->fail_captures -= n->fail_captures > 0;
        if (he.ok)
            make_capture(w, n, &work->set);
        break;
    case HOLD_DO_RECHECK:
        he.kind = HOLD_EV_RECHECKED;
        he.ok = n->kernel.frozen;
        break;
    case HOLD_DO_PUBLISH:
        he.kind = HOLD_EV_PUBLISHED;
        find_capture(n, &work->set)->published = true;
        break;
    case HOLD_DO_REMOVE:
        he.kind = HOLD_EV_REMOVED;
        if (find_capture(n, &work->set))
            find_capture(n, &work->set)->exists = false;
        break;
    default:
        assert(!"not the doer's");
    }
    if (h)
        feed(w, n, h, &he);
}

static int64_t duration(struct world *w, struct sim_node *n, enum hold_act_kind act)
{
    int64_t jitter = (int64_t)rng_below(&w->rng, 4);
    if (act == HOLD_DO_CAPTURE)
        return n->capture_ms + jitter;
    return act == HOLD_DO_ARM || act == HOLD_DO_FREEZE ? 20 + 5 * jitter : 1 + jitter;
}

static void give_work(struct world *w, struct sim_node *n, struct sim_hold *h,
                      enum hold_act_kind act)
{
    if (act == HOLD_DO_FREEZE)
        n->journal_frozen = true;
    if (!n->doer.alive)
        return; /* the request goes to a dead process; DOER_DIED is on its way */
    struct work work = {act, h->set};
    n->doing = act;
    n->doing_set = sim_set_number(&h->set);
    world_post(w, &n->doer, duration(w, n, act), on_work_done, n,
               mem_dup(&work, sizeof work), 0);
    if (w->on_guard)
        w->on_guard(w, n->index, act);
}

static void on_doer_ready(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    if (n->doer.alive)
        return;
    n->doer.alive = true;
    for (int i = 0; i < SIM_HOLDS; i++)
        if (n->holds[i].used)
            feed(w, n, &n->holds[i], &(struct hold_event){.kind = HOLD_EV_DOER_READY});
}

static void on_doer_died(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    for (int i = 0; i < SIM_HOLDS; i++)
        if (n->holds[i].used)
            feed(w, n, &n->holds[i], &(struct hold_event){.kind = HOLD_EV_DOER_DIED});
    world_post(w, &n->keeper, 20, on_doer_ready, n, NULL, 0);
}

/* A freeze that was under way may have reached the kernel: nobody can tell. */
static void stop_doer(struct world *w, struct sim_node *n)
{
    bool freezing = n->doing == HOLD_DO_FREEZE && !n->kernel.frozen &&
                    n->journal_frozen && n->doer.alive &&
                    n->freezes_of_set[n->doing_set] == 0;
    proc_kill(w, &n->doer);
    if (freezing && chance(w, 500))
        kernel_freeze(w, n, n->doing_set);
}

void doer_kill(struct world *w, int node)
{
    struct sim_node *n = &w->nodes[node];
    if (!n->doer.alive)
        return;
    stop_doer(w, n);
    if (n->keeper.alive)
        world_post(w, &n->keeper, 1, on_doer_died, n, NULL, 0);
}

/* ---- the keeper ---- */

static void tell(struct world *w, struct sim_node *n, struct session_event *ev)
{
    if (n->agent.alive)
        agent_guard_event(w, n, ev);
}

static void answer_freeze(struct world *w, struct sim_node *n, struct sim_hold *h,
                          bool ok)
{
    struct hold_domain *d = &h->hold.domains[0];
    struct domain_epoch e = {.domain = n->domain};
    memcpy(e.epoch.b, d->epoch.b, sizeof e.epoch.b);
    AUTO(err) struct err *no = err_new(ERR_CONFLICT, "%s", hold_breach_text(d->breach));
    ok = ok && d->has_epoch && d->breach == HOLD_UNBROKEN;
    tell(w, n,
         &(struct session_event){.kind = SESSION_EV_FROZEN,
                                 .set = h->set,
                                 .epochs = &e,
                                 .n_epochs = 1,
                                 .err = ok ? NULL : no});
}

static void answer_commit(struct world *w, struct sim_node *n, struct sim_hold *h,
                          bool ok)
{
    struct hold_domain *d = &h->hold.domains[0];
    struct proof p = {.domain = n->domain,
                      .boot_id = "boot",
                      .frozen_at_ns = d->frozen_at_ns,
                      .captured_at_ns = h->hold.members[0].captured_at_ns,
                      .thawed_at_ns = d->thawed_at_ns,
                      .unbroken = true,
                      .evidence = EVIDENCE_KERNEL};
    snprintf(p.part.text, sizeof p.part.text, "db");
    memcpy(p.epoch.b, d->epoch.b, sizeof p.epoch.b);
    AUTO(err) struct err *no = err_new(ERR_CONFLICT, "%s", hold_breach_text(d->breach));
    ok = ok && hold_member_is_kept(&h->hold, 0);
    tell(w, n,
         &(struct session_event){.kind = SESSION_EV_COMMITTED,
                                 .set = h->set,
                                 .proofs = &p,
                                 .n_proofs = 1,
                                 .err = ok ? NULL : no});
}

static void answer(struct world *w, struct sim_node *n, struct sim_hold *h,
                   const struct hold_act *a)
{
    bool ok = a->verdict == HOLD_OK;
    AUTO(err) struct err *no = err_new(ERR_CONFLICT, "the guardian says no");
    struct session_part part = {.domain = n->domain};
    switch ((enum hold_request)a->index) {
    case HOLD_REQ_ARM:
        tell(w, n,
             &(struct session_event){.kind = SESSION_EV_ARMED,
                                     .set = h->set,
                                     .parts = &part,
                                     .n_parts = 1,
                                     .err = ok ? NULL : no});
        return;
    case HOLD_REQ_FREEZE:
        answer_freeze(w, n, h, ok);
        return;
    case HOLD_REQ_COMMIT:
        answer_commit(w, n, h, ok);
        return;
    case HOLD_REQ_ABORT:
        tell(w, n,
             &(struct session_event){
                 .kind = SESSION_EV_UNDONE, .set = h->set, .err = ok ? NULL : no});
        return;
    }
}

static void on_thawed(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct sim_hold *h = find_hold(n, ev->data);
    if (h)
        feed(w, n, h,
             &(struct hold_event){.kind = HOLD_EV_THAWED,
                                  .ok = true,
                                  .was_frozen = ev->n,
                                  .at_ns = w->now_ms * 1000000});
}

static void on_timer(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct sim_hold *h = find_hold(n, ev->data);
    if (h)
        feed(w, n, h, &(struct hold_event){.kind = HOLD_EV_TIMER});
}

static void perform(struct world *w, struct sim_node *n, struct sim_hold *h,
                    const struct hold_acts *acts)
{
    for (unsigned i = 0; i < acts->n && n->keeper.alive; i++) {
        const struct hold_act *a = &acts->items[i];
        switch (a->kind) {
        case HOLD_THAW:
            n->journal_frozen = false;
            world_post(w, &n->keeper, 0, on_thawed, n, mem_dup(&h->set, sizeof h->set),
                       kernel_thaw(w, n));
            break;
        case HOLD_KILL_DOER:
            doer_kill(w, n->index);
            break;
        case HOLD_ANSWER:
            answer(w, n, h, a);
            break;
        default:
            give_work(w, n, h, a->kind);
        }
    }
}

static void feed(struct world *w, struct sim_node *n, struct sim_hold *h,
                 struct hold_event *ev)
{
    struct hold_acts acts;
    struct set_id set = h->set;
    unsigned generation = n->keeper.generation;
    ev->now_ms = w->now_ms;
    hold_step(&h->hold, ev, &acts);
    hold_check(&h->hold);
    perform(w, n, h, &acts);
    if (generation != n->keeper.generation)
        return;
    h = find_hold(n, &set);
    if (!h)
        return;
    if (hold_is_settled(&h->hold)) {
        h->used = false;
        return;
    }
    int64_t at = hold_timer_ms(&h->hold);
    if (at != HOLD_NO_TIMER)
        world_post(w, &n->keeper, at > w->now_ms ? at - w->now_ms : 0, on_timer, n,
                   mem_dup(&set, sizeof set), 0);
}

/* ---- requests of the agent ---- */

struct ask {
    enum session_act_kind what;
    struct set_id set;
    struct digest digest;
    struct epoch epoch;
};

static void refuse(struct world *w, struct sim_node *n, const struct ask *a)
{
    AUTO(err)
    struct err *no = err_new(ERR_UNAVAILABLE, "the guardian holds nothing of it");
    static const enum session_event_kind kinds[] = {
        [SESSION_ACT_ARM] = SESSION_EV_ARMED,
        [SESSION_ACT_FREEZE] = SESSION_EV_FROZEN,
        [SESSION_ACT_COMMIT] = SESSION_EV_COMMITTED,
        [SESSION_ACT_UNDO] = SESSION_EV_UNDONE,
    };
    tell(w, n, &(struct session_event){.kind = kinds[a->what], .set = a->set, .err = no});
}

static void arm(struct world *w, struct sim_node *n, const struct ask *a)
{
    int i = 0;
    while (i < SIM_HOLDS && n->holds[i].used)
        i++;
    if (i == SIM_HOLDS) {
        refuse(w, n, a);
        return;
    }
    struct sim_hold *h = &n->holds[i];
    enum hold_kind kind = HOLD_CGROUP;
    uint16_t domain = 0;
    struct hold_acts acts;
    h->used = true;
    h->set = a->set;
    hold_init(&h->hold, &kind, 1, &domain, 1, &acts);
    perform(w, n, h, &acts);
}

static void undo_without_hold(struct world *w, struct sim_node *n, const struct ask *a)
{
    struct sim_capture *c = find_capture(n, &a->set);
    if (c)
        c->exists = false;
    tell(w, n, &(struct session_event){.kind = SESSION_EV_UNDONE, .set = a->set});
}

static void on_ask(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct ask *a = ev->data;
    struct sim_hold *h = find_hold(n, &a->set);
    if (a->what == SESSION_ACT_ARM) {
        arm(w, n, a);
        return;
    }
    if (!h) {
        if (a->what == SESSION_ACT_UNDO)
            undo_without_hold(w, n, a);
        else
            refuse(w, n, a);
        return;
    }
    struct hold_want want = {0};
    memcpy(want.epoch.b, a->epoch.b, sizeof want.epoch.b);
    struct hold_event he = {.hold_ms = SIM_HOLD_MS,
                            .freeze_timeout_ms = SIM_FREEZE_TIMEOUT_MS,
                            .digest = a->digest,
                            .wants = &want,
                            .n_wants = 1};
    he.kind = a->what == SESSION_ACT_FREEZE   ? HOLD_EV_FREEZE
              : a->what == SESSION_ACT_COMMIT ? HOLD_EV_COMMIT
                                              : HOLD_EV_ABORT;
    feed(w, n, h, &he);
}

static void on_no_guard(struct world *w, struct event *ev)
{
    refuse(w, ev->owner, ev->data);
}

void guard_ask(struct world *w, struct sim_node *n, enum session_act_kind what,
               struct session *set)
{
    struct ask a = {.what = what, .set = set->set};
    if (what == SESSION_ACT_FREEZE || what == SESSION_ACT_COMMIT) /* I3 */
        for (size_t i = 0; i < n->durable.fence.n_domains; i++)
            assert(token_compare(&set->token, &n->durable.fence.domains[i].token) !=
                   TOKEN_OLDER);
    if (what == SESSION_ACT_COMMIT) {
        cut_digest(&set->set, set->all_epochs, set->n_all_epochs, &a.digest);
        a.epoch = set->epochs[0].epoch;
    }
    if (n->keeper.alive)
        world_post(w, &n->keeper, 1, on_ask, n, mem_dup(&a, sizeof a), 0);
    else
        world_post(w, &n->agent, 200, on_no_guard, n, mem_dup(&a, sizeof a), 0);
}

static void on_closed(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    for (int i = 0; i < SIM_HOLDS; i++)
        if (n->holds[i].used)
            feed(w, n, &n->holds[i], &(struct hold_event){.kind = HOLD_EV_CLOSED});
}

void guard_agent_gone(struct world *w, struct sim_node *n)
{
    if (n->keeper.alive)
        world_post(w, &n->keeper, 1, on_closed, n, NULL, 0);
}

/* ---- life ---- */

void guard_start(struct world *w, struct sim_node *n)
{
    n->keeper.name = "keeper";
    n->doer.name = "doer";
    n->keeper.alive = n->doer.alive = true;
    memset(n->holds, 0, sizeof n->holds);
    if (n->journal_frozen)
        kernel_thaw(w, n); /* before anything else */
    n->journal_frozen = false;
}

static void restart(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    if (!n->keeper.alive)
        guard_start(w, n);
}

static void on_orphaned(struct world *w, struct event *ev)
{
    kernel_thaw(w, ev->owner);
}

static void on_guard_lost(struct world *w, struct event *ev)
{
    tell(w, ev->owner, &(struct session_event){.kind = SESSION_EV_GUARD_LOST});
}

void keeper_kill(struct world *w, int node, bool again)
{
    struct sim_node *n = &w->nodes[node];
    if (!n->keeper.alive)
        return;
    proc_kill(w, &n->keeper);
    if (n->doer.alive) {
        stop_doer(w, n);
        world_post(w, NULL, 1, on_orphaned, n, NULL, 0);
    } else if (n->kernel.frozen) {
        n->kernel.doomed_at_ms = w->now_ms;
    }
    world_post(w, &n->agent, 1, on_guard_lost, n, NULL, 0);
    if (again)
        world_post(w, NULL, SIM_RESTART_MS, restart, n, NULL, 0);
}

void node_kill_all(struct world *w, int node)
{
    struct sim_node *n = &w->nodes[node];
    if (n->doer.alive)
        stop_doer(w, n);
    keeper_kill(w, node, true);
    agent_kill(w, node, true);
}
