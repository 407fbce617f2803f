/* Keeper and doers as a model around the product's hold core. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

static void feed(struct world *w, struct sim_node *n, struct sim_hold *h,
                 struct hold_event *ev);

static struct sim_hold *find_hold(struct sim_node *n, int set)
{
    for (int i = 0; i < SIM_HOLDS; i++)
        if (n->holds[i].used && n->holds[i].set == set)
            return &n->holds[i];
    return NULL;
}

/* ---- the doer ---- */

struct work {
    enum hold_act_kind act;
    unsigned index;
    int set;
};

static bool take(int *trouble)
{
    bool bad = *trouble > 0;
    *trouble -= bad;
    return bad;
}

/* Whether a partition of the domain was armed. */
static bool is_used(const struct sim_hold *h, unsigned domain)
{
    for (unsigned i = 0; i < h->n_parts; i++)
        if (h->hold.members[i].domain == domain && !(h->refused >> i & 1))
            return true;
    return false;
}

static size_t wave_of(const struct world *w, const struct sim_node *n,
                      const struct sim_hold *h, unsigned domain)
{
    return w->sets[h->set].waves[n->index][h->domains[domain]];
}

/* Step 2.6, on one node: what is in front stands by now. */
static void check_front(const struct world *w, const struct sim_node *n,
                        const struct sim_hold *h, unsigned domain)
{
    for (unsigned i = 0; i < h->n_domains; i++)
        if (is_used(h, i) && wave_of(w, n, h, i) < wave_of(w, n, h, domain) &&
            !n->domains[h->domains[i]].pauses[h->set].freezes)
            check_failed(w, "a domain is frozen before the one in front of it");
}

static void do_freeze(struct world *w, struct sim_node *n, struct sim_hold *h,
                      struct hold_event *he)
{
    unsigned d = h->domains[he->index];
    check_front(w, n, h, he->index);
    he->kind = HOLD_EV_FROZEN;
    he->ok = !take(&n->trouble.freezes);
    if (!he->ok)
        return;
    kernel_freeze(w, n, d, h->set);
    for (size_t i = 0; i < sizeof he->epoch.b; i++)
        he->epoch.b[i] = (uint8_t)rng_next(&w->rng);
    n->domains[d].pauses[h->set].epoch = he->epoch;
}

static void do_capture(struct world *w, struct sim_node *n, struct sim_hold *h,
                       struct hold_event *he)
{
    he->kind = HOLD_EV_CAPTURED;
    he->ok = !take(&n->trouble.captures);
    if (he->ok)
        kernel_snap(w, n, h->set, h->parts[he->index]);
}

/* What a hook paused, only the application can see. */
static bool still_frozen(const struct sim_node *n, const struct sim_hold *h, unsigned d)
{
    return sim_layout[n->index].kinds[d] == HOLD_HOOK ||
           (n->domains[d].frozen && n->domains[d].by == h->set);
}

static void do_publish(struct world *w, struct sim_node *n, const struct sim_hold *h,
                       unsigned index)
{
    note(w, "node %d: part %d of set %d gets its name", n->index, (int)h->parts[index],
         h->set);
    kernel_capture(n, h->set, h->parts[index])->published = true;
}

static void do_remove(struct world *w, struct sim_node *n, const struct sim_hold *h,
                      unsigned index)
{
    note(w, "node %d: part %d of set %d is removed", n->index, (int)h->parts[index],
         h->set);
    struct sim_capture *c = kernel_capture(n, h->set, h->parts[index]);
    if (c)
        c->exists = false;
}

static void on_result(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct sim_hold *h = find_hold(n, (int)ev->n);
    if (h)
        feed(w, n, h, ev->data);
}

/* All partitions can be armed, none, or all but the first. */
static const bool *arm_all(struct sim_node *n)
{
    static const bool yes[SIM_PARTS] = {true, true, true};
    static const bool but_first[SIM_PARTS] = {false, true, true};
    static const bool no[SIM_PARTS];
    if (take(&n->trouble.arms))
        return no;
    return take(&n->trouble.first_arms) ? but_first : yes;
}

