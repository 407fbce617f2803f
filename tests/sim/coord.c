/* The coordinator's shell as a model: leadership, looking for work, life. */
#include <assert.h>

#include "tests/sim/world.h"

static void on_etcd_lead(struct world *w, struct event *ev);
static void on_watch(struct world *w, struct event *ev);
static void on_lead_timer(struct world *w, struct event *ev);

/* ---- leadership ---- */

/* A set stored as PREPARING is taken over; one never stored is begun. */
static void begin_runs(struct world *w, struct sim_coord *c)
{
    for (int i = 0; i < w->n_sets; i++)
        if (w->etcd.sets[i].state <= SIM_PREPARING && !c->runs[i].active &&
            !w->rehearsed[i])
            run_try_lock(w, c, i);
}

static void step_down(struct sim_coord *c)
{
    for (int i = 0; i < SIM_SETS; i++)
        run_end(&c->runs[i]);
}

/* How long until the coordinator's clock shows at_ms; sooner if it stalls meanwhile. */
static int64_t until(const struct world *w, const struct sim_coord *c, int64_t at_ms)
{
    int64_t now_ms = clock_now(w, &c->clock);
    return at_ms > now_ms ? at_ms - now_ms : 1;
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
            etcd_send(w, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_CAMPAIGN:
            r.op = ETCD_CAMPAIGN;
            etcd_send(w, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_KEEPALIVE:
            r.op = ETCD_KEEPALIVE;
            etcd_send(w, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_REVOKE:
            r.op = ETCD_REVOKE;
            etcd_send(w, c, &r, on_etcd_lead);
            break;
        case LEAD_ACT_LEADS:
            c->leader_revision = c->lead.revision;
            note(w, "coordinator %d leads", c->index, 0, 0);
            begin_runs(w, c);
            break;
        case LEAD_ACT_STEPS_DOWN:
            note(w, "coordinator %d steps down", c->index, 0, 0);
            step_down(c);
            break;
        case LEAD_ACT_TIMER:
            world_post(w, &c->proc, until(w, c, a->at_ms), on_lead_timer, c, NULL, 0);
            break;
        }
    }
}

static void feed_lead(struct world *w, struct sim_coord *c, struct lead_event *ev)
{
    struct lead_acts acts;
    ev->now_ms = clock_now(w, &c->clock);
    lead_step(&c->lead, ev, &acts);
    assert(!lead_is_leading(&c->lead) || ev->now_ms < c->lead.trusted_until_ms);
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

/* The watch on the leader key: polls from a revision, lists again if that is compacted.
 */
static void start_watch(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct etcd_request r = {.op = ETCD_WATCH_LEADER, .revision = c->watch_revision};
    etcd_send(w, c, &r, on_watch);
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

/* A lock under our own lease that no run of ours holds or asks for: its grant came so
 * late that nobody expected it any more. */
static void sweep_locks(struct world *w, struct sim_coord *c)
{
    for (int g = 0; g < SIM_GROUPS; g++) {
        const struct sim_key *lock = &w->etcd.group_locks[g];
        bool ours = lock->exists && lock->lease == c->lead.lease;
        for (int i = 0; ours && i < SIM_SETS; i++)
            if (c->runs[i].active && w->sets[i].group == g)
                ours = false;
        if (ours)
            run_unlock(w, c, lock->create_revision);
    }
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

enum sim_set_state coord_verdict(struct world *w, int node, int set)
{
    for (int i = 0; i < SIM_COORDS; i++) {
        struct sim_coord *c = &w->coords[i];
        if (c->proc.alive && !c->proc.paused && !w->cut_from[i][node] &&
            lead_is_leading(&c->lead)) {
            const struct sim_record *r = &w->etcd.sets[set];
            if (w->sets[set].rehearsal)
                return run_of(c, set) ? SIM_PREPARING : SIM_ABORTED;
            bool left_out = r->state == SIM_CAPTURED && !r->parts[node];
            return left_out ? SIM_ABORTED : r->state;
        }
    }
    return SIM_ABSENT;
}

void coord_cancel(struct world *w, int set)
{
    for (int i = 0; i < SIM_COORDS; i++) {
        struct sim_coord *c = &w->coords[i];
        struct sim_run *run = run_of(c, set);
        if (!c->proc.alive || c->proc.paused || !run || !run->started)
            continue;
        note(w, "set %d is cancelled", set, 0, 0);
        run_feed(w, c, run,
                 &(struct round_event){.kind = ROUND_EV_CANCEL, .reason = "cancelled"});
        return;
    }
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
    note(w, "coordinator %d is killed", coord, 0, 0);
    proc_kill(w, &c->proc);
    step_down(c);
    lead_init(&c->lead);
    if (again)
        world_post(w, NULL, SIM_RESTART_MS, restart, c, NULL, 0);
}

void coord_pause(struct world *w, int coord, bool paused)
{
    note(w, "coordinator %d is paused (%d)", coord, paused, 0);
    proc_pause(w, &w->coords[coord].proc, paused);
}
