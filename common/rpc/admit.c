#include <assert.h>
#include <grpc/support/alloc.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/rpc/server_internal.h"

/* FNV-1a: only chooses a slot; the whole text is compared. */
static size_t slot_of(const char *pem, size_t len)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)pem[i]) * 1099511628211u;
    return h % RPC_IDENTITIES;
}

static struct err *identify(struct rpc_server *s, const char *pem, size_t len,
                            struct rpc_identity *out)
{
    struct rpc_known_peer *k = &s->known[slot_of(pem, len)];
    if (k->pem && k->len == len && memcmp(k->pem, pem, len) == 0) {
        *out = k->identity;
        return NULL;
    }
    TRY(rpc_identity_from_pem(pem, len, out));
    if (strcmp(out->cluster, s->cluster) != 0)
        return err_new(ERR_DENIED, "peer belongs to cluster \"%s\"", out->cluster);
    free(k->pem);
    *k = (struct rpc_known_peer){mem_dup(pem, len), len, *out};
    return NULL;
}

void rpc_forget_peers(struct rpc_server *s)
{
    for (size_t i = 0; i < RPC_IDENTITIES; i++)
        free(s->known[i].pem);
    memset(s->known, 0, sizeof s->known);
}

static struct err *peer_of(struct rpc_server *s, struct rpc_call *c)
{
    grpc_auth_context *auth = grpc_call_auth_context(c->call);
    struct err *e = NULL;
    if (auth) {
        grpc_auth_property_iterator it = grpc_auth_context_find_properties_by_name(
            auth, GRPC_X509_PEM_CERT_PROPERTY_NAME);
        const grpc_auth_property *p = grpc_auth_property_iterator_next(&it);
        e = p ? identify(s, p->value, p->value_length, &c->peer)
              : err_new(ERR_DENIED, "peer shows no certificate");
        grpc_auth_context_release(auth);
    } else {
        e = err_new(ERR_DENIED, "peer is not authenticated");
    }
    return e;
}

static void describe_peer(struct rpc_call *c)
{
    char *raw = grpc_call_get_peer(c->call);
    const char *address = strchr(raw, ':');
    c->from = mem_printf("%s@%s", c->peer.role ? c->peer.name : "unknown",
                         address ? address + 1 : raw);
    gpr_free(raw);
}

static bool slice_is(grpc_slice s, const char *text)
{
    size_t n = strlen(text);
    return GRPC_SLICE_LENGTH(s) == n && memcmp(GRPC_SLICE_START_PTR(s), text, n) == 0;
}

static struct err *route_of(const struct rpc_server *s, struct rpc_call *c)
{
    for (size_t i = 0; i < s->n_routes && !c->route; i++)
        if (slice_is(c->details.method, s->routes[i].path))
            c->route = &s->routes[i];
    if (!c->route)
        return err_new(ERR_INVALID, "no such method");
    if (c->route->roles & c->peer.role)
        return NULL;
    return err_new(ERR_DENIED, "role %s may not call %s", rpc_role_name(c->peer.role),
                   c->route->path);
}

/* 00-<32 hex>-<16 hex>-<2 hex>, lower case; the ids are not all zero. Anything else
 * restarts the trace, as the W3C's text wants. */
static bool is_traceparent(const char *s)
{
    static const char zeros[] = "00000000000000000000000000000000";
    for (int i = 0; i < RPC_TRACEPARENT_BYTES; i++) {
        bool dash = i == 2 || i == 35 || i == 52;
        if (dash ? s[i] != '-' : !s[i] || !strchr("0123456789abcdef", s[i]))
            return false;
    }
    return memcmp(s, "00", 2) == 0 && memcmp(s + 3, zeros, 32) != 0 &&
           memcmp(s + 36, zeros, 16) != 0;
}

static void read_trace(struct rpc_call *c)
{
    for (size_t i = 0; i < c->metadata.count; i++) {
        const grpc_metadata *m = &c->metadata.metadata[i];
        if (!slice_is(m->key, "traceparent") ||
            GRPC_SLICE_LENGTH(m->value) != RPC_TRACEPARENT_BYTES)
            continue;
        memcpy(c->traceparent, GRPC_SLICE_START_PTR(m->value), RPC_TRACEPARENT_BYTES);
        if (!is_traceparent(c->traceparent))
            c->traceparent[0] = '\0';
    }
}

static void read_deadline(struct rpc_call *c)
{
    gpr_timespec d = c->details.deadline;
    c->deadline_ms = INT64_MAX;
    if (gpr_time_cmp(d, gpr_inf_future(d.clock_type)) == 0)
        return;
    int64_t left = gpr_time_to_millis(gpr_time_sub(d, gpr_now(d.clock_type)));
    c->deadline_ms = loop_now_ms() + (left > 0 ? left : 0);
}

static struct err *admit(struct rpc_server *s, struct rpc_call *c)
{
    TRY(peer_of(s, c));
    TRY(route_of(s, c));
    if (s->stopping)
        return err_new(ERR_UNAVAILABLE, "server is stopping");
    if (s->n_calls > s->max_calls)
        return err_new(ERR_UNAVAILABLE, "server has %d calls already", s->max_calls);
    return NULL;
}

struct err *rpc_admit(struct rpc_server *s, struct rpc_call *c)
{
    struct err *e = admit(s, c);
    describe_peer(c);
    read_deadline(c);
    read_trace(c);
    return e;
}
