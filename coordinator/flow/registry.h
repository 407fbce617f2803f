/* Stage 1: the nodes that have registered, and whether they are still there. No I/O, no
 * clock. Loop thread only. */
#ifndef COORDINATOR_FLOW_REGISTRY_H
#define COORDINATOR_FLOW_REGISTRY_H

#include "common/base/attr.h"
#include "common/model/node.h"

enum {
    REGISTRY_MAX_NODES = 10000,
    REGISTRY_INTERVAL_MS = 3000, /* between registrations */
    REGISTRY_GONE_MS = 10000,    /* silent for this long: not connected */
    REGISTRY_CLOCK_MS = 600000,  /* a clock further off than this is wrong */
};

struct registry_node {
    struct node_info info;
    int64_t seen_ms;
};

struct registry {
    struct registry_node *nodes; /* owned, ascending by node */
    size_t n_nodes;
    size_t cap;
};

void registry_init(struct registry *r);
void registry_fini(struct registry *r);
/* A node registered; its parts are taken over. LIMIT when there are too many nodes. */
struct err *registry_put(struct registry *r, struct node_info *info,
                         int64_t now_ms) MUST_USE;
/* The node, connected or not; NULL: never heard of. Borrowed until the next put. */
const struct registry_node *registry_find(const struct registry *r,
                                          const struct node_id *node);
/* Why no partition of a node can be used that speaks `protocol` and whose clock is so far
 * ahead of ours; NULL: nothing is in the way. A wrong clock would make its locks in a
 * repository look abandoned, or never so. The caller owns it. */
char *registry_node_fault(int protocol, int64_t clock_ahead_ms) MUST_USE;
bool registry_is_connected(const struct registry_node *n, int64_t now_ms);

#endif
