/* Content-defined chunking by a gear hash whose table comes from a secret, so that chunk
 * sizes tell nothing to who does not hold it. Pure. */
#ifndef COMMON_ENGINE_GEAR_H
#define COMMON_ENGINE_GEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/hash.h"

enum {
    GEAR_MIN = 512 << 10,
    GEAR_MAX = 8 << 20,
    GEAR_MASK_BITS = 19, /* mean = GEAR_MIN + 2^19 = 1 MiB */
};

struct gear {
    uint64_t table[256];
};

/* Search of one chunk's end; starts zeroed. */
struct gear_state {
    size_t at; /* bytes looked at */
    uint64_t hash;
};

void gear_init(struct gear *g, const struct digest *secret);
/* Length of the chunk at the front of data[n], or 0 if more bytes decide it. Call again
 * with the same front and more behind it; at the end of a file the rest is a chunk. */
size_t gear_cut(const struct gear *g, struct gear_state *st, const uint8_t *data,
                size_t n);

#endif
