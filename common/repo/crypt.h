/* restic's encryption: AES-256-CTR with Poly1305-AES over the ciphertext, keys by scrypt.
 * A sealed unit is IV (16) || ciphertext || tag (16). A `struct crypt` belongs to one
 * thread at a time. The project's only door to OpenSSL's ciphers. */
#ifndef COMMON_REPO_CRYPT_H
#define COMMON_REPO_CRYPT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum {
    CRYPT_IV = 16,
    CRYPT_TAG = 16,
    CRYPT_OVERHEAD = CRYPT_IV + CRYPT_TAG,
    CRYPT_SALT = 64,
};

struct crypt_key {
    uint8_t encrypt[32];
    uint8_t mac_k[16];
    uint8_t mac_r[16]; /* stored unclamped, as restic does */
};

/* Cost parameters of scrypt, as stored in a key file. */
struct crypt_cost {
    uint32_t n; /* power of two */
    uint32_t r;
    uint32_t p;
};

struct crypt;
struct crypt *crypt_new(const struct crypt_key *key);
void crypt_free(struct crypt *c);
DEFINE_AUTO(crypt, struct crypt *, crypt_free);

/* Seals n bytes into out[n + CRYPT_OVERHEAD] under a fresh random IV. `plain` may be
 * out + CRYPT_IV. */
void crypt_seal(struct crypt *c, const void *plain, size_t n, uint8_t *out);
/* The same with a given IV; only for tests, because an IV must never repeat. */
void crypt_seal_iv(struct crypt *c, const uint8_t iv[CRYPT_IV], const void *plain,
                   size_t n, uint8_t *out);
/* The same part by part: begin writes the IV, each part seals n bytes into out[n] (which
 * may be `plain`), end writes the tag. Nothing else uses `c` meanwhile. */
void crypt_seal_begin(struct crypt *c, uint8_t iv[CRYPT_IV]);
void crypt_seal_part(struct crypt *c, const void *plain, size_t n, uint8_t *out);
void crypt_seal_end(struct crypt *c, uint8_t tag[CRYPT_TAG]);
/* Opens n sealed bytes into out[n - CRYPT_OVERHEAD]. CORRUPT: the tag does not match or
 * n is too small; nothing is written then. */
struct err *crypt_open(struct crypt *c, const uint8_t *sealed, size_t n,
                       void *out) MUST_USE;

/* The same part by part. What parts give is only known to be sound when end says so
 * (else CORRUPT). */
void crypt_open_begin(struct crypt *c, const uint8_t iv[CRYPT_IV]);
void crypt_open_part(struct crypt *c, const uint8_t *sealed, size_t n, void *out);
struct err *crypt_open_end(struct crypt *c, const uint8_t tag[CRYPT_TAG]) MUST_USE;

/* Password to key. INVALID: the cost is nonsense or above the limits (a hostile key file
 * must not take all memory). */
struct err *crypt_kdf(const void *password, size_t password_n,
                      const uint8_t salt[CRYPT_SALT], const struct crypt_cost *cost,
                      struct crypt_key *out) MUST_USE;
/* Bytes from the system's generator. */
void crypt_random(void *out, size_t n);
/* One-time Poly1305 with r || s. */
void crypt_poly1305(const uint8_t key[32], const void *data, size_t n,
                    uint8_t tag[CRYPT_TAG]);
/* Overwrites secrets. */
void crypt_wipe(void *p, size_t n);

#endif