/* The doer's call returns; the keeper hears of it when it runs. */
static void on_work_done(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    const struct work *work = ev->data;
    struct sim_hold *h = find_hold(n, work->set);
    assert(h);
    h->busy = false;
    struct hold_event he = {
        .ok = true, .index = work->index, .at_ns = clock_now(w, &n->clock) * 1000000};
    switch (work->act) {
    case HOLD_DO_ARM:
        he.kind = HOLD_EV_ARMED;
        he.member_ok = arm_all(n);
        break;
    case HOLD_DO_FREEZE:
        do_freeze(w, n, h, &he);
        break;
    case HOLD_DO_CAPTURE:
        do_capture(w, n, h, &he);
        break;
    case HOLD_DO_RECHECK:
        he.kind = HOLD_EV_RECHECKED;
        he.ok = still_frozen(n, h, h->domains[work->index]);
        break;
    case HOLD_DO_PUBLISH:
        he.kind = HOLD_EV_PUBLISHED;
        do_publish(w, n, h, work->index);
        break;
    case HOLD_DO_REMOVE:
        he.kind = HOLD_EV_REMOVED;
        do_remove(w, n, h, work->index);
        break;
    default:
        assert(!"not the doer's");
    }
    world_post(w, &n->keeper, 0, on_result, n, mem_dup(&he, sizeof he),
               (uint64_t)work->set);
}

static int64_t duration(struct world *w, struct sim_node *n, enum hold_act_kind act)
{
    int64_t jitter = below(w, 4);
    switch (act) {
    case HOLD_DO_CAPTURE:
        return n->trouble.capture_ms + jitter;
    case HOLD_DO_FREEZE:
        return n->trouble.freeze_ms + 5 * jitter;
    case HOLD_DO_ARM:
        return 20 + 5 * jitter;
    default:
        return 1 + jitter;
    }
}

static void give_work(struct world *w, struct sim_node *n, struct sim_hold *h,
                      const struct hold_act *a)
{
    if (a->kind == HOLD_DO_FREEZE)
        n->domains[h->domains[a->index]].named = true;
    if (!h->doer.alive)
        return; /* the request goes to a dead process; DOER_DIED is on its way */
    struct work work = {a->kind, a->index, h->set};
    h->busy = true;
    h->doing = a->kind;
    h->doing_index = a->index;
    world_post(w, &h->doer, duration(w, n, a->kind), on_work_done, n,
               mem_dup(&work, sizeof work), 0);
    if (w->on_guard)
        w->on_guard(w, n->index, a->kind);
}

static void on_doer_ready(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct sim_hold *h = find_hold(n, (int)ev->n);
    if (!h || h->doer.alive)
        return;
    h->doer.alive = true;
    feed(w, n, h, &(struct hold_event){.kind = HOLD_EV_DOER_READY});
}

static void on_doer_died(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct sim_hold *h = find_hold(n, (int)ev->n);
    if (!h)
        return;
    world_post(w, &n->keeper, 20, on_doer_ready, n, NULL, ev->n);
    feed(w, n, h, &(struct hold_event){.kind = HOLD_EV_DOER_DIED});
}

/* A freeze that was under way may have reached the kernel: nobody can tell. */
static void stop_doer(struct world *w, struct sim_node *n, struct sim_hold *h)
{
    bool freezing = h->busy && h->doing == HOLD_DO_FREEZE;
    h->busy = false;
    proc_kill(w, &h->doer);
    if (freezing && chance(w, 500))
        kernel_freeze(w, n, h->domains[h->doing_index], h->set);
}

static void kill_doer(struct world *w, struct sim_node *n, struct sim_hold *h)
{
    if (!h->doer.alive)
        return;
    stop_doer(w, n, h);
    if (n->keeper.alive)
        world_post(w, &n->keeper, 1, on_doer_died, n, NULL, (uint64_t)h->set);
}

void doers_kill(struct world *w, int node)
{
    struct sim_node *n = &w->nodes[node];
    note(w, "node %d: its doers are killed", node, 0, 0);
    for (int i = 0; i < SIM_HOLDS; i++)
        if (n->holds[i].used)
            kill_doer(w, n, &n->holds[i]);
}

/* ---- the keeper's answers ---- */

static void tell(struct world *w, struct sim_node *n, const struct session_event *ev)
{
    if (n->agent.alive)
        agent_guard_event(w, n, ev);
}

static void name_parts(const struct sim_node *n, const struct sim_hold *h,
                       struct session_part *parts)
{
    for (unsigned i = 0; i < h->n_parts; i++) {
        parts[i] = (struct session_part){
            .domain = n->domain_names[sim_layout[n->index].domain_of[h->parts[i]]]};
        snprintf(parts[i].part.text, sizeof parts[i].part.text, "db-%u", h->parts[i]);
    }
}

