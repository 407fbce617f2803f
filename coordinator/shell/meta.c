#include "coordinator/shell/meta.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/base/hash.h"
#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/etcd/etcd.h"
#include "common/wire/convert.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"

struct meta {
    struct etcd *etcd;
    char *prefix; /* "/stillpoint/<cluster>/v1/" */
    int64_t leader_revision;
    bool head_known; /* the next three are what etcd holds */
    int64_t head_mod_revision;
    int64_t head_number;
    char head_hash[65];
};

void meta_key(struct meta_key *out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out->text, sizeof out->text, fmt, ap);
    va_end(ap);
    assert(n > 0 && (size_t)n < sizeof out->text);
}

struct meta *meta_new(struct etcd *etcd, const char *cluster)
{
    struct meta *m = mem_zalloc(sizeof *m);
    m->etcd = etcd;
    m->prefix = mem_printf("/stillpoint/%s/v1/", cluster);
    return m;
}

void meta_free(struct meta *m)
{
    if (!m)
        return;
    free(m->prefix);
    free(m);
}

static char *full(const struct meta *m, const char *key)
{
    return mem_printf("%s%s", m->prefix, key);
}

/* ---- leadership ---- */

struct err *meta_grant(struct meta *m, int64_t ttl_ms, int64_t *lease,
                       int64_t *granted_ms)
{
    int64_t granted_s = 0;
    TRY(etcd_lease_grant(m->etcd, ttl_ms / 1000, lease, &granted_s));
    *granted_ms = granted_s * 1000;
    return NULL;
}

struct err *meta_keepalive(struct meta *m, int64_t lease, int64_t *ttl_ms)
{
    int64_t ttl_s = 0;
    struct err *e = etcd_lease_keep(m->etcd, lease, &ttl_s);
    *ttl_ms = ttl_s * 1000;
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e);
        *ttl_ms = 0;
        return NULL;
    }
    return e;
}

void meta_revoke(struct meta *m, int64_t lease)
{
    /* Only a courtesy: an unrevoked lease ends by itself. */
    err_free(etcd_lease_revoke(m->etcd, lease));
}

struct err *meta_campaign(struct meta *m, int64_t lease, const struct node_id *self,
                          bool *won, int64_t *revision, struct node_id *leader)
{
    AUTO(str) char *key = full(m, "leader");
    AUTO(etcd_txn) struct etcd_txn *t = etcd_txn_new();
    etcd_if_absent(t, key);
    etcd_do_put(t, ETCD_THEN, key, self->text, strlen(self->text), lease);
    etcd_do_get(t, ETCD_ELSE, key);
    struct etcd_txn_result res = {0};
    TRY(etcd_commit(m->etcd, t, &res));
    *won = res.succeeded;
    *revision = res.revision;
    *leader = *self;
    if (!res.succeeded && res.n_ranges == 1 && res.ranges[0].n == 1) {
        const struct etcd_kv *kv = &res.ranges[0].kvs[0];
        *won =
            kv->lease == lease; /* an earlier campaign of ours, whose answer was lost */
        *revision = kv->create_revision;
        snprintf(leader->text, sizeof leader->text, "%s", kv->value);
    }
    etcd_txn_result_fini(&res);
    return NULL;
}

void meta_lead(struct meta *m, int64_t revision)
{
    m->leader_revision = revision;
    m->head_known = false;
}

struct err *meta_incarnation(struct meta *m, uint8_t out[16])
{
    AUTO(str) char *key = full(m, "incarnation");
    uint8_t fresh[16];
    if (getrandom(fresh, sizeof fresh, 0) != (ssize_t)sizeof fresh)
        return err_new(ERR_IO, "no random numbers");
    char hex[33];
    hex_encode(fresh, sizeof fresh, hex);
    AUTO(etcd_txn) struct etcd_txn *t = etcd_txn_new();
    etcd_if_absent(t, key);
    etcd_do_put(t, ETCD_THEN, key, hex, strlen(hex), 0);
    etcd_do_get(t, ETCD_ELSE, key);
    struct etcd_txn_result res = {0};
    TRY(etcd_commit(m->etcd, t, &res));
    struct err *e = NULL;
    if (res.succeeded)
        memcpy(out, fresh, sizeof fresh);
    else if (res.n_ranges != 1 || res.ranges[0].n != 1 ||
             !hex_decode(res.ranges[0].kvs[0].value, out, 16))
        e = err_new(ERR_CORRUPT, "key '%s' is not 32 hexadecimal digits", key);
    etcd_txn_result_fini(&res);
    return e;
}

/* ---- transactions ---- */

enum op_kind { OP_IF_MOD, OP_IF_CREATE, OP_PUT, OP_DELETE };
struct op {
    enum op_kind kind;
    struct meta_key key;
    int64_t number; /* a revision, or the lease */
    char *value;    /* PUT: owned */
};
struct link {
    char *actor, *action, *object, *before, *after;
};
struct meta_txn {
    struct op *ops;
    size_t n_ops, cap_ops;
    struct link *links;
    size_t n_links, cap_links;
    enum meta_outcome outcome;
    int64_t revision;
    struct err *err;
};

