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
    for (int i = 0; i < SIM_GROUPS; i++)
        if (e->group_locks[i].lease == lease)
            drop_key(e, &e->group_locks[i]);
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (e->domain_locks[i][d].lease == lease)
                drop_key(e, &e->domain_locks[i][d]);
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

static bool is_wanted(const struct sim_plan *p, int node, int domain)
{
    return sim_domain_mask(node, p->parts[node]) >> domain & 1;
}

static void lock(struct world *w, struct etcd_request *r, int owner)
{
    struct sim_etcd *e = &w->etcd;
    const struct sim_plan *p = &w->sets[r->set];
    struct sim_key *group = &e->group_locks[p->group];
    bool taken = group->exists;
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            taken |= is_wanted(p, i, d) && e->domain_locks[i][d].exists;
    r->success = !taken && leads(e, r) && find_lease(e, r->lease);
    if (!r->success)
        return;
    put(e, group, r->lease, owner);
    /* One transaction: all its keys carry the same revision, as in etcd. */
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            if (is_wanted(p, i, d))
                e->domain_locks[i][d] = *group;
    r->result = group->create_revision;
}

static void unlock_key(struct sim_etcd *e, struct sim_key *k, struct etcd_request *r)
{
    if (!k->exists || k->create_revision != r->lock)
        return;
    drop_key(e, k);
    r->success = true;
}

static void unlock(struct sim_etcd *e, struct etcd_request *r)
{
    for (int i = 0; i < SIM_GROUPS; i++)
        unlock_key(e, &e->group_locks[i], r);
    for (int i = 0; i < SIM_NODES; i++)
        for (int d = 0; d < SIM_DOMAINS; d++)
            unlock_key(e, &e->domain_locks[i][d], r);
}

static bool holds(const struct world *w, const struct etcd_request *r)
{
    const struct sim_key *k = &w->etcd.group_locks[w->sets[r->set].group];
    return k->exists && k->create_revision == r->lock;
}

static void record_proofs(struct sim_record *rec, const struct etcd_request *r)
{
    rec->proofs = r->proofs;
    rec->true_proofs = r->true_proofs;
    for (int i = 0; i < SIM_NODES; i++)
        rec->parts[i] = r->parts[i];
}

static void write_set(struct world *w, struct etcd_request *r, int owner)
{
    struct sim_etcd *e = &w->etcd;
    struct sim_record *rec = &e->sets[r->set];
    bool unchanged = r->op == ETCD_OPEN
                         ? !rec->key.exists
                         : rec->key.exists && rec->key.mod_revision == r->mod_revision;
    r->success = holds(w, r) && unchanged;
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
        record_proofs(rec, r);
    r->result = rec->key.mod_revision;
    note(w, "etcd: set %d is stored in state %d by coordinator %d", r->set,
         (int)rec->state, owner);
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
        lock(w, r, owner);
        break;
    case ETCD_UNLOCK:
        unlock(e, r);
        break;
    case ETCD_OPEN:
    case ETCD_CAPTURE:
    case ETCD_ABORT:
        write_set(w, r, owner);
        break;
    case ETCD_READ:
        r->record = e->sets[r->set];
        r->success = holds(w, r);
        break;
    case ETCD_WATCH_LEADER:
        watch(e, r);
        break;
    }
}

struct flight {
    struct etcd_request req;
    struct sim_coord *from;
    unsigned generation;
    event_fn *done;
    bool reply_lost;
};

/* At etcd: the sender may be dead by now; the request is applied all the same. */
static void arrive(struct world *w, struct event *ev)
{
    struct flight *f = ev->data;
    struct sim_coord *c = f->from;
    apply(w, &f->req, c->index);
    if (f->reply_lost || f->generation != c->proc.generation)
        return;
    f->req.ok = true;
    world_post_as(w, &c->proc, 1 + below(w, 3), f->done, "etcd_answers", c,
                  mem_dup(&f->req, sizeof f->req), 0, NULL);
}

void etcd_send(struct world *w, struct sim_coord *c, const struct etcd_request *req,
               event_fn *done)
{
    struct flight f = {
        .req = *req, .from = c, .generation = c->proc.generation, .done = done};
    f.req.sent_ms = clock_now(w, &c->clock);
    int64_t delay = 1 + below(w, 3);
    bool away = w->now_ms < w->etcd.away_until_ms;
    bool lost = away || chance(w, w->faults.etcd_lost_permille);
    f.reply_lost = lost || chance(w, w->faults.etcd_lost_permille);
    if (f.reply_lost) {
        f.req.ok = false;
        world_post_as(w, &c->proc, SIM_ETCD_TIMEOUT_MS, done, "etcd_is_silent", c,
                      mem_dup(&f.req, sizeof f.req), 0, NULL);
    }
    if (f.reply_lost && chance(w, 300)) /* applied when nobody expects it any more */
        delay += below(w, 6 * SEC);
    else if (chance(w, w->faults.etcd_slow_permille))
        delay += below(w, SIM_ETCD_TIMEOUT_MS / 2);
    if (!lost)
        world_post(w, &w->etcd.proc, delay, arrive, c, mem_dup(&f, sizeof f), 0);
}
