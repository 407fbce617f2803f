/* Bytes as standard base64 with padding (RFC 4648). Pure. */
#ifndef COMMON_BASE_BASE64_H
#define COMMON_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

/* Appends the text of n bytes. */
void base64_encode(const void *bytes, size_t n, struct buf *out);
/* Appends the bytes of the text; false (out undefined) if it is not base64. The URL-safe
 * alphabet and missing padding are read too, as proto3 JSON wants. */
bool base64_decode(const char *text, size_t n, struct buf *out);

#endif