struct meta_txn *meta_txn_new(void)
{
    struct meta_txn *t = mem_zalloc(sizeof *t);
    t->outcome = META_NOT_DONE;
    return t;
}

void meta_txn_free(struct meta_txn *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_ops; i++)
        free(t->ops[i].value);
    for (size_t i = 0; i < t->n_links; i++) {
        free(t->links[i].actor);
        free(t->links[i].action);
        free(t->links[i].object);
        free(t->links[i].before);
        free(t->links[i].after);
    }
    free(t->ops);
    free(t->links);
    err_free(t->err);
    free(t);
}

static void add(struct meta_txn *t, enum op_kind kind, const struct meta_key *k,
                int64_t number, const char *value)
{
    mem_reserve((void **)&t->ops, &t->cap_ops, t->n_ops, sizeof *t->ops);
    t->ops[t->n_ops++] = (struct op){kind, *k, number, value ? mem_strdup(value) : NULL};
}

void meta_txn_if_mod(struct meta_txn *t, const struct meta_key *k, int64_t mod_revision)
{
    add(t, OP_IF_MOD, k, mod_revision, NULL);
}

void meta_txn_if_create(struct meta_txn *t, const struct meta_key *k, int64_t revision)
{
    add(t, OP_IF_CREATE, k, revision, NULL);
}

void meta_txn_put(struct meta_txn *t, const struct meta_key *k, const char *value,
                  int64_t lease)
{
    add(t, OP_PUT, k, lease, value);
}

void meta_txn_delete(struct meta_txn *t, const struct meta_key *k)
{
    add(t, OP_DELETE, k, 0, NULL);
}

void meta_txn_audit(struct meta_txn *t, const char *actor, const char *action,
                    const char *object, const char *before, const char *after)
{
    mem_reserve((void **)&t->links, &t->cap_links, t->n_links, sizeof *t->links);
    t->links[t->n_links++] =
        (struct link){mem_strdup(actor), mem_strdup(action), mem_strdup(object),
                      mem_strdup(before), mem_strdup(after)};
}

enum meta_outcome meta_txn_outcome(const struct meta_txn *t)
{
    return t->outcome;
}

int64_t meta_txn_revision(const struct meta_txn *t)
{
    return t->revision;
}

const struct err *meta_txn_error(const struct meta_txn *t)
{
    return t->err;
}

void meta_audit_hash(const char *previous, const char *json, char out[65])
{
    struct digest d;
    struct hash *h = hash_new();
    hash_add(h, previous, strlen(previous));
    hash_add(h, json, strlen(json));
    hash_end(h, &d);
    digest_hex(&d, out);
}

static struct err *read_head(struct meta *m)
{
    AUTO(str) char *key = full(m, "audit/head");
    struct etcd_range r = {0};
    TRY(etcd_get(m->etcd, key, &r));
    m->head_number = 0;
    m->head_mod_revision = 0;
    memset(m->head_hash, '0', 64);
    m->head_hash[64] = '\0';
    struct err *e = NULL;
    if (r.n == 1) {
        ProtobufCMessage *msg = NULL;
        e = pbjson_decode(&stillpoint__v1__audit_head__descriptor, r.kvs[0].value,
                          r.kvs[0].value_len, 0, &msg);
        const Stillpoint__V1__AuditHead *h = (const void *)msg;
        if (!e && strlen(h->hash) != 64)
            e = err_new(ERR_CORRUPT, "audit head without a hash");
        if (!e) {
            m->head_number = h->number;
            m->head_mod_revision = r.kvs[0].mod_revision;
            memcpy(m->head_hash, h->hash, 65);
        }
        if (msg)
            wire_free(msg);
    }
    etcd_range_fini(&r);
    m->head_known = e == NULL;
    return e;
}

struct head {
    int64_t number;
    char hash[65];
};

static int64_t unix_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void put_link(struct meta *m, struct etcd_txn *e, const struct link *l,
                     struct head *head)
{
    Stillpoint__V1__AuditRecord rec = STILLPOINT__V1__AUDIT_RECORD__INIT;
    rec.schema = 1;
    rec.number = ++head->number;
    rec.unix_ms = unix_ms();
    rec.actor = l->actor;
    rec.action = l->action;
    rec.object = l->object;
    rec.before = l->before;
    rec.after = l->after;
    char previous[65];
    memcpy(previous, head->hash, sizeof previous);
    rec.previous = previous;
    AUTO(str) char *bare = pbjson_encode(&rec.base, 0);
    meta_audit_hash(previous, bare, head->hash);
    rec.hash = head->hash;
    AUTO(str) char *json = pbjson_encode(&rec.base, 0);
    AUTO(str) char *key = mem_printf("%saudit/%020lld", m->prefix, (long long)rec.number);
    etcd_do_put(e, ETCD_THEN, key, json, strlen(json), 0);
}

