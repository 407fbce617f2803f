#include "common/base/suggest.h"

#include <ctype.h>
#include <string.h>

enum { SUGGEST_WORD = 64, SUGGEST_DISTANCE = 2 };

static size_t least(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's distance, one row at a time. Both words are shorter than SUGGEST_WORD. */
static size_t distance(const char *a, const char *b)
{
    size_t row[SUGGEST_WORD];
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            int same =
                tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t next = least(row[j] + 1, row[j - 1] + 1, corner + !same);
            corner = row[j];
            row[j] = next;
        }
    }
    return row[n];
}

const char *suggest_nearest(const char *word, const char *const *known, size_t n)
{
    const char *best = NULL;
    size_t best_distance = SUGGEST_DISTANCE + 1;
    size_t len = strlen(word);
    if (len >= SUGGEST_WORD)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (strlen(known[i]) >= SUGGEST_WORD)
            continue;
        size_t d = distance(word, known[i]);
        if (d < best_distance && d * 2 < len) {
            best = known[i];
            best_distance = d;
        }
    }
    return best;
}
