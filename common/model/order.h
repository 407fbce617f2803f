/* The order in which what is frozen on one node may freeze, when it does so in waves.
 * What one pause stops cannot stop twice, and a task that waits for a frozen filesystem
 * never becomes frozen itself: filesystems come last. Coordinators ask before a set
 * begins, agents when they prepare one. Pure. */
#ifndef COMMON_MODEL_ORDER_H
#define COMMON_MODEL_ORDER_H

#include <stddef.h>

#include "common/base/err.h"
#include "common/model/ids.h"

/* One partition, all borrowed. */
struct order_part {
    const char *part;
    const struct domain_id *domain;
    size_t wave; /* from 0 */
};

/* INVALID, naming two partitions of `node` and what to do, when they share a domain and
 * are in different waves, or when one's filesystem would be frozen before the other's
 * writers are stopped in another way. Needs: all are on one node. */
struct err *order_check(const char *node, const struct order_part *parts,
                        size_t n) MUST_USE;

#endif
