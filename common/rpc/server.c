#include "common/rpc/server.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/rpc/client_internal.h"
#include "common/rpc/server_internal.h"

enum {
    SERVER_THREADS = 2,
    MAX_CALLS = 1024,
    MAX_STREAMS = 100,
    HANDSHAKE_MS = 10000,
    REQUEST_MS = 30000, /* from a call's start until its request is there */
    SWEEP_MS = 10000,
    METADATA_BYTES = 16384,
    KEEPALIVE_MS = 30000, /* so that a dead peer's calls end */
    KEEPALIVE_ANSWER_MS = 10000,
    PING_INTERVAL_MS = 5000, /* clients that ping more often are turned away */
};

struct err *rpc_server_new(struct loop *loop, const struct rpc_server_conf *conf,
                           struct rpc_server **out)
{
    struct rpc_pems pems;
    TRY(rpc_pems_load(&conf->tls, conf->cluster, &pems));
    struct rpc_server *s = mem_zalloc(sizeof *s);
    s->loop = loop;
    s->pems = pems;
    s->listen = mem_strdup(conf->listen);
    s->cluster = mem_strdup(conf->cluster);
    s->message_bytes = conf->message_bytes ? conf->message_bytes : RPC_MESSAGE_BYTES;
    s->max_calls = conf->max_calls ? conf->max_calls : MAX_CALLS;
    s->max_streams = conf->max_streams ? conf->max_streams : MAX_STREAMS;
    s->beside = conf->beside;
    s->descriptors = rpc_descriptors_new();
    s->health = rpc_health_new();
    *out = s;
    return NULL;
}

/* --- methods ------------------------------------------------------------------------ */

static void add_route(struct rpc_server *s, const char *service,
                      const ProtobufCServiceDescriptor *sd,
                      const ProtobufCMethodDescriptor *md, const struct rpc_method *m,
                      void *ctx, bool is_builtin)
{
    mem_reserve((void **)&s->routes, &s->cap_routes, s->n_routes, sizeof *s->routes);
    s->routes[s->n_routes++] = (struct rpc_route){
        .path = mem_printf("/%s/%s", service, m->name),
        .input = md->input,
        .roles = m->roles,
        .fn = m->fn,
        .ctx = ctx,
        .reads_stream = rpc_descriptors_reads_stream(s->descriptors, sd->name, m->name),
        .is_builtin = is_builtin,
    };
}

struct err *rpc_server_bind(struct rpc_server *s, const char *name,
                            const ProtobufCServiceDescriptor *sd,
                            const struct rpc_method *methods, void *ctx, bool is_builtin)
{
    assert(!s->server);
    for (const struct rpc_method *m = methods; m->name; m++) {
        const ProtobufCMethodDescriptor *md =
            protobuf_c_service_descriptor_get_method_by_name(sd, m->name);
        if (!md)
            return err_new(ERR_INVALID, "service %s has no method %s", sd->name, m->name);
        if (!m->fn || m->roles == 0 || (m->roles & ~(unsigned)RPC_ANY_ROLE))
            return err_new(ERR_INVALID, "method %s.%s needs roles and a handler",
                           sd->name, m->name);
        add_route(s, name, sd, md, m, ctx, is_builtin);
    }
    mem_reserve((void **)&s->services, &s->cap_services, s->n_services,
                sizeof *s->services);
    s->services[s->n_services++] = name;
    return NULL;
}

struct err *rpc_server_add(struct rpc_server *s, const ProtobufCServiceDescriptor *sd,
                           const struct rpc_method *methods, void *ctx)
{
    return rpc_server_bind(s, sd->name, sd, methods, ctx, false);
}

/* --- start -------------------------------------------------------------------------- */

static grpc_arg number(const char *key, int value)
{
    return (grpc_arg){GRPC_ARG_INTEGER, (char *)(uintptr_t)key, {.integer = value}};
}

