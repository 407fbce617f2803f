/* The gRPC server: completion-queue threads only move bytes; everything here happens on
 * the loop thread, and so do the handlers.
 *
 * Each method of a service is listed with the roles that may call it. The peer's
 * certificate is checked for every call, before its request is even read: other roles get
 * PERMISSION_DENIED and a log line. Requests of other clusters are refused likewise. */
#ifndef COMMON_RPC_SERVER_H
#define COMMON_RPC_SERVER_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/loop/loop.h"
#include "common/rpc/identity.h"
#include "common/rpc/rpc.h"

struct rpc_client;
struct rpc_server;
/* One call in progress. It belongs to its handler until rpc_reply, rpc_fail or rpc_end,
 * now or later; exactly one of these must be called, also after a cancellation and also
 * after rpc_server_free. After it the pointer is gone. */
struct rpc_call;

/* Starts to serve a call. `req` is valid until the handler returns; NULL for methods with
 * a client stream (see rpc_recv). */
typedef void rpc_handler(struct rpc_call *call, const ProtobufCMessage *req, void *ctx);

struct rpc_method {
    const char *name; /* as in the .proto file; of an array's end: NULL */
    unsigned roles;   /* who may call it: RPC_AGENT | ... ; never 0 */
    rpc_handler *fn;
};

struct rpc_server_conf {
    const char *listen;  /* "host:port", "[v6]:port"; port 0 chooses one */
    const char *cluster; /* peers of other clusters are refused */
    struct rpc_tls tls;
    int message_bytes; /* largest request; 0: RPC_MESSAGE_BYTES */
    int max_calls;     /* at a time, over all peers; more get UNAVAILABLE. 0: 1024 */
    int max_streams;   /* at a time on one connection; 0: 100 */
    /* Whose thread moves the bytes, for servers that are called rarely; it is freed after
     * the server. NULL: threads of its own. */
    struct rpc_client *beside;
};

/* Everything in conf is copied. INVALID, IO, NOT_FOUND: the files; INVALID also when this
 * process' own certificate belongs to another cluster. */
struct err *rpc_server_new(struct loop *loop, const struct rpc_server_conf *conf,
                           struct rpc_server **out) MUST_USE;
/* Adds a service before rpc_server_start; `sd` and `methods` (ended by a NULL name) are
 * static. INVALID: a name that is not in the service, or no roles. Methods left out are
 * answered UNIMPLEMENTED. */
struct err *rpc_server_add(struct rpc_server *s, const ProtobufCServiceDescriptor *sd,
                           const struct rpc_method *methods, void *ctx) MUST_USE;
/* Binds and serves, with gRPC health (any role) and reflection (operators) added.
 * UNAVAILABLE: the address is taken or does not exist. */
struct err *rpc_server_start(struct rpc_server *s) MUST_USE;
/* The bound port. */
int rpc_server_port(const struct rpc_server *s);
/* Health as gRPC's health protocol shows it; "" is the process as a whole. Unnamed
 * services are unknown. Watchers are told. At start "" is SERVING. */
void rpc_server_set_health(struct rpc_server *s, const char *service, bool serving);
/* Refuses new calls, turns every health to NOT_SERVING; calls done(arg) on the loop once
 * no call is left. */
void rpc_server_drain(struct rpc_server *s, loop_fn *done, void *arg);
/* Cancels what is left (on_cancel is called) and joins the threads. On the loop thread or
 * after loop_run returned, not inside a handler or callback of this folder but the one of
 * rpc_server_drain. */
void rpc_server_free(struct rpc_server *s);
DEFINE_AUTO(rpc_server, struct rpc_server *, rpc_server_free);

/* --- within a call ------------------------------------------------------------------ */

/* The verified peer; lives as long as the call. */
const struct rpc_identity *rpc_call_peer(const struct rpc_call *c);
/* "node-1@192.0.2.1:40312": for logs; lives as long as the call. */
const char *rpc_call_from(const struct rpc_call *c);
/* What is left of the caller's deadline, >= 0; INT64_MAX without one. */
int64_t rpc_call_deadline_ms(const struct rpc_call *c);
/* W3C traceparent of the caller, or "" (also when it was not well-formed). */
const char *rpc_call_traceparent(const struct rpc_call *c);
bool rpc_call_is_cancelled(const struct rpc_call *c);
/* fn(arg) once if the peer cancels, its deadline passes or its connection ends before the
 * call is finished; the handler still has to finish it. At once if it already happened.
 */
void rpc_call_on_cancel(struct rpc_call *c, loop_fn *fn, void *arg);

/* Finish a call with one message, which is packed before returning. */
void rpc_reply(struct rpc_call *c, const ProtobufCMessage *msg);
/* Finish with an error, taken over. Its kind and text reach the client's `struct err`. */
void rpc_fail(struct rpc_call *c, struct err *e);
/* Finish a server stream well, after what was sent. */
void rpc_end(struct rpc_call *c);

enum {
    RPC_SEND_QUEUE = 16,    /* messages: above, rpc_send says false */
    RPC_SEND_LIMIT = 65536, /* messages: above, the call fails with LIMIT */
};
/* Queue one message of a server stream (packed before returning). False: the peer is
 * slow, stop until on_writable. True after a cancellation, when the message is dropped.
 */
bool rpc_send(struct rpc_call *c, const ProtobufCMessage *msg);
/* fn(arg) each time the queue has become empty after rpc_send said false. */
void rpc_call_on_writable(struct rpc_call *c, loop_fn *fn, void *arg);

/* Ask for the next message of a client stream; fn is called once on the loop, with NULL
 * when the client has ended its half (or is gone). One at a time. */
typedef void rpc_recv_fn(struct rpc_call *c, const ProtobufCMessage *msg, void *arg);
void rpc_recv(struct rpc_call *c, rpc_recv_fn *fn, void *arg);

#endif
