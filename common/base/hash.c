#include "common/base/hash.h"

#include <assert.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdatomic.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/base/sha256_ni.h"

/* With the processor's instructions the state is ours, otherwise the library's. */
struct hash {
    EVP_MD_CTX *ctx; /* NULL: ours */
    uint32_t state[8];
    uint8_t block[64]; /* bytes that do not fill one yet */
    size_t n;
    uint64_t total;
};

static bool own_works(void)
{
    /* 0: not asked yet. Not state, but what this machine is: all who ask find the same.
     */
    static atomic_int processor_hashes;
    int answer = atomic_load_explicit(&processor_hashes, memory_order_relaxed);
    if (!answer) {
        answer = sha256_ni_works() ? 1 : 2;
        atomic_store_explicit(&processor_hashes, answer, memory_order_relaxed);
    }
    return answer == 1;
}

static void begin(struct hash *h)
{
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(h->state, first, sizeof first);
    h->ctx = NULL;
    h->n = 0;
    h->total = 0;
}

/* Fills the block that is begun; returns how many bytes that took. */
static size_t fill_block(struct hash *h, const uint8_t *data, size_t n)
{
    if (!h->n)
        return 0;
    size_t take = n < 64 - h->n ? n : 64 - h->n;
    memcpy(h->block + h->n, data, take);
    h->n += take;
    h->total += take;
    if (h->n == 64) {
        sha256_ni(h->state, h->block, 1);
        h->n = 0;
    }
    return take;
}

static void add(struct hash *h, const uint8_t *data, size_t n)
{
    size_t used = fill_block(h, data, n);
    data += used;
    n -= used;
    sha256_ni(h->state, data, n / 64);
    memcpy(h->block + h->n, data + n / 64 * 64, n % 64);
    h->n += n % 64;
    h->total += n;
}

static void end(struct hash *h, struct digest *out)
{
    uint64_t bits = h->total * 8;
    uint8_t tail[128] = {0x80};
    size_t pad = (h->n < 56 ? 56 : 120) - h->n;
    for (int i = 0; i < 8; i++)
        tail[pad + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    add(h, tail, pad + 8);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++)
            out->b[4 * i + j] = (uint8_t)(h->state[i] >> (24 - 8 * j));
}

void hash_bytes(const void *data, size_t n, struct digest *out)
{
    if (own_works()) {
        struct hash h;
        begin(&h);
        if (n)
            add(&h, data, n);
        end(&h, out);
        return;
    }
    unsigned len = 0;
    int ok = EVP_Digest(data, n, out->b, &len, EVP_sha256(), NULL);
    assert(ok == 1);
    assert(len == sizeof out->b);
}

struct hash *hash_new(void)
{
    struct hash *h = mem_zalloc(sizeof *h);
    if (own_works()) {
        begin(h);
        return h;
    }
    h->ctx = EVP_MD_CTX_new();
    assert(h->ctx);
    int ok = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL);
    assert(ok == 1);
    return h;
}

void hash_add(struct hash *h, const void *data, size_t n)
{
    if (!h->ctx) {
        if (n)
            add(h, data, n);
        return;
    }
    int ok = EVP_DigestUpdate(h->ctx, data, n);
    assert(ok == 1);
}

void hash_end(struct hash *h, struct digest *out)
{
    unsigned len = sizeof out->b;
    int ok = 1;
    if (h->ctx)
        ok = EVP_DigestFinal_ex(h->ctx, out->b, &len);
    else
        end(h, out);
    assert(ok == 1);
    assert(len == sizeof out->b);
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void hash_add_two(struct hash *a, const void *data, size_t n, struct hash *b,
                  const void *more, size_t more_n)
{
    const uint8_t *x = data, *y = more;
    if (!a->ctx && !b->ctx && n && more_n) {
        size_t i = fill_block(a, x, n), j = fill_block(b, y, more_n);
        size_t blocks = (n - i < more_n - j ? n - i : more_n - j) / 64;
        if (blocks) { /* then neither's block is begun */
            sha256_ni_two(a->state, x + i, b->state, y + j, blocks);
            a->total += blocks * 64;
            b->total += blocks * 64;
        }
        i += blocks * 64;
        j += blocks * 64;
        x += i;
        y += j;
        n -= i;
        more_n -= j;
    }
    hash_add(a, x, n);
    hash_add(b, y, more_n);
}

void hash_bytes_beside(const void *data, size_t n, struct digest *out, struct hash *other,
                       const void *more, size_t more_n)
{
    if (other->ctx || !n || !more_n) {
        hash_add(other, more, more_n);
        hash_bytes(data, n, out);
        return;
    }
    struct hash h;
    begin(&h);
    hash_add_two(&h, data, n, other, more, more_n);
    end(&h, out);
}

void hash_hmac(const void *key, size_t key_n, const void *data, size_t n,
               struct digest *out)
{
    unsigned len = 0;
    assert(key_n <= INT_MAX);
    unsigned char *done = HMAC(EVP_sha256(), key, (int)key_n, data, n, out->b, &len);
    assert(done && len == sizeof out->b);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

void digest_hex(const struct digest *d, char out[65])
{
    hex_encode(d->b, sizeof d->b, out);
}

bool digest_parse(const char *text, struct digest *out)
{
    return hex_decode(text, out->b, sizeof out->b);
}
