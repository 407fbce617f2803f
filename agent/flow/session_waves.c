#include "agent/flow/session_waves.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/order.h"

/* The first wave from `from` on that a part of the set is in; SIZE_MAX: none. */
static size_t next_wave(const struct session *set, size_t from)
{
    size_t next = SIZE_MAX;
    for (size_t i = 0; i < set->n_parts; i++)
        if (set->parts[i].wave >= from && set->parts[i].wave < next)
            next = set->parts[i].wave;
    return next;
}

bool session_all_asked(const struct session *set)
{
    return next_wave(set, set->wave + 1) == SIZE_MAX;
}

bool session_is_in_wave(const struct session *s, const struct domain_epoch *epoch,
                        size_t wave)
{
    for (size_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].wave == wave &&
            strcmp(s->parts[i].domain.text, epoch->domain.text) == 0)
            return true;
    return false;
}

struct err *session_check_order(const struct node_id *node,
                                const struct session_part *parts, size_t n)
{
    struct order_part *order = mem_array(n, sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] =
            (struct order_part){parts[i].part.text, &parts[i].domain, parts[i].wave};
    struct err *e = order_check(node->text, order, n);
    free(order);
    return e;
}

bool session_wave_stands(const struct session *set, size_t wave)
{
    if (set->sm.state > SESSION_FROZEN)
        return true;
    return wave < set->wave || (wave == set->wave && set->sm.state == SESSION_FROZEN);
}

struct err *session_check_turn(const struct session *set, size_t wave)
{
    size_t from = set->sm.state == SESSION_PREPARED ? 0
                  : set->sm.state == SESSION_FROZEN ? set->wave + 1
                                                    : set->wave;
    bool known = next_wave(set, wave) == wave;
    if (known && (session_wave_stands(set, wave) || next_wave(set, from) == wave))
        return NULL;
    return err_new(ERR_CONFLICT, "set '%s' has no wave %zu that it could freeze now",
                   set->set.text, wave + 1);
}

static bool names_epoch(const struct domain_epoch *epochs, size_t n,
                        const struct domain_epoch *mine)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(epochs[i].domain.text, mine->domain.text) == 0)
            return memcmp(epochs[i].epoch.b, mine->epoch.b, sizeof mine->epoch.b) == 0;
    return false;
}

struct err *session_check_commit(const struct session *set,
                                 const struct domain_epoch *epochs, size_t n)
{
    if (set->rehearsal)
        return err_new(ERR_CONFLICT, "'%s' is a rehearsal, which captures nothing",
                       set->set.text);
    if (set->sm.state < SESSION_FROZEN ||
        (set->sm.state == SESSION_FROZEN && !session_all_asked(set)))
        return err_new(ERR_CONFLICT, "set '%s' is not frozen on this node",
                       set->set.text);
    for (size_t i = 0; i < set->n_epochs; i++)
        if (!names_epoch(epochs, n, &set->epochs[i]))
            return err_new(
                ERR_CONFLICT,
                "the commit of set '%s' does not name the epoch of domain '%s'",
                set->set.text, set->epochs[i].domain.text);
    return NULL;
}
