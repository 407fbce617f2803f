#include <string.h>

#include "common/base/mem.h"
#include "common/rpc/server_internal.h"
#include "grpc/health.pb-c.h"

/* The states of the health protocol, and who watches them. A service is kept from its
 * first naming on, also when a watcher named it, since it may come yet. */

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus health_state;
#define STATE(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

struct watcher {
    struct rpc_call *call;
    char *service;
    struct rpc_health *health;
    struct watcher *next;
};

struct service {
    char *name;
    bool serving;
    struct service *next;
};

struct rpc_health {
    struct service *services;
    struct watcher *watchers;
    bool draining;
};

struct rpc_health *rpc_health_new(void)
{
    struct rpc_health *h = mem_zalloc(sizeof *h);
    rpc_health_set(h, "", true);
    return h;
}

void rpc_health_free(struct rpc_health *h)
{
    while (h && h->services) {
        struct service *s = h->services;
        h->services = s->next;
        free(s->name);
        free(s);
    }
    free(h);
}

static struct service *find(const struct rpc_health *h, const char *name)
{
    for (struct service *s = h->services; s; s = s->next)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

static health_state state_of(const struct rpc_health *h, const char *name)
{
    const struct service *s = find(h, name);
    if (!s)
        return STATE(SERVICE_UNKNOWN);
    return s->serving && !h->draining ? STATE(SERVING) : STATE(NOT_SERVING);
}

static void tell(struct watcher *w)
{
    Grpc__Health__V1__HealthCheckResponse reply =
        GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    reply.status = state_of(w->health, w->service);
    rpc_send(w->call, &reply.base);
}

void rpc_health_set(struct rpc_health *h, const char *service, bool serving)
{
    struct service *s = find(h, service);
    if (s && s->serving == serving)
        return;
    if (!s) {
        s = mem_zalloc(sizeof *s);
        s->name = mem_strdup(service);
        s->next = h->services;
        h->services = s;
    }
    s->serving = serving;
    for (struct watcher *w = h->watchers; w; w = w->next)
        if (strcmp(w->service, service) == 0)
            tell(w);
}

static void end_watch(void *arg)
{
    struct watcher *w = arg;
    struct watcher **at = &w->health->watchers;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    rpc_end(w->call);
    free(w->service);
    free(w);
}

void rpc_health_drain(struct rpc_health *h)
{
    h->draining = true;
    while (h->watchers) {
        tell(h->watchers);
        end_watch(h->watchers);
    }
}

static void check(struct rpc_call *call, const ProtobufCMessage *req, void *ctx)
{
    const struct rpc_server *s = ctx;
    const Grpc__Health__V1__HealthCheckRequest *ask = (const void *)req;
    Grpc__Health__V1__HealthCheckResponse reply =
        GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    reply.status = state_of(s->health, ask->service);
    if (reply.status == STATE(SERVICE_UNKNOWN))
        rpc_fail(call, err_new(ERR_NOT_FOUND, "unknown service"));
    else
        rpc_reply(call, &reply.base);
}

static void watch(struct rpc_call *call, const ProtobufCMessage *req, void *ctx)
{
    struct rpc_server *s = ctx;
    const Grpc__Health__V1__HealthCheckRequest *ask = (const void *)req;
    struct watcher *w = mem_zalloc(sizeof *w);
    *w = (struct watcher){call, mem_strdup(ask->service), s->health, s->health->watchers};
    s->health->watchers = w;
    tell(w);
    rpc_call_on_cancel(call, end_watch, w);
}

struct err *rpc_health_bind(struct rpc_server *s)
{
    static const struct rpc_method methods[] = {
        {"Check", RPC_ANY_ROLE, check},
        {"Watch", RPC_ANY_ROLE, watch},
        {0},
    };
    const ProtobufCServiceDescriptor *sd = &grpc__health__v1__health__descriptor;
    /* A program may answer it itself. */
    for (size_t i = 0; i < s->n_services; i++)
        if (strcmp(s->services[i], sd->name) == 0)
            return NULL;
    return rpc_server_bind(s, sd->name, sd, methods, s, true);
}
