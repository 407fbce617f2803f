/* SHA-256 (FIPS 180-4), the project's one digest. Pure; any thread. The only door to the
 * library's digests, so that the pure cores and the repository share it. */
#ifndef COMMON_BASE_HASH_H
#define COMMON_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct digest {
    uint8_t b[32];
};

/* Digest of one piece. */
void hash_bytes(const void *data, size_t n, struct digest *out);

/* Digest of several pieces: new, add…, end (which frees the state). */
struct hash;
struct hash *hash_new(void);
void hash_add(struct hash *h, const void *data, size_t n);
void hash_end(struct hash *h, struct digest *out);

/* hash_add(a, data) and hash_add(b, more) at once: what both have in length costs little
 * more than once. */
void hash_add_two(struct hash *a, const void *data, size_t n, struct hash *b,
                  const void *more, size_t more_n);
/* hash_bytes(data) and hash_add(other, more) at once, which takes little longer than the
 * longer of the two. */
void hash_bytes_beside(const void *data, size_t n, struct digest *out, struct hash *other,
                       const void *more, size_t more_n);

/* HMAC-SHA-256 (RFC 2104), for keys derived from a secret. */
void hash_hmac(const void *key, size_t key_n, const void *data, size_t n,
               struct digest *out);

bool digest_equal(const struct digest *a, const struct digest *b);
/* Writes 64 lower-case hexadecimal digits and a NUL. */
void digest_hex(const struct digest *d, char out[65]);
/* False unless text is exactly 64 hexadecimal digits. */
bool digest_parse(const char *text, struct digest *out);

#endif