static void answer_arm(struct world *w, struct sim_node *n, struct sim_hold *h, bool ok)
{
    struct session_part parts[SIM_PARTS];
    AUTO(err) struct err *no = err_new(ERR_CONFLICT, "it cannot be armed");
    name_parts(n, h, parts);
    h->refused = 0;
    for (unsigned i = 0; i < h->n_parts; i++) {
        if (h->hold.members[i].sm.state != HOLD_M_LOST)
            continue;
        h->refused |= 1u << i;
        snprintf(parts[i].error, sizeof parts[i].error, "it cannot be armed");
    }
    struct session_event ev = {.kind = SESSION_EV_ARMED,
                               .parts = parts,
                               .n_parts = h->n_parts,
                               .err = ok ? NULL : no};
    sim_set_name(h->set, &ev.set);
    tell(w, n, &ev);
}

static void answer_freeze(struct world *w, struct sim_node *n, struct sim_hold *h,
                          bool ok)
{
    struct domain_epoch e[SIM_DOMAINS];
    enum hold_breach breach = h->hold.breach;
    size_t n_epochs = 0;
    for (unsigned i = 0; i < h->n_domains; i++) {
        const struct hold_domain *d = &h->hold.domains[i];
        if (!is_used(h, i) || wave_of(w, n, h, i) != h->wave)
            continue;
        e[n_epochs++] = (struct domain_epoch){n->domain_names[h->domains[i]], d->epoch};
        ok = ok && d->has_epoch && d->breach == HOLD_UNBROKEN;
        breach = d->breach ? d->breach : breach;
    }
    AUTO(err) struct err *no = err_new(ERR_CONFLICT, "%s", hold_breach_text(breach));
    struct session_event ev = {.kind = SESSION_EV_FROZEN,
                               .epochs = e,
                               .n_epochs = n_epochs,
                               .err = ok ? NULL : no};
    sim_set_name(h->set, &ev.set);
    tell(w, n, &ev);
}

static void answer_commit(struct world *w, struct sim_node *n, struct sim_hold *h,
                          bool ok)
{
    struct proof proofs[SIM_PARTS];
    struct session_part parts[SIM_PARTS];
    name_parts(n, h, parts);
    size_t n_proofs = 0;
    for (unsigned i = 0; i < h->n_parts; i++) {
        const struct hold_domain *d = &h->hold.domains[h->hold.members[i].domain];
        if (h->refused >> i & 1)
            continue;
        struct proof *proof = &proofs[n_proofs++];
        *proof = (struct proof){.part = parts[i].part,
                                .domain = parts[i].domain,
                                .epoch = d->epoch,
                                .frozen_at_ns = d->frozen_at_ns,
                                .captured_at_ns = h->hold.members[i].captured_at_ns,
                                .thawed_at_ns = d->thawed_at_ns,
                                .unbroken = true,
                                .evidence = EVIDENCE_KERNEL};
        snprintf(proof->boot_id, sizeof proof->boot_id, "boot-%d", n->boot);
        ok = ok && hold_member_is_kept(&h->hold, i);
    }
    AUTO(err) struct err *no = err_new(ERR_CONFLICT, "not every capture was kept");
    struct session_event ev = {.kind = SESSION_EV_COMMITTED,
                               .proofs = proofs,
                               .n_proofs = n_proofs,
                               .err = ok ? NULL : no};
    sim_set_name(h->set, &ev.set);
    tell(w, n, &ev);
}

static void answer_undo(struct world *w, struct sim_node *n, int set, bool ok)
{
    AUTO(err) struct err *no = err_new(ERR_CONFLICT, "the guardian says no");
    struct session_event ev = {.kind = SESSION_EV_UNDONE, .err = ok ? NULL : no};
    sim_set_name(set, &ev.set);
    tell(w, n, &ev);
}

static void answer(struct world *w, struct sim_node *n, struct sim_hold *h,
                   const struct hold_act *a)
{
    bool ok = a->verdict == HOLD_OK;
    switch ((enum hold_request)a->index) {
    case HOLD_REQ_ARM:
        answer_arm(w, n, h, ok);
        return;
    case HOLD_REQ_FREEZE:
        answer_freeze(w, n, h, ok);
        return;
    case HOLD_REQ_COMMIT:
        answer_commit(w, n, h, ok);
        return;
    case HOLD_REQ_ABORT:
        answer_undo(w, n, h->set, ok);
        return;
    }
}

/* ---- the keeper ---- */

struct thawed {
    int set;
    unsigned index;
    bool ok, was_frozen;
};

static void on_thawed(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    const struct thawed *t = ev->data;
    struct sim_hold *h = find_hold(n, t->set);
    if (h)
        feed(w, n, h,
             &(struct hold_event){.kind = HOLD_EV_THAWED,
                                  .index = t->index,
                                  .ok = t->ok,
                                  .was_frozen = t->was_frozen,
                                  .at_ns = clock_now(w, &n->clock) * 1000000});
}

