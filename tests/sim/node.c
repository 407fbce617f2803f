/* The agent's shell as a model: performs what its sessions ask for, journals with a
 * delay, and comes back after a crash with what was durable. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

static void perform(struct world *w, struct sim_node *n, struct session_acts *acts);

static void feed(struct world *w, struct sim_node *n, struct session_event *ev)
{
    struct session_acts acts;
    session_acts_init(&acts);
    sessions_step(&n->sessions, ev, &acts);
    perform(w, n, &acts);
    session_acts_fini(&acts);
}

void agent_guard_event(struct world *w, struct sim_node *n, struct session_event *ev)
{
    feed(w, n, ev);
}

/* ---- the journal ---- */

static struct session *copy_of(const struct session *s)
{
    struct session *c = mem_dup(s, sizeof *s);
    c->parts = mem_dup(s->parts, s->n_parts * sizeof *s->parts);
    c->epochs = mem_dup(s->epochs, s->n_epochs * sizeof *s->epochs);
    c->all_epochs = mem_dup(s->all_epochs, s->n_all_epochs * sizeof *s->all_epochs);
    c->proofs = mem_dup(s->proofs, s->n_proofs * sizeof *s->proofs);
    c->call = 0;
    c->journal_seq = 0;
    return c;
}

static void copy_all(const struct sessions *from, struct sessions *to)
{
    sessions_fini(to);
    *to = *from;
    for (size_t i = 0; i < from->n_sets; i++)
        to->sets[i] = copy_of(from->sets[i]);
}

struct write {
    struct sessions *image;
    int64_t seq;
};

static void drop_write(void *data)
{
    struct write *wr = data;
    sessions_fini(wr->image);
    free(wr->image);
}

static void on_written(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct write *wr = ev->data;
    copy_all(wr->image, &n->durable);
    drop_write(wr);
    /* The rename is atomic; the process may have died in between, and then nobody is
     * told. */
    if (ev->n != n->agent.generation)
        return;
    feed(w, n, &(struct session_event){.kind = SESSION_EV_JOURNALED, .seq = wr->seq});
}

static void journal(struct world *w, struct sim_node *n, int64_t seq)
{
    struct write wr = {mem_zalloc(sizeof *wr.image), seq};
    copy_all(&n->sessions, wr.image);
    world_post_owner(w, 2, on_written, n, mem_dup(&wr, sizeof wr), n->agent.generation,
                     drop_write);
}

/* ---- answers ---- */

struct answer {
    int coord;
    uint64_t id;
    int set;
    struct err *err;
    struct session *copy; /* NULL with an error */
};

/* The call's id carries its coordinator in the low bit. */
static uint64_t tag(int coord, uint64_t id)
{
    return id << 1 | (uint64_t)coord;
}

static void drop_answer(void *data)
{
    struct answer *a = data;
    err_free(a->err);
    session_free(a->copy);
}

static void on_answer(struct world *w, struct event *ev)
{
    struct answer *a = ev->data;
    if (w->coords[a->coord].proc.alive)
        coord_reply(w, a->coord, a->id, a->set, a->err, a->copy);
    drop_answer(a);
}

static void reply(struct world *w, struct sim_node *n, struct session_act *act, int set)
{
    int coord = (int)(act->call & 1);
    struct answer a = {.coord = coord,
                       .id = act->call >> 1,
                       .set = set,
                       .err = STEAL(act->err),
                       .copy = act->set ? copy_of(act->set) : NULL};
    if (w->cut[coord][n->index] || chance(w, w->faults.lose_permille)) {
        drop_answer(&a);
        return;
    }
    int64_t delay = 1 + (int64_t)rng_below(&w->rng, 5);
    if (chance(w, w->faults.late_permille))
        delay += (int64_t)rng_below(&w->rng, 8 * SEC);
    world_post_owner(w, delay, on_answer, n, mem_dup(&a, sizeof a), 0, drop_answer);
}

static void perform(struct world *w, struct sim_node *n, struct session_acts *acts)
{
    for (size_t i = 0; i < acts->n; i++) {
        struct session_act *a = &acts->items[i];
        switch (a->kind) {
        case SESSION_ACT_JOURNAL:
            journal(w, n, a->seq);
            break;
        case SESSION_ACT_ARM:
        case SESSION_ACT_FREEZE:
        case SESSION_ACT_COMMIT:
        case SESSION_ACT_UNDO:
            guard_ask(w, n, a->kind, a->set);
            break;
        case SESSION_ACT_REPLY:
            reply(w, n, a, a->set ? sim_set_number(&a->set->set) : w->armed_set);
            break;
        }
    }
}

