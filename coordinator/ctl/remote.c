#include "coordinator/ctl/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/conf/schema.h"
#include "common/rpc/dial.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"

enum {
    REMOTE_CALL_MS =
        70000, /* creating a set waits for locks that a dead leader's lease holds */
    REMOTE_TRIES = 40,
    REMOTE_PAUSE_MS = 500,
};

struct client_conf {
    char *cluster;
    char **coordinators;
    size_t n_coordinators;
    struct {
        char *ca, *cert, *key;
    } tls;
};

#define AT(member) .offset = offsetof(struct client_conf, member)
#define TLS(member)                                                                      \
    .offset = offsetof(struct client_conf, tls.member) - offsetof(struct client_conf, tls)
static const struct schema_field tls_fields[] = {
    {"ca", SCHEMA_PATH, TLS(ca), .required = true},
    {"cert", SCHEMA_PATH, TLS(cert), .required = true},
    {"key", SCHEMA_PATH, TLS(key), .required = true},
};
static const struct schema tls_schema = {sizeof(((struct client_conf *)0)->tls),
                                         tls_fields, ARRAY_LEN(tls_fields)};
static const struct schema_field fields[] = {
    {"cluster", SCHEMA_NAME, AT(cluster), .required = true},
    {"coordinators", SCHEMA_STRS, AT(coordinators),
     .count = offsetof(struct client_conf, n_coordinators), .required = true, .min = 1,
     .max = 16},
    {"tls", SCHEMA_OBJECT, AT(tls), .required = true, .schema = &tls_schema},
};
static const struct schema client_schema = {sizeof(struct client_conf), fields,
                                            ARRAY_LEN(fields)};

struct remote {
    const struct ctl *ctl;
    struct client_conf conf;
    struct loop *loop;
    struct rpc_client *client;
    struct rpc_channel **channels;
    size_t current;
};

static struct err *open_remote(struct remote *r)
{
    const char *path = ctl_value(r->ctl, "config");
    if (!path)
        path = getenv("STILLPOINT_CONFIG");
    AUTO(conf) struct conf *doc = NULL;
    TRY(conf_read(path ? path : "/etc/stillpoint/client.yaml", &doc));
    TRY(schema_bind(doc, &client_schema, &r->conf));
    rpc_init();
    TRY(loop_new(&r->loop));
    const struct rpc_client_conf conf = {
        .cluster = r->conf.cluster,
        .tls = {r->conf.tls.ca, r->conf.tls.cert, r->conf.tls.key}};
    TRY(rpc_client_new(r->loop, &conf, &r->client));
    r->channels = mem_array(r->conf.n_coordinators, sizeof(void *));
    for (size_t i = 0; i < r->conf.n_coordinators; i++)
        r->channels[i] = rpc_dial(r->client, r->conf.coordinators[i], RPC_COORDINATOR);
    return NULL;
}

int remote_open(const struct ctl *c, struct remote **out)
{
    AUTO(remote) struct remote *r = mem_zalloc(sizeof *r);
    r->ctl = c;
    struct err *e = open_remote(r);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    *out = STEAL(r);
    return CTL_OK;
}

void remote_close(struct remote *r)
{
    if (!r)
        return;
    for (size_t i = 0; r->channels && i < r->conf.n_coordinators; i++)
        rpc_channel_free(r->channels[i]);
    free(r->channels);
    rpc_client_free(r->client);
    loop_free(r->loop);
    schema_release(&client_schema, &r->conf);
    free(r);
}

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

/* Lets REMOTE_PAUSE_MS pass; false when the user has had enough. */
static bool pause_between(struct remote *r)
{
    struct loop_timer t = {0};
    loop_timer_set(r->loop, &t, REMOTE_PAUSE_MS, stop_loop, r->loop);
    loop_run(r->loop);
    return !atomic_load(&ctl_cancelled);
}

/* UNAVAILABLE: nothing was done; the next coordinator may lead. After a whole turn
 * without luck an election may be under way, so a few turns are made. */
static bool try_next(struct remote *r, const struct err *e, int *tries)
{
    if (e->kind != ERR_UNAVAILABLE)
        return false;
    r->current = (r->current + 1) % r->conf.n_coordinators;
    if (r->current != 0)
        return true;
    return ++*tries < REMOTE_TRIES && pause_between(r);
}

int remote_call(struct remote *r, const char *method, const ProtobufCMessage *req,
                ProtobufCMessage **reply)
{
    const struct rpc_opts opts = {.timeout_ms = REMOTE_CALL_MS};
    for (int tries = 0;;) {
        struct err *e = rpc_call_sync(r->channels[r->current],
                                      &stillpoint__v1__admin_service__descriptor, method,
                                      req, &opts, reply);
        if (!e)
            return CTL_OK;
        if (!try_next(r, e, &tries))
            return ctl_fail(r->ctl, e, e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED);
        err_free(e);
    }
}

struct stream {
    struct remote *remote;
    rpc_message_fn *on_message;
    void *arg;
    struct rpc_pending *pending;
    bool enough;
    struct err *err;
};

static bool on_message(void *arg, const ProtobufCMessage *m)
{
    struct stream *s = arg;
    if (!s->on_message(s->arg, m) || atomic_load(&ctl_cancelled)) {
        s->enough = true;
        rpc_cancel(s->pending);
    }
    return true;
}

static void on_done(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct stream *s = arg;
    (void)m;
    s->err = e;
    loop_stop(s->remote->loop);
}

int remote_watch(struct remote *r, const char *method, const ProtobufCMessage *req,
                 rpc_message_fn *fn, void *arg)
{
    const struct rpc_opts opts = {0};
    for (int tries = 0;;) {
        struct stream s = {.remote = r, .on_message = fn, .arg = arg};
        s.pending = rpc_stream_start(r->channels[r->current],
                                     &stillpoint__v1__admin_service__descriptor, method,
                                     req, &opts, on_message, on_done, &s);
        loop_run(r->loop);
        if (!s.err || s.enough) {
            err_free(s.err);
            return atomic_load(&ctl_cancelled) ? CTL_INTERRUPTED : CTL_OK;
        }
        if (s.err->kind ==
            ERR_TIMEOUT) /* the connection broke: only a read, begin again */
            s.err->kind = ERR_UNAVAILABLE;
        if (!try_next(r, s.err, &tries))
            return ctl_fail(r->ctl, s.err, CTL_FAILED);
        err_free(s.err);
    }
}

void remote_print_json(const ProtobufCMessage *m)
{
    AUTO(str) char *json = pbjson_encode(m, PBJSON_DEFAULTS);
    puts(json);
}
