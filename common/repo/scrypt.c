#include "common/repo/scrypt.h"

#include <endian.h>
#include <string.h>

/* Four words that go the same way. */
typedef uint32_t vec __attribute__((vector_size(16)));
/* Salsa's 16 words as four diagonals, so that a quarter round of all is one instruction a
 * step: word 5 * i % 16 is at place i. */
struct salsa {
    vec v[4];
};

static inline vec rotate(vec x, int bits)
{
    return x << bits | x >> (32 - bits);
}

static inline vec turn1(vec x)
{
    return __builtin_shufflevector(x, x, 1, 2, 3, 0);
}

static inline vec turn2(vec x)
{
    return __builtin_shufflevector(x, x, 2, 3, 0, 1);
}

static inline vec turn3(vec x)
{
    return __builtin_shufflevector(x, x, 3, 0, 1, 2);
}

/* x becomes Salsa20/8 of x ^ in. */
static inline void salsa8(struct salsa *x, const struct salsa *in)
{
    vec a = x->v[0] ^ in->v[0], b = x->v[1] ^ in->v[1], c = x->v[2] ^ in->v[2],
        d = x->v[3] ^ in->v[3];
    const struct salsa from = {{a, b, c, d}};
    for (int i = 0; i < 4; i++) {
        b ^= rotate(a + d, 7);
        c ^= rotate(b + a, 9);
        d ^= rotate(c + b, 13);
        a ^= rotate(d + c, 18);
        b = turn3(b), c = turn2(c), d = turn1(d);
        d ^= rotate(a + b, 7);
        c ^= rotate(d + a, 9);
        b ^= rotate(c + d, 13);
        a ^= rotate(b + c, 18);
        b = turn1(b), c = turn2(c), d = turn3(d);
    }
    *x = (struct salsa){{a + from.v[0], b + from.v[1], c + from.v[2], d + from.v[3]}};
}

/* BlockMix of in ^ also (NULL: of in); 2 * r pieces. */
static inline void mix(const struct salsa *in, const struct salsa *also,
                       struct salsa *out, uint32_t r)
{
    size_t last = 2 * (size_t)r - 1;
    struct salsa x = in[last];
    for (int k = 0; also && k < 4; k++)
        x.v[k] ^= also[last].v[k];
    for (size_t i = 0; i <= last; i++) {
        struct salsa piece = in[i];
        for (int k = 0; also && k < 4; k++)
            piece.v[k] ^= also[i].v[k];
        salsa8(&x, &piece);
        out[i / 2 + (i % 2 ? r : 0)] = x;
    }
}

static void load(struct salsa *to, const uint8_t *block, size_t pieces)
{
    for (size_t i = 0; i < pieces; i++, block += 64)
        for (unsigned k = 0; k < 16; k++) {
            uint32_t word;
            memcpy(&word, block + (size_t)4 * (5 * k % 16), 4);
            to[i].v[k / 4][k % 4] = le32toh(word);
        }
}

static void unload(const struct salsa *from, uint8_t *block, size_t pieces)
{
    for (size_t i = 0; i < pieces; i++, block += 64)
        for (unsigned k = 0; k < 16; k++) {
            uint32_t word = htole32(from[i].v[k / 4][k % 4]);
            memcpy(block + (size_t)4 * (5 * k % 16), &word, 4);
        }
}

void scrypt_mix(uint8_t *block, uint32_t n, uint32_t r, void *room)
{
    size_t pieces = 2 * (size_t)r;
    struct salsa *table = room, *x = table + n * pieces, *y = x + pieces;
    load(table, block, pieces);
    for (size_t i = 0; i + 1 < n; i++)
        mix(table + i * pieces, NULL, table + (i + 1) * pieces, r);
    mix(table + (n - 1) * pieces, NULL, x, r);
    for (size_t i = 0; i < n; i++) {
        /* The first word of the last piece is at the first place. */
        size_t at = x[pieces - 1].v[0][0] & (n - 1);
        mix(x, table + at * pieces, y, r);
        struct salsa *other = x;
        x = y;
        y = other;
    }
    unload(x, block, pieces);
}
