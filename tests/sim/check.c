/* The invariants, looked at after every event. They judge by what really happened in the
 * modelled kernels and etcd, not by what the cores believe. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/world.h"

void check_failed(const struct world *w, const char *what)
{
    trace_print(w);
    fprintf(stderr, "seed %llu: %s\n", (unsigned long long)w->seed, what);
    fflush(stderr);
    _exit(255); /* stops tests/sim/run */
}

/* I6 for captures: every part of a captured set is there; I1: made in its pause. What a
 * relaxed set leaves out may be there, until its node hears of it. */
static void check_captures(const struct world *w, int set, int node)
{
    unsigned found = 0;
    unsigned want = w->etcd.sets[set].parts[node];
    bool relaxed = w->sets[set].relaxed;
    for (int i = 0; i < SIM_CAPTURES; i++) {
        const struct sim_capture *c = &w->nodes[node].captures[i];
        if (!c->exists || c->set != set || (relaxed && !(want >> c->part & 1)))
            continue;
        if (!c->in_pause)
            check_failed(w, "I1: captured while not frozen");
        if (c->published)
            found |= 1u << c->part;
    }
    if (found != want)
        check_failed(w, "I6: a captured set lacks a capture");
    if (!relaxed && found != w->sets[set].parts[node])
        check_failed(w, "I6: a strict set was captured in part");
    if (!want && w->sets[set].required[node] && w->sets[set].parts[node])
        check_failed(w, "a set was captured without a node that it requires");
}

/* I1: all pauses of the set share an instant. */
static void check_instant(const struct world *w, int set)
{
    int64_t last_frozen = 0;
    int64_t first_thawed = INT64_MAX;
    for (int i = 0; i < SIM_NODES; i++) {
        unsigned domains = sim_domain_mask(i, w->etcd.sets[set].parts[i]);
        for (int d = 0; d < SIM_DOMAINS; d++) {
            const struct sim_pause *p = &w->nodes[i].domains[d].pauses[set];
            if (!(domains >> d & 1))
                continue;
            if (p->freezes == 0)
                check_failed(w, "I1: a domain was never frozen");
            if (p->from_ms > last_frozen)
                last_frozen = p->from_ms;
            if (p->to_ms && p->to_ms < first_thawed)
                first_thawed = p->to_ms;
        }
    }
    if (first_thawed < last_frozen)
        check_failed(w, "I1: no instant at which all were frozen");
    if (last_frozen == 0)
        check_failed(w, "I1: a set was captured with nothing in it");
}

static void check_pauses(const struct world *w, const struct sim_node *n)
{
    for (int i = 0; i < SIM_DOMAINS; i++) {
        const struct sim_domain *d = &n->domains[i];
        if (!d->frozen)
            continue;
        if (!d->doomed && w->now_ms - d->frozen_at_ms > SIM_HOLD_MS + 1000)
            check_failed(w, "I2: frozen for longer than hold_limit + 1 s");
        if (d->doomed && n->keeper.alive)
            check_failed(w, "I2: the guardian is back and something is still frozen");
    }
}

static void check_records(const struct world *w)
{
    for (int s = 0; s < w->n_sets; s++) {
        const struct sim_record *r = &w->etcd.sets[s];
        if (w->sets[s].rehearsal && r->state != SIM_ABSENT)
            check_failed(w, "a rehearsal pretends to be a set");
        if (r->was_captured && r->was_aborted)
            check_failed(w, "I4: both captured and aborted");
        if (r->state != SIM_CAPTURED)
            continue;
        if (!r->true_proofs)
            check_failed(w, "I1: the recorded proofs name other epochs");
        check_instant(w, s);
        for (int i = 0; i < SIM_NODES; i++)
            check_captures(w, s, i);
    }
}

void check_world(struct world *w)
{
    /* Records, pauses and captures change with a note only; time passes without. */
    if (w->n_notes != w->checked_notes)
        check_records(w);
    w->checked_notes = w->n_notes;
    for (int i = 0; i < SIM_NODES; i++)
        check_pauses(w, &w->nodes[i]);
}

/* Where a domain of this name is; its pause for the set. */
static const struct sim_pause *pause_of(const struct world *w, int set,
                                        const struct domain_id *domain)
{
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (strcmp(w->nodes[i].domain_names[d].text, domain->text) == 0)
                return &w->nodes[i].domains[d].pauses[set];
    check_failed(w, "a domain that nobody has");
}

static bool names_domain(const struct round *r, const struct domain_id *domain)
{
    for (size_t i = 0; i < r->n_epochs; i++)
        if (strcmp(r->epochs[i].domain.text, domain->text) == 0)
            return true;
    return false;
}

/* Whether it names a domain of the node: all of them, or of a relaxed round at least one,
 * since what could not be armed is not frozen. */
