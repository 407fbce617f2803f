#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/etcd/call.h"
#include "common/etcd/json.h"

/* One page. `after` is the last key of the page before, or NULL. */
static json_t *range_request(const char *prefix, const char *after, int64_t revision,
                             size_t limit)
{
    json_t *body = json_object();
    etcd_set_prefix(body, prefix);
    if (after) /* the next possible key: with a NUL behind it */
        etcd_set_bytes(body, "key", after, strlen(after) + 1);
    if (revision)
        etcd_set_number(body, "revision", revision);
    etcd_set_number(body, "limit", (int64_t)limit);
    return body;
}

static struct err *read_page(struct etcd *e, const char *prefix, int64_t revision,
                             size_t limit, struct etcd_range *out, size_t *cap)
{
    const char *after = out->n > 0 ? out->kvs[out->n - 1].key : NULL;
    AUTO(etcd_json) json_t *reply = NULL;
    TRY(etcd_call(e, "kv/range", range_request(prefix, after, revision, limit),
                  ETCD_REPEATABLE, &reply));
    size_t before = out->n;
    TRY(etcd_read_range(reply, out, cap));
    if (out->more && out->n == before)
        return err_new(ERR_CORRUPT, "etcd kv/range: more keys but none in the page");
    return NULL;
}

static struct err *read_pages(struct etcd *e, const char *prefix, int64_t revision,
                              size_t limit, struct etcd_range *out)
{
    size_t cap = 0;
    size_t page = ETCD_PAGE;
    do {
        size_t want = limit && limit - out->n < page ? limit - out->n : page;
        struct err *err = read_page(e, prefix, revision, want, out, &cap);
        if (err && err->kind == ERR_LIMIT && page > 1) {
            err_free(err); /* large values: fewer at a time */
            page = page > 8 ? page / 8 : 1;
            out->more = true;
            continue;
        }
        TRY(err);
        if (!revision)
            revision = out->revision; /* the other pages show the same state */
    } while (out->more && (!limit || out->n < limit));
    out->revision = revision;
    return NULL;
}

struct err *etcd_list(struct etcd *e, const char *prefix, int64_t revision, size_t limit,
                      struct etcd_range *out)
{
    *out = (struct etcd_range){0};
    struct err *err = read_pages(e, prefix, revision, limit, out);
    if (err)
        etcd_range_fini(out);
    return err;
}

struct err *etcd_get(struct etcd *e, const char *key, struct etcd_range *out)
{
    *out = (struct etcd_range){0};
    json_t *body = json_object();
    etcd_set_bytes(body, "key", key, strlen(key));
    AUTO(etcd_json) json_t *reply = NULL;
    TRY(etcd_call(e, "kv/range", body, ETCD_REPEATABLE, &reply));
    size_t cap = 0;
    struct err *err = etcd_read_range(reply, out, &cap);
    if (!err && out->n > 1)
        err = err_new(ERR_CORRUPT, "etcd kv/range: %zu keys instead of one", out->n);
    if (err)
        etcd_range_fini(out);
    return err;
}

static struct err *check_size(const char *key, size_t len)
{
    if (strlen(key) + len > ETCD_REQUEST_BYTES)
        return err_new(ERR_LIMIT, "value of %zu bytes is larger than %d", len,
                       ETCD_REQUEST_BYTES);
    return NULL;
}

struct err *etcd_put(struct etcd *e, const char *key, const void *value, size_t len,
                     int64_t lease, int64_t *revision)
{
    TRY_CTX(check_size(key, len), "put '%s'", key);
    json_t *body = json_object();
    etcd_set_bytes(body, "key", key, strlen(key));
    etcd_set_bytes(body, "value", value, len);
    if (lease)
        etcd_set_number(body, "lease", lease);
    AUTO(etcd_json) json_t *reply = NULL;
    TRY(etcd_call(e, "kv/put", body, ETCD_ONCE, &reply));
    int64_t at;
    TRY(etcd_get_number(json_object_get(reply, "header"), "revision", &at));
    if (revision)
        *revision = at;
    return NULL;
}

static struct err *delete_range(struct etcd *e, json_t *body, int64_t *deleted)
{
    AUTO(etcd_json) json_t *reply = NULL;
    TRY(etcd_call(e, "kv/deleterange", body, ETCD_ONCE, &reply));
    int64_t n;
    TRY(etcd_get_number(reply, "deleted", &n));
    if (deleted)
        *deleted = n;
    return NULL;
}

struct err *etcd_delete(struct etcd *e, const char *key, int64_t *deleted)
{
    json_t *body = json_object();
    etcd_set_bytes(body, "key", key, strlen(key));
    return delete_range(e, body, deleted);
}

struct err *etcd_delete_prefix(struct etcd *e, const char *prefix, int64_t *deleted)
{
    json_t *body = json_object();
    etcd_set_prefix(body, prefix);
    return delete_range(e, body, deleted);
}

struct err *etcd_compact(struct etcd *e, int64_t revision)
{
    json_t *body = json_object();
    etcd_set_number(body, "revision", revision);
    json_object_set_new(body, "physical", json_true());
    AUTO(etcd_json) json_t *reply = NULL;
    return etcd_call(e, "kv/compaction", body, ETCD_ONCE, &reply);
}

/* --- leases ------------------------------------------------------------------------- */

struct err *etcd_lease_grant(struct etcd *e, int64_t ttl_s, int64_t *id,
                             int64_t *granted_s)
{
    json_t *body = json_object();
    etcd_set_number(body, "TTL", ttl_s);
    AUTO(etcd_json) json_t *reply = NULL;
    TRY(etcd_call(e, "lease/grant", body, ETCD_ONCE, &reply));
    TRY(etcd_get_number(reply, "ID", id));
    TRY(etcd_get_number(reply, "TTL", granted_s));
    if (*id == 0 || *granted_s <= 0)
        return err_new(ERR_CORRUPT, "etcd lease/grant: no lease in the reply");
    return NULL;
}

struct err *etcd_lease_keep(struct etcd *e, int64_t id, int64_t *ttl_s)
{
    json_t *body = json_object();
    etcd_set_number(body, "ID", id);
    AUTO(etcd_json) json_t *reply = NULL;
    TRY(etcd_call(e, "lease/keepalive", body, ETCD_REPEATABLE, &reply));
    const json_t *result = json_object_get(reply, "result");
    if (!json_is_object(result))
        return err_new(ERR_CORRUPT, "etcd lease/keepalive: no result in the reply");
    TRY(etcd_get_number(result, "TTL", ttl_s));
    if (*ttl_s <= 0) /* a dead lease is no error for etcd */
        return err_new(ERR_NOT_FOUND, "lease %lld is gone", (long long)id);
    return NULL;
}

struct err *etcd_lease_revoke(struct etcd *e, int64_t id)
{
    json_t *body = json_object();
    etcd_set_number(body, "ID", id);
    AUTO(etcd_json) json_t *reply = NULL;
    return etcd_call(e, "lease/revoke", body, ETCD_ONCE, &reply);
}
