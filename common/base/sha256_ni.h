/* SHA-256's compression with the processor's own instructions, for one message or for two
 * at once: two streams take little longer than one, since each instruction of a stream
 * waits for the one before. Pure; for hash.c only. */
#ifndef COMMON_BASE_SHA256_NI_H
#define COMMON_BASE_SHA256_NI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False: the two below must not be called. */
bool sha256_ni_works(void);
/* Takes `blocks` blocks of 64 bytes into a state of eight words. */
void sha256_ni(uint32_t state[8], const uint8_t *data, size_t blocks);
void sha256_ni_two(uint32_t state_a[8], const uint8_t *a, uint32_t state_b[8],
                   const uint8_t *b, size_t blocks);

#endif
