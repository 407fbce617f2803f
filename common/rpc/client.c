#include "common/rpc/client.h"

#include <assert.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/rpc/bytes.h"
#include "common/rpc/client_internal.h"
#include "common/rpc/queue.h"
#include "common/rpc/status.h"
#include "common/rpc/tls.h"
#include "common/wire/wire.h"

enum {
    KEEPALIVE_MS = 20000,
    KEEPALIVE_ANSWER_MS = 5000,
    IDLE_MS = 300000, /* unused connections end: each takes some 170 KB */
    RECONNECT_FIRST_MS = 250,
    RECONNECT_MIN_MS = 2000, /* what an attempt gets before it is given up */
    RECONNECT_MAX_MS = 5000,
};

/* Who a server must be, for the check inside the handshake; lives as long as the
 * credentials, which outlive the client while connections close. */
struct expectation {
    char *cluster;
    unsigned roles;
};

struct rpc_channel {
    struct rpc_client *client;
    grpc_channel *channel;
    char *address; /* for messages */
};

/* gRPC's threads; `target` is the name that the certificate's DNS names were checked
 * against. Returns non-zero to refuse. */
static int verify(const char *target, const char *pem, void *userdata)
{
    const struct expectation *want = userdata;
    struct rpc_identity peer;
    struct err *e = rpc_identity_from_pem(pem, strlen(pem), &peer);
    if (!e && strcmp(peer.cluster, want->cluster) != 0)
        e = err_new(ERR_DENIED, "it belongs to cluster \"%s\"", peer.cluster);
    if (!e && !(peer.role & want->roles))
        e = err_new(ERR_DENIED, "its role is %s", rpc_role_name(peer.role));
    if (!e && strcmp(peer.name, target) != 0)
        e = err_new(ERR_DENIED, "its name is \"%s\"", peer.name);
    if (!e)
        return 0;
    log_err(LOG_LEVEL_WARN, "rpc", "server-refused",
            err_wrap(e, "server for \"%s\"", target));
    return 1;
}

static void expectation_free(void *userdata)
{
    struct expectation *want = userdata;
    free(want->cluster);
    free(want);
}

/* Channels to peers of the same roles share them. */
static grpc_channel_credentials *credentials(struct rpc_client *c, unsigned roles)
{
    assert(roles && roles <= RPC_ANY_ROLE);
    if (c->credentials[roles])
        return c->credentials[roles];
    struct expectation *want = mem_zalloc(sizeof *want);
    *want = (struct expectation){mem_strdup(c->cluster), roles};
    grpc_ssl_verify_peer_options options = {verify, want, expectation_free};
    grpc_ssl_pem_key_cert_pair pair = {c->pems.key, c->pems.cert};
    c->credentials[roles] =
        grpc_ssl_credentials_create_ex(c->pems.ca, &pair, &options, NULL);
    return c->credentials[roles];
}

struct err *rpc_client_new(struct loop *loop, const struct rpc_client_conf *conf,
                           struct rpc_client **out)
{
    struct rpc_pems pems;
    TRY(rpc_pems_load(&conf->tls, conf->cluster, &pems));
    struct rpc_client *c = mem_zalloc(sizeof *c);
    c->loop = loop;
    c->pems = pems;
    c->cluster = mem_strdup(conf->cluster);
    c->message_bytes = conf->message_bytes ? conf->message_bytes : RPC_MESSAGE_BYTES;
    struct err *e = rpc_queue_new(loop, 1, &c->queue);
    if (e) {
        rpc_client_free(c);
        return e;
    }
    *out = c;
    return NULL;
}

void rpc_client_free(struct rpc_client *c)
{
    if (!c)
        return;
    c->stopping = true;
    for (struct rpc_pending *p = c->pending; p; p = p->next)
        rpc_cancel(p);
    while (c->queue && rpc_queue_armed(c->queue) > 0)
        rpc_queue_wait(c->queue);
    assert(!c->pending);
    rpc_queue_free(c->queue);
    for (size_t i = 0; i < ARRAY_LEN(c->credentials); i++)
        if (c->credentials[i])
            grpc_channel_credentials_release(c->credentials[i]);
    rpc_pems_fini(&c->pems);
    free(c->cluster);
    free(c);
}

