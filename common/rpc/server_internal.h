/* What the server's files share. server.c: listening, methods, start and end; admit.c:
 * who may call what; call.c: one call's life. Loop thread. */
#ifndef COMMON_RPC_SERVER_INTERNAL_H
#define COMMON_RPC_SERVER_INTERNAL_H

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "common/rpc/descriptors.h"
#include "common/rpc/queue.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "common/rpc/tls.h"

enum {
    RPC_TRACEPARENT_BYTES = 55,
    RPC_ACCEPTING = 32, /* calls that gRPC may hand over at once */
    RPC_IDENTITIES = 256,
};

struct rpc_route {
    char *path; /* "/pkg.Service/Method" */
    const ProtobufCMessageDescriptor *input;
    unsigned roles;
    rpc_handler *fn;
    void *ctx;
    bool reads_stream;
    bool is_builtin; /* does not hold up a drain */
};

/* Certificates already read: by the slot that the text's hash chooses. */
struct rpc_known_peer {
    char *pem;
    size_t len;
    struct rpc_identity identity;
};

struct rpc_health;

struct rpc_server {
    struct loop *loop;
    char *listen;
    char *cluster;
    struct rpc_pems pems;
    int message_bytes;
    int max_calls;
    int max_streams;
    int port;
    grpc_server *server; /* NULL until started */
    struct rpc_queue *queue;
    struct rpc_client *beside; /* whose queue's threads move the bytes; NULL: own ones */
    struct rpc_descriptors *descriptors;
    struct rpc_route *routes;
    size_t n_routes, cap_routes;
    const char **services; /* names, for reflection; borrowed */
    size_t n_services, cap_services;
    struct rpc_known_peer known[RPC_IDENTITIES];
    struct rpc_health *health;

    struct rpc_call *calls; /* accepted and not gone */
    int n_calls;
    int n_accepting;         /* offered to gRPC */
    struct loop_timer sweep; /* armed while calls wait for their request */
    bool stopping;           /* no new calls */
    struct rpc_tag stopped;
    struct loop_timer drain; /* armed when `drained` is due */
    loop_fn *drained;
    void *drained_arg;
};

struct rpc_message {
    grpc_byte_buffer *bytes;
    struct rpc_message *next;
};

struct rpc_pending;

/* I1. A call is freed when its handler has finished it (or never got it), gRPC has
 *     returned every tag of it, and its close has been seen or was never asked for.
 * I2. After rpc_server_free `server` and `call` are NULL: only the handler holds it.
 * I3. At most one batch per tag is under way; `sending` is that of `send`. */
struct rpc_call {
    struct rpc_server *server;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    const struct rpc_route *route;
    struct rpc_identity peer;
    char *from;
    char traceparent[RPC_TRACEPARENT_BYTES + 1];
    int64_t deadline_ms; /* loop_now_ms's clock; INT64_MAX without */
    int64_t since_ms;
    struct rpc_call *next, **link; /* in the server's calls */

    struct rpc_tag accept, recv, send, close;
    int tags;            /* armed */
    bool held;           /* the handler owns it */
    bool closed;         /* the peer will hear no more */
    int close_cancelled; /* gRPC writes it; `closed` while held says the same */
    bool cancelled;
    loop_fn *on_cancel;
    void *on_cancel_arg;

    grpc_byte_buffer *in; /* filled by gRPC, read on the queue thread */
    ProtobufCMessage *msg;
    struct err *bad; /* why `in` is no message */
    bool receiving;
    rpc_recv_fn *on_recv;
    void *on_recv_arg;

    struct rpc_message *out, **out_end; /* not yet sent */
    size_t n_out;
    bool sending;
    bool began;       /* initial metadata was sent */
    bool ended;       /* nothing more comes: send `status` after `out` */
    bool status_sent; /* with a batch that is under way or done */
    struct rpc_status status;
    bool want_writable;
    loop_fn *on_writable;
    void *on_writable_arg;

    struct rpc_pending *children; /* client calls made on its behalf */
};

/* admit.c: peer, route and deadline of a new call, or why it is refused. */
struct err *rpc_admit(struct rpc_server *s, struct rpc_call *c) MUST_USE;
void rpc_forget_peers(struct rpc_server *s);

/* call.c */
void rpc_call_accept(struct rpc_server *s);
/* Lets go of a call that only its handler still holds. */
void rpc_call_detach(struct rpc_call *c);
void rpc_call_abort(struct rpc_call *c);

/* server.c: told when a call is gone, when one waits for its request; offers gRPC more
 * calls to fill, within limits. */
void rpc_server_call_gone(struct rpc_server *s);
void rpc_server_expect(struct rpc_server *s);
void rpc_server_accept_more(struct rpc_server *s);
struct err *rpc_server_bind(struct rpc_server *s, const char *name,
                            const ProtobufCServiceDescriptor *sd,
                            const struct rpc_method *methods, void *ctx,
                            bool is_builtin) MUST_USE;

/* health.c, reflection.c: the services every server has. */
struct rpc_health *rpc_health_new(void);
void rpc_health_free(struct rpc_health *h);
struct err *rpc_health_bind(struct rpc_server *s) MUST_USE;
void rpc_health_set(struct rpc_health *h, const char *service, bool serving);
/* All to NOT_SERVING; ends the watches. */
void rpc_health_drain(struct rpc_health *h);
struct err *rpc_reflection_bind(struct rpc_server *s) MUST_USE;

#endif
