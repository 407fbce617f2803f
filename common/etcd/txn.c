#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/etcd/call.h"
#include "common/etcd/json.h"

struct branch {
    json_t *ops;
    bool is_get[ETCD_TXN_OPS];
    size_t n; /* may be beyond the limit: then the transaction is refused */
};

struct etcd_txn {
    json_t *compares;
    size_t n_compares;
    struct branch branches[2]; /* by enum etcd_branch */
    size_t bytes;
    bool writes;
};

struct etcd_txn *etcd_txn_new(void)
{
    struct etcd_txn *t = mem_zalloc(sizeof *t);
    t->compares = json_array();
    t->branches[ETCD_THEN].ops = json_array();
    t->branches[ETCD_ELSE].ops = json_array();
    return t;
}

void etcd_txn_free(struct etcd_txn *t)
{
    if (!t)
        return;
    json_decref(t->compares);
    json_decref(t->branches[ETCD_THEN].ops);
    json_decref(t->branches[ETCD_ELSE].ops);
    free(t);
}

/* --- compares ----------------------------------------------------------------------- */

static json_t *add_compare(struct etcd_txn *t, const char *key, const char *target,
                           enum etcd_relation relation)
{
    static const char *const relations[] = {"EQUAL", "NOT_EQUAL", "GREATER", "LESS"};
    assert((size_t)relation < ARRAY_LEN(relations));
    json_t *c = json_object();
    etcd_set_bytes(c, "key", key, strlen(key));
    /* Never left out: without target and result etcd compares version = 0. */
    json_object_set_new(c, "target", json_string(target));
    json_object_set_new(c, "result", json_string(relations[relation]));
    json_array_append_new(t->compares, c);
    t->n_compares++;
    t->bytes += strlen(key);
    return c;
}

void etcd_if(struct etcd_txn *t, const char *key, enum etcd_target target,
             enum etcd_relation relation, int64_t number)
{
    static const struct {
        const char *name, *member;
    } targets[] = {
        [ETCD_CREATE] = {"CREATE", "create_revision"},
        [ETCD_MOD] = {"MOD", "mod_revision"},
        [ETCD_VERSION] = {"VERSION", "version"},
        [ETCD_LEASE] = {"LEASE", "lease"},
    };
    assert((size_t)target < ARRAY_LEN(targets));
    json_t *c = add_compare(t, key, targets[target].name, relation);
    etcd_set_number(c, targets[target].member, number);
}

void etcd_if_value(struct etcd_txn *t, const char *key, enum etcd_relation relation,
                   const void *value, size_t len)
{
    etcd_set_bytes(add_compare(t, key, "VALUE", relation), "value", value, len);
    t->bytes += len;
}

/* --- operations --------------------------------------------------------------------- */

/* Returns the request to fill in; borrowed. */
static json_t *add_op(struct etcd_txn *t, enum etcd_branch b, const char *name)
{
    struct branch *branch = &t->branches[b];
    bool is_get = strcmp(name, "request_range") == 0;
    if (branch->n < ETCD_TXN_OPS)
        branch->is_get[branch->n] = is_get;
    branch->n++;
    t->writes |= !is_get;
    json_t *request = json_object();
    json_t *op = json_object();
    json_object_set_new(op, name, request);
    json_array_append_new(branch->ops, op);
    return request;
}

void etcd_do_put(struct etcd_txn *t, enum etcd_branch b, const char *key,
                 const void *value, size_t len, int64_t lease)
{
    json_t *r = add_op(t, b, "request_put");
    etcd_set_bytes(r, "key", key, strlen(key));
    etcd_set_bytes(r, "value", value, len);
    if (lease)
        etcd_set_number(r, "lease", lease);
    t->bytes += strlen(key) + len;
}

void etcd_do_delete(struct etcd_txn *t, enum etcd_branch b, const char *key)
{
    etcd_set_bytes(add_op(t, b, "request_delete_range"), "key", key, strlen(key));
    t->bytes += strlen(key);
}

void etcd_do_delete_prefix(struct etcd_txn *t, enum etcd_branch b, const char *prefix)
{
    etcd_set_prefix(add_op(t, b, "request_delete_range"), prefix);
    t->bytes += strlen(prefix);
}

void etcd_do_get(struct etcd_txn *t, enum etcd_branch b, const char *key)
{
    etcd_set_bytes(add_op(t, b, "request_range"), "key", key, strlen(key));
    t->bytes += strlen(key);
}

/* --- commit ------------------------------------------------------------------------- */

static struct err *check(const struct etcd_txn *t)
{
    size_t ops = t->branches[ETCD_THEN].n > t->branches[ETCD_ELSE].n
                     ? t->branches[ETCD_THEN].n
                     : t->branches[ETCD_ELSE].n;
    if (ops > ETCD_TXN_OPS || t->n_compares > ETCD_TXN_OPS)
        return err_new(ERR_LIMIT, "transaction of %zu compares and %zu operations",
                       t->n_compares, ops);
    if (t->bytes > ETCD_REQUEST_BYTES)
        return err_new(ERR_LIMIT, "transaction of %zu bytes is larger than %d", t->bytes,
                       ETCD_REQUEST_BYTES);
    if (ops == 0)
        return err_new(ERR_INVALID, "transaction without an operation");
    return NULL;
}

void etcd_txn_result_fini(struct etcd_txn_result *r)
{
    for (size_t i = 0; i < r->n_ranges; i++)
        etcd_range_fini(&r->ranges[i]);
    free(r->ranges);
    *r = (struct etcd_txn_result){0};
}

static struct err *read_result(const struct etcd_txn *t, const json_t *reply,
                               struct etcd_txn_result *out)
{
    out->succeeded = json_is_true(json_object_get(reply, "succeeded"));
    TRY(etcd_get_number(json_object_get(reply, "header"), "revision", &out->revision));
    const struct branch *ran = &t->branches[out->succeeded ? ETCD_THEN : ETCD_ELSE];
    const json_t *responses = json_object_get(reply, "responses");
    if (json_array_size(responses) != ran->n)
        return err_new(ERR_CORRUPT, "etcd kv/txn: %zu responses to %zu operations",
                       json_array_size(responses), ran->n);
    out->ranges = mem_array(ran->n, sizeof *out->ranges);
    for (size_t i = 0; i < ran->n; i++) {
        if (!ran->is_get[i])
            continue;
        size_t cap = 0;
        const json_t *response = json_array_get(responses, i);
        struct etcd_range *range = &out->ranges[out->n_ranges++];
        TRY(etcd_read_range(json_object_get(response, "response_range"), range, &cap));
        range->revision = out->revision;
    }
    return NULL;
}

struct err *etcd_commit(struct etcd *e, const struct etcd_txn *t,
                        struct etcd_txn_result *out)
{
    *out = (struct etcd_txn_result){0};
    TRY(check(t));
    json_t *body = json_object();
    json_object_set(body, "compare", t->compares);
    json_object_set(body, "success", t->branches[ETCD_THEN].ops);
    json_object_set(body, "failure", t->branches[ETCD_ELSE].ops);
    AUTO(etcd_json) json_t *reply = NULL;
    TRY(etcd_call(e, "kv/txn", body, t->writes ? ETCD_ONCE : ETCD_REPEATABLE, &reply));
    struct err *err = read_result(t, reply, out);
    if (err)
        etcd_txn_result_fini(out);
    return err;
}
