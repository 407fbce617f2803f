/* Counts calls, errors, bytes and times. */
#include "common/base/mem.h"
#include "common/store/layer.h"

const int64_t store_meter_bounds_ms[STORE_METER_BOUNDS] = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000};

const char *store_op_name(enum store_op op)
{
    static const char *const names[] = {"put", "get", "list", "stat", "remove"};
    return names[op];
}

struct meter {
    struct layer layer;
    struct store_meter *counts;
};

static struct err *after(struct layer *l, struct store_call *c, struct err *e,
                         bool *again)
{
    struct store_meter_op *m = &((struct meter *)l)->counts->ops[c->op];
    int i = 0;
    (void)again;
    atomic_fetch_add(&m->calls, 1);
    atomic_fetch_add(&m->took_ms, (uint64_t)c->took_ms);
    /* That a name exists, or does not, is an answer. */
    if (e && e->kind != ERR_NOT_FOUND && e->kind != ERR_CONFLICT)
        atomic_fetch_add(&m->errors, 1);
    if (!e)
        atomic_fetch_add(&m->bytes, c->bytes);
    while (i < STORE_METER_BOUNDS && c->took_ms > store_meter_bounds_ms[i])
        i++;
    atomic_fetch_add(&m->histogram[i], 1);
    return e;
}

static const struct layer_hooks hooks = {.after = after};

struct store *meter_wrap(struct store *inner, const struct store_opts *opts)
{
    struct meter *m = mem_zalloc(sizeof *m);
    layer_setup(&m->layer, inner, &hooks, opts->clock);
    m->counts = opts->meter;
    return &m->layer.store;
}
