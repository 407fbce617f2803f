/* Looking things up in sorted arrays by name. Pure. */
#ifndef COMMON_BASE_SORTED_H
#define COMMON_BASE_SORTED_H

#include <stddef.h>

/* The text that an item of the array is sorted by. */
typedef const char *sorted_key(const void *item);

/* The first of n items (each `bytes` large, ascending by key) whose key is not below
 * `key`; n if there is none: where `key` is, or belongs. */
size_t sorted_find(const void *items, size_t n, size_t bytes, sorted_key *key_of,
                   const char *key);

#endif