static bool names_node(const struct world *w, const struct sim_run *run, int node)
{
    unsigned domains = sim_domain_mask(node, w->sets[run->set].parts[node]);
    bool all = true, any = false;
    for (int d = 0; d < SIM_DOMAINS; d++)
        if (domains >> d & 1) {
            bool named = names_domain(&run->round, &w->nodes[node].domain_names[d]);
            all &= named;
            any |= named;
        }
    return run->round.conf.relaxed ? any : all;
}

void check_may_commit(const struct world *w, const struct sim_run *run)
{
    const struct round *r = &run->round;
    for (size_t i = 0; i < r->n_epochs; i++)
        if (!pause_of(w, run->set, &r->epochs[i].domain)->freezes)
            check_failed(w, "I1: Commit before every domain was frozen");
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (!r->nodes[i].out && !names_node(w, run, run->nodes[i]))
            check_failed(w, "I1: Commit without the epochs of a member");
}

/* Whether it names all domains of the node's wave, or of a relaxed round one of them. */
static bool names_wave(const struct world *w, const struct sim_run *run, int node,
                       size_t wave)
{
    unsigned domains = sim_domain_mask(node, w->sets[run->set].parts[node]);
    bool all = true, any = false;
    for (int d = 0; d < SIM_DOMAINS; d++)
        if (domains >> d & 1 && w->sets[run->set].waves[node][d] == wave) {
            bool named = names_domain(&run->round, &w->nodes[node].domain_names[d]);
            all &= named;
            any |= named;
        }
    return run->round.conf.relaxed ? any : all;
}

void check_may_freeze(const struct world *w, const struct sim_run *run, size_t wave)
{
    const struct round *r = &run->round;
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        for (size_t front = 0; front < wave; front++)
            if (!r->nodes[i].out && r->nodes[i].waves >> front & 1 &&
                !names_wave(w, run, run->nodes[i], front))
                check_failed(w, "a wave is frozen before the one in front of it");
}

void check_left_out(const struct world *w, const struct sim_run *run,
                    const struct round_act *a)
{
    unsigned parts[SIM_NODES];
    if (a->kind == ROUND_ACT_CALL && a->call != CALL_ABORT &&
        run->left_out >> a->node & 1)
        check_failed(w, "a node that was left out is asked for more than to abort");
    if (a->kind != ROUND_ACT_STORE_CAPTURED)
        return;
    proved_parts(&run->round, parts);
    for (size_t i = 0; i < run->round.conf.n_nodes; i++)
        if (run->left_out >> i & 1 && parts[run->nodes[i]])
            check_failed(w, "a node that was left out is counted");
}

void check_rehearsed(const struct world *w, const struct sim_run *run)
{
    const struct round *r = &run->round;
    if (!r->rehearsed || r->sm.state != ROUND_ABORTED)
        return;
    for (size_t i = 0; i < r->conf.n_nodes; i++) {
        const struct sim_node *n = &w->nodes[run->nodes[i]];
        if (!(run->ended >> i & 1))
            check_failed(w, "a rehearsal is over and not everybody was told to thaw");
        if (!(run->told >> i & 1))
            continue;
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (n->domains[d].frozen && n->domains[d].by == run->set)
                check_failed(w, "a rehearsal is over and its writers still wait");
    }
}

static bool proves(const struct round *r, const struct domain_id *domain)
{
    for (size_t i = 0; i < r->n_proofs; i++)
        if (strcmp(r->proofs[i].domain.text, domain->text) == 0)
            return true;
    return false;
}

/* What is proved must name the epochs that really were drawn. Of domains that a relaxed
 * cut proves nothing of, a coordinator with a fault may have told anything. */
bool check_proofs(const struct world *w, int set, const struct round *r)
{
    struct digest want;
    struct set_id id;
    sim_set_name(set, &id);
    for (size_t i = 0; i < r->n_epochs; i++) {
        const struct domain_epoch *e = &r->epochs[i];
        if ((!r->conf.relaxed || proves(r, &e->domain)) &&
            memcmp(&e->epoch, &pause_of(w, set, &e->domain)->epoch, sizeof e->epoch) != 0)
            return false;
    }
    cut_digest(&id, r->epochs, r->n_epochs, &want);
    for (size_t i = 0; i < r->n_proofs; i++)
        if (!digest_equal(&r->proofs[i].epochs, &want) || !r->proofs[i].unbroken ||
            !names_domain(r, &r->proofs[i].domain))
            return false;
    return r->n_proofs > 0;
}

void proved_parts(const struct round *r, unsigned parts[SIM_NODES])
{
    for (int i = 0; i < SIM_NODES; i++)
        parts[i] = 0;
    for (size_t i = 0; i < r->n_proofs; i++)
        parts[atoi(r->proofs[i].node.text + strlen("node-"))] |=
            1u << atoi(r->proofs[i].part.text + strlen("db-"));
}

/* The token of the coordinator that sent the call, if its round lasts. */
static int64_t token_of_call(const struct world *w, int set, uint64_t call)
{
    for (int c = 0; c < SIM_COORDS; c++) {
        const struct sim_run *run = &w->coords[c].runs[set];
        for (size_t i = 0; run->active && i < run->n_calls; i++)
            if (run->calls[i].id == call)
                return run->lock;
    }
    return 0;
}

