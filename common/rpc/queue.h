/* A completion queue and its threads, whose events become calls on the loop thread.
 *
 * A tag is embedded in what owns it and stays put from rpc_tag_arm until its fn is
 * called. Events come through an eventfd of this queue rather than loop_post, so that a
 * queue can be emptied and freed when the loop no longer runs. */
#ifndef COMMON_RPC_QUEUE_H
#define COMMON_RPC_QUEUE_H

#include <grpc/grpc.h>
#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/loop/loop.h"

struct rpc_queue;

struct rpc_tag {
    void (*fn)(void *owner, bool ok); /* on the loop */
    void (*decode)(void *owner);      /* before it, on a queue thread; or NULL */
    void *owner;
    bool ok;
    struct rpc_queue *queue;
    struct rpc_tag *next; /* in the list of what is ready */
};

struct err *rpc_queue_new(struct loop *loop, int threads,
                          struct rpc_queue **out) MUST_USE;
/* A queue of its own, whose events come through the threads of another one: gRPC hands
 * the polling on from thread to thread, so that one more costs a switch for each event.
 */
struct rpc_queue *rpc_queue_beside(struct rpc_queue *other);
/* No tag may be armed. The last of those that share threads joins them. */
void rpc_queue_free(struct rpc_queue *q);
grpc_completion_queue *rpc_queue_cq(struct rpc_queue *q);

/* Prepares a tag that is handed to gRPC right after. */
void rpc_tag_arm(struct rpc_queue *q, struct rpc_tag *t, void (*fn)(void *, bool),
                 void (*decode)(void *), void *owner);
/* Arms and starts a batch; the operations must be legal (asserted). */
void rpc_batch(struct rpc_queue *q, grpc_call *call, const grpc_op *ops, size_t n,
               struct rpc_tag *t, void (*fn)(void *, bool), void (*decode)(void *),
               void *owner);

/* Tags that were armed and whose fn was not called yet. Loop thread. */
int rpc_queue_armed(const struct rpc_queue *q);
/* Blocks for at least one event, then makes the calls of all that are ready, also those
 * of queues that share its threads. Loop thread, when shutting down. */
void rpc_queue_wait(struct rpc_queue *q);

#endif
