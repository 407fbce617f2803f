/* A set of digests. One owner, one thread (or its user's lock). */
#ifndef COMMON_REPO_IDSET_H
#define COMMON_REPO_IDSET_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/hash.h"

struct idset {
    struct digest *slots; /* open addressing; a slot is used when its bit in `used` is */
    unsigned char *used;
    size_t cap; /* power of two, or 0 */
    size_t count;
};

/* A zeroed struct is an empty set. */
void idset_fini(struct idset *s);
/* True when the id was not there before. */
bool idset_add(struct idset *s, const struct digest *id);
/* True when the id was there. */
bool idset_remove(struct idset *s, const struct digest *id);
bool idset_has(const struct idset *s, const struct digest *id);

#endif
