/* A growing byte buffer, always NUL-terminated behind its length. One owner, any thread.
 */
#ifndef COMMON_BASE_BUF_H
#define COMMON_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"

struct buf {
    char *data; /* NULL while empty and never written */
    size_t len;
    size_t cap;
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b);
#define AUTO_BUF CLEANUP(buf_fini)

void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Makes room for n more bytes and returns where they go; follow with b->len += written.
 */
void *buf_room(struct buf *b, size_t n) MUST_USE;
/* Length 0, memory kept. */
void buf_clear(struct buf *b);
/* The text so far, never NULL; borrowed until the next change. */
const char *buf_text(const struct buf *b);
/* Hands the memory (malloc) to the caller and leaves the buffer empty. Never NULL. */
char *buf_steal(struct buf *b) MUST_USE;

#endif
