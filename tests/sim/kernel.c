/* What really happens on a node: pauses and captures. Invariants are judged by this. */
#include <assert.h>

#include "tests/sim/world.h"

void kernel_freeze(struct world *w, struct sim_node *n, unsigned domain, int set)
{
    struct sim_domain *d = &n->domains[domain];
    struct sim_pause *p = &d->pauses[set];
    note(w, "node %d: domain %d is frozen for set %d", n->index, (int)domain, set);
    if (++p->freezes > 1)
        check_failed(w, "I7: one set froze a domain twice");
    if (d->frozen)
        check_failed(w, "a frozen domain was frozen for another set");
    for (unsigned k = 0; k < SIM_DOMAINS; k++) /* step 2.3 */
        if (sim_layout[n->index].kinds[domain] != HOLD_FSFREEZE && n->domains[k].frozen &&
            sim_layout[n->index].kinds[k] == HOLD_FSFREEZE && n->domains[k].by == set)
            check_failed(w, "a filesystem was frozen before a cgroup: it hangs");
    d->frozen = true;
    d->by = set;
    d->frozen_at_ms = p->from_ms = w->now_ms;
}

bool kernel_thaw(struct world *w, struct sim_node *n, unsigned domain)
{
    struct sim_domain *d = &n->domains[domain];
    if (!d->frozen)
        return false;
    note(w, "node %d: domain %d of set %d is thawed", n->index, (int)domain, d->by);
    d->pauses[d->by].to_ms = w->now_ms;
    if (w->now_ms - d->frozen_at_ms > n->longest_pause_ms)
        n->longest_pause_ms = w->now_ms - d->frozen_at_ms;
    d->frozen = d->doomed = false;
    return true;
}

struct sim_capture *kernel_capture(struct sim_node *n, int set, unsigned part)
{
    for (int i = 0; i < SIM_CAPTURES; i++) {
        struct sim_capture *c = &n->captures[i];
        if (c->exists && c->set == set && c->part == part)
            return c;
    }
    return NULL;
}

void kernel_snap(struct world *w, struct sim_node *n, int set, unsigned part)
{
    const struct sim_domain *d = &n->domains[sim_layout[n->index].domain_of[part]];
    bool in_pause = d->frozen && d->by == set;
    note(w, "node %d: part %d is captured for set %d", n->index, (int)part, set);
    if (w->sets[set].rehearsal)
        check_failed(w, "a rehearsal captures");
    for (int i = 0; i < SIM_CAPTURES; i++) {
        if (n->captures[i].exists)
            continue;
        n->captures[i] = (struct sim_capture){
            .exists = true, .in_pause = in_pause, .set = set, .part = part};
        return;
    }
    check_failed(w, "captures leak");
}

void kernel_remove(struct world *w, struct sim_node *n, int set)
{
    note(w, "node %d: what is captured of set %d is removed", n->index, set, 0);
    for (int i = 0; i < SIM_CAPTURES; i++)
        if (n->captures[i].set == set)
            n->captures[i].exists = false;
}
