/* The coordinator's shell as a model: locks and rounds. */
#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

void run_end(struct sim_run *r)
{
    if (r->started) {
        round_fini(&r->round);
        round_acts_fini(&r->acts);
    }
    *r = (struct sim_run){0};
}

struct sim_run *run_of(struct sim_coord *c, int set)
{
    struct sim_run *r = &c->runs[set];
    return r->active ? r : NULL;
}

/* ---- a round ---- */

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

/* A coordinator with a fault: one of the epochs it names is not what it was told. */
static void garble(struct world *w, struct agent_request *r)
{
    size_t i = (size_t)below(w, (int64_t)r->n_epochs);
    r->epochs[i].epoch.b[0] ^= 0x55;
    note(w, "the commit of set %d names a wrong epoch", r->set, 0, 0);
}

static void fill(struct world *w, struct sim_run *run, struct agent_request *req)
{
    req->token = run->round.conf.token;
    if (req->call != CALL_COMMIT)
        return;
    check_may_commit(w, run);
    req->cut_unix_ms = run->round.cut_unix_ms;
    req->n_epochs = run->round.n_epochs;
    assert(req->n_epochs > 0 && req->n_epochs <= SIM_NODES * SIM_DOMAINS);
    memcpy(req->epochs, run->round.epochs, req->n_epochs * sizeof req->epochs[0]);
    if (chance(w, w->faults.garble_permille))
        garble(w, req);
}

static void forget_answered(struct sim_run *run)
{
    size_t kept = 0;
    for (size_t i = 0; i < run->n_calls; i++)
        if (!run->calls[i].answered)
            run->calls[kept++] = run->calls[i];
    run->n_calls = kept;
    assert(run->n_calls < SIM_CALLS);
}

static void send_call(struct world *w, struct sim_coord *c, struct sim_run *run,
                      const struct round_act *a)
{
    forget_answered(run);
    int node = run->nodes[a->node];
    uint64_t id = w->next_call++;
    run->calls[run->n_calls++] = (struct sim_call){id, a->call, a->node, a->wave, false};
    struct agent_request req = {
        .call = a->call, .id = id, .coord = c->index, .set = run->set, .wave = a->wave};
    fill(w, run, &req);
    if (a->call == CALL_ABORT)
        run->ended |= 1u << a->node;
    if (a->call == CALL_FREEZE)
        check_may_freeze(w, run, a->wave);
    world_post(w, &c->proc, SIM_CALL_TIMEOUT_MS, on_call_timeout, c,
               mem_dup(&run->set, sizeof run->set), id);
    int copies = chance(w, w->faults.double_permille) ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        if (w->cut_to[c->index][node] || chance(w, w->faults.lose_permille))
            continue;
        int64_t delay = 1 + below(w, 5);
        if (i > 0 || chance(w, w->faults.late_permille))
            delay += below(w, 8 * SEC);
        world_post(w, NULL, delay, deliver, &w->nodes[node], mem_dup(&req, sizeof req),
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
    run_feed(w, c, run, &re);
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
    run_feed(w, c, run, &re);
}

static void send_store(struct world *w, struct sim_coord *c, struct sim_run *run,
                       enum etcd_op op)
{
    if (w->sets[run->set].rehearsal)
        check_failed(w, "a rehearsal is recorded");
    struct etcd_request r = {
        .op = op, .set = run->set, .lock = run->lock, .mod_revision = run->mod_revision};
    hash_bytes(run->round.proofs, run->round.n_proofs * sizeof *run->round.proofs,
               &r.proofs);
    proved_parts(&run->round, r.parts);
    r.true_proofs = op == ETCD_CAPTURE && check_proofs(w, run->set, &run->round);
    etcd_send(w, c, &r, op == ETCD_READ ? on_read : on_stored);
}

/* Unlocking is repeated until it is known to be done or the lock is another's. */
static void on_unlocked(struct world *w, struct event *ev)
{
    const struct etcd_request *r = ev->data;
    struct sim_coord *c = ev->owner;
    if (!r->ok)
        etcd_send(w, c, r, on_unlocked);
}

void run_unlock(struct world *w, struct sim_coord *c, int64_t lock)
{
    struct etcd_request r = {.op = ETCD_UNLOCK, .lock = lock};
    etcd_send(w, c, &r, on_unlocked);
}

static void on_round_timer(struct world *w, struct event *ev)
{
    struct sim_coord *c = ev->owner;
    struct sim_run *run = run_of(c, (int)ev->n);
    if (run && run->started)
        run_feed(w, c, run, &(struct round_event){.kind = ROUND_EV_TIMER});
}

/* How long until the coordinator's clock shows at_ms; sooner if it stalls meanwhile. */
static int64_t until(const struct world *w, const struct sim_coord *c, int64_t at_ms)
{
    int64_t now_ms = clock_now(w, &c->clock);
    return at_ms > now_ms ? at_ms - now_ms : 1;
}

static void perform_round(struct world *w, struct sim_coord *c, struct sim_run *run)
{
    bool finished = false;
    for (size_t i = 0; i < run->acts.n; i++) {
        const struct round_act *a = &run->acts.items[i];
        check_left_out(w, run, a);
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
            world_post(w, &c->proc, until(w, c, a->at_ms), on_round_timer, c, NULL,
                       (uint64_t)run->set);
            break;
        case ROUND_ACT_FINISHED:
            finished = true;
            break;
        }
    }
    if (!finished)
        return;
    check_rehearsed(w, run);
    if (run->round.sm.state != ROUND_LOST)
        run_unlock(w, c, run->lock);
    run_end(run);
}

