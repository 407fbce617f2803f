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

/* A copy of what the guardian said, in the socket. */
static void drop_said(void *data)
{
    struct session_event *ev = data;
    free((void *)ev->parts);
    free((void *)ev->epochs);
    free((void *)ev->proofs);
    err_free((struct err *)ev->err);
}

static void on_said(struct world *w, struct event *ev)
{
    feed(w, ev->owner, ev->data);
    drop_said(ev->data);
}

void agent_guard_event(struct world *w, struct sim_node *n,
                       const struct session_event *said)
{
    struct session_event ev = *said;
    ev.parts = mem_dup(ev.parts, ev.n_parts * sizeof *ev.parts);
    ev.epochs = mem_dup(ev.epochs, ev.n_epochs * sizeof *ev.epochs);
    ev.proofs = mem_dup(ev.proofs, ev.n_proofs * sizeof *ev.proofs);
    ev.err = ev.err ? err_new(ev.err->kind, "%s", ev.err->msg) : NULL;
    world_post_as(w, &n->agent, 0, on_said, "on_said", n, mem_dup(&ev, sizeof ev), 0,
                  drop_said);
}

/* ---- the journal ---- */

static struct session *copy_of(const struct session *s)
{
    struct session *c = mem_dup(s, sizeof *s);
    c->parts = mem_dup(s->parts, s->n_parts * sizeof *s->parts);
    c->refused = mem_dup(s->refused, s->n_refused * sizeof *s->refused);
    c->epochs = mem_dup(s->epochs, s->n_epochs * sizeof *s->epochs);
    c->all_epochs = mem_dup(s->all_epochs, s->n_all_epochs * sizeof *s->all_epochs);
    c->proofs = mem_dup(s->proofs, s->n_proofs * sizeof *s->proofs);
    c->call = 0;
    c->journal_seq = 0;
    return c;
}

/* What the file keeps is less than what memory holds. */
static void forget_volatile(struct session *s)
{
    s->call_kind = 0;
    s->undo_asked = false;
    s->wave = 0;
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
    bool survives; /* when the process dies meanwhile */
};

static void drop_write(void *data)
{
    struct write *wr = data;
    sessions_fini(wr->image);
    free(wr->image);
}

static void on_durable(struct world *w, struct event *ev)
{
    feed(w, ev->owner,
         &(struct session_event){.kind = SESSION_EV_JOURNALED, .seq = (int64_t)ev->n});
}

/* The rename is atomic: the file is the old one or the new one. A process that died in
 * between is told of neither. */
static void on_written(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct write *wr = ev->data;
    bool died = ev->n != n->agent.generation;
    if (!died || (wr->survives && !n->agent.alive))
        copy_all(wr->image, &n->durable);
    if (!died)
        world_post(w, &n->agent, 0, on_durable, n, NULL, (uint64_t)wr->seq);
    drop_write(wr);
}

/* One write after another, as the product's one thread makes them. What a crash leaves of
 * a write under way is decided beforehand, and for all later ones: the old file. */
static void journal(struct world *w, struct sim_node *n, int64_t seq)
{
    struct write wr = {mem_zalloc(sizeof *wr.image), seq, false};
    copy_all(&n->sessions, wr.image);
    int64_t took = 1 + below(w, 4);
    if (chance(w, w->faults.disk_slow_permille))
        took += below(w, 2 * SEC);
    bool idle = n->journal_free_ms <= w->now_ms;
    n->journal_free_ms = (idle ? w->now_ms : n->journal_free_ms) + took;
    if (w->on_journal)
        w->on_journal(w, n->index, took);
    wr.survives = idle && chance(w, w->faults.renamed_permille);
    world_post_as(w, NULL, n->journal_free_ms - w->now_ms, on_written, "on_written", n,
                  mem_dup(&wr, sizeof wr), n->agent.generation, drop_write);
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
    coord_reply(w, a->coord, a->id, a->set, a->err, a->copy);
    drop_answer(a);
}

static void post_answer(struct world *w, struct sim_node *n, const struct answer *a,
                        int64_t delay_ms)
{
    world_post_as(w, &w->coords[a->coord].proc, delay_ms, on_answer, "on_answer", n,
                  mem_dup(a, sizeof *a), 0, drop_answer);
}

static void reply(struct world *w, struct sim_node *n, struct session_act *act, int set)
{
    int coord = (int)(act->call & 1);
    struct answer a = {.coord = coord,
                       .id = act->call >> 1,
                       .set = set,
                       .err = STEAL(act->err),
                       .copy = act->set ? copy_of(act->set) : NULL};
    if (!a.err)
        check_answer(w, n, act);
    if (!a.err && act->call_kind == SESSION_EV_INSPECT)
        check_inspected(w, n, act->set, a.id);
    if (w->cut_from[coord][n->index] || chance(w, w->faults.lose_permille)) {
        drop_answer(&a);
        return;
    }
    int64_t delay = 1 + below(w, 5);
    if (chance(w, w->faults.late_permille))
        delay += below(w, 8 * SEC);
    post_answer(w, n, &a, delay);
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
            reply(w, n, a, a->set ? sim_set_number(&a->set->set) : w->asking_set);
            break;
        }
    }
}

/* I3, judged by what is durable: the highest token journaled for the set, and for acts on
 * the domain, for the domain. */
