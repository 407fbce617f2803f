/* PROTOCOL.md step 0.2 and 6.1: the locks of the group and of its domains, under the
 * leader's lease. One transaction, or several where there are more domains than etcd
 * takes at once: then each compares the group's lock, and a run that finds a domain held
 * gives back all that it has before it waits, so that two never wait for each other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "coordinator/shell/run.h"

enum { LOCK_BATCH = META_TXN_OPS - 1 }; /* domains; the other is the group's lock */

/* What is read when the transaction did not simply succeed. */
struct look {
    uint64_t serial;
    struct meta_key key;
    struct meta_list lock;
    struct err *err;
};

static void drop_look(void *arg)
{
    struct look *l = arg;
    meta_list_fini(&l->lock);
    err_free(l->err);
    free(l);
}

static void try_again(void *arg)
{
    struct run *r = arg;
    if (loop_now_ms() < r->lock_until_ms || r->recovering) {
        run_lock(r);
        return;
    }
    run_refuse(
        r, err_new(ERR_CONFLICT,
                   "the locks of group '%s' are held by a coordinator that is gone and "
                   "whose lease has not ended: try again in a few seconds",
                   r->draft->group));
}

static void work_look(struct meta *m, void *arg)
{
    struct look *l = arg;
    l->err = meta_get(m, &l->key, &l->lock);
}

/* An aborted run keeps its locks until its agents have been told; of one that has ended
 * they remain until they are deleted, by the sweep if nothing was heard of that. */
static bool is_under_way(const struct coord *c, const char *set)
{
    const struct run *r = run_of(c, set);
    return r && run_phase(r) != STILLPOINT__V1__SET_STATE__SET_ABORTED;
}

static size_t batch_n(const struct run *r)
{
    size_t left = r->n_domains - r->n_locked;
    return left < LOCK_BATCH ? left : LOCK_BATCH;
}

/* The first key of the batch stands for all of it. */
static void batch_key(const struct run *r, struct meta_key *k)
{
    if (r->lock_revision == 0)
        meta_key(k, "locks/groups/%s", r->draft->group);
    else
        meta_key(k, "locks/domains/%s", r->domains[r->n_locked].text);
}

static void batch_done(struct run *r, int64_t revision)
{
    if (r->lock_revision == 0)
        r->lock_revision = revision;
    r->n_locked += batch_n(r);
    if (r->n_locked < r->n_domains)
        run_lock(r);
    else
        run_locked(r);
}

static void give_back(struct run *r)
{
    if (r->lock_revision == 0)
        return;
    run_unlock(r->coord, r->draft->group, r->lock_revision, r->domains, r->n_locked);
    r->lock_revision = 0;
    r->n_locked = 0;
}

/* The lock's value is the set's name: after an unknown outcome it tells whether it is
 * ours. */
static void done_look(struct coord *c, void *arg)
{
    struct look *l = arg;
    struct run *r = run_find(c, l->serial);
    if (!r)
        return;
    const struct meta_record *held = l->err || l->lock.n == 0 ? NULL : l->lock.items;
    bool same_lease = held && held->lease == c->lead.lease;
    if (same_lease && strcmp(held->value, r->set.text) == 0) {
        batch_done(r, held->create_revision);
        return;
    }
    if (same_lease && r->lock_revision == 0 && !r->recovering &&
        is_under_way(c, held->value)) {
        run_refuse(r,
                   err_new(ERR_CONFLICT,
                           "set '%s' of group '%s' is being taken: wait for it, or watch "
                           "it with `stillpoint set create --watch`",
                           held->value, r->draft->group));
        return;
    }
    /* Held by the lease of a leader that is gone or by a run that is over but for telling
     * so, or one of the domains is held by another group's run. */
    give_back(r);
    loop_timer_set(c->loop, &r->timer, COORD_LOCK_RETRY_MS, try_again, r);
}

