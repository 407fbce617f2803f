#include "common/conf/units.h"

#include <stdbool.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"ms", 1},      {"s", 1000},     {"m", 60000},
    {"h", 3600000}, {"d", 86400000}, {"w", 604800000},
};

static const struct unit sizes[] = {
    {"B", 1},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
    {"kB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", UINT64_C(1000000000000)},
};

/* Reads digits up to the first other character; NULL when there are none or too many. */
static const char *digits(const char *s, uint64_t *out)
{
    const char *p = s;
    uint64_t v = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return NULL;
    *out = v;
    return p == s ? NULL : p;
}

static struct err *measure(const char *text, const struct unit *units, size_t n,
                           const char *what, const char *example, uint64_t *out)
{
    uint64_t v = 0;
    const char *unit = digits(text, &v);
    if (!unit)
        return err_new(ERR_INVALID, "'%s' is not %s; write for example %s", text, what,
                       example);
    if (*unit == 0 && v == 0) {
        *out = 0;
        return NULL;
    }
    if (*unit == 0)
        return err_new(ERR_INVALID, "'%s' has no unit; write for example %s", text,
                       example);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(unit, units[i].name) != 0)
            continue;
        /* Kept below 2^63, so that every value also fits a signed one. */
        if (__builtin_mul_overflow(v, units[i].factor, &v) || v > INT64_MAX)
            return err_new(ERR_INVALID, "'%s' is too large", text);
        *out = v;
        return NULL;
    }
    return err_new(ERR_INVALID, "'%s' has the unknown unit '%s'; write for example %s",
                   text, unit, example);
}

struct err *units_duration(const char *text, int64_t *out_ms)
{
    uint64_t v = 0;
    TRY(measure(text, durations, ARRAY_LEN(durations), "a duration",
                "250ms, 10s, 5m, 1h or 7d", &v));
    *out_ms = (int64_t)v;
    return NULL;
}

struct err *units_size(const char *text, uint64_t *out_bytes)
{
    return measure(text, sizes, ARRAY_LEN(sizes), "a size", "64KiB, 16MiB or 2GiB",
                   out_bytes);
}

struct err *units_int(const char *text, int64_t *out)
{
    bool negative = text[0] == '-';
    uint64_t v = 0;
    const char *rest = digits(text + negative, &v);
    if (!rest || *rest != 0)
        return err_new(ERR_INVALID, "'%s' is not a whole number", text);
    if (v > INT64_MAX)
        return err_new(ERR_INVALID, "'%s' is too large", text);
    *out = negative ? -(int64_t)v : (int64_t)v;
    return NULL;
}
