/* Refuses calls at once while a store is known to be down, instead of letting every one
 * of them run into its timeout. */
#include <inttypes.h>
#include <pthread.h>

#include "common/base/mem.h"
#include "common/store/layer.h"

enum { OPEN_MS = 15 * 1000 };

/* Closed until `limit` failures in a row; then open: one call every open_ms is let
 * through, and its success closes it again. */
struct breaker {
    struct layer layer;
    unsigned limit;
    int64_t open_ms;
    pthread_mutex_t mu; /* guards the rest */
    bool open;
    unsigned failures; /* in a row */
    int64_t until_ms;  /* open: no call before this */
};

static struct breaker *breaker_of(struct layer *l)
{
    return (struct breaker *)l;
}

static struct err *before(struct layer *l, struct store_call *c)
{
    struct breaker *b = breaker_of(l);
    int64_t now = layer_now_ms(l);
    bool later_piece = c->in_pieces && c->bytes; /* of a put that was let through */
    pthread_mutex_lock(&b->mu);
    c->refused = b->open && now < b->until_ms && !later_piece;
    if (b->open && !c->refused)
        b->until_ms = now + b->open_ms;
    unsigned failures = b->failures;
    pthread_mutex_unlock(&b->mu);
    if (!c->refused)
        return NULL;
    return err_new(ERR_UNAVAILABLE, "'%s' failed %u times in a row and is left alone",
                   l->store.url, failures);
}

static struct err *after(struct layer *l, struct store_call *c, struct err *e,
                         bool *again)
{
    struct breaker *b = breaker_of(l);
    bool down = e && (e->kind == ERR_UNAVAILABLE || e->kind == ERR_TIMEOUT);
    (void)again;
    if (c->refused)
        return e;
    pthread_mutex_lock(&b->mu);
    b->failures = down ? b->failures + 1 : 0;
    b->open = b->failures >= b->limit;
    if (b->open)
        b->until_ms = layer_now_ms(l) + b->open_ms;
    pthread_mutex_unlock(&b->mu);
    return e;
}

static void fini(struct layer *l)
{
    pthread_mutex_destroy(&breaker_of(l)->mu);
}

static const struct layer_hooks hooks = {.before = before, .after = after, .fini = fini};

struct store *breaker_wrap(struct store *inner, const struct store_opts *opts)
{
    struct breaker *b = mem_zalloc(sizeof *b);
    layer_setup(&b->layer, inner, &hooks, opts->clock);
    b->limit = opts->breaker_failures;
    b->open_ms = opts->breaker_open_ms ? opts->breaker_open_ms : OPEN_MS;
    pthread_mutex_init(&b->mu, NULL);
    return &b->layer.store;
}
