#include "common/repo/crypt.h"

#include <assert.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "common/base/mem.h"

/* Largest single update: EVP takes an int. */
enum { STEP = 1 << 30 };
/* What opening a key may cost: restic calibrates to about 60 MiB. */
static const uint64_t kdf_memory_limit = UINT64_C(1) << 30;

struct crypt {
    EVP_CIPHER_CTX *ctr;   /* keyed; the IV is set for each unit */
    EVP_CIPHER_CTX *block; /* AES-128 of one block, for Poly1305's nonce */
    EVP_MAC *mac_type;
    EVP_MAC_CTX *mac;
    uint8_t mac_r[16];
};

struct crypt *crypt_new(const struct crypt_key *key)
{
    struct crypt *c = mem_zalloc(sizeof *c);
    c->ctr = EVP_CIPHER_CTX_new();
    c->block = EVP_CIPHER_CTX_new();
    c->mac_type = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    c->mac = c->mac_type ? EVP_MAC_CTX_new(c->mac_type) : NULL;
    assert(c->ctr && c->block && c->mac);
    int ok = EVP_EncryptInit_ex(c->ctr, EVP_aes_256_ctr(), NULL, key->encrypt, NULL);
    assert(ok == 1);
    ok = EVP_EncryptInit_ex(c->block, EVP_aes_128_ecb(), NULL, key->mac_k, NULL);
    assert(ok == 1);
    EVP_CIPHER_CTX_set_padding(c->block, 0);
    memcpy(c->mac_r, key->mac_r, sizeof c->mac_r);
    return c;
}

void crypt_free(struct crypt *c)
{
    if (!c)
        return;
    EVP_CIPHER_CTX_free(c->ctr);
    EVP_CIPHER_CTX_free(c->block);
    EVP_MAC_CTX_free(c->mac);
    EVP_MAC_free(c->mac_type);
    OPENSSL_cleanse(c->mac_r, sizeof c->mac_r);
    free(c);
}

/* CTR encrypts and decrypts alike. The whole IV is the initial counter block. */
static void set_iv(struct crypt *c, const uint8_t *iv)
{
    int ok = EVP_EncryptInit_ex(c->ctr, NULL, NULL, NULL, iv);
    assert(ok == 1);
}

static void apply_ctr(struct crypt *c, const uint8_t *in, size_t n, uint8_t *out)
{
    while (n) {
        int step = n > STEP ? STEP : (int)n, done = 0;
        int ok = EVP_EncryptUpdate(c->ctr, out, &done, in, step);
        assert(ok == 1 && done == step);
        in += step;
        out += step;
        n -= (size_t)step;
    }
}

static void mac_begin(EVP_MAC_CTX *mac, const uint8_t key[32])
{
    int ok = EVP_MAC_init(mac, key, 32, NULL);
    assert(ok == 1);
}

static void mac_add(EVP_MAC_CTX *mac, const void *data, size_t n)
{
    int ok = EVP_MAC_update(mac, data, n);
    assert(ok == 1);
}

static void mac_end(EVP_MAC_CTX *mac, uint8_t *tag)
{
    size_t len = 0;
    int ok = EVP_MAC_final(mac, tag, &len, CRYPT_TAG);
    assert(ok == 1 && len == CRYPT_TAG);
}

void crypt_poly1305(const uint8_t key[32], const void *data, size_t n,
                    uint8_t tag[CRYPT_TAG])
{
    EVP_MAC *type = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(type);
    assert(mac);
    mac_begin(mac, key);
    mac_add(mac, data, n);
    mac_end(mac, tag);
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(type);
}

/* The tag is Poly1305 of the ciphertext under r || AES-128_k(IV). */
static void tag_begin(struct crypt *c, const uint8_t *iv)
{
    uint8_t key[32];
    int len = 0;
    memcpy(key, c->mac_r, 16);
    int ok = EVP_EncryptUpdate(c->block, key + 16, &len, iv, 16);
    assert(ok == 1 && len == 16);
    mac_begin(c->mac, key);
}

static void begin(struct crypt *c, const uint8_t *iv)
{
    set_iv(c, iv);
    tag_begin(c, iv);
}

