#include "common/base/sorted.h"

#include <string.h>

size_t sorted_find(const void *items, size_t n, size_t bytes, sorted_key *key_of,
                   const char *key)
{
    size_t lo = 0;
    size_t hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(key_of((const char *)items + mid * bytes), key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}
