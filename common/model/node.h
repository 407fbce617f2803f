/* What a coordinator knows of a node: its agent's address and partitions. Pure. */
#ifndef COMMON_MODEL_NODE_H
#define COMMON_MODEL_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/model/ids.h"

enum { ADDRESS_BYTES = 256 };

struct part_info {
    struct part_id part;
    struct domain_id domain;
    char path[1024];
    char error[256]; /* why it cannot be used now; empty if it can */
    bool quiesces;   /* its quiesce method pauses writers, or it is read-only */
};

struct node_info {
    struct node_id node;
    char address[ADDRESS_BYTES]; /* "host:port" of its AgentService */
    struct part_info *parts;     /* owned */
    size_t n_parts;
};

#endif