void crypt_seal_begin(struct crypt *c, uint8_t iv[CRYPT_IV])
{
    crypt_random(iv, CRYPT_IV);
    begin(c, iv);
}

void crypt_seal_part(struct crypt *c, const void *plain, size_t n, uint8_t *out)
{
    apply_ctr(c, plain, n, out);
    mac_add(c->mac, out, n);
}

void crypt_seal_end(struct crypt *c, uint8_t tag[CRYPT_TAG])
{
    mac_end(c->mac, tag);
}

void crypt_seal_iv(struct crypt *c, const uint8_t iv[CRYPT_IV], const void *plain,
                   size_t n, uint8_t *out)
{
    begin(c, iv);
    crypt_seal_part(c, plain, n, out + CRYPT_IV);
    memcpy(out, iv, CRYPT_IV);
    crypt_seal_end(c, out + CRYPT_IV + n);
}

void crypt_seal(struct crypt *c, const void *plain, size_t n, uint8_t *out)
{
    uint8_t iv[CRYPT_IV];
    crypt_random(iv, sizeof iv);
    crypt_seal_iv(c, iv, plain, n, out);
}

struct err *crypt_open_end(struct crypt *c, const uint8_t want[CRYPT_TAG])
{
    uint8_t tag[CRYPT_TAG];
    mac_end(c->mac, tag);
    if (CRYPTO_memcmp(tag, want, CRYPT_TAG) != 0)
        return err_new(ERR_CORRUPT, "the authentication tag does not match");
    return NULL;
}

void crypt_open_begin(struct crypt *c, const uint8_t iv[CRYPT_IV])
{
    begin(c, iv);
}

void crypt_open_part(struct crypt *c, const uint8_t *sealed, size_t n, void *out)
{
    mac_add(c->mac, sealed, n);
    apply_ctr(c, sealed, n, out);
}

struct err *crypt_open(struct crypt *c, const uint8_t *sealed, size_t n, void *out)
{
    if (n < CRYPT_OVERHEAD)
        return err_new(ERR_CORRUPT, "%zu bytes are too few for an encrypted unit", n);
    size_t text = n - CRYPT_OVERHEAD;
    tag_begin(c, sealed);
    mac_add(c->mac, sealed + CRYPT_IV, text);
    TRY(crypt_open_end(c, sealed + CRYPT_IV + text));
    set_iv(c, sealed);
    apply_ctr(c, sealed + CRYPT_IV, text, out);
    return NULL;
}

struct err *crypt_kdf(const void *password, size_t password_n,
                      const uint8_t salt[CRYPT_SALT], const struct crypt_cost *cost,
                      struct crypt_key *out)
{
    uint8_t key[64];
    bool power = cost->n > 1 && (cost->n & (cost->n - 1)) == 0;
    uint64_t memory = UINT64_C(128) * cost->n * cost->r;
    if (!power || !cost->r || !cost->p || cost->r > 1024 || cost->p > 64 ||
        memory > kdf_memory_limit)
        return err_new(ERR_INVALID, "scrypt cost N=%u r=%u p=%u is outside the limits",
                       cost->n, cost->r, cost->p);
    /* EVP_PBE_scrypt counts some bookkeeping on top of the table. */
    uint64_t limit = 2 * kdf_memory_limit;
    if (EVP_PBE_scrypt(password, password_n, salt, CRYPT_SALT, cost->n, cost->r, cost->p,
                       limit, key, sizeof key) != 1)
        return err_new(ERR_LIMIT, "scrypt with N=%u r=%u p=%u needs too much memory",
                       cost->n, cost->r, cost->p);
    memcpy(out->encrypt, key, 32);
    memcpy(out->mac_k, key + 32, 16);
    memcpy(out->mac_r, key + 48, 16);
    OPENSSL_cleanse(key, sizeof key);
    return NULL;
}

void crypt_random(void *out, size_t n)
{
    assert(n <= INT_MAX);
    /* Without randomness nothing may be encrypted at all. */
    int ok = RAND_bytes(out, (int)n);
    assert(ok == 1);
}

void crypt_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}
