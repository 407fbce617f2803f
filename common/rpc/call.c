#include <assert.h>
#include <grpc/support/alloc.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/rpc/bytes.h"
#include "common/rpc/client_internal.h"
#include "common/rpc/server_internal.h"
#include "common/wire/wire.h"

static void free_messages(struct rpc_call *c)
{
    while (c->out) {
        struct rpc_message *m = c->out;
        c->out = m->next;
        grpc_byte_buffer_destroy(m->bytes);
        free(m);
    }
    c->out_end = &c->out;
    c->n_out = 0;
}

static void call_free(struct rpc_call *c)
{
    assert(c->tags == 0 && !c->held);
    rpc_pending_orphan(c->children);
    free_messages(c);
    if (c->in)
        grpc_byte_buffer_destroy(c->in);
    wire_free(c->msg);
    err_free(c->bad);
    rpc_status_fini(&c->status);
    free(c->from);
    free(c);
}

/* Gives back what is gRPC's. */
static void release(struct rpc_call *c)
{
    if (c->link) {
        *c->link = c->next;
        if (c->next)
            c->next->link = c->link;
        c->link = NULL;
    }
    if (c->call)
        grpc_call_unref(c->call);
    c->call = NULL;
    grpc_metadata_array_destroy(&c->metadata);
    grpc_call_details_destroy(&c->details);
    c->server = NULL;
}

static void maybe_free(struct rpc_call *c)
{
    if (c->tags > 0 || c->held)
        return;
    struct rpc_server *s = c->server;
    bool counted = c->link;
    if (s)
        release(c);
    call_free(c);
    if (counted) {
        s->n_calls--;
        rpc_server_call_gone(s);
    }
}

void rpc_call_detach(struct rpc_call *c)
{
    assert(c->held && c->tags == 0);
    c->closed = c->cancelled = true;
    c->route = NULL;
    release(c);
}

void rpc_call_abort(struct rpc_call *c)
{
    grpc_call_cancel(c->call, NULL);
}

static void batch(struct rpc_call *c, const grpc_op *ops, size_t n, struct rpc_tag *t,
                  void (*fn)(void *, bool), void (*decode)(void *))
{
    c->tags++;
    rpc_batch(c->server->queue, c->call, ops, n, t, fn, decode, c);
}

/* --- sending ------------------------------------------------------------------------ */

static void pump(struct rpc_call *c);

static void sent(void *owner, bool ok)
{
    struct rpc_call *c = owner;
    (void)ok; /* false: the peer is gone, which `close` tells */
    c->tags--;
    c->sending = false;
    pump(c);
    if (c->held && c->want_writable && !c->sending && !c->closed) {
        c->want_writable = false;
        if (c->on_writable)
            c->on_writable(c->on_writable_arg);
        return; /* the handler may have finished: what follows is its own pump */
    }
    maybe_free(c);
}

static size_t add_status(struct rpc_call *c, grpc_op *op, grpc_metadata *trailer,
                         grpc_slice *text)
{
    *op = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    op->data.send_status_from_server.status = c->status.code;
    if (c->status.text) {
        *text = grpc_slice_from_copied_string(c->status.text);
        op->data.send_status_from_server.status_details = text;
    }
    if (c->status.details) {
        trailer->key = grpc_slice_from_static_string(RPC_DETAILS_KEY);
        trailer->value =
            grpc_slice_from_copied_buffer(c->status.details, c->status.details_len);
        op->data.send_status_from_server.trailing_metadata_count = 1;
        op->data.send_status_from_server.trailing_metadata = trailer;
    }
    c->status_sent = true;
    return 1;
}

/* Starts the next batch: one message, the status, or both when it is the last. */
static void pump(struct rpc_call *c)
{
    if (c->sending || c->closed || c->status_sent || (!c->out && !c->ended))
        return;
    grpc_op ops[3] = {0};
    size_t n = 0;
    if (!c->began)
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
    c->began = true;
    struct rpc_message *m = c->out;
    if (m) {
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = m->bytes;
        c->out = m->next;
        if (!c->out)
            c->out_end = &c->out;
        c->n_out--;
    }
    grpc_metadata trailer = {0};
    grpc_slice text = grpc_empty_slice();
    trailer.value = grpc_empty_slice();
    if (c->ended && !c->out)
        n += add_status(c, &ops[n], &trailer, &text);
    c->sending = true;
    batch(c, ops, n, &c->send, sent, NULL);
    grpc_slice_unref(text);
    grpc_slice_unref(trailer.value);
    if (m) {
        grpc_byte_buffer_destroy(m->bytes);
        free(m);
    }
}