/* I3, judged by what is durable: the highest token journaled for the set, and for acts on
 * the domain, for the domain. */
static bool is_stale(const struct sim_node *n, const struct agent_request *r)
{
    struct set_id id;
    sim_set_name(r->set, &id);
    const struct session *set = sessions_find(&n->durable, &id);
    if (set && set->token.revision > r->token.revision)
        return true;
    if (r->call == CALL_ABORT || r->call == CALL_INSPECT)
        return false;
    for (size_t i = 0; i < n->durable.fence.n_domains; i++)
        if (n->durable.fence.domains[i].token.revision > r->token.revision)
            return true;
    return false;
}

static int state_of(const struct sim_node *n, int set)
{
    struct set_id id;
    sim_set_name(set, &id);
    const struct session *s = sessions_find(&n->sessions, &id);
    return s ? s->sm.state : -1;
}

void agent_request(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct agent_request *r = ev->data;
    if (w->swallow && w->swallow(w, n->index, r->call))
        return;
    if (n->agent.paused) {
        world_post(w, NULL, 10, agent_request, n, mem_dup(r, sizeof *r), 0);
        return;
    }
    if (!n->agent.alive) {
        struct answer a = {r->coord, r->id, r->set,
                           err_new(ERR_UNAVAILABLE, "connection refused"), NULL};
        world_post_owner(w, 1, on_answer, n, mem_dup(&a, sizeof a), 0, drop_answer);
        return;
    }
    static const enum session_event_kind kinds[] = {
        [CALL_PREPARE] = SESSION_EV_PREPARE, [CALL_FREEZE] = SESSION_EV_FREEZE,
        [CALL_COMMIT] = SESSION_EV_COMMIT,   [CALL_ABORT] = SESSION_EV_ABORT,
        [CALL_INSPECT] = SESSION_EV_INSPECT,
    };
    struct session_part part = {.domain = n->domain};
    snprintf(part.part.text, sizeof part.part.text, "db");
    struct session_event se = {.kind = kinds[r->call],
                               .call = tag(r->coord, r->id),
                               .token = r->token,
                               .parts = &part,
                               .n_parts = 1,
                               .hold_limit_ms = SIM_HOLD_MS,
                               .freeze_timeout_ms = SIM_FREEZE_TIMEOUT_MS,
                               .epochs = r->epochs,
                               .n_epochs = r->n_epochs,
                               .cut_unix_ms = r->cut_unix_ms,
                               .reason = "told to abort"};
    sim_set_name(r->set, &se.set);
    w->armed_set = r->set;
    bool stale = is_stale(n, r);
    int before = state_of(n, r->set);
    feed(w, n, &se);
    if (stale && state_of(n, r->set) != before)
        check_failed(w, "I3: a stale token was obeyed");
}

/* ---- registration: learns the verdict on what it still holds ---- */

static void on_register(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    world_post(w, &n->agent, 3 * SEC, on_register, n, NULL, 0);
    for (size_t i = 0; i < n->sessions.n_sets; i++) {
        const struct session *s = n->sessions.sets[i];
        if (s->sm.state == SESSION_ABORTED ||
            coord_verdict(w, n->index, sim_set_number(&s->set)) != SIM_ABORTED)
            continue;
        feed(w, n, &(struct session_event){.kind = SESSION_EV_VERDICT, .set = s->set});
        return; /* the table may have changed; the rest next time */
    }
}

/* ---- life ---- */

void agent_start(struct world *w, struct sim_node *n)
{
    n->agent.name = "agent";
    n->agent.alive = true;
    copy_all(&n->durable, &n->sessions);
    for (size_t i = 0; i < n->sessions.n_sets; i++)
        session_restore(n->sessions.sets[i], n->sessions.sets[i]->sm.state);
    struct session_acts acts;
    session_acts_init(&acts);
    sessions_restarted(&n->sessions, &acts);
    perform(w, n, &acts);
    session_acts_fini(&acts);
    world_post(w, &n->agent, 3 * SEC, on_register, n, NULL, 0);
}

static void restart(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    if (!n->agent.alive)
        agent_start(w, n);
}

void agent_kill(struct world *w, int node, bool again)
{
    struct sim_node *n = &w->nodes[node];
    if (!n->agent.alive)
        return;
    proc_kill(w, &n->agent);
    guard_agent_gone(w, n);
    if (again)
        world_post(w, NULL, SIM_RESTART_MS, restart, n, NULL, 0);
}
