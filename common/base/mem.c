#include "common/base/mem.h"

#include <stdio.h>
#include <string.h>

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

void *mem_alloc(size_t bytes)
{
    return must(malloc(bytes ? bytes : 1));
}

void *mem_zalloc(size_t bytes)
{
    return must(calloc(1, bytes ? bytes : 1));
}

void *mem_array(size_t n, size_t bytes)
{
    return must(calloc(n ? n : 1, bytes ? bytes : 1));
}

void *mem_resize(void *p, size_t n, size_t bytes)
{
    return must(reallocarray(p, n ? n : 1, bytes ? bytes : 1));
}

char *mem_strdup(const char *s)
{
    return must(strdup(s));
}

char *mem_strndup(const char *s, size_t n)
{
    return must(strndup(s, n));
}

void *mem_dup(const void *p, size_t bytes)
{
    void *copy = mem_alloc(bytes);
    if (bytes)
        memcpy(copy, p, bytes);
    return copy;
}

char *mem_vprintf(const char *fmt, va_list ap)
{
    char *s = NULL;
    if (vasprintf(&s, fmt, ap) < 0)
        abort();
    return s;
}

char *mem_printf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = mem_vprintf(fmt, ap);
    va_end(ap);
    return s;
}

void mem_reserve(void **items, size_t *cap, size_t n, size_t bytes)
{
    if (n < *cap)
        return;
    size_t grown = *cap ? *cap * 2 : 8;
    while (grown <= n)
        grown *= 2;
    *items = mem_resize(*items, grown, bytes);
    *cap = grown;
}
