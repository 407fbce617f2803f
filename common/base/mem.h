/* Small allocations that cannot fail: out of memory aborts, and recovery from that crash
 * is the same as from any other. Bulk buffers come from pools, not from here. Any thread.
 */
#ifndef COMMON_BASE_MEM_H
#define COMMON_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include "common/base/attr.h"

void *mem_alloc(size_t bytes) MUST_USE;
void *mem_zalloc(size_t bytes) MUST_USE;
/* Zeroed array; aborts when n * bytes overflows. */
void *mem_array(size_t n, size_t bytes) MUST_USE;
/* Resizes to n * bytes; the new part is not cleared. */
void *mem_resize(void *p, size_t n, size_t bytes) MUST_USE;
char *mem_strdup(const char *s) MUST_USE;
char *mem_strndup(const char *s, size_t n) MUST_USE;
void *mem_dup(const void *p, size_t bytes) MUST_USE;
char *mem_printf(const char *fmt, ...) MUST_USE PRINTF_LIKE(1, 2);
char *mem_vprintf(const char *fmt, va_list ap) MUST_USE;

/* Grows *items (capacity *cap, element size `bytes`) so that index n exists. */
void mem_reserve(void **items, size_t *cap, size_t n, size_t bytes);

/* AUTO(str) char *s: freed at the end of the scope. */
static inline void mem_free(char *p)
{
    free(p);
}
DEFINE_AUTO(str, char *, mem_free);

#endif