static void on_lock(struct coord *c, struct meta_txn *t, void *arg)
{
    struct run *r = run_find(c, *(uint64_t *)arg);
    if (!r)
        return;
    if (meta_txn_outcome(t) == META_DONE) {
        batch_done(r, meta_txn_revision(t));
        return;
    }
    struct look *l = mem_zalloc(sizeof *l);
    l->serial = r->serial;
    batch_key(r, &l->key);
    store_job(c, work_look, done_look, drop_look, l);
}

/* Taken over sets lock the domains that their nodes' partitions have now. */
static void find_domains(struct run *r)
{
    if (r->domains)
        return;
    r->domains = mem_array(r->draft->n_parts, sizeof *r->domains);
    for (size_t i = 0; i < r->draft->n_parts; i++) {
        const Stillpoint__V1__Part *p = r->draft->parts[i];
        const struct node_entry *n = node_find(r->coord, p->node);
        for (size_t k = 0; n && run_is_planned(p) && k < n->record->n_partitions; k++) {
            const char *domain = n->record->partitions[k]->domain;
            bool known = false;
            for (size_t d = 0; d < r->n_domains; d++)
                known |= strcmp(r->domains[d].text, domain) == 0;
            if (!known && strcmp(n->record->partitions[k]->partition, p->partition) == 0)
                snprintf(r->domains[r->n_domains++].text, DOMAIN_BYTES, "%s", domain);
        }
    }
}

void run_lock(struct run *r)
{
    struct coord *c = r->coord;
    find_domains(r);
    if (r->lock_until_ms == 0)
        r->lock_until_ms = loop_now_ms() + COORD_LOCK_WAIT_MS;
    struct meta_txn *t = meta_txn_new();
    struct meta_key k;
    meta_key(&k, "locks/groups/%s", r->draft->group);
    if (r->lock_revision == 0) {
        meta_txn_if_mod(t, &k, 0);
        meta_txn_put(t, &k, r->set.text, c->lead.lease);
        if (r->rehearsal) /* a set's record has its own */
            meta_txn_audit(t, r->actor, "group.rehearse", r->draft->group, "",
                           r->set.text);
    } else {
        meta_txn_if_create(t, &k, r->lock_revision);
    }
    for (size_t i = r->n_locked, end = i + batch_n(r); i < end; i++) {
        meta_key(&k, "locks/domains/%s", r->domains[i].text);
        meta_txn_if_mod(t, &k, 0);
        meta_txn_put(t, &k, r->set.text, c->lead.lease);
    }
    store_submit(c, t, on_lock, free, mem_dup(&r->serial, sizeof r->serial));
}

/* ---- orphans ---- */

struct sweep {
    struct meta_list locks;
    struct err *err;
};

static void drop_sweep(void *arg)
{
    struct sweep *s = arg;
    meta_list_fini(&s->locks);
    err_free(s->err);
    free(s);
}

static void work_sweep(struct meta *m, void *arg)
{
    struct sweep *s = arg;
    s->err = meta_scan(m, "locks/", &s->locks);
}

static void on_swept(struct coord *c, struct meta_txn *t, void *arg)
{
    (void)c;
    (void)t;
    (void)arg; /* the next sweep finds what remains */
}

static void done_sweep(struct coord *c, void *arg)
{
    struct sweep *s = arg;
    for (size_t i = 0; i < s->locks.n; i++) {
        const struct meta_record *lock = &s->locks.items[i];
        if (lock->lease != c->lead.lease || run_exists(c, lock->value))
            continue;
        struct meta_txn *t = meta_txn_new();
        struct meta_key k;
        meta_key(&k, "%s", lock->key);
        meta_txn_if_create(t, &k, lock->create_revision);
        meta_txn_delete(t, &k);
        log_warn("lock", "orphan", "key=%s set=%s", lock->key, lock->value);
        store_submit(c, t, on_swept, NULL, NULL);
    }
}

void locks_sweep(struct coord *c)
{
    store_job(c, work_sweep, done_sweep, drop_sweep, mem_zalloc(sizeof(struct sweep)));
}
