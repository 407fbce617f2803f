/* The invariants, looked at after every event. They judge by what really happened in the
 * modelled kernels and etcd, not by what the cores believe. */
#include <stdio.h>
#include <unistd.h>

#include "tests/sim/world.h"

void check_failed(const struct world *w, const char *what)
{
    trace_print(w);
    fprintf(stderr, "seed %llu: %s\n", (unsigned long long)w->seed, what);
    fflush(stderr);
    _exit(255); /* stops tests/sim/run */
}

/* I6 for captures: every part of a captured set is there; I1: made in its pause. */
static void check_captures(const struct world *w, int set, int node)
{
    unsigned found = 0;
    for (int i = 0; i < SIM_CAPTURES; i++) {
        const struct sim_capture *c = &w->nodes[node].captures[i];
        if (!c->exists || c->set != set)
            continue;
        if (!c->in_pause)
            check_failed(w, "I1: captured while not frozen");
        if (c->published)
            found |= 1u << c->part;
    }
    if (found != w->sets[set].parts[node])
        check_failed(w, "I6: a captured set lacks a capture");
}

/* I1: all pauses of the set share an instant. */
static void check_instant(const struct world *w, int set)
{
    int64_t last_frozen = 0;
    int64_t first_thawed = INT64_MAX;
    for (int i = 0; i < SIM_NODES; i++) {
        unsigned domains = sim_domain_mask(i, w->sets[set].parts[i]);
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

void check_may_commit(const struct world *w, int set)
{
    for (int i = 0; i < SIM_NODES; i++) {
        unsigned domains = sim_domain_mask(i, w->sets[set].parts[i]);
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (domains >> d & 1 && !w->nodes[i].domains[d].pauses[set].freezes)
                check_failed(w, "I1: Commit before every domain was frozen");
    }
}

/* All epochs of the set that really were drawn, sorted, and their digest. */
static void true_digest(const struct world *w, int set, struct digest *out)
{
    struct domain_epoch all[SIM_NODES * SIM_DOMAINS];
    size_t n = 0;
    struct set_id id;
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (sim_domain_mask(i, w->sets[set].parts[i]) >> d & 1)
                all[n++] =
                    (struct domain_epoch){w->nodes[i].domain_names[d],
                                          w->nodes[i].domains[d].pauses[set].epoch};
    sim_set_name(set, &id);
    cut_sort(all, n);
    cut_digest(&id, all, n, out);
}

bool check_proofs(const struct world *w, int set, const struct round *r)
{
    struct digest want;
    true_digest(w, set, &want);
    for (size_t i = 0; i < r->n_proofs; i++)
        if (!digest_equal(&r->proofs[i].epochs, &want) || !r->proofs[i].unbroken)
            return false;
    return true;
}

void check_answer(struct world *w, struct sim_node *n, const struct session *s, int kind)
{
    int set = sim_set_number(&s->set);
    bool commit = kind == SESSION_EV_COMMIT;
    if (!commit && kind != SESSION_EV_FREEZE)
        return;
    struct digest digest;
    struct sim_answer *first = commit ? &n->captured_said[set] : &n->frozen_said[set];
    if (commit)
        hash_bytes(s->proofs, s->n_proofs * sizeof *s->proofs, &digest);
    else
        hash_bytes(s->epochs, s->n_epochs * sizeof *s->epochs, &digest);
    if (first->token == s->token.revision && !digest_equal(&first->digest, &digest))
        check_failed(w, "I7: the same request got another answer");
    *first = (struct sim_answer){s->token.revision, digest};
}

bool all_recorded(const struct world *w)
{
    for (int s = 0; s < w->n_sets; s++)
        if (w->etcd.sets[s].state != SIM_CAPTURED && w->etcd.sets[s].state != SIM_ABORTED)
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
            if (c->exists && i != w->gone && w->etcd.sets[c->set].state == SIM_ABORTED)
                return false;
        }
    return true;
}

bool world_is_settled(const struct world *w)
{
    return all_recorded(w) && nothing_frozen(w) && nothing_locked(w) && nothing_leaked(w);
}

void check_settled(const struct world *w)
{
    if (!all_recorded(w))
        check_failed(w, "I11: a set has no verdict long after the faults ended");
    if (!nothing_frozen(w))
        check_failed(w, "I11: something is still frozen");
    if (!nothing_locked(w))
        check_failed(w, "I11: a lock is leaked");
    if (!nothing_leaked(w))
        check_failed(w, "I11: an aborted set leaks a capture");
}
