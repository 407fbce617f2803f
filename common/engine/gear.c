#include "common/engine/gear.h"

#include <string.h>

/* Bytes that influence the hash: older ones are shifted out of its 64 bits. */
enum { WINDOW = 64 };

void gear_init(struct gear *g, const struct digest *secret)
{
    for (unsigned i = 0; i < 256; i++) {
        struct digest d;
        uint8_t byte = (uint8_t)i;
        hash_hmac(secret->b, sizeof secret->b, &byte, 1, &d);
        memcpy(&g->table[i], d.b, sizeof g->table[i]);
    }
}

size_t gear_cut(const struct gear *g, struct gear_state *st, const uint8_t *data,
                size_t n)
{
    size_t end = n < GEAR_MAX ? n : GEAR_MAX;
    /* Nothing before the window of the first legal cut can matter. */
    size_t at = st->at ? st->at : GEAR_MIN - WINDOW;
    uint64_t hash = st->hash;
    if (at >= end)
        return 0;
    for (; at < end; at++) {
        hash = (hash << 1) + g->table[data[at]];
        if (!(hash >> (64 - GEAR_MASK_BITS)) && at + 1 >= GEAR_MIN)
            return at + 1;
    }
    st->at = at;
    st->hash = hash;
    return at == GEAR_MAX ? GEAR_MAX : 0;
}
