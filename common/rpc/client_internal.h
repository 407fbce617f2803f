/* What the client's file and a server's call share: calls made on behalf of calls. Loop
 * thread. */
#ifndef COMMON_RPC_CLIENT_INTERNAL_H
#define COMMON_RPC_CLIENT_INTERNAL_H

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "common/rpc/client.h"
#include "common/rpc/queue.h"
#include "common/rpc/tls.h"

struct rpc_client {
    struct loop *loop;
    char *cluster;
    struct rpc_pems pems;
    int message_bytes;
    struct rpc_queue *queue;
    grpc_channel_credentials *credentials[RPC_ANY_ROLE + 1]; /* by role mask, lazily */
    struct rpc_pending *pending;
    bool stopping;
};

/* I1. `done` is called, once, when all tags are back; then the struct is gone.
 * I2. Paused: no message is asked for, the status tag is out. */
struct rpc_pending {
    struct rpc_client *client;
    grpc_call *call;
    const ProtobufCMessageDescriptor *output;
    char *what;                 /* "Freeze of node-1 at 192.0.2.1:7401", for errors */
    rpc_message_fn *on_message; /* of streams, else NULL */
    rpc_done_fn *done;
    void *arg;
    struct rpc_pending *next, **link;           /* in the client's list */
    struct rpc_pending *sibling, **parent_link; /* in the parent call's children */

    struct rpc_tag send, begin, recv, end;
    int tags; /* armed */
    bool was_sent;
    bool is_over; /* the status is in */
    bool is_cancelled;
    bool is_paused;
    grpc_metadata_array initial, trailers;
    grpc_status_code status;
    grpc_slice status_text;
    grpc_byte_buffer *in; /* filled by gRPC, read on the queue thread */
    ProtobufCMessage *msg;
    struct err *bad; /* why `in` is no message */
};

/* call.c: makes p a child of c, so that c's cancellation reaches it. */
void rpc_call_adopt(struct rpc_call *c, struct rpc_pending *p);
/* client.c: what becomes of a parent's children, given the first of them. */
void rpc_pending_parent_cancelled(struct rpc_pending *first);
void rpc_pending_orphan(struct rpc_pending *first);

#endif
