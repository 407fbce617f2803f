#include "common/base/hash.h"

#include <assert.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/base/mem.h"

struct hash {
    EVP_MD_CTX *ctx;
};

void hash_bytes(const void *data, size_t n, struct digest *out)
{
    unsigned len = 0;
    int ok = EVP_Digest(data, n, out->b, &len, EVP_sha256(), NULL);
    assert(ok == 1);
    assert(len == sizeof out->b);
}

struct hash *hash_new(void)
{
    struct hash *h = mem_zalloc(sizeof *h);
    h->ctx = EVP_MD_CTX_new();
    int ok = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL);
    assert(ok == 1);
    return h;
}

void hash_add(struct hash *h, const void *data, size_t n)
{
    int ok = EVP_DigestUpdate(h->ctx, data, n);
    assert(ok == 1);
}

void hash_end(struct hash *h, struct digest *out)
{
    unsigned len = 0;
    int ok = EVP_DigestFinal_ex(h->ctx, out->b, &len);
    assert(ok == 1);
    EVP_MD_CTX_free(h->ctx);
    free(h);
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
