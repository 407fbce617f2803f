/* "Did you mean …?": the nearest known word. Pure. */
#ifndef COMMON_BASE_SUGGEST_H
#define COMMON_BASE_SUGGEST_H

#include <stddef.h>

/* Of `n` words the one within edit distance 2 (and under half its length) of `word`,
 * ignoring case; NULL if none. Borrowed. */
const char *suggest_nearest(const char *word, const char *const *known, size_t n);

#endif