/* --- channels ----------------------------------------------------------------------- */

static grpc_arg number(const char *key, int value)
{
    return (grpc_arg){GRPC_ARG_INTEGER, (char *)(uintptr_t)key, {.integer = value}};
}

static grpc_arg text(const char *key, char *value)
{
    return (grpc_arg){GRPC_ARG_STRING, (char *)(uintptr_t)key, {.string = value}};
}

/* "host" of "host:port" or "[v6]:port". */
static char *host_of(const char *address)
{
    const char *port = strrchr(address, ':');
    size_t n = port ? (size_t)(port - address) : strlen(address);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']')
        return mem_strndup(address + 1, n - 2);
    return mem_strndup(address, n);
}

struct rpc_channel *rpc_channel_new(struct rpc_client *c, const char *address,
                                    unsigned roles, const char *name)
{
    AUTO(str) char *expected = name ? mem_strdup(name) : host_of(address);
    grpc_arg args[] = {
        text(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, expected),
        number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, c->message_bytes),
        number(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        number(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_ANSWER_MS),
        number(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        number(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        number(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_FIRST_MS),
        number(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, RECONNECT_MIN_MS),
        number(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MAX_MS),
        /* Nothing may be tried twice behind our back, nor decided by the environment or
         * by DNS records. */
        number(GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS, IDLE_MS),
        number(GRPC_ARG_ENABLE_RETRIES, 0),
        number(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        number(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        number(GRPC_ARG_HTTP2_BDP_PROBE, 0),
    };
    grpc_channel_args all = {ARRAY_LEN(args), args};
    struct rpc_channel *ch = mem_zalloc(sizeof *ch);
    ch->client = c;
    ch->address = mem_printf("%s at %s", expected, address);
    ch->channel = grpc_channel_create(address, credentials(c, roles), &all);
    return ch;
}

void rpc_channel_free(struct rpc_channel *ch)
{
    if (!ch)
        return;
    grpc_channel_destroy(ch->channel);
    free(ch->address);
    free(ch);
}

/* --- calls -------------------------------------------------------------------------- */

static void unlink_parent(struct rpc_pending *p)
{
    if (p->parent_link) {
        *p->parent_link = p->sibling;
        if (p->sibling)
            p->sibling->parent_link = p->parent_link;
        p->parent_link = NULL;
    }
}

void rpc_pending_orphan(struct rpc_pending *first)
{
    while (first) {
        struct rpc_pending *next = first->sibling;
        first->parent_link = NULL;
        first->sibling = NULL;
        first = next;
    }
}

void rpc_pending_parent_cancelled(struct rpc_pending *first)
{
    for (; first; first = first->sibling)
        rpc_cancel(first);
}

static const void *details_of(const grpc_metadata_array *trailers, size_t *len)
{
    for (size_t i = 0; i < trailers->count; i++) {
        const grpc_metadata *m = &trailers->metadata[i];
        if (grpc_slice_str_cmp(m->key, RPC_DETAILS_KEY) != 0)
            continue;
        *len = GRPC_SLICE_LENGTH(m->value);
        return GRPC_SLICE_START_PTR(m->value);
    }
    return NULL;
}

static struct err *outcome(struct rpc_pending *p)
{
    if (p->bad)
        return STEAL(p->bad);
    if (p->is_cancelled)
        return err_new(ERR_CANCELLED, "call was cancelled");
    size_t len = 0;
    const void *details = details_of(&p->trailers, &len);
    struct err *e =
        rpc_status_to_err(p->status, (const char *)GRPC_SLICE_START_PTR(p->status_text),
                          GRPC_SLICE_LENGTH(p->status_text), details, len, p->was_sent);
    if (!e && !p->on_message && !p->msg)
        return err_new(ERR_CORRUPT, "reply without a message");
    return e;
}

static void pending_free(struct rpc_pending *p)
{
    grpc_metadata_array_destroy(&p->initial);
    grpc_metadata_array_destroy(&p->trailers);
    grpc_slice_unref(p->status_text);
    if (p->in)
        grpc_byte_buffer_destroy(p->in);
    wire_free(p->msg);
    err_free(p->bad);
    grpc_call_unref(p->call);
    free(p->what);
    free(p);
}

/* The end, once every tag is back. */
static void maybe_finish(struct rpc_pending *p)
{
    if (p->tags > 0 || p->is_paused)
        return;
    unlink_parent(p);
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    struct err *e = outcome(p);
    if (e)
        e = err_wrap(e, "%s", p->what);
    p->done(p->arg, e, e || p->on_message ? NULL : p->msg);
    pending_free(p);
}

static void batch(struct rpc_pending *p, const grpc_op *ops, size_t n, struct rpc_tag *t,
                  void (*fn)(void *, bool), void (*decode)(void *))
{
    p->tags++;
    rpc_batch(p->client->queue, p->call, ops, n, t, fn, decode, p);
}

/* Queue thread: nobody else touches in, msg and bad until the tag is back. */
static void decode(void *owner)
{
    struct rpc_pending *p = owner;
    if (!p->in)
        return;
    p->bad = rpc_bytes_unpack(p->output, p->in, &p->msg);
    if (p->bad && p->bad->kind == ERR_INVALID)
        p->bad->kind = ERR_CORRUPT; /* not ours to correct */
    grpc_byte_buffer_destroy(p->in);
    p->in = NULL;
}

static void got_sent(void *owner, bool ok)
{
    struct rpc_pending *p = owner;
    p->was_sent = ok;
    p->tags--;
    maybe_finish(p);
}

static void got_end(void *owner, bool ok)
{
    struct rpc_pending *p = owner;
    (void)ok;
    p->is_over = true;
    p->is_paused = false;
    p->tags--;
    maybe_finish(p);
}

static void got_initial(void *owner, bool ok)
{
    struct rpc_pending *p = owner;
    (void)ok;
    p->tags--;
    maybe_finish(p);
}

static void read_next(struct rpc_pending *p);

static void got_message(void *owner, bool ok)
{
    struct rpc_pending *p = owner;
    (void)ok;
    ProtobufCMessage *msg = STEAL(p->msg);
    if (p->bad) {
        grpc_call_cancel(p->call, NULL); /* what follows a broken message means nothing */
    } else if (msg && !p->is_cancelled) {
        if (p->on_message(p->arg, msg))
            read_next(p);
        else
            p->is_paused = !p->is_over && !p->is_cancelled;
    }
    wire_free(msg);
    p->tags--;
    maybe_finish(p);
}

static void read_next(struct rpc_pending *p)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &p->in;
    batch(p, &op, 1, &p->recv, got_message, decode);
}

void rpc_stream_resume(struct rpc_pending *p)
{
    if (!p->is_paused)
        return;
    p->is_paused = false;
    read_next(p);
}

void rpc_cancel(struct rpc_pending *p)
{
    if (p->is_over || p->is_cancelled)
        return;
    p->is_cancelled = true;
    p->is_paused = false;
    grpc_call_cancel(p->call, NULL);
}

static void start_sending(struct rpc_pending *p, grpc_byte_buffer *bytes,
                          const struct rpc_opts *opts)
{
    grpc_op ops[3] = {0};
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (opts->wait_for_ready)
        ops[0].flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY |
                       GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    grpc_metadata trace = {0};
    trace.value = grpc_empty_slice();
    const char *parent = opts->traceparent ? opts->traceparent : "";
    if (!*parent && opts->parent)
        parent = rpc_call_traceparent(opts->parent);
    if (*parent) {
        trace.key = grpc_slice_from_static_string("traceparent");
        trace.value = grpc_slice_from_copied_string(parent);
        ops[0].data.send_initial_metadata.count = 1;
        ops[0].data.send_initial_metadata.metadata = &trace;
    }
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = bytes;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    batch(p, ops, 3, &p->send, got_sent, NULL);
    grpc_slice_unref(trace.value);
}

static grpc_op receive_status(struct rpc_pending *p)
{
    grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    op.data.recv_status_on_client.trailing_metadata = &p->trailers;
    op.data.recv_status_on_client.status = &p->status;
    op.data.recv_status_on_client.status_details = &p->status_text;
    return op;
}

static grpc_op receive_initial(struct rpc_pending *p)
{
    grpc_op op = {.op = GRPC_OP_RECV_INITIAL_METADATA};
    op.data.recv_initial_metadata.recv_initial_metadata = &p->initial;
    return op;
}

static void start_unary_receiving(struct rpc_pending *p)
{
    grpc_op ops[3] = {receive_initial(p), {0}, receive_status(p)};
    ops[1].op = GRPC_OP_RECV_MESSAGE;
    ops[1].data.recv_message.recv_message = &p->in;
    batch(p, ops, 3, &p->end, got_end, decode);
}

static void start_stream_receiving(struct rpc_pending *p)
{
    /* The status has a batch of its own: it comes last, and it comes whatever happens. */
    grpc_op status = receive_status(p);
    batch(p, &status, 1, &p->end, got_end, NULL);
    grpc_op initial = receive_initial(p);
    batch(p, &initial, 1, &p->begin, got_initial, NULL);
    read_next(p);
}

static gpr_timespec deadline(const struct rpc_opts *opts)
{
    int64_t ms = opts->timeout_ms > 0 ? opts->timeout_ms : INT64_MAX;
    int64_t left = opts->parent ? rpc_call_deadline_ms(opts->parent) : INT64_MAX;
    if (left < ms)
        ms = left;
    if (ms == INT64_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_millis(ms, GPR_TIMESPAN));
}

static struct rpc_pending *pending_new(struct rpc_channel *ch,
                                       const ProtobufCServiceDescriptor *sd,
                                       const char *method, const struct rpc_opts *opts,
                                       rpc_done_fn *done, void *arg)
{
    const ProtobufCMethodDescriptor *md =
        protobuf_c_service_descriptor_get_method_by_name(sd, method);
    assert(md);
    struct rpc_client *c = ch->client;
    struct rpc_pending *p = mem_zalloc(sizeof *p);
    p->client = c;
    p->output = md->output;
    p->done = done;
    p->arg = arg;
    p->what = mem_printf("%s of %s", method, ch->address);
    p->status_text = grpc_empty_slice();
    grpc_metadata_array_init(&p->initial);
    grpc_metadata_array_init(&p->trailers);
    AUTO(str) char *path = mem_printf("/%s/%s", sd->name, method);
    grpc_slice slice = grpc_slice_from_copied_string(path);
    p->call = grpc_channel_create_call(ch->channel, NULL, 0, rpc_queue_cq(c->queue),
                                       slice, NULL, deadline(opts), NULL);
    grpc_slice_unref(slice);
    p->next = c->pending;
    p->link = &c->pending;
    if (p->next)
        p->next->link = &p->next;
    c->pending = p;
    if (opts->parent)
        rpc_call_adopt(opts->parent, p);
    return p;
}

/* Sending empties `bytes`; to destroy it stays the caller's. */
static struct rpc_pending *start(struct rpc_pending *p, grpc_byte_buffer *bytes,
                                 const struct rpc_opts *opts)
{
    start_sending(p, bytes, opts);
    if (p->on_message)
        start_stream_receiving(p);
    else
        start_unary_receiving(p);
    if (p->client->stopping || (opts->parent && rpc_call_is_cancelled(opts->parent)))
        rpc_cancel(p);
    return p;
}

struct rpc_pending *rpc_call_start(struct rpc_channel *ch,
                                   const ProtobufCServiceDescriptor *sd,
                                   const char *method, const ProtobufCMessage *req,
                                   const struct rpc_opts *opts, rpc_done_fn *done,
                                   void *arg)
{
    assert(opts->timeout_ms > 0);
    grpc_byte_buffer *bytes = rpc_bytes_pack(req);
    struct rpc_pending *p =
        start(pending_new(ch, sd, method, opts, done, arg), bytes, opts);
    grpc_byte_buffer_destroy(bytes);
    return p;
}

struct rpc_packed {
    const ProtobufCMessageDescriptor *md;
    grpc_byte_buffer *bytes; /* a call empties its own: each gets a copy of references */
};

struct rpc_packed *rpc_packed_new(const ProtobufCMessage *req)
{
    struct rpc_packed *p = mem_zalloc(sizeof *p);
    *p = (struct rpc_packed){req->descriptor, rpc_bytes_pack(req)};
    return p;
}

void rpc_packed_free(struct rpc_packed *p)
{
    if (!p)
        return;
    grpc_byte_buffer_destroy(p->bytes);
    free(p);
}

struct rpc_pending *
rpc_call_start_packed(struct rpc_channel *ch, const ProtobufCServiceDescriptor *sd,
                      const char *method, const struct rpc_packed *req,
                      const struct rpc_opts *opts, rpc_done_fn *done, void *arg)
{
    assert(opts->timeout_ms > 0);
    assert(protobuf_c_service_descriptor_get_method_by_name(sd, method)->input ==
           req->md);
    grpc_byte_buffer *bytes = grpc_byte_buffer_copy(req->bytes);
    struct rpc_pending *p =
        start(pending_new(ch, sd, method, opts, done, arg), bytes, opts);
    grpc_byte_buffer_destroy(bytes);
    return p;
}

struct rpc_pending *rpc_stream_start(struct rpc_channel *ch,
                                     const ProtobufCServiceDescriptor *sd,
                                     const char *method, const ProtobufCMessage *req,
                                     const struct rpc_opts *opts,
                                     rpc_message_fn *on_message, rpc_done_fn *done,
                                     void *arg)
{
    assert(opts->timeout_ms >= 0);
    struct rpc_pending *p = pending_new(ch, sd, method, opts, done, arg);
    p->on_message = on_message;
    grpc_byte_buffer *bytes = rpc_bytes_pack(req);
    start(p, bytes, opts);
    grpc_byte_buffer_destroy(bytes);
    return p;
}

/* --- synchronous -------------------------------------------------------------------- */

struct sync {
    struct loop *loop;
    struct err *e;
    void *packed; /* the reply is the library's, so it travels as bytes */
    size_t len;
    bool is_done;
};

static void sync_done(void *arg, struct err *e, const ProtobufCMessage *reply)
{
    struct sync *s = arg;
    s->e = e;
    if (reply)
        s->packed = wire_pack(reply, &s->len);
    s->is_done = true;
    loop_stop(s->loop);
}

struct err *rpc_call_sync(struct rpc_channel *ch, const ProtobufCServiceDescriptor *sd,
                          const char *method, const ProtobufCMessage *req,
                          const struct rpc_opts *opts, ProtobufCMessage **reply)
{
    struct sync s = {.loop = ch->client->loop};
    struct rpc_pending *p = rpc_call_start(ch, sd, method, req, opts, sync_done, &s);
    const ProtobufCMessageDescriptor *output = p->output;
    loop_run(s.loop);
    if (!s.is_done) { /* somebody else stopped the loop: a signal */
        rpc_cancel(p);
        while (!s.is_done)
            rpc_queue_wait(ch->client->queue);
    }
    TRY(s.e);
    struct err *e = wire_unpack(output, s.packed, s.len, reply);
    free(s.packed);
    return e;
}