static grpc_server *make_server(const struct rpc_server *s)
{
    grpc_arg args[] = {
        number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, s->message_bytes),
        number(GRPC_ARG_MAX_CONCURRENT_STREAMS, s->max_streams),
        number(GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES),
        number(GRPC_ARG_ALLOW_REUSEPORT, 0), /* a second daemon must not share the port */
        number(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
        number(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        number(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_ANSWER_MS),
        number(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        number(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_INTERVAL_MS),
        /* Flow control by a fixed window: a sender that is not read stops at once. */
        number(GRPC_ARG_HTTP2_BDP_PROBE, 0),
    };
    grpc_channel_args all = {ARRAY_LEN(args), args};
    return grpc_server_create(&all, NULL);
}

static grpc_server_credentials *make_credentials(const struct rpc_server *s)
{
    grpc_ssl_pem_key_cert_pair pair = {s->pems.key, s->pems.cert};
    return grpc_ssl_server_credentials_create_ex(
        s->pems.ca, &pair, 1, GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY,
        NULL);
}

struct err *rpc_server_start(struct rpc_server *s)
{
    assert(!s->server);
    TRY(rpc_health_bind(s));
    TRY(rpc_reflection_bind(s));
    if (s->beside)
        s->queue = rpc_queue_beside(s->beside->queue);
    else
        TRY(rpc_queue_new(s->loop, SERVER_THREADS, &s->queue));
    s->server = make_server(s);
    grpc_server_register_completion_queue(s->server, rpc_queue_cq(s->queue), NULL);
    grpc_server_credentials *creds = make_credentials(s);
    s->port = grpc_server_add_http2_port(s->server, s->listen, creds);
    grpc_server_credentials_release(creds);
    if (s->port == 0)
        return err_new(ERR_UNAVAILABLE, "cannot listen on '%s'", s->listen);
    grpc_server_start(s->server);
    rpc_server_accept_more(s);
    log_info("rpc", "listening", "address=%s port=%d as=%s/%s", s->listen, s->port,
             rpc_role_name(s->pems.self.role), s->pems.self.name);
    return NULL;
}

int rpc_server_port(const struct rpc_server *s)
{
    return s->port;
}

void rpc_server_set_health(struct rpc_server *s, const char *service, bool serving)
{
    rpc_health_set(s->health, service, serving);
}

void rpc_server_accept_more(struct rpc_server *s)
{
    /* Calls that are refused for their number still cost memory until their peer has
     * heard of it: beyond twice the limit nobody is even answered. */
    while (!s->stopping && s->n_accepting < RPC_ACCEPTING &&
           s->n_calls < 2 * s->max_calls)
        rpc_call_accept(s);
}

static void sweep(void *arg)
{
    struct rpc_server *s = arg;
    int64_t oldest = loop_now_ms() - REQUEST_MS;
    bool waiting = false;
    for (struct rpc_call *c = s->calls; c; c = c->next) {
        if (c->held || !c->receiving)
            continue;
        waiting = true;
        if (c->since_ms <= oldest)
            rpc_call_abort(c);
    }
    if (waiting)
        rpc_server_expect(s);
}

void rpc_server_expect(struct rpc_server *s)
{
    if (!s->sweep.armed)
        loop_timer_set(s->loop, &s->sweep, SWEEP_MS, sweep, s);
}

/* --- end ---------------------------------------------------------------------------- */

static bool has_work(const struct rpc_server *s)
{
    for (const struct rpc_call *c = s->calls; c; c = c->next)
        if (!c->route || !c->route->is_builtin)
            return true;
    return false;
}

static void tell_drained(void *arg)
{
    struct rpc_server *s = arg;
    loop_fn *fn = s->drained;
    s->drained = NULL;
    fn(s->drained_arg); /* may free s */
}

void rpc_server_call_gone(struct rpc_server *s)
{
    rpc_server_accept_more(s);
    if (s->drained && !has_work(s))
        loop_timer_set(s->loop, &s->drain, 0, tell_drained, s);
}

static void on_stopped(void *owner, bool ok)
{
    (void)owner;
    (void)ok;
}

static void stop(struct rpc_server *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    rpc_health_drain(s->health);
    rpc_tag_arm(s->queue, &s->stopped, on_stopped, NULL, s);
    grpc_server_shutdown_and_notify(s->server, rpc_queue_cq(s->queue), &s->stopped);
}

void rpc_server_drain(struct rpc_server *s, loop_fn *done, void *arg)
{
    assert(s->server && !s->drained);
    s->drained = done;
    s->drained_arg = arg;
    stop(s);
    rpc_server_call_gone(s); /* perhaps there was none */
}

static void end(struct rpc_server *s)
{
    s->drained = NULL;
    stop(s);
    grpc_server_cancel_all_calls(s->server);
    while (rpc_queue_armed(s->queue) > 0)
        rpc_queue_wait(s->queue);
    while (s->calls)
        rpc_call_detach(s->calls);
    grpc_server_destroy(s->server);
}

void rpc_server_free(struct rpc_server *s)
{
    if (!s)
        return;
    loop_timer_cancel(s->loop, &s->sweep);
    loop_timer_cancel(s->loop, &s->drain);
    if (s->server)
        end(s);
    rpc_queue_free(s->queue);
    rpc_health_free(s->health);
    rpc_descriptors_free(s->descriptors);
    rpc_forget_peers(s);
    rpc_pems_fini(&s->pems);
    for (size_t i = 0; i < s->n_routes; i++)
        free(s->routes[i].path);
    free(s->routes);
    free(s->services);
    free(s->listen);
    free(s->cluster);
    free(s);
}
