#include "coordinator/ctl/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/conf/schema.h"
#include "common/rpc/dial.h"
#include "common/wire/convert.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"

enum {
    REMOTE_CALL_MS =
        70000, /* creating a set waits for locks that a dead leader's lease holds */
    REMOTE_READ_MS = 5000,
    REMOTE_TRIES = 40,
    REMOTE_PAUSE_MS = 500,
    REMOTE_TICK_MS = 100, /* between looks for Ctrl-C */
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

static struct err *read_conf(const struct ctl *c, struct client_conf *out)
{
    const char *path = ctl_value(c, "config");
    if (!path)
        path = getenv("STILLPOINT_CONFIG");
    AUTO(conf) struct conf *doc = NULL;
    TRY(conf_read(path ? path : "/etc/stillpoint/client.yaml", &doc));
    return schema_bind(doc, &client_schema, out);
}

struct err *remote_authority(const struct ctl *c, char **ca, char **cluster)
{
    struct client_conf conf = {0};
    TRY(read_conf(c, &conf));
    *ca = mem_strdup(conf.tls.ca);
    *cluster = mem_strdup(conf.cluster);
    schema_release(&client_schema, &conf);
    return NULL;
}

static struct err *open_remote(struct remote *r)
{
    TRY(read_conf(r->ctl, &r->conf));
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

/* One call or stream under way, which the user may end. */
struct asking {
    struct remote *remote;
    rpc_message_fn *on_message; /* streams */
    void *arg;
    struct rpc_pending *pending;
    bool over, enough;
    struct loop_timer tick;
    ProtobufCMessage *reply; /* calls: owned */
    struct err *err;
};

/* Signals only set a flag, so it is looked at often enough for a person. */
static void look_at_cancel(void *arg)
{
    struct asking *a = arg;
    if (atomic_load(&ctl_cancelled) && !a->enough) {
        a->enough = true;
        rpc_cancel(a->pending);
    }
    if (!a->over)
        loop_timer_set(a->remote->loop, &a->tick, REMOTE_TICK_MS, look_at_cancel, a);
}

static bool on_message(void *arg, const ProtobufCMessage *m)
{
    struct asking *a = arg;
    if (!a->enough && !a->on_message(a->arg, m)) {
        a->enough = true;
        rpc_cancel(a->pending);
    }
    return true;
}

static void on_done(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct asking *a = arg;
    a->err = e;
    a->over = true;
    if (m)
        a->reply = pb_copy(m);
    loop_stop(a->remote->loop);
}

static void run_asking(struct asking *a)
{
    look_at_cancel(a);
    loop_run(a->remote->loop);
    loop_timer_cancel(a->remote->loop, &a->tick);
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

/* "coord-1@192.0.2.1:7420, coord-2@…": malloc'd. */
static char *tried(const struct remote *r)
{
    AUTO_BUF struct buf b;
    buf_init(&b);
    for (size_t i = 0; i < r->conf.n_coordinators; i++)
        buf_printf(&b, "%s%s", i ? ", " : "", r->conf.coordinators[i]);
    return mem_strdup(buf_text(&b));
}

/* UNAVAILABLE: nothing was done; the next coordinator may lead. After a whole turn
 * without luck an election may be under way, so more turns are made, and said so. */
static bool try_next(struct remote *r, const struct err *e, int *tries)
{
    if (e->kind != ERR_UNAVAILABLE || atomic_load(&ctl_cancelled))
        return false;
    r->current = (r->current + 1) % r->conf.n_coordinators;
    if (r->current != 0)
        return true;
    if (*tries == 0) {
        AUTO(str) char *text = err_text(e);
        AUTO(str) char *all = tried(r);
        ctl_say(r->ctl, "stillpoint: %s\ntried %s; trying again for %d seconds\n", text,
                all, REMOTE_TRIES * REMOTE_PAUSE_MS / 1000);
    }
    return ++*tries < REMOTE_TRIES && pause_between(r);
}

/* The last word on a call; takes the error over. */
static int give_up(struct remote *r, struct err *e)
{
    if (atomic_load(&ctl_cancelled)) {
        err_free(e);
        return ctl_fail(r->ctl, err_new(ERR_CANCELLED, "interrupted"), CTL_INTERRUPTED);
    }
    if (e->kind == ERR_UNAVAILABLE) {
        AUTO(str) char *all = tried(r);
        e = err_wrap(e, "no coordinator could do it; tried %s", all);
    }
    return ctl_fail(r->ctl, e, e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED);
}

/* Until it is answered, or there is nobody left to ask. */
static struct err *call(struct remote *r, int64_t timeout_ms, bool is_read,
                        const char *method, const ProtobufCMessage *req,
                        ProtobufCMessage **reply)
{
    const struct rpc_opts opts = {.timeout_ms = timeout_ms};
    for (int tries = 0;;) {
        struct asking a = {.remote = r};
        a.pending = rpc_call_start(r->channels[r->current],
                                   &stillpoint__v1__admin_service__descriptor, method,
                                   req, &opts, on_done, &a);
        run_asking(&a);
        *reply = a.reply;
        if (a.err && is_read && a.err->kind == ERR_TIMEOUT)
            a.err->kind = ERR_UNAVAILABLE;
        if (!a.err || !try_next(r, a.err, &tries))
            return a.err;
        err_free(a.err);
    }
}

struct err *remote_read(struct remote *r, const char *method, const ProtobufCMessage *req,
                        ProtobufCMessage **reply)
{
    return call(r, REMOTE_READ_MS, true, method, req, reply);
}

int remote_call(struct remote *r, const char *method, const ProtobufCMessage *req,
                ProtobufCMessage **reply)
{
    return remote_call_within(r, REMOTE_CALL_MS, method, req, reply);
}

int remote_call_within(struct remote *r, int64_t timeout_ms, const char *method,
                       const ProtobufCMessage *req, ProtobufCMessage **reply)
{
    struct err *e = call(r, timeout_ms, false, method, req, reply);
    return e ? give_up(r, e) : CTL_OK;
}

int remote_watch(struct remote *r, const char *method, const ProtobufCMessage *req,
                 rpc_message_fn *fn, void *arg)
{
    const struct rpc_opts opts = {0};
    for (int tries = 0;;) {
        struct asking a = {.remote = r, .on_message = fn, .arg = arg};
        a.pending = rpc_stream_start(r->channels[r->current],
                                     &stillpoint__v1__admin_service__descriptor, method,
                                     req, &opts, on_message, on_done, &a);
        run_asking(&a);
        if (!a.err || a.enough) {
            err_free(a.err);
            return atomic_load(&ctl_cancelled) ? CTL_INTERRUPTED : CTL_OK;
        }
        if (a.err->kind == ERR_TIMEOUT) /* the connection broke: only a read */
            a.err->kind = ERR_UNAVAILABLE;
        if (!try_next(r, a.err, &tries))
            return give_up(r, a.err);
        err_free(a.err);
    }
}

int remote_sets(const struct ctl *c, ProtobufCMessage **reply)
{
    AUTO(remote) struct remote *r = NULL;
    Stillpoint__V1__ListRequest req = STILLPOINT__V1__LIST_REQUEST__INIT;
    if (ctl_value(c, "group"))
        req.group = (char *)ctl_value(c, "group");
    int status = remote_open(c, &r);
    return status == CTL_OK ? remote_call(r, "ListSets", &req.base, reply) : status;
}

void remote_print_json(const ProtobufCMessage *m)
{
    AUTO(str) char *json = pbjson_encode(m, PBJSON_DEFAULTS);
    puts(json);
}