static void do_thaw(struct world *w, struct sim_node *n, struct sim_hold *h,
                    unsigned index)
{
    unsigned d = h->domains[index];
    struct thawed t = {.set = h->set, .index = index, .ok = !take(&n->trouble.thaws)};
    if (t.ok) {
        t.was_frozen = kernel_thaw(w, n, d) || sim_layout[n->index].kinds[d] == HOLD_HOOK;
        n->domains[d].named = false;
    }
    world_post(w, &n->keeper, 0, on_thawed, n, mem_dup(&t, sizeof t), 0);
}

static void on_timer(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct sim_hold *h = find_hold(n, (int)ev->n);
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
            do_thaw(w, n, h, a->index);
            break;
        case HOLD_KILL_DOER:
            kill_doer(w, n, h);
            break;
        case HOLD_ANSWER:
            answer(w, n, h, a);
            break;
        default:
            give_work(w, n, h, a);
        }
    }
}

static void forget(struct world *w, struct sim_hold *h)
{
    h->used = false;
    proc_kill(w, &h->doer);
}

static void feed(struct world *w, struct sim_node *n, struct sim_hold *h,
                 struct hold_event *ev)
{
    struct hold_acts acts;
    int set = h->set;
    unsigned generation = n->keeper.generation;
    ev->now_ms = clock_now(w, &n->clock);
    hold_step(&h->hold, ev, &acts);
    hold_check(&h->hold);
    perform(w, n, h, &acts);
    if (generation != n->keeper.generation)
        return;
    h = find_hold(n, set);
    if (!h)
        return;
    if (hold_is_settled(&h->hold)) {
        forget(w, h);
        return;
    }
    int64_t at = hold_timer_ms(&h->hold);
    int64_t now_ms = clock_now(w, &n->clock);
    if (at != HOLD_NO_TIMER)
        world_post(w, &n->keeper, at > now_ms ? at - now_ms : 1, on_timer, n, NULL,
                   (uint64_t)set);
}

/* ---- requests of the agent ---- */

struct ask {
    enum session_act_kind what;
    int set;
    size_t wave;
    struct digest digest;
    struct epoch epochs[SIM_DOMAINS]; /* of the node's domains */
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
    struct session_event ev = {.kind = kinds[a->what], .err = no};
    sim_set_name(a->set, &ev.set);
    tell(w, n, &ev);
}

/* The set's domains in the node's order, and its partitions. */
static void lay_out(const struct world *w, const struct sim_node *n, struct sim_hold *h,
                    enum hold_kind *kinds, uint16_t *member_domains)
{
    const struct sim_layout *layout = &sim_layout[n->index];
    unsigned parts = w->sets[h->set].parts[n->index];
    unsigned domains = sim_domain_mask(n->index, parts);
    unsigned at[SIM_DOMAINS] = {0};
    h->n_domains = h->n_parts = 0;
    for (unsigned d = 0; d < layout->n_domains; d++) {
        if (!(domains >> d & 1))
            continue;
        at[d] = h->n_domains;
        kinds[h->n_domains] = layout->kinds[d];
        h->domains[h->n_domains++] = d;
    }
    for (unsigned p = 0; p < layout->n_parts; p++) {
        if (!(parts >> p & 1))
            continue;
        member_domains[h->n_parts] = (uint16_t)at[layout->domain_of[p]];
        h->parts[h->n_parts++] = p;
    }
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
    enum hold_kind kinds[SIM_DOMAINS];
    uint16_t member_domains[SIM_PARTS];
    struct hold_acts acts;
    h->used = true;
    h->set = a->set;
    h->doer.name = "doer";
    h->doer.alive = true;
    h->busy = false;
    h->refused = 0;
    lay_out(w, n, h, kinds, member_domains);
    hold_init(&h->hold, kinds, h->n_domains, member_domains, h->n_parts, &acts);
    perform(w, n, h, &acts);
}

static void feed_ask(struct world *w, struct sim_node *n, struct sim_hold *h,
                     const struct ask *a)
{
    struct hold_want wants[SIM_PARTS];
    unsigned n_wants = 0;
    for (unsigned i = 0; i < h->n_parts; i++)
        if (!(h->refused >> i & 1))
            wants[n_wants++] = (struct hold_want){
                (uint16_t)i, a->epochs[sim_layout[n->index].domain_of[h->parts[i]]]};
    bool domains[SIM_DOMAINS];
    for (unsigned i = 0; i < h->n_domains; i++)
        domains[i] = wave_of(w, n, h, i) == a->wave;
    if (a->what == SESSION_ACT_FREEZE)
        h->wave = a->wave;
    struct hold_event he = {.domains = domains,
                            .hold_ms = SIM_HOLD_MS,
                            .freeze_timeout_ms = SIM_FREEZE_TIMEOUT_MS,
                            .digest = a->digest,
                            .wants = wants,
                            .n_wants = n_wants};
    he.kind = a->what == SESSION_ACT_FREEZE   ? HOLD_EV_FREEZE
              : a->what == SESSION_ACT_COMMIT ? HOLD_EV_COMMIT
                                              : HOLD_EV_ABORT;
    feed(w, n, h, &he);
}