static bool is_stale(const struct world *w, const struct sim_node *n,
                     const struct agent_request *r)
{
    struct set_id id;
    sim_set_name(r->set, &id);
    const struct session *set = sessions_find(&n->durable, &id);
    if (set && set->token.revision > r->token.revision)
        return true;
    if (r->call == CALL_ABORT || r->call == CALL_INSPECT)
        return false;
    unsigned domains = sim_domain_mask(n->index, w->sets[r->set].parts[n->index]);
    for (size_t i = 0; i < n->durable.fence.n_domains; i++)
        for (unsigned d = 0; d < SIM_DOMAINS; d++)
            if (domains >> d & 1 &&
                strcmp(n->durable.fence.domains[i].domain.text,
                       n->domain_names[d].text) == 0 &&
                n->durable.fence.domains[i].token.revision > r->token.revision)
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

/* A Commit is obeyed only if it names what this node answered to Freeze. */
static bool names_ours(const struct sim_node *n, const struct agent_request *r)
{
    for (size_t i = 0; i < r->n_epochs; i++)
        for (unsigned d = 0; d < sim_layout[n->index].n_domains; d++)
            if (strcmp(r->epochs[i].domain.text, n->domain_names[d].text) == 0 &&
                memcmp(r->epochs[i].epoch.b, n->domains[d].pauses[r->set].epoch.b,
                       sizeof r->epochs[i].epoch.b) != 0)
                return false;
    return true;
}

static void obey(struct world *w, struct sim_node *n, const struct agent_request *r,
                 struct session_event *se)
{
    static const enum session_event_kind kinds[] = {
        [CALL_PREPARE] = SESSION_EV_PREPARE, [CALL_FREEZE] = SESSION_EV_FREEZE,
        [CALL_COMMIT] = SESSION_EV_COMMIT,   [CALL_ABORT] = SESSION_EV_ABORT,
        [CALL_INSPECT] = SESSION_EV_INSPECT,
    };
    se->kind = kinds[r->call];
    w->asking_set = r->set;
    bool stale = is_stale(w, n, r);
    bool ours = r->call != CALL_COMMIT || names_ours(n, r);
    int before = state_of(n, r->set);
    feed(w, n, se);
    int after = state_of(n, r->set);
    if (stale && after != before)
        check_failed(w, "I3: a stale token was obeyed");
    if (!ours && after == SESSION_COMMITTING && before != after)
        check_failed(w, "I1: a Commit that names another epoch was obeyed");
}

void agent_request(struct world *w, struct event *ev)
{
    struct sim_node *n = ev->owner;
    struct agent_request *r = ev->data;
    if (w->swallow && w->swallow(w, n->index, r->call))
        return;
    if (n->agent.paused) {
        world_post(w, NULL, 20, agent_request, n, mem_dup(r, sizeof *r), 0);
        return;
    }
    if (!n->agent.alive) {
        struct answer a = {r->coord, r->id, r->set,
                           err_new(ERR_UNAVAILABLE, "connection refused"), NULL};
        post_answer(w, n, &a, 1);
        return;
    }
    note(w, "node %d: call %d for set %d arrives", n->index, (int)r->call, r->set);
    const struct sim_layout *layout = &sim_layout[n->index];
    struct session_part parts[SIM_PARTS];
    size_t n_parts = 0;
    for (unsigned p = 0; p < layout->n_parts; p++) {
        if (!(w->sets[r->set].parts[n->index] >> p & 1))
            continue;
        unsigned d = layout->domain_of[p];
        parts[n_parts] = (struct session_part){
            .domain = n->domain_names[d], .wave = w->sets[r->set].waves[n->index][d]};
        snprintf(parts[n_parts++].part.text, sizeof parts->part.text, "db-%u", p);
    }
    struct session_event se = {.call = tag(r->coord, r->id),
                               .token = r->token,
                               .parts = parts,
                               .n_parts = n_parts,
                               .wave = r->wave,
                               .relaxed = w->sets[r->set].relaxed,
                               .rehearsal = w->sets[r->set].rehearsal,
                               .hold_limit_ms = SIM_HOLD_MS,
                               .freeze_timeout_ms = SIM_FREEZE_TIMEOUT_MS,
                               .epochs = r->epochs,
                               .n_epochs = r->n_epochs,
                               .cut_unix_ms = r->cut_unix_ms,
                               .reason = "told to abort"};
    sim_set_name(r->set, &se.set);
    obey(w, n, r, &se);
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
    n->journal_free_ms = w->now_ms;
    copy_all(&n->durable, &n->sessions);
    for (size_t i = 0; i < n->sessions.n_sets; i++) {
        session_restore(n->sessions.sets[i], n->sessions.sets[i]->sm.state);
        forget_volatile(n->sessions.sets[i]);
    }
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
    if (!n->agent.alive && w->gone != n->index)
        agent_start(w, n);
}

void agent_kill(struct world *w, int node, bool again)
{
    struct sim_node *n = &w->nodes[node];
    if (!n->agent.alive)
        return;
    note(w, "node %d: the agent is killed", node, 0, 0);
    proc_kill(w, &n->agent);
    guard_agent_gone(w, n);
    if (again)
        world_post(w, NULL, SIM_RESTART_MS, restart, n, NULL, 0);
}