void run_feed(struct world *w, struct sim_coord *c, struct sim_run *run,
              struct round_event *ev)
{
    int was = run->round.sm.state;
    ev->now_ms = clock_now(w, &c->clock);
    ev->unix_ms = w->now_ms;
    round_step(&run->round, ev, &run->acts);
    for (size_t i = 0; i < run->round.conf.n_nodes; i++)
        run->left_out |= (unsigned)run->round.nodes[i].out << i;
    int is = run->round.sm.state;
    if (is != was)
        note(w, "coordinator %d: round of set %d enters state %d", c->index, run->set,
             is);
    unsigned generation = c->proc.generation;
    perform_round(w, c, run);
    if (is != was && w->on_round && generation == c->proc.generation)
        w->on_round(w, c->index, is);
}

/* Those that these partitions of a node are in, as bits. */
static uint16_t waves_of(const struct sim_plan *plan, int node, unsigned parts)
{
    unsigned domains = sim_domain_mask(node, parts), waves = 0;
    for (int d = 0; d < SIM_DOMAINS; d++)
        waves |= (domains >> d & 1) << plan->waves[node][d];
    return (uint16_t)waves;
}

static void start_round(struct world *w, struct sim_coord *c, struct sim_run *run)
{
    struct round_conf conf = {.prepare_timeout_ms = SIM_PREPARE_TIMEOUT_MS,
                              .freeze_timeout_ms = SIM_FREEZE_TIMEOUT_MS,
                              .hold_limit_ms = SIM_HOLD_MS};
    const struct sim_plan *plan = &w->sets[run->set];
    uint16_t waves[SIM_NODES];
    bool required[SIM_NODES];
    conf.relaxed = plan->relaxed;
    conf.rehearsal = plan->rehearsal;
    conf.n_waves = plan->n_waves;
    conf.waves = waves;
    conf.required = required;
    for (int i = 0; i < SIM_NODES; i++) {
        conf.n_parts += (size_t)__builtin_popcount(plan->parts[i]);
        if (!plan->parts[i])
            continue;
        waves[conf.n_nodes] = waves_of(plan, i, plan->parts[i]);
        required[conf.n_nodes] = plan->required[i];
        run->nodes[conf.n_nodes++] = i;
    }
    sim_set_name(run->set, &conf.set);
    conf.token.incarnation[0] = 1;
    conf.token.revision = run->lock;
    round_init(&run->round, &conf);
    round_acts_init(&run->acts);
    run->started = true;
    struct round_event ev = {.kind = run->recovering ? ROUND_EV_RECOVER : ROUND_EV_START};
    run_feed(w, c, run, &ev);
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
        etcd_send(w, c, r, on_first_read);
        return;
    }
    enum sim_set_state state = r->record.state;
    if (!r->success || state == SIM_CAPTURED || state == SIM_ABORTED) {
        run_unlock(w, c, run->lock);
        run_end(run);
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
        run_try_lock(w, c, (int)ev->n);
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
        run_end(run);
        if (!w->sets[r->set].rehearsal) /* those are refused, and that is the end */
            world_post(w, &c->proc, 700, retry_lock, c, NULL, (uint64_t)r->set);
        return;
    }
    run->locked = true;
    run->lock = r->result;
    if (w->sets[r->set].rehearsal) {
        start_round(w, c, run);
        return;
    }
    struct etcd_request read = {.op = ETCD_READ, .set = r->set, .lock = run->lock};
    etcd_send(w, c, &read, on_first_read);
}

void run_try_lock(struct world *w, struct sim_coord *c, int set)
{
    c->runs[set] = (struct sim_run){.set = set, .active = true};
    w->rehearsed[set] = w->sets[set].rehearsal;
    struct etcd_request r = {.op = ETCD_LOCK,
                             .set = set,
                             .lease = c->lead.lease,
                             .leader = c->leader_revision};
    etcd_send(w, c, &r, on_locked);
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

static size_t of_wave(const struct session *s, size_t wave, struct domain_epoch *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_epochs; i++)
        if (session_is_in_wave(s, &s->epochs[i], wave))
            out[n++] = s->epochs[i];
    return n;
}

static uint16_t refused_waves(const struct session *s)
{
    unsigned waves = 0;
    for (size_t i = 0; i < s->n_refused; i++)
        waves |= 1u << s->refused[i].wave;
    for (size_t i = 0; i < s->n_parts; i++)
        waves &= ~(1u << s->parts[i].wave);
    return (uint16_t)waves;
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
        if (k->call == CALL_ABORT && !e)
            run->told |= 1u << k->node;
        struct domain_epoch epochs[SIM_DOMAINS];
        struct round_event ev = {.kind = ROUND_EV_REPLY,
                                 .node = k->node,
                                 .call = k->call,
                                 .wave = k->wave,
                                 .err = e};
        if (s) {
            bool inspect = k->call == CALL_INSPECT;
            ev.epochs = inspect ? s->all_epochs : epochs;
            ev.n_epochs = inspect ? s->n_all_epochs : of_wave(s, k->wave, epochs);
            if (k->call == CALL_PREPARE)
                ev.refused_waves = refused_waves(s);
            ev.proofs = s->proofs;
            ev.n_proofs = s->n_proofs;
            ev.view = view_of(s);
        }
        run_feed(w, c, run, &ev);
        return;
    }
}
