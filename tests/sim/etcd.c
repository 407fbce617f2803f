/* The modelled etcd: a revision for every change, keys bound to leases, transactions that
 * compare, compaction, and requests or answers that vanish (unknown outcomes), also such
 * that are applied after their sender has given up. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

static void drop_key(struct sim_etcd *e, struct sim_key *k)
{
    if (!k->exists)
        return;
    e->revision++;
    *k = (struct sim_key){0};
    if (k == &e->leader)
        e->leader_gone_at = e->revision;
}

static void drop_lease(struct sim_etcd *e, int64_t lease)
{
    if (e->leader.lease == lease)
        drop_key(e, &e->leader);
    if (e->group_lock.lease == lease)
        drop_key(e, &e->group_lock);
    for (int i = 0; i < SIM_NODES; i++)
        if (e->domain_locks[i].lease == lease)
            drop_key(e, &e->domain_locks[i]);
}

static void expire(struct world *w)
{
    struct sim_etcd *e = &w->etcd;
    for (size_t i = 0; i < e->n_leases;) {
        if (e->leases[i].expires_ms > w->now_ms) {
            i++;
            continue;
        }
        drop_lease(e, e->leases[i].id);
        e->leases[i] = e->leases[--e->n_leases];
    }
}

static struct sim_lease *find_lease(struct sim_etcd *e, int64_t id)
{
    for (size_t i = 0; i < e->n_leases; i++)
        if (e->leases[i].id == id)
            return &e->leases[i];
    return NULL;
}

static void put(struct sim_etcd *e, struct sim_key *k, int64_t lease, int owner)
{
    e->revision++;
    if (!k->exists)
        k->create_revision = e->revision;
    k->exists = true;
    k->mod_revision = e->revision;
    k->lease = lease;
    k->owner = owner;
}

static void grant(struct world *w, struct etcd_request *r)
{
    struct sim_etcd *e = &w->etcd;
    assert(e->n_leases < sizeof e->leases / sizeof e->leases[0]);
    r->result = 1000 + (int64_t)w->seq;
    e->leases[e->n_leases++] = (struct sim_lease){r->result, w->now_ms + LEAD_TTL_MS};
    r->success = true;
}

static void campaign(struct world *w, struct etcd_request *r, int owner)
{
    struct sim_etcd *e = &w->etcd;
    if (!e->leader.exists && find_lease(e, r->lease))
        put(e, &e->leader, r->lease, owner);
    r->success = e->leader.exists && e->leader.lease == r->lease;
    r->result = e->leader.create_revision;
    r->leader_name = e->leader.owner;
}

static bool leads(const struct sim_etcd *e, const struct etcd_request *r)
{
    return e->leader.exists && e->leader.create_revision == r->leader;
}

static void lock(struct sim_etcd *e, struct etcd_request *r, int owner)
{
    bool taken = e->group_lock.exists;
    for (int i = 0; i < SIM_NODES; i++)
        taken |= e->domain_locks[i].exists;
    r->success = !taken && leads(e, r) && find_lease(e, r->lease);
    if (!r->success)
        return;
    put(e, &e->group_lock, r->lease, owner);
    /* One transaction: all its keys carry the same revision, as in etcd. */
    for (int i = 0; i < SIM_NODES; i++) {
        e->domain_locks[i] = e->group_lock;
        e->domain_locks[i].create_revision = e->revision;
    }
    r->result = e->group_lock.create_revision;
}

static void unlock(struct sim_etcd *e, struct etcd_request *r)
{
    if (!e->group_lock.exists || e->group_lock.create_revision != r->lock)
        return;
    drop_key(e, &e->group_lock);
    for (int i = 0; i < SIM_NODES; i++)
        drop_key(e, &e->domain_locks[i]);
    r->success = true;
}

static bool holds(const struct sim_etcd *e, const struct etcd_request *r)
{
    return e->group_lock.exists && e->group_lock.create_revision == r->lock;
}

