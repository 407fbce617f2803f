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

static bool is_cut(uint64_t hash)
{
    return !(hash >> (64 - GEAR_MASK_BITS));
}

/* First position in [at, end) whose byte makes a cut, or end; *hash goes along. */
static size_t search(const struct gear *g, const uint8_t *data, size_t at, size_t end,
                     uint64_t *hash)
{
    uint64_t h = *hash;
    for (; at < end; at++) {
        h = (h << 1) + g->table[data[at]];
        if (is_cut(h))
            break;
    }
    *hash = h;
    return at;
}

/* The same on both halves at once: each step of a hash waits for the one before, two
 * hashes do not wait for each other. What came before the second half's window cannot
 * matter to it. */
static size_t search_two(const struct gear *g, const uint8_t *data, size_t at, size_t end,
                         uint64_t *hash)
{
    const uint64_t *table = g->table;
    size_t half = (end - at) / 2, found = end;
    const uint8_t *a = data + at, *b = a + half;
    uint64_t x = *hash, y = 0;
    for (size_t i = 0; i < WINDOW; i++)
        y = (y << 1) + table[b[i - WINDOW]];
    size_t i = 0;
    for (; i < half; i++) {
        x = (x << 1) + table[a[i]];
        y = (y << 1) + table[b[i]];
        if (is_cut(x)) {
            *hash = x;
            return at + i;
        }
        if (is_cut(y)) {
            found = at + half + i++;
            break;
        }
    }
    if (found == end) { /* the last byte, when their number is odd */
        *hash = y;
        return search(g, data, at + 2 * half, end, hash);
    }
    /* A cut in the second half counts unless the first has one behind where it stands. */
    *hash = x;
    size_t first = search(g, data, at + i, at + half, hash);
    return first < at + half ? first : found;
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
    for (; at < end && at + 1 < GEAR_MIN; at++)
        hash = (hash << 1) + g->table[data[at]];
    size_t cut = end - at > 4 * WINDOW ? search_two(g, data, at, end, &hash)
                                       : search(g, data, at, end, &hash);
    if (cut < end)
        return cut + 1;
    st->at = end;
    st->hash = hash;
    return end == GEAR_MAX ? GEAR_MAX : 0;
}
