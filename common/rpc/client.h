/* The gRPC client: many calls at once, one thread that moves bytes, results on the loop.
 * Everything here is for the loop thread (or the only thread while no loop runs).
 *
 * Errors carry the kind that the handler gave. Of the client's own: UNAVAILABLE the
 * request certainly never left; TIMEOUT the deadline passed or the connection broke after
 * it may have been sent (for a write: unknown); LIMIT a message is too large; CORRUPT the
 * reply is no such message. Nothing is retried. */
#ifndef COMMON_RPC_CLIENT_H
#define COMMON_RPC_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc.h"
#include "common/rpc/server.h"

struct rpc_client;  /* one a process: credentials and the thread */
struct rpc_channel; /* one a peer: connects when first used, reconnects by itself */
struct rpc_pending; /* a call that has not ended; gone when its done returns */

struct rpc_client_conf {
    const char *cluster; /* servers of other clusters are refused */
    struct rpc_tls tls;
    int message_bytes; /* largest reply; 0: RPC_MESSAGE_BYTES */
};

/* conf is copied. Errors as rpc_server_new. */
struct err *rpc_client_new(struct loop *loop, const struct rpc_client_conf *conf,
                           struct rpc_client **out) MUST_USE;
/* Ends all calls with CANCELLED (their done is called before this returns), then joins
 * the thread. Not from inside a callback of this folder. Channels are freed first. */
void rpc_client_free(struct rpc_client *c);
DEFINE_AUTO(rpc_client, struct rpc_client *, rpc_client_free);

/* A channel to `address` ("host:port"). The server must show a certificate with one of
 * `roles` and DNS name `name`, whatever the address; name NULL: the address' host. */
struct rpc_channel *rpc_channel_new(struct rpc_client *c, const char *address,
                                    unsigned roles, const char *name);
/* Calls that have not ended go on. */
void rpc_channel_free(struct rpc_channel *ch);
DEFINE_AUTO(rpc_channel, struct rpc_channel *, rpc_channel_free);

struct rpc_opts {
    int64_t timeout_ms; /* > 0; for streams 0 means none */
    /* The call on whose behalf this is made, or NULL: the smaller deadline counts, its
     * cancellation cancels this call, its trace is continued. */
    struct rpc_call *parent;
    const char *traceparent; /* "" or NULL: the parent's, if any */
    /* Wait for a connection (until the deadline) rather than fail while there is none. */
    bool wait_for_ready;
};

/* The end of a call, once, never from inside the starting function. `e` is the callee's
 * to free, NULL on success; `reply` is valid during the call, NULL on error and for
 * streams. */
typedef void rpc_done_fn(void *arg, struct err *e, const ProtobufCMessage *reply);

/* Start method `method` of `sd`. The request is packed before returning. */
struct rpc_pending *rpc_call_start(struct rpc_channel *ch,
                                   const ProtobufCServiceDescriptor *sd,
                                   const char *method, const ProtobufCMessage *req,
                                   const struct rpc_opts *opts, rpc_done_fn *done,
                                   void *arg);

/* A request that is packed once for many calls; to be freed by the caller, at any time
 * after the last of them began. Loop thread. */
struct rpc_packed;
struct rpc_packed *rpc_packed_new(const ProtobufCMessage *req);
void rpc_packed_free(struct rpc_packed *p);
/* As rpc_call_start; `req` must be of the method's input, and is the caller's. */
struct rpc_pending *
rpc_call_start_packed(struct rpc_channel *ch, const ProtobufCServiceDescriptor *sd,
                      const char *method, const struct rpc_packed *req,
                      const struct rpc_opts *opts, rpc_done_fn *done, void *arg);

/* One message of a server stream. True: read the next. False: the stream is paused (and,
 * once buffers are full, the server too) until rpc_stream_resume. */
typedef bool rpc_message_fn(void *arg, const ProtobufCMessage *msg);
struct rpc_pending *rpc_stream_start(struct rpc_channel *ch,
                                     const ProtobufCServiceDescriptor *sd,
                                     const char *method, const ProtobufCMessage *req,
                                     const struct rpc_opts *opts,
                                     rpc_message_fn *on_message, rpc_done_fn *done,
                                     void *arg);
void rpc_stream_resume(struct rpc_pending *p);

/* Ends the call with CANCELLED unless it has ended; done follows later. */
void rpc_cancel(struct rpc_pending *p);

/* For programs without a running loop (the command line): starts the call and runs the
 * loop until it ends. The reply is the caller's:
 * protobuf_c_message_free_unpacked(reply, NULL). */
struct err *rpc_call_sync(struct rpc_channel *ch, const ProtobufCServiceDescriptor *sd,
                          const char *method, const ProtobufCMessage *req,
                          const struct rpc_opts *opts, ProtobufCMessage **reply) MUST_USE;

#endif
