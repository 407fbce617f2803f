/* Options of a store, from its URL: "local:/srv/backup?up=20MiB&retries=8". */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/store/layer.h"

enum { RETRIES_MAX = 100, FAILURES_MAX = 1000 };

static struct err *read_number(const char *key, const char *text, uint64_t max,
                               bool bytes, uint64_t *out)
{
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    bool ok = *text >= '0' && *text <= '9' && !errno;
    for (size_t i = 0; ok && i < (bytes ? ARRAY_LEN(units) : 1); i++)
        if (strcmp(end, units[i].unit) == 0 && v <= max >> units[i].shift) {
            *out = (uint64_t)v << units[i].shift;
            return NULL;
        }
    return err_new(ERR_INVALID, "'%s=%s' is not a number%s", key, text,
                   bytes ? " of bytes, like 20MiB" : "");
}

static struct err *read_option(const char *key, const char *value, struct store_opts *o)
{
    uint64_t v = 0;
    if (strcmp(key, "up") == 0)
        return read_number(key, value, INT64_MAX, true, &o->up_bytes_per_s);
    if (strcmp(key, "down") == 0)
        return read_number(key, value, INT64_MAX, true, &o->down_bytes_per_s);
    if (strcmp(key, "retries") == 0) {
        TRY(read_number(key, value, RETRIES_MAX, false, &v));
        o->retries = (unsigned)v;
        return NULL;
    }
    if (strcmp(key, "breaker") == 0) {
        TRY(read_number(key, value, FAILURES_MAX, false, &v));
        o->breaker_failures = (unsigned)v;
        return NULL;
    }
    return err_new(ERR_INVALID, "'%s' is unknown (known: up, down, retries, breaker)",
                   key);
}

static struct err *read_all(char *text, struct store_opts *o)
{
    char *part;
    while ((part = strsep(&text, "&"))) {
        char *value = strchr(part, '=');
        if (!value)
            return err_new(ERR_INVALID, "'%s' is not KEY=VALUE", part);
        *value++ = '\0';
        TRY(read_option(part, value, o));
    }
    return NULL;
}

struct err *store_opts_read(const char *url, struct store_opts *o, char **plain)
{
    const char *mark = strchr(url, '?');
    *plain = NULL;
    if (mark) {
        AUTO(str) char *text = mem_strdup(mark + 1);
        TRY_CTX(read_all(text, o), "repository '%s'", url);
    }
    *plain = mark ? mem_strndup(url, (size_t)(mark - url)) : mem_strdup(url);
    return NULL;
}

struct store *store_wrap(struct store *s, const struct store_opts *o)
{
    if (o->meter)
        s = meter_wrap(s, o);
    if (o->up_bytes_per_s || o->down_bytes_per_s)
        s = throttle_wrap(s, o);
    if (o->breaker_failures)
        s = breaker_wrap(s, o);
    if (o->retries)
        s = retry_wrap(s, o);
    return s;
}
