#include "common/engine/pattern.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

/* One component and what follows it. */
struct part {
    const char *text;
    size_t n;
    const char *rest;
};

static bool next_part(const char *s, struct part *out)
{
    while (*s == '/')
        s++;
    out->text = s;
    out->n = strcspn(s, "/");
    out->rest = s + out->n;
    return out->n > 0;
}

static bool same_part(const struct part *pattern, const struct part *name)
{
    char p[PATH_MAX], s[NAME_MAX + 1];
    if (pattern->n == name->n && memcmp(pattern->text, name->text, name->n) == 0)
        return true;
    if (pattern->n >= sizeof p || name->n >= sizeof s)
        return false;
    memcpy(p, pattern->text, pattern->n);
    p[pattern->n] = '\0';
    memcpy(s, name->text, name->n);
    s[name->n] = '\0';
    return fnmatch(p, s, 0) == 0;
}

static enum pattern_match match_from(const char *pattern, const char *path)
{
    struct part want, have;
    while (next_part(pattern, &want)) {
        bool more = next_part(path, &have);
        if (want.n == 2 && memcmp(want.text, "**", 2) == 0) {
            enum pattern_match best = match_from(want.rest, path);
            if (!more)
                return best == PATTERN_YES ? best : PATTERN_BELOW;
            if (best == PATTERN_YES)
                return best;
            return match_from(pattern, have.rest);
        }
        if (!more)
            return PATTERN_BELOW;
        if (!same_part(&want, &have))
            return PATTERN_NO;
        pattern = want.rest;
        path = have.rest;
    }
    return PATTERN_YES;
}

enum pattern_match pattern_match(const char *pattern, const char *path)
{
    struct part first;
    if (*pattern == '/')
        return match_from(pattern, path);
    for (; next_part(path, &first); path = first.rest)
        if (match_from(pattern, path) == PATTERN_YES)
            return PATTERN_YES;
    return PATTERN_BELOW;
}