static void enqueue(struct rpc_call *c, const ProtobufCMessage *msg)
{
    struct rpc_message *m = mem_zalloc(sizeof *m);
    m->bytes = rpc_bytes_pack(msg);
    *c->out_end = m;
    c->out_end = &m->next;
    c->n_out++;
}

/* The first one counts. */
static void set_status(struct rpc_call *c, const struct err *e)
{
    if (c->ended)
        return;
    c->ended = true;
    rpc_status_from_err(e, &c->status);
}

static void finish(struct rpc_call *c, struct err *e)
{
    assert(c->held);
    c->held = false;
    if (c->server) {
        if (e)
            free_messages(c); /* an error is not kept waiting behind a slow reader */
        set_status(c, e);
        pump(c);
    }
    err_free(e);
    maybe_free(c);
}

void rpc_reply(struct rpc_call *c, const ProtobufCMessage *msg)
{
    if (!c->closed)
        enqueue(c, msg);
    finish(c, NULL);
}

void rpc_fail(struct rpc_call *c, struct err *e)
{
    assert(e);
    finish(c, e);
}

void rpc_end(struct rpc_call *c)
{
    finish(c, NULL);
}

bool rpc_send(struct rpc_call *c, const ProtobufCMessage *msg)
{
    assert(c->held);
    if (c->closed || c->ended)
        return true;
    enqueue(c, msg);
    if (c->n_out > RPC_SEND_LIMIT) {
        struct err *e = err_new(ERR_LIMIT, "peer does not read: %d messages are waiting",
                                RPC_SEND_LIMIT);
        set_status(c, e);
        /* Nothing that is queued behind the message under way would ever get out. */
        grpc_call_cancel_with_status(c->call, c->status.code, c->status.text, NULL);
        err_free(e);
        return true;
    }
    pump(c);
    c->want_writable = c->n_out >= RPC_SEND_QUEUE;
    return !c->want_writable;
}

void rpc_call_on_writable(struct rpc_call *c, loop_fn *fn, void *arg)
{
    c->on_writable = fn;
    c->on_writable_arg = arg;
}

/* --- receiving ---------------------------------------------------------------------- */

/* Queue thread: nobody else touches in, msg and bad until the tag is back. */
static void decode(void *owner)
{
    struct rpc_call *c = owner;
    if (!c->in)
        return;
    c->bad = rpc_bytes_unpack(c->route->input, c->in, &c->msg);
    grpc_byte_buffer_destroy(c->in);
    c->in = NULL;
}

static void start_recv(struct rpc_call *c, void (*fn)(void *, bool))
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &c->in;
    c->receiving = true;
    batch(c, &op, 1, &c->recv, fn, decode);
}

static void log_refusal(const struct rpc_call *c, const struct err *e)
{
    if (!rpc_may_log())
        return;
    char *method = grpc_slice_to_c_string(c->details.method);
    AUTO(str) char *text = err_text(e);
    log_warn("rpc", "refused", "from=%s method=\"%.200s\" kind=%s reason=\"%s\"", c->from,
             method, err_kind_name(e->kind), text);
    gpr_free(method);
}

/* Ends a call that no handler has seen, or that its handler will end with rpc_end. */
static void refuse(struct rpc_call *c, struct err *e)
{
    set_status(c, e);
    err_free(e);
    pump(c);
}

static void hand_over(struct rpc_call *c)
{
    c->held = true;
    c->route->fn(c, c->msg, c->route->ctx); /* c may be gone now */
}

static void got_request(void *owner, bool ok)
{
    struct rpc_call *c = owner;
    c->tags--;
    c->receiving = false;
    if (c->bad) {
        log_refusal(c, c->bad);
        refuse(c, STEAL(c->bad));
    } else if (!ok || !c->msg) {
        refuse(c, err_new(ERR_INVALID, "no request"));
    } else if (c->server->stopping) {
        refuse(c, err_new(ERR_UNAVAILABLE, "server is stopping"));
    } else if (!c->closed) {
        c->tags++; /* keeps c while the handler finishes it */
        hand_over(c);
        c->tags--;
        wire_free(STEAL(c->msg));
    }
    maybe_free(c);
}

