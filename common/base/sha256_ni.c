#include "common/base/sha256_ni.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define NI __attribute__((target("sha,sse4.1,ssse3")))
#define NI_INLINE static inline __attribute__((always_inline)) NI

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
};

/* The state in the order that the instructions want: ABEF and CDGH. */
struct lane {
    __m128i abef, cdgh;
    __m128i was_abef, was_cdgh;
    __m128i w[4]; /* sixteen words of the message's schedule */
};

bool sha256_ni_works(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

NI_INLINE void load_state(struct lane *l, const uint32_t *state)
{
    __m128i dcba = _mm_loadu_si128((const __m128i *)state);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    l->abef = _mm_alignr_epi8(cdab, efgh, 8);
    l->cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
}

NI_INLINE void store_state(const struct lane *l, uint32_t *state)
{
    __m128i feba = _mm_shuffle_epi32(l->abef, 0x1b),
            dchg = _mm_shuffle_epi32(l->cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

NI_INLINE void load_block(struct lane *l, const uint8_t *data)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    for (int i = 0; i < 4; i++)
        l->w[i] =
            _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), swap);
    l->was_abef = l->abef;
    l->was_cdgh = l->cdgh;
}

/* Four rounds; i is a constant wherever this is used. */
NI_INLINE void rounds(struct lane *l, int i)
{
    __m128i k = _mm_loadu_si128((const __m128i *)(constants + 4 * i));
    __m128i *w = &l->w[i & 3];
    __m128i sum = _mm_add_epi32(*w, k);
    l->cdgh = _mm_sha256rnds2_epu32(l->cdgh, l->abef, sum);
    l->abef = _mm_sha256rnds2_epu32(l->abef, l->cdgh, _mm_shuffle_epi32(sum, 0x0e));
    if (i < 12) {
        const __m128i last = l->w[(i + 3) & 3];
        __m128i mixed = _mm_add_epi32(_mm_sha256msg1_epu32(*w, l->w[(i + 1) & 3]),
                                      _mm_alignr_epi8(last, l->w[(i + 2) & 3], 4));
        *w = _mm_sha256msg2_epu32(mixed, last);
    }
}

NI_INLINE void add_up(struct lane *l)
{
    l->abef = _mm_add_epi32(l->abef, l->was_abef);
    l->cdgh = _mm_add_epi32(l->cdgh, l->was_cdgh);
}

NI void sha256_ni(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    struct lane l;
    load_state(&l, state);
    for (; blocks; blocks--, data += 64) {
        load_block(&l, data);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            rounds(&l, i);
        add_up(&l);
    }
    store_state(&l, state);
}

NI void sha256_ni_two(uint32_t state_a[8], const uint8_t *a, uint32_t state_b[8],
                      const uint8_t *b, size_t blocks)
{
    struct lane x, y;
    load_state(&x, state_a);
    load_state(&y, state_b);
    for (; blocks; blocks--, a += 64, b += 64) {
        load_block(&x, a);
        load_block(&y, b);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            rounds(&x, i);
            rounds(&y, i);
        }
        add_up(&x);
        add_up(&y);
    }
    store_state(&x, state_a);
    store_state(&y, state_b);
}

#else

#include <stdlib.h>

bool sha256_ni_works(void)
{
    return false;
}

void sha256_ni(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    (void)state, (void)data, (void)blocks;
    abort();
}

void sha256_ni_two(uint32_t state_a[8], const uint8_t *a, uint32_t state_b[8],
                   const uint8_t *b, size_t blocks)
{
    (void)state_a, (void)a, (void)state_b, (void)b, (void)blocks;
    abort();
}

#endif
