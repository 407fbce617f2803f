#include "common/model/order.h"

#include <stdbool.h>
#include <string.h>

/* "<node>/<kind>:<what>" */
static bool is_filesystem(const struct domain_id *domain)
{
    static const char kind[] = "fsfreeze:";
    const char *at = strchr(domain->text, '/');
    return at && strncmp(at + 1, kind, sizeof kind - 1) == 0;
}

/* `a` is in an earlier wave than `b`. */
static struct err *check_two(const char *node, const struct order_part *a,
                             const struct order_part *b)
{
    if (strcmp(a->domain->text, b->domain->text) == 0)
        return err_new(ERR_INVALID,
                       "'%s/%s' is in wave %zu and '%s/%s' in wave %zu, but one pause "
                       "stops both (freeze domain '%s'): put them into one wave",
                       node, a->part, a->wave + 1, node, b->part, b->wave + 1,
                       a->domain->text);
    if (is_filesystem(a->domain) && !is_filesystem(b->domain))
        return err_new(ERR_INVALID,
                       "'%s/%s' in wave %zu freezes a filesystem, and '%s/%s' stops "
                       "writers in wave %zu: one that waits for the filesystem would "
                       "never stop; put '%s' into the same wave or an earlier one",
                       node, a->part, a->wave + 1, node, b->part, b->wave + 1, b->part);
    return NULL;
}

struct err *order_check(const char *node, const struct order_part *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            if (parts[i].wave < parts[k].wave)
                TRY(check_two(node, &parts[i], &parts[k]));
    return NULL;
}