static void got_message(void *owner, bool ok)
{
    struct rpc_call *c = owner;
    c->receiving = false;
    rpc_recv_fn *fn = c->on_recv;
    c->on_recv = NULL;
    (void)ok; /* without one, msg is NULL */
    if (c->bad) {
        log_refusal(c, c->bad);
        refuse(c, STEAL(c->bad));
    }
    ProtobufCMessage *msg = STEAL(c->msg);
    if (c->held)
        fn(c, msg, c->on_recv_arg);
    wire_free(msg);
    c->tags--;
    maybe_free(c);
}

void rpc_recv(struct rpc_call *c, rpc_recv_fn *fn, void *arg)
{
    assert(c->held && !c->receiving && !c->on_recv);
    if (!c->server) {
        fn(c, NULL, arg);
        return;
    }
    c->on_recv = fn;
    c->on_recv_arg = arg;
    start_recv(c, got_message);
}

/* --- beginning and end -------------------------------------------------------------- */

static void cancel(struct rpc_call *c)
{
    c->cancelled = true;
    rpc_pending_parent_cancelled(c->children);
    loop_fn *fn = c->on_cancel;
    c->on_cancel = NULL;
    if (c->held && fn)
        fn(c->on_cancel_arg);
}

static void got_close(void *owner, bool ok)
{
    struct rpc_call *c = owner;
    (void)ok;
    c->closed = true;
    free_messages(c);
    if (c->held)
        cancel(c);
    c->tags--;
    maybe_free(c);
}

static void begin(struct rpc_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &c->close_cancelled;
    batch(c, &op, 1, &c->close, got_close, NULL);
    struct err *e = rpc_admit(c->server, c);
    if (e) {
        log_refusal(c, e);
        set_status(c, e);
        /* So that clients know to try another name of the service. */
        if (!c->route && e->kind == ERR_INVALID)
            c->status.code = GRPC_STATUS_UNIMPLEMENTED;
        refuse(c, e);
    } else if (c->route->reads_stream) {
        hand_over(c);
    } else {
        start_recv(c, got_request);
        rpc_server_expect(c->server);
    }
}

static void accepted(void *owner, bool ok)
{
    struct rpc_call *c = owner;
    struct rpc_server *s = c->server;
    c->tags--;
    s->n_accepting--;
    if (!ok) {
        maybe_free(c);
        return;
    }
    s->n_calls++;
    rpc_server_accept_more(s);
    c->since_ms = loop_now_ms();
    c->next = s->calls;
    c->link = &s->calls;
    if (c->next)
        c->next->link = &c->next;
    s->calls = c;
    begin(c);
}

void rpc_call_accept(struct rpc_server *s)
{
    struct rpc_call *c = mem_zalloc(sizeof *c);
    c->server = s;
    c->out_end = &c->out;
    grpc_call_details_init(&c->details);
    grpc_metadata_array_init(&c->metadata);
    c->tags++;
    s->n_accepting++;
    rpc_tag_arm(s->queue, &c->accept, accepted, NULL, c);
    grpc_completion_queue *cq = rpc_queue_cq(s->queue);
    grpc_call_error rc = grpc_server_request_call(s->server, &c->call, &c->details,
                                                  &c->metadata, cq, cq, &c->accept);
    assert(rc == GRPC_CALL_OK);
}

/* --- what handlers ask -------------------------------------------------------------- */

const struct rpc_identity *rpc_call_peer(const struct rpc_call *c)
{
    return &c->peer;
}

const char *rpc_call_from(const struct rpc_call *c)
{
    return c->from;
}

int64_t rpc_call_deadline_ms(const struct rpc_call *c)
{
    if (c->deadline_ms == INT64_MAX)
        return INT64_MAX;
    int64_t left = c->deadline_ms - loop_now_ms();
    return left > 0 ? left : 0;
}

const char *rpc_call_traceparent(const struct rpc_call *c)
{
    return c->traceparent;
}

bool rpc_call_is_cancelled(const struct rpc_call *c)
{
    return c->cancelled;
}

void rpc_call_on_cancel(struct rpc_call *c, loop_fn *fn, void *arg)
{
    assert(c->held);
    if (c->cancelled) {
        if (fn)
            fn(arg);
        return;
    }
    c->on_cancel = fn;
    c->on_cancel_arg = arg;
}

void rpc_call_adopt(struct rpc_call *c, struct rpc_pending *p)
{
    assert(c->held);
    p->sibling = c->children;
    p->parent_link = &c->children;
    if (p->sibling)
        p->sibling->parent_link = &p->sibling;
    c->children = p;
}
