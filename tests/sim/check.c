/* The invariants, looked at after every event. They judge by what really happened in the
 * modelled kernels and etcd, not by what the cores believe. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/world.h"

void check_failed(const struct world *w, const char *what)
{
    fprintf(stderr, "seed %llu, %lld ms: %s\n", (unsigned long long)w->seed,
            (long long)w->now_ms, what);
    assert(!"invariant");
}

static const struct sim_capture *capture_of(const struct sim_node *n, int set)
{
    struct set_id id;
    sim_set_name(set, &id);
    for (int i = 0; i < SIM_CAPTURES; i++)
        if (n->captures[i].exists && strcmp(n->captures[i].set.text, id.text) == 0)
            return &n->captures[i];
    return NULL;
}

/* I1, and I6 for captures: every part of a captured set is there, made while its domain
 * was frozen, and all these pauses share an instant. */
static void check_cut(const struct world *w, int set)
{
    int64_t last_frozen = 0;
    int64_t first_thawed = INT64_MAX;
    for (int i = 0; i < SIM_NODES; i++) {
        const struct sim_capture *c = capture_of(&w->nodes[i], set);
        if (!c || !c->published)
            check_failed(w, "a captured set lacks a capture");
        if (c->frozen_from_ms < 0)
            check_failed(w, "I1: captured while not frozen");
        if (c->frozen_from_ms > last_frozen)
            last_frozen = c->frozen_from_ms;
        if (c->thawed_ms && c->thawed_ms < first_thawed)
            first_thawed = c->thawed_ms;
    }
    if (first_thawed < last_frozen)
        check_failed(w, "I1: no instant at which all were frozen");
}

static void check_pause(const struct world *w, const struct sim_node *n)
{
    bool doomed = n->kernel.doomed_at_ms != 0;
    if (n->kernel.frozen && !doomed &&
        w->now_ms - n->kernel.frozen_at_ms > SIM_HOLD_MS + 1000)
        check_failed(w, "I2: frozen for longer than hold_limit + 1 s");
    if (n->kernel.frozen && doomed && n->keeper.alive)
        check_failed(w, "I2: the guardian is back and something is still frozen");
}

void check_world(const struct world *w)
{
    for (int s = 0; s < w->n_sets; s++) {
        const struct sim_record *r = &w->etcd.sets[s];
        if (r->was_captured && r->was_aborted)
            check_failed(w, "I4: both captured and aborted");
        if (r->state == SIM_CAPTURED)
            check_cut(w, s);
        for (int i = 0; i < SIM_NODES; i++)
            if (w->nodes[i].freezes_of_set[s] > 1)
                check_failed(w, "I7: one set froze a domain twice");
    }
    for (int i = 0; i < SIM_NODES; i++)
        check_pause(w, &w->nodes[i]);
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
        if (w->nodes[i].kernel.frozen)
            return false;
    return true;
}

void check_settled(const struct world *w)
{
    if (!all_recorded(w))
        check_failed(w, "I11: a set has no verdict long after the faults ended");
    if (!nothing_frozen(w))
        check_failed(w, "something is still frozen");
    if (w->etcd.group_lock.exists)
        check_failed(w, "a lock is leaked");
    for (int s = 0; s < w->n_sets; s++)
        for (int i = 0; i < SIM_NODES; i++)
            if (w->etcd.sets[s].state == SIM_ABORTED && capture_of(&w->nodes[i], s))
                check_failed(w, "an aborted set leaks a capture");
}