static void put_head(struct meta *m, struct etcd_txn *e, const struct head *head)
{
    Stillpoint__V1__AuditHead h = STILLPOINT__V1__AUDIT_HEAD__INIT;
    h.schema = 1;
    h.number = head->number;
    h.hash = (char *)head->hash;
    AUTO(str) char *json = pbjson_encode(&h.base, 0);
    AUTO(str) char *key = full(m, "audit/head");
    etcd_if(e, key, ETCD_MOD, ETCD_EQUAL, m->head_mod_revision);
    etcd_do_put(e, ETCD_THEN, key, json, strlen(json), 0);
}

static void put_op(struct meta *m, struct etcd_txn *e, const struct op *op)
{
    AUTO(str) char *key = full(m, op->key.text);
    switch (op->kind) {
    case OP_IF_MOD:
        etcd_if(e, key, ETCD_MOD, ETCD_EQUAL, op->number);
        return;
    case OP_IF_CREATE:
        etcd_if(e, key, ETCD_CREATE, ETCD_EQUAL, op->number);
        return;
    case OP_PUT:
        etcd_do_put(e, ETCD_THEN, key, op->value, strlen(op->value), op->number);
        return;
    case OP_DELETE:
        etcd_do_delete(e, ETCD_THEN, key);
        return;
    }
}

static struct err *commit(struct meta *m, struct meta_txn *t)
{
    AUTO(etcd_txn) struct etcd_txn *e = etcd_txn_new();
    AUTO(str) char *leader = full(m, "leader");
    etcd_if(e, leader, ETCD_CREATE, ETCD_EQUAL, m->leader_revision);
    for (size_t i = 0; i < t->n_ops; i++)
        put_op(m, e, &t->ops[i]);
    struct head head = {.number = m->head_number};
    memcpy(head.hash, m->head_hash, sizeof head.hash);
    for (size_t i = 0; i < t->n_links; i++)
        put_link(m, e, &t->links[i], &head);
    if (t->n_links)
        put_head(m, e, &head);
    struct etcd_txn_result res = {0};
    struct err *err = etcd_commit(m->etcd, e, &res);
    if (err) {
        m->head_known = false;
        return err;
    }
    t->outcome = res.succeeded ? META_DONE : META_CONFLICT;
    t->revision = res.revision;
    if (res.succeeded && t->n_links) {
        m->head_number = head.number;
        memcpy(m->head_hash, head.hash, sizeof head.hash);
        m->head_mod_revision = res.revision;
    } else if (!res.succeeded) {
        m->head_known = false;
    }
    etcd_txn_result_fini(&res);
    return NULL;
}

void meta_txn_run(struct meta *m, struct meta_txn *t)
{
    t->outcome = META_NOT_DONE;
    if (!m->head_known)
        t->err = read_head(m);
    if (t->err)
        return;
    t->err = commit(m, t);
    if (t->err && t->err->kind == ERR_TIMEOUT)
        t->outcome = META_UNKNOWN;
}

/* ---- reading ---- */

void meta_list_fini(struct meta_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].key);
        free(l->items[i].value);
    }
    free(l->items);
    *l = (struct meta_list){0};
}

static void take(const struct meta *m, struct etcd_range *r, struct meta_list *out)
{
    out->items = mem_array(r->n, sizeof *out->items);
    out->n = r->n;
    for (size_t i = 0; i < r->n; i++) {
        struct etcd_kv *kv = &r->kvs[i];
        out->items[i] = (struct meta_record){
            .key = mem_strdup(kv->key + strlen(m->prefix)),
            .value = STEAL(kv->value),
            .n = kv->value_len,
            .create_revision = kv->create_revision,
            .mod_revision = kv->mod_revision,
            .lease = kv->lease,
        };
    }
    etcd_range_fini(r);
}

struct err *meta_scan(struct meta *m, const char *prefix, struct meta_list *out)
{
    AUTO(str) char *key = full(m, prefix);
    struct etcd_range r = {0};
    TRY(etcd_list(m->etcd, key, 0, 0, &r));
    take(m, &r, out);
    return NULL;
}

struct err *meta_get(struct meta *m, const struct meta_key *k, struct meta_list *out)
{
    AUTO(str) char *key = full(m, k->text);
    struct etcd_range r = {0};
    TRY(etcd_get(m->etcd, key, &r));
    take(m, &r, out);
    return NULL;
}

struct err *meta_audit(struct meta *m, int64_t from, int most, struct meta_list *out)
{
    out->items = mem_array((size_t)most, sizeof *out->items);
    for (int64_t number = from; out->n < (size_t)most; number++) {
        struct meta_key k;
        struct meta_list one = {0};
        meta_key(&k, "audit/%020lld", (long long)number);
        TRY(meta_get(m, &k, &one));
        if (one.n == 0) {
            meta_list_fini(&one);
            break;
        }
        out->items[out->n++] = one.items[0];
        free(one.items);
    }
    return NULL;
}