static void on_ask(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    const struct ask *a = ev->data;
    struct sim_hold *h = find_hold(n, a->set);
    if (a->what == SESSION_ACT_ARM) {
        arm(w, n, a);
    } else if (h) {
        feed_ask(w, n, h, a);
    } else if (a->what == SESSION_ACT_UNDO) {
        kernel_remove(w, n, a->set);
        answer_undo(w, n, a->set, true);
    } else {
        refuse(w, n, a);
    }
}

static void on_no_guard(struct world *w, struct event *ev)
{
    refuse(w, ev->owner, ev->data);
}

static void copy_epochs(const struct sim_node *n, const struct session *set,
                        struct ask *a)
{
    cut_digest(&set->set, set->all_epochs, set->n_all_epochs, &a->digest);
    for (size_t i = 0; i < set->n_epochs; i++)
        for (unsigned d = 0; d < SIM_DOMAINS; d++)
            if (strcmp(set->epochs[i].domain.text, n->domain_names[d].text) == 0)
                a->epochs[d] = set->epochs[i].epoch;
}

void guard_ask(struct world *w, struct sim_node *n, enum session_act_kind what,
               struct session *set)
{
    struct ask a = {.what = what, .set = sim_set_number(&set->set), .wave = set->wave};
    if (what == SESSION_ACT_COMMIT)
        copy_epochs(n, set, &a);
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
    n->keeper.alive = true;
    for (int i = 0; i < SIM_HOLDS; i++)
        forget(w, &n->holds[i]);
    for (unsigned d = 0; d < SIM_DOMAINS; d++) {
        if (n->domains[d].named)
            kernel_thaw(w, n, d); /* before anything else */
        n->domains[d].named = false;
    }
}

static void restart(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    if (!n->keeper.alive && w->gone != n->index)
        guard_start(w, n);
}

/* The doer's last act, when it sees its keeper die: it thaws what it was asked to freeze.
 */
static void on_orphaned(struct world *w, struct event *ev)
{
    kernel_thaw(w, ev->owner, (unsigned)ev->n);
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
    note(w, "node %d: the keeper is killed", node, 0, 0);
    proc_kill(w, &n->keeper);
    for (int i = 0; i < SIM_HOLDS; i++) {
        struct sim_hold *h = &n->holds[i];
        bool alive = h->used && h->doer.alive;
        if (alive)
            stop_doer(w, n, h);
        for (unsigned k = 0; h->used && k < h->n_domains; k++) {
            if (alive)
                world_post(w, NULL, 1, on_orphaned, n, NULL, h->domains[k]);
            else if (n->domains[h->domains[k]].frozen)
                n->domains[h->domains[k]].doomed = true;
        }
    }
    world_post(w, &n->agent, 1, on_guard_lost, n, NULL, 0);
    if (again)
        world_post(w, NULL, SIM_RESTART_MS, restart, n, NULL, 0);
}

static void stop_all_doers(struct world *w, struct sim_node *n)
{
    for (int i = 0; i < SIM_HOLDS; i++)
        if (n->holds[i].used && n->holds[i].doer.alive)
            stop_doer(w, n, &n->holds[i]);
}

void node_kill_all(struct world *w, int node)
{
    note(w, "node %d: every process is killed", node, 0, 0);
    stop_all_doers(w, &w->nodes[node]);
    keeper_kill(w, node, true);
    agent_kill(w, node, true);
}

static void boot(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    if (w->gone == n->index)
        return;
    if (!n->keeper.alive)
        guard_start(w, n);
    if (!n->agent.alive)
        agent_start(w, n);
}

void node_reboot(struct world *w, int node)
{
    struct sim_node *n = &w->nodes[node];
    note(w, "node %d: reboots", node, 0, 0);
    stop_all_doers(w, n);
    keeper_kill(w, node, false);
    agent_kill(w, node, false);
    for (unsigned d = 0; d < SIM_DOMAINS; d++) {
        kernel_thaw(w, n, d);
        n->domains[d].named = false;
    }
    n->boot++;
    world_post(w, NULL, SIM_REBOOT_MS, boot, n, NULL, 0);
}
