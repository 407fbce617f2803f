/* The coordinator's shell as a model: performs what lead and round ask for. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

static void on_etcd_lead(struct world *w, struct event *ev);
static void on_watch(struct world *w, struct event *ev);
static void on_lead_timer(struct world *w, struct event *ev);
static void try_lock(struct world *w, struct sim_coord *c, int set);

/* ---- leadership ---- */

static void begin_runs(struct world *w, struct sim_coord *c)
{
    for (int i = 0; i < w->n_sets; i++) {
        /* A set stored as PREPARING is taken over; one never stored is begun. */
        bool stored = w->etcd.sets[i].state == SIM_PREPARING;
        bool fresh = w->etcd.sets[i].state == SIM_ABSENT && (c->wanted >> i & 1);
        if ((stored || fresh) && !c->runs[i].active)
            try_lock(w, c, i);
    }
}

static void end_run(struct sim_run *r)
{
    if (r->started) {
        round_fini(&r->round);
        round_acts_fini(&r->acts);
    }
    *r = (struct sim_run){0};
}

static void step_down(struct sim_coord *c)
{
    for (int i = 0; i < SIM_SETS; i++)
        end_run(&c->runs[i]);
}

static void perform_lead(struct world *w, struct sim_coord *c,
                         const struct lead_acts *acts)
{
    for (int i = 0; i < acts->n; i++) {
        const struct lead_act *a = &acts->items[i];
        struct etcd_request r = {.lease = a->lease};
        switch (a->kind) {
        case LEAD_ACT_GRANT:
            r.op = ETCD_GRANT;
            etcd_send(w, &c->proc, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_CAMPAIGN:
            r.op = ETCD_CAMPAIGN;
            etcd_send(w, &c->proc, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_KEEPALIVE:
            r.op = ETCD_KEEPALIVE;
            etcd_send(w, &c->proc, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_REVOKE:
            r.op = ETCD_REVOKE;
            etcd_send(w, &c->proc, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_LEADS:
            c->leader_revision = c->lead.revision;
            begin_runs(w, c);
            break;
        case LEAD_ACT_STEPS_DOWN:
            step_down(c);
            break;
        case LEAD_ACT_TIMER:
            world_post(w, &c->proc, a->at_ms > w->now_ms ? a->at_ms - w->now_ms : 0,
                       on_lead_timer, c, NULL, 0);
            break;
        }
    }
}

static void feed_lead(struct world *w, struct sim_coord *c, struct lead_event *ev)
{
    struct lead_acts acts;
    ev->now_ms = w->now_ms;
    lead_step(&c->lead, ev, &acts);
    assert(!lead_is_leading(&c->lead) || w->now_ms < c->lead.trusted_until_ms);
    perform_lead(w, c, &acts);
}

static void on_lead_timer(struct world *w, struct event *ev)
{
    feed_lead(w, ev->owner, &(struct lead_event){.kind = LEAD_EV_TIMER});
}

static void on_etcd_lead(struct world *w, struct event *ev)
{
    struct etcd_request *r = ev->data;
    struct sim_coord *c = ev->owner;
    struct lead_event le = {.ok = r->ok, .sent_ms = r->sent_ms, .lease = r->lease};
    if (r->op == ETCD_GRANT) {
        le.kind = LEAD_EV_GRANTED;
        le.lease = r->result;
        le.ttl_ms = LEAD_TTL_MS;
    } else if (r->op == ETCD_CAMPAIGN) {
        le.kind = LEAD_EV_CAMPAIGNED;
        le.won = r->success;
        le.revision = r->result;
    } else if (r->op == ETCD_KEEPALIVE) {
        le.kind = LEAD_EV_KEPT;
        le.ttl_ms = r->success ? LEAD_TTL_MS : 0;
    } else {
        return;
    }
    feed_lead(w, c, &le);
}

/* The watch on the leader key: polls from a revision, re-lists when that was compacted.
 */
static void start_watch(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct etcd_request r = {.op = ETCD_WATCH_LEADER, .revision = c->watch_revision};
    etcd_send(w, &c->proc, c, &r, on_watch);
}

static void on_watch(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct etcd_request *r = ev->data;
    if (r->ok) {
        c->watch_revision = r->result + 1;
        if (r->success)
            feed_lead(w, c, &(struct lead_event){.kind = LEAD_EV_LEADER_GONE});
    }
    world_post(w, &c->proc, 300, start_watch, c, NULL, 0);
}

/* ---- a round ---- */

static void feed_round(struct world *w, struct sim_coord *c, struct sim_run *run,
                       struct round_event *ev);

static struct sim_run *run_of(struct sim_coord *c, int set)
{
    struct sim_run *r = &c->runs[set];
    return r->active ? r : NULL;
}

static void on_call_timeout(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    AUTO(err) struct err *e = err_new(ERR_TIMEOUT, "no answer in time");
    coord_reply(w, c->index, ev->n, *(int *)ev->data, e, NULL);
}

static void deliver(struct world *w, struct event *ev)
{
    agent_request(w, ev);
}

static void send_call(struct world *w, struct sim_coord *c, struct sim_run *run,
                      const struct round_act *a)
{
    assert(run->n_calls < SIM_CALLS);
    uint64_t id = w->next_call++;
    run->calls[run->n_calls++] = (struct sim_call){id, a->call, a->node, false};
    struct agent_request req = {
        .call = a->call, .id = id, .coord = c->index, .set = run->set};
    req.token = run->round.conf.token;
    req.cut_unix_ms = run->round.cut_unix_ms;
    assert(run->round.n_epochs <= SIM_NODES);
    req.n_epochs = run->round.n_epochs;
    if (req.n_epochs > 0) /* before a Commit there are none, and no array */
        memcpy(req.epochs, run->round.epochs, req.n_epochs * sizeof req.epochs[0]);
    world_post(w, &c->proc, SIM_CALL_TIMEOUT_MS, on_call_timeout, c,
               mem_dup(&run->set, sizeof run->set), id);
    int copies = chance(w, w->faults.double_permille) ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        if (w->cut[c->index][a->node] || chance(w, w->faults.lose_permille))
            continue;
        int64_t delay = 1 + (int64_t)rng_below(&w->rng, 5);
        if (i > 0 || chance(w, w->faults.late_permille))
            delay += (int64_t)rng_below(&w->rng, 8 * SEC);
        world_post(w, NULL, delay, deliver, &w->nodes[a->node], mem_dup(&req, sizeof req),
                   0);
    }
}

static void on_stored(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct etcd_request *r = ev->data;
    struct sim_run *run = run_of(c, r->set);
    if (!run || !run->started || run->lock != r->lock)
        return;
    struct round_event re = {.kind = ROUND_EV_STORED};
    re.stored = !r->ok ? STORED_UNKNOWN : r->success ? STORED_OK : STORED_CONFLICT;
    if (r->ok && r->success)
        run->mod_revision = r->result;
    feed_round(w, c, run, &re);
}

static enum round_found found_of(struct sim_run *run, const struct etcd_request *r)
{
    if (!r->ok)
        return FOUND_NO_IDEA;
    if (r->record.state == SIM_CAPTURED)
        return FOUND_CAPTURED;
    if (r->record.state == SIM_ABORTED)
        return FOUND_ABORTED;
    if (!r->success)
        return FOUND_LOST;
    run->mod_revision = r->record.key.mod_revision;
    return r->record.state == SIM_PREPARING ? FOUND_PREPARING : FOUND_NOTHING;
}

static void on_read(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct etcd_request *r = ev->data;
    struct sim_run *run = run_of(c, r->set);
    if (!run || !run->started || run->lock != r->lock)
        return;
    struct round_event re = {.kind = ROUND_EV_READ, .found = found_of(run, r)};
    feed_round(w, c, run, &re);
}

static void send_store(struct world *w, struct sim_coord *c, struct sim_run *run,
                       enum etcd_op op)
{
    struct etcd_request r = {
        .op = op, .set = run->set, .lock = run->lock, .mod_revision = run->mod_revision};
    hash_bytes(run->round.proofs, run->round.n_proofs * sizeof *run->round.proofs,
               &r.proofs);
    etcd_send(w, &c->proc, c, &r, op == ETCD_READ ? on_read : on_stored);
}

/* Unlocking is repeated until it is known to be done or the lock is another's. */
static void on_unlocked(struct world *w, struct event *ev)
{
    const struct etcd_request *r = ev->data;
    struct sim_coord *c = ev->owner;
    if (!r->ok)
        etcd_send(w, &c->proc, c, r, on_unlocked);
}

static void on_round_timer(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct sim_run *run = run_of(c, (int)ev->n);
    if (run && run->started)
        feed_round(w, c, run, &(struct round_event){.kind = ROUND_EV_TIMER});
}

static void perform_round(struct world *w, struct sim_coord *c, struct sim_run *run)
{
    bool finished = false;
    for (size_t i = 0; i < run->acts.n; i++) {
        const struct round_act *a = &run->acts.items[i];
        switch (a->kind) {
        case ROUND_ACT_CALL:
            send_call(w, c, run, a);
            break;
        case ROUND_ACT_STORE_OPEN:
            send_store(w, c, run, ETCD_OPEN);
            break;
        case ROUND_ACT_STORE_CAPTURED:
            send_store(w, c, run, ETCD_CAPTURE);
            break;
        case ROUND_ACT_STORE_ABORTED:
            send_store(w, c, run, ETCD_ABORT);
            break;
        case ROUND_ACT_READ_BACK:
            send_store(w, c, run, ETCD_READ);
            break;
        case ROUND_ACT_TIMER:
            world_post(w, &c->proc, a->at_ms > w->now_ms ? a->at_ms - w->now_ms : 0,
                       on_round_timer, c, NULL, (uint64_t)run->set);
            break;
        case ROUND_ACT_FINISHED:
            finished = true;
            break;
        }
    }
    if (!finished)
        return;
    struct etcd_request r = {.op = ETCD_UNLOCK, .lock = run->lock};
    if (run->round.sm.state != ROUND_LOST)
        etcd_send(w, &c->proc, c, &r, on_unlocked);
    end_run(run);
}

static void feed_round(struct world *w, struct sim_coord *c, struct sim_run *run,
                       struct round_event *ev)
{
    int was = run->round.sm.state;
    ev->now_ms = w->now_ms;
    ev->unix_ms = w->now_ms;
    round_step(&run->round, ev, &run->acts);
    int is = run->round.sm.state;
    unsigned generation = c->proc.generation;
    perform_round(w, c, run);
    if (is != was && w->on_round && generation == c->proc.generation)
        w->on_round(w, c->index, is);
}

static void start_round(struct world *w, struct sim_coord *c, struct sim_run *run)
{
    struct round_conf conf = {.prepare_timeout_ms = SIM_PREPARE_TIMEOUT_MS,
                              .freeze_timeout_ms = SIM_FREEZE_TIMEOUT_MS,
                              .hold_limit_ms = SIM_HOLD_MS,
                              .n_parts = SIM_NODES,
                              .n_nodes = SIM_NODES};
    sim_set_name(run->set, &conf.set);
    conf.token.incarnation[0] = 1;
    conf.token.revision = run->lock;
    round_init(&run->round, &conf);
    round_acts_init(&run->acts);
    run->started = true;
    struct round_event ev = {.kind = run->recovering ? ROUND_EV_RECOVER : ROUND_EV_START};
    feed_round(w, c, run, &ev);
}

/* Reads the record under the lock: only now is it certain whether to begin or to recover.
 */
static void on_first_read(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct etcd_request *r = ev->data;
    struct sim_run *run = run_of(c, r->set);
    if (!run || run->started || run->lock != r->lock)
        return;
    if (!r->ok) {
        etcd_send(w, &c->proc, c, r, on_first_read);
        return;
    }
    enum sim_set_state state = r->record.state;
    if (!r->success || state == SIM_CAPTURED || state == SIM_ABORTED) {
        struct etcd_request u = {.op = ETCD_UNLOCK, .lock = run->lock};
        etcd_send(w, &c->proc, c, &u, on_unlocked);
        end_run(run);
        return;
    }
    run->recovering = state == SIM_PREPARING;
    run->mod_revision = r->record.key.mod_revision;
    start_round(w, c, run);
}

static void retry_lock(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    if (lead_is_leading(&c->lead) && !c->runs[ev->n].active)
        try_lock(w, c, (int)ev->n);
}

static void on_locked(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct etcd_request *r = ev->data;
    struct sim_run *run = run_of(c, r->set);
    if (!run || run->locked || !lead_is_leading(&c->lead))
        return;
    if (!r->ok || !r->success) {
        /* Taken by another run, or by the dead leader's lease; or unknown, and then our
         * own lock may stand in the way until the lease ends: the product reads back. */
        end_run(run);
        world_post(w, &c->proc, 700, retry_lock, c, NULL, (uint64_t)r->set);
        return;
    }
    run->locked = true;
    run->lock = r->result;
    struct etcd_request read = {.op = ETCD_READ, .set = r->set, .lock = run->lock};
    etcd_send(w, &c->proc, c, &read, on_first_read);
}

static void try_lock(struct world *w, struct sim_coord *c, int set)
{
    c->runs[set] = (struct sim_run){.set = set, .active = true};
    struct etcd_request r = {.op = ETCD_LOCK,
                             .set = set,
                             .lease = c->lead.lease,
                             .leader = c->leader_revision};
    etcd_send(w, &c->proc, c, &r, on_locked);
}

/* A lock under our own lease that no run of ours holds or asks for: its grant came so
 * late that nobody expected it any more. */
static void sweep_locks(struct world *w, struct sim_coord *c)
{
    const struct sim_key *lock = &w->etcd.group_lock;
    if (!lock->exists || lock->lease != c->lead.lease)
        return;
    for (int i = 0; i < SIM_SETS; i++)
        if (c->runs[i].active)
            return;
    struct etcd_request u = {.op = ETCD_UNLOCK, .lock = lock->create_revision};
    etcd_send(w, &c->proc, c, &u, on_unlocked);
}

/* Looks for work while leading: sets asked for since, sets whose lock was taken. */
static void on_work(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    if (lead_is_leading(&c->lead)) {
        sweep_locks(w, c);
        begin_runs(w, c);
    }
    world_post(w, &c->proc, 1000, on_work, c, NULL, 0);
}

/* ---- answers ---- */

static enum session_view view_of(const struct session *s)
{
    if (!s)
        return VIEW_UNKNOWN;
    if (s->sm.state == SESSION_CAPTURED)
        return VIEW_CAPTURED;
    if (s->sm.state == SESSION_ABORTED || s->sm.state == SESSION_ABORTING)
        return VIEW_ABORTED;
    return s->sm.state >= SESSION_FROZEN ? VIEW_FROZEN : VIEW_PREPARED;
}

void coord_reply(struct world *w, int coord, uint64_t call, int set, const struct err *e,
                 const struct session *s)
{
    struct sim_coord *c = &w->coords[coord];
    struct sim_run *run = run_of(c, set);
    if (!run || !run->started)
        return;
    for (size_t i = 0; i < run->n_calls; i++) {
        struct sim_call *k = &run->calls[i];
        if (k->id != call || k->answered)
            continue;
        k->answered = true;
        struct round_event ev = {
            .kind = ROUND_EV_REPLY, .node = k->node, .call = k->call, .err = e};
        if (s) {
            bool inspect = k->call == CALL_INSPECT;
            ev.epochs = inspect ? s->all_epochs : s->epochs;
            ev.n_epochs = inspect ? s->n_all_epochs : s->n_epochs;
            ev.proofs = s->proofs;
            ev.n_proofs = s->n_proofs;
            ev.view = view_of(s);
        }
        feed_round(w, c, run, &ev);
        return;
    }
}

enum sim_set_state coord_verdict(struct world *w, int node, int set)
{
    for (int i = 0; i < SIM_COORDS; i++) {
        struct sim_coord *c = &w->coords[i];
        if (!c->proc.alive || c->proc.paused || w->cut[i][node] ||
            !lead_is_leading(&c->lead))
            continue;
        return w->etcd.sets[set].state;
    }
    return SIM_ABSENT;
}

/* ---- life ---- */

void coord_start(struct world *w, struct sim_coord *c)
{
    c->proc.name = "coordinator";
    c->proc.alive = true;
    c->watch_revision = w->etcd.revision;
    lead_init(&c->lead);
    feed_lead(w, c, &(struct lead_event){.kind = LEAD_EV_START});
    world_post(w, &c->proc, 300, start_watch, c, NULL, 0);
    world_post(w, &c->proc, 1000, on_work, c, NULL, 0);
}

static void restart(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    if (!c->proc.alive)
        coord_start(w, c);
}

void coord_kill(struct world *w, int coord, bool again)
{
    struct sim_coord *c = &w->coords[coord];
    proc_kill(w, &c->proc);
    step_down(c);
    lead_init(&c->lead);
    if (again)
        world_post(w, NULL, SIM_RESTART_MS, restart, c, NULL, 0);
}