void check_inspected(const struct world *w, const struct sim_node *n,
                     const struct session *s, uint64_t call)
{
    const struct session *durable = sessions_find(&n->durable, &s->set);
    int64_t token = token_of_call(w, sim_set_number(&s->set), call);
    if (token && (!durable || durable->token.revision < token))
        check_failed(w, "I3: Inspect was answered before its token was journaled");
}

void check_answer(struct world *w, struct sim_node *n, const struct session_act *a)
{
    const struct session *s = a->set;
    int set = sim_set_number(&s->set);
    bool commit = a->call_kind == SESSION_EV_COMMIT;
    if (!commit && a->call_kind != SESSION_EV_FREEZE)
        return;
    struct digest digest;
    struct sim_answer *first =
        commit ? &n->captured_said[set] : &n->frozen_said[set][a->wave];
    struct domain_epoch epochs[SIM_DOMAINS];
    size_t n_epochs = 0;
    for (size_t i = 0; i < s->n_epochs; i++)
        if (session_is_in_wave(s, &s->epochs[i], a->wave))
            epochs[n_epochs++] = s->epochs[i];
    if (!commit && n_epochs == 0)
        check_failed(w, "a wave is said to be frozen without an epoch");
    if (commit)
        hash_bytes(s->proofs, s->n_proofs * sizeof *s->proofs, &digest);
    else
        hash_bytes(epochs, n_epochs * sizeof *epochs, &digest);
    if (first->token == s->token.revision && !digest_equal(&first->digest, &digest))
        check_failed(w, "I7: the same request got another answer");
    *first = (struct sim_answer){s->token.revision, digest};
}

/* A rehearsal is over when nobody runs it any more. */
static bool is_rehearsed(const struct world *w, int set)
{
    for (int i = 0; i < SIM_COORDS; i++)
        if (w->coords[i].runs[set].active)
            return false;
    return w->rehearsed[set];
}

/* What nobody has a record of must not be kept open by anybody. */
static bool no_rehearsal_open(const struct world *w)
{
    for (int i = 0; i < SIM_NODES; i++) {
        const struct sessions *s = &w->nodes[i].sessions;
        for (size_t k = 0; k < s->n_sets && i != w->gone; k++)
            if (w->sets[sim_set_number(&s->sets[k]->set)].rehearsal &&
                s->sets[k]->sm.state != SESSION_ABORTED)
                return false;
    }
    return true;
}

bool all_recorded(const struct world *w)
{
    for (int s = 0; s < w->n_sets; s++)
        if (w->sets[s].rehearsal) {
            if (!is_rehearsed(w, s))
                return false;
        } else if (w->etcd.sets[s].state != SIM_CAPTURED &&
                   w->etcd.sets[s].state != SIM_ABORTED)
            return false;
    return w->n_sets > 0;
}

bool nothing_frozen(const struct world *w)
{
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (w->nodes[i].domains[d].frozen)
                return false;
    return true;
}

static bool nothing_locked(const struct world *w)
{
    for (int i = 0; i < SIM_GROUPS; i++)
        if (w->etcd.group_locks[i].exists)
            return false;
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (w->etcd.domain_locks[i][d].exists)
                return false;
    return true;
}

static bool nothing_leaked(const struct world *w)
{
    for (int i = 0; i < SIM_NODES; i++)
        for (int k = 0; k < SIM_CAPTURES; k++) {
            const struct sim_capture *c = &w->nodes[i].captures[k];
            const struct sim_record *r = &w->etcd.sets[c->set];
            bool wanted = r->state == SIM_CAPTURED && r->parts[i] >> c->part & 1;
            if (c->exists && i != w->gone && !wanted)
                return false;
        }
    return true;
}

bool world_is_settled(const struct world *w)
{
    return all_recorded(w) && nothing_frozen(w) && nothing_locked(w) &&
           nothing_leaked(w) && no_rehearsal_open(w);
}

void check_settled(const struct world *w)
{
    if (!all_recorded(w))
        check_failed(w, "I11: a set has no verdict long after the faults ended");
    if (!nothing_frozen(w))
        check_failed(w, "I11: something is still frozen");
    if (!nothing_locked(w))
        check_failed(w, "I11: a lock is leaked");
    if (!no_rehearsal_open(w))
        check_failed(w, "I11: an agent keeps a rehearsal open");
    if (!nothing_leaked(w))
        check_failed(w, "I11: a capture that no set wants is leaked");
}

void check_whole(const struct world *w, int set)
{
    const struct sim_record *r = &w->etcd.sets[set];
    check_settled(w);
    if (r->state != SIM_CAPTURED)
        check_failed(w, "a set without faults was not captured");
    if (memcmp(r->parts, w->sets[set].parts, sizeof r->parts) != 0)
        check_failed(w, "a set without faults was captured in part");
}
