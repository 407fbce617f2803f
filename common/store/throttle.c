/* Keeps the bytes a second below a limit, up and down apart: a bucket of tokens that may
 * be overdrawn by one call, which then waits until it is even again. */
#include <pthread.h>

#include "common/base/mem.h"
#include "common/store/layer.h"

enum { BURST_MS = 1000 }; /* what a pause saves up */

struct bucket {
    uint64_t rate_bytes_per_s; /* 0: no limit */
    int64_t free_ms;           /* when what was taken is paid off */
};

struct throttle {
    struct layer layer;
    pthread_mutex_t mu; /* guards the buckets */
    struct bucket up;
    struct bucket down;
};

static struct throttle *throttle_of(struct layer *l)
{
    return (struct throttle *)l;
}

/* Takes bytes out and returns how long to wait before using them. */
static int64_t take(struct bucket *b, uint64_t bytes, int64_t now)
{
    if (!b->rate_bytes_per_s)
        return 0;
    if (b->free_ms < now - BURST_MS)
        b->free_ms = now - BURST_MS;
    b->free_ms += (int64_t)((double)bytes * 1000 / (double)b->rate_bytes_per_s);
    return b->free_ms - now;
}

static struct err *before(struct layer *l, struct store_call *c)
{
    struct throttle *t = throttle_of(l);
    if (c->op != STORE_PUT && c->op != STORE_GET)
        return NULL;
    pthread_mutex_lock(&t->mu);
    int64_t ms = take(c->op == STORE_PUT ? &t->up : &t->down, c->bytes, layer_now_ms(l));
    pthread_mutex_unlock(&t->mu);
    layer_sleep_ms(l, ms);
    return NULL;
}

static void fini(struct layer *l)
{
    pthread_mutex_destroy(&throttle_of(l)->mu);
}

static const struct layer_hooks hooks = {.before = before, .fini = fini};

struct store *throttle_wrap(struct store *inner, const struct store_opts *opts)
{
    struct throttle *t = mem_zalloc(sizeof *t);
    layer_setup(&t->layer, inner, &hooks, opts->clock);
    int64_t now = layer_now_ms(&t->layer);
    t->up = (struct bucket){opts->up_bytes_per_s, now};
    t->down = (struct bucket){opts->down_bytes_per_s, now};
    pthread_mutex_init(&t->mu, NULL);
    return &t->layer.store;
}
