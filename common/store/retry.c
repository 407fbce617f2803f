/* Does calls again that failed for now. A put or removal whose outcome is unknown is
 * looked up instead of being believed. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/store/layer.h"

/* Objects whose name is not their digest are small; they are compared byte by byte. */
enum { COMPARE_MAX = 1 << 20, BASE_MS = 1000, MAX_MS = 5 * 60 * 1000, SLICE_MS = 500 };

struct retry {
    struct layer layer;
    unsigned tries;
    int64_t base_ms;
    int64_t max_ms;
    const atomic_bool *cancel;
    pthread_mutex_t mu; /* guards rng */
    struct rng rng;
};

static struct retry *retry_of(struct layer *l)
{
    return (struct retry *)l;
}

static bool is_passing(const struct err *e)
{
    return e->kind == ERR_UNAVAILABLE || e->kind == ERR_TIMEOUT;
}

/* Full jitter: anything from nothing to the doubled bound, so that many writers that
 * failed together do not come back together. */
static int64_t delay_ms(struct retry *r, unsigned attempt)
{
    int64_t bound = r->base_ms;
    for (unsigned i = 1; i < attempt && bound < r->max_ms; i++)
        bound *= 2;
    bound = bound < r->max_ms ? bound : r->max_ms;
    pthread_mutex_lock(&r->mu);
    int64_t ms = (int64_t)rng_below(&r->rng, (uint64_t)bound + 1);
    pthread_mutex_unlock(&r->mu);
    return ms;
}

static bool is_cancelled(const struct retry *r)
{
    return r->cancel && atomic_load(r->cancel);
}

static void wait_ms(struct retry *r, int64_t ms)
{
    for (; ms > 0 && !is_cancelled(r); ms -= SLICE_MS)
        layer_sleep_ms(&r->layer, ms < SLICE_MS ? ms : SLICE_MS);
}

static bool named_by_digest(const char *name)
{
    struct digest d;
    const char *base = strrchr(name, '/');
    return base && digest_parse(base + 1, &d);
}

/* Is the object that is there the one we wanted to put? */
static struct err *is_ours(struct retry *r, const struct store_call *c, bool *ours)
{
    uint64_t bytes;
    *ours = false;
    struct err *e = store_stat(r->layer.inner, c->name, &bytes);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    TRY(e);
    *ours = bytes == c->bytes;
    if (!*ours || named_by_digest(c->name) || !c->data || bytes > COMPARE_MAX)
        return NULL;
    AUTO(str) char *there = mem_alloc(bytes + 1);
    TRY(store_get(r->layer.inner, c->name, 0, there, bytes));
    *ours = memcmp(there, c->data, bytes) == 0;
    return NULL;
}

/* What an outcome means after attempts of unknown outcome. */
static struct err *resolve(struct retry *r, struct store_call *c, struct err *e)
{
    bool ours = false;
    if (c->op == STORE_REMOVE && c->unknown && e->kind == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    if (c->op != STORE_PUT || !c->unknown ||
        (e->kind != ERR_CONFLICT && e->kind != ERR_TIMEOUT))
        return e;
    struct err *again = is_ours(r, c, &ours);
    if (!again && ours) {
        err_free(e);
        return NULL;
    }
    err_free(again); /* the first error says more */
    return e;
}

static struct err *after(struct layer *l, struct store_call *c, struct err *e,
                         bool *again)
{
    struct retry *r = retry_of(l);
    if (!e)
        return NULL;
    c->unknown |= e->kind == ERR_TIMEOUT;
    e = resolve(r, c, e);
    if (!e || !is_passing(e) || c->in_pieces || c->attempt >= r->tries || is_cancelled(r))
        return e;
    wait_ms(r, delay_ms(r, c->attempt));
    *again = !is_cancelled(r);
    return e;
}

static void fini(struct layer *l)
{
    pthread_mutex_destroy(&retry_of(l)->mu);
}

static const struct layer_hooks hooks = {
    .after = after, .fini = fini, .collects_lists = true};

struct store *retry_wrap(struct store *inner, const struct store_opts *opts)
{
    struct retry *r = mem_zalloc(sizeof *r);
    layer_setup(&r->layer, inner, &hooks, opts->clock);
    r->tries = opts->retries + 1;
    r->base_ms = opts->retry_base_ms ? opts->retry_base_ms : BASE_MS;
    r->max_ms = opts->retry_max_ms ? opts->retry_max_ms : MAX_MS;
    r->cancel = opts->cancel;
    pthread_mutex_init(&r->mu, NULL);
    rng_init(&r->rng, (uint64_t)layer_now_ms(&r->layer) * 65537 + (uint64_t)getpid());
    return &r->layer.store;
}
