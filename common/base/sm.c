#include "common/base/sm.h"

#include <assert.h>
#include <stddef.h>

void sm_restore(struct sm *m, const char *name, const struct sm_state *table, int state)
{
    *m = (struct sm){.table = table, .name = name, .state = state};
}

void sm_init(struct sm *m, const char *name, const struct sm_state *table, int state)
{
    assert(table[state].flags & SM_INITIAL);
    sm_restore(m, name, table, state);
}

void sm_move(struct sm *m, int to)
{
    const struct sm_state *from = &m->table[m->state];
    assert(from->allowed & SM_TO(to));
    if (m->observer)
        m->observer(m->observer_ctx, m, from->name, m->table[to].name);
    m->state = to;
}

bool sm_is_final(const struct sm *m)
{
    return m->table[m->state].flags & SM_FINAL;
}

const char *sm_name(const struct sm *m)
{
    return m->table[m->state].name;
}
