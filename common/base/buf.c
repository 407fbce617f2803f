#include "common/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void *buf_room(struct buf *b, size_t n)
{
    mem_reserve((void **)&b->data, &b->cap, b->len + n, 1);
    return b->data + b->len;
}

static void terminate(struct buf *b)
{
    b->data[b->len] = '\0';
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
    char *to = buf_room(b, n);
    if (n)
        memcpy(to, bytes, n);
    b->len += n;
    terminate(b);
}

void buf_str(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = mem_vprintf(fmt, ap);
    va_end(ap);
    buf_str(b, s);
    free(s);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data)
        terminate(b);
}

const char *buf_text(const struct buf *b)
{
    return b->data ? b->data : "";
}

char *buf_steal(struct buf *b)
{
    char *s = b->data ? b->data : mem_strdup("");
    *b = (struct buf){0};
    return s;
}
