/* The slow part of scrypt (RFC 7914): mixing blocks through a table larger than any
 * cache. The library's own takes twice the time, and each command waits for it. Pure; for
 * crypt.c only. */
#ifndef COMMON_REPO_SCRYPT_H
#define COMMON_REPO_SCRYPT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a block, and of the table. */
static inline size_t scrypt_block_bytes(uint32_t r)
{
    return (size_t)128 * r;
}
/* Mixes one block of scrypt_block_bytes(r) in place. `room` has n + 2 times as many
 * bytes, aligned to 64. Needs: n is a power of two. */
void scrypt_mix(uint8_t *block, uint32_t n, uint32_t r, void *room);

#endif
