/* Bytes as lower-case hexadecimal digits. Pure. */
#ifndef COMMON_BASE_HEX_H
#define COMMON_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes 2 * n digits and a NUL. */
void hex_encode(const uint8_t *bytes, size_t n, char *out);
/* Reads exactly 2 * n digits, either case; false (out undefined) for anything else. */
bool hex_decode(const char *text, uint8_t *out, size_t n);

#endif
