/* Stage 2: from a group's partitions and the registry to who must be asked for what, and
 * which locks that takes. No I/O, no clock. Loop thread only. */
#ifndef COORDINATOR_FLOW_PLAN_H
#define COORDINATOR_FLOW_PLAN_H

#include "coordinator/flow/registry.h"

/* One partition as the group file names it: "node/partition". */
struct plan_part {
    struct node_id node;
    struct part_id part;
    struct domain_id domain;
    char path[1024];
    char *error; /* relaxed: why it is not taken, and what to do; owned; NULL: it is */
};

struct plan_node {
    struct node_id node;
    char address[ADDRESS_BYTES];
    size_t first; /* its partitions are among parts[first] to parts[first + n - 1] */
    size_t n;
};

/* Invariants: parts ascend by (node, partition); domains ascend and are unique; nodes and
 * domains are those of parts without an error, and there is one at least. */
struct plan {
    struct plan_part *parts; /* owned */
    size_t n_parts;
    struct plan_node *nodes; /* owned */
    size_t n_nodes;
    struct domain_id *domains; /* owned: the locks to take besides the group's */
    size_t n_domains;
};

enum {
    PLAN_RECORD_BYTES = 1400 << 10 /* of a set's record; etcd takes 1.5 MiB a request */
};

void plan_free(struct plan *p);
DEFINE_AUTO(plan, struct plan *, plan_free);

/* Splits "node/partition". INVALID otherwise. */
struct err *plan_parse_part(const char *text, struct plan_part *out) MUST_USE;

/* Plans a round over `names`. `strict`: every partition must quiesce and be usable now;
 * otherwise those that are not get their error, and one that can be taken is enough.
 * Errors name every partition at fault (up to 1,000 bytes of them) and what to do:
 * NOT_FOUND for unknown nodes and partitions, UNAVAILABLE for nodes that are away,
 * CONFLICT for partitions that cannot be used, LIMIT beyond CUT_MAX_PARTS, or when the
 * record of the captured set might not fit PLAN_RECORD_BYTES: it must not turn out while
 * all is frozen. The caller owns *out. */
struct err *plan_make(const struct registry *r, const char *const *names, size_t n,
                      bool strict, int64_t now_ms, struct plan **out) MUST_USE;

/* Takes a node's partitions out of a relaxed plan, for this reason. CONFLICT, with the
 * reason, when none are left then: the plan is of no use any more. */
struct err *plan_leave_out(struct plan *p, const struct registry *r,
                           const struct node_id *node, const char *why) MUST_USE;

/* At least what the JSON of the set's record may take once all is in it. */
size_t plan_record_bytes(const struct plan *p);

#endif