static void write_set(struct sim_etcd *e, struct etcd_request *r, int owner)
{
    struct sim_record *rec = &e->sets[r->set];
    bool unchanged = r->op == ETCD_OPEN
                         ? !rec->key.exists
                         : rec->key.exists && rec->key.mod_revision == r->mod_revision;
    r->success = holds(e, r) && unchanged;
    if (!r->success)
        return;
    put(e, &rec->key, 0, owner);
    rec->token = r->lock;
    rec->state = r->op == ETCD_OPEN      ? SIM_PREPARING
                 : r->op == ETCD_CAPTURE ? SIM_CAPTURED
                                         : SIM_ABORTED;
    rec->was_captured |= rec->state == SIM_CAPTURED;
    rec->was_aborted |= rec->state == SIM_ABORTED;
    if (rec->state == SIM_CAPTURED)
        rec->proofs = r->proofs;
    r->result = rec->key.mod_revision;
}

static void watch(struct sim_etcd *e, struct etcd_request *r)
{
    r->compacted = r->revision < e->compacted;
    r->success = !e->leader.exists || (!r->compacted && e->leader_gone_at >= r->revision);
    r->result = e->revision;
}

void etcd_compact(struct world *w)
{
    w->etcd.compacted = w->etcd.revision;
}

static void apply(struct world *w, struct etcd_request *r, int owner)
{
    struct sim_etcd *e = &w->etcd;
    expire(w);
    struct sim_lease *lease = find_lease(e, r->lease);
    switch (r->op) {
    case ETCD_GRANT:
        grant(w, r);
        break;
    case ETCD_KEEPALIVE:
        if (lease)
            lease->expires_ms = w->now_ms + LEAD_TTL_MS;
        r->success = lease != NULL;
        break;
    case ETCD_REVOKE:
        if (lease)
            lease->expires_ms = w->now_ms;
        expire(w);
        break;
    case ETCD_CAMPAIGN:
        campaign(w, r, owner);
        break;
    case ETCD_LOCK:
        lock(e, r, owner);
        break;
    case ETCD_UNLOCK:
        unlock(e, r);
        break;
    case ETCD_OPEN:
    case ETCD_CAPTURE:
    case ETCD_ABORT:
        write_set(e, r, owner);
        break;
    case ETCD_READ:
        r->record = e->sets[r->set];
        r->success = holds(e, r);
        break;
    case ETCD_WATCH_LEADER:
        watch(e, r);
        break;
    }
}

struct flight {
    struct etcd_request req;
    struct proc *from;
    unsigned generation;
    void *owner;
    event_fn *done;
    bool reply_lost;
};

/* At etcd: the sender may be dead by now; the request is applied all the same. */
static void arrive(struct world *w, struct event *ev)
{
    struct flight *f = ev->data;
    struct sim_coord *c = f->owner;
    apply(w, &f->req, c->index);
    if (f->reply_lost || f->generation != f->from->generation)
        return;
    f->req.ok = true;
    world_post(w, f->from, 1 + (int64_t)rng_below(&w->rng, 3), f->done, f->owner,
               mem_dup(&f->req, sizeof f->req), 0);
}

void etcd_send(struct world *w, struct proc *from, void *owner,
               const struct etcd_request *req, event_fn *done)
{
    struct flight f = {.req = *req,
                       .from = from,
                       .generation = from->generation,
                       .owner = owner,
                       .done = done};
    f.req.sent_ms = w->now_ms;
    int64_t delay = 1 + (int64_t)rng_below(&w->rng, 3);
    bool lost = chance(w, w->faults.etcd_lost_permille);
    f.reply_lost = lost || chance(w, w->faults.etcd_lost_permille);
    if (f.reply_lost) {
        f.req.ok = false;
        world_post(w, from, SIM_ETCD_TIMEOUT_MS, done, owner,
                   mem_dup(&f.req, sizeof f.req), 0);
    }
    if (f.reply_lost && chance(w, 300)) /* applied when nobody expects it any more */
        delay += (int64_t)rng_below(&w->rng, 6 * SEC);
    if (!lost)
        world_post(w, &w->etcd.proc, delay, arrive, owner, mem_dup(&f, sizeof f), 0);
}
