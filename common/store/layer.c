#include "common/store/layer.h"

#include <errno.h>
#include <time.h>

#include "common/base/mem.h"

static int64_t real_now(void *ctx)
{
    struct timespec t;
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void real_sleep(void *ctx, int64_t ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    (void)ctx;
    while (nanosleep(&t, &t) && errno == EINTR)
        continue;
}

static const struct store_clock real_clock = {real_now, real_sleep, NULL};

int64_t layer_now_ms(const struct layer *l)
{
    return l->clock->now_ms(l->clock->ctx);
}

void layer_sleep_ms(const struct layer *l, int64_t ms)
{
    if (ms > 0)
        l->clock->sleep_ms(l->clock->ctx, ms);
}

static struct layer *layer_of(struct store *s)
{
    return (struct layer *)s;
}

static struct err *ask(struct layer *l, struct store_call *call)
{
    return l->hooks->before ? l->hooks->before(l, call) : NULL;
}

static struct err *settle(struct layer *l, struct store_call *call, int64_t start,
                          struct err *e, bool *again)
{
    *again = false;
    call->took_ms = layer_now_ms(l) - start;
    return l->hooks->after ? l->hooks->after(l, call, e, again) : e;
}

/* What one call does with the store inside. */
typedef struct err *inner_call(struct store *inner, const struct store_call *call,
                               void *arg);

/* Attempts until the hooks are content. */
static struct err *run(struct layer *l, struct store_call *call, inner_call *fn,
                       void *arg)
{
    for (;;) {
        bool again;
        int64_t start = layer_now_ms(l);
        call->attempt++;
        struct err *e = ask(l, call);
        if (!e)
            e = fn(l->inner, call, arg);
        e = settle(l, call, start, e, &again);
        if (!again)
            return e;
        err_free(e);
    }
}

static struct err *do_put(struct store *inner, const struct store_call *call, void *arg)
{
    (void)arg;
    return store_put(inner, call->name, call->data, call->bytes);
}

static struct err *layer_put(struct store *s, const char *name, const void *data,
                             size_t n)
{
    struct store_call call = {.op = STORE_PUT, .name = name, .data = data, .bytes = n};
    return run(layer_of(s), &call, do_put, NULL);
}

struct range {
    uint64_t offset;
    void *out;
};

static struct err *do_get(struct store *inner, const struct store_call *call, void *arg)
{
    const struct range *r = arg;
    return store_get(inner, call->name, r->offset, r->out, call->bytes);
}

static struct err *layer_get(struct store *s, const char *name, uint64_t offset,
                             void *out, size_t n)
{
    struct store_call call = {.op = STORE_GET, .name = name, .bytes = n};
    struct range r = {offset, out};
    return run(layer_of(s), &call, do_get, &r);
}

static struct err *do_stat(struct store *inner, const struct store_call *call, void *arg)
{
    return store_stat(inner, call->name, arg);
}

static struct err *layer_stat(struct store *s, const char *name, uint64_t *bytes)
{
    struct store_call call = {.op = STORE_STAT, .name = name};
    return run(layer_of(s), &call, do_stat, bytes);
}

static struct err *do_remove(struct store *inner, const struct store_call *call,
                             void *arg)
{
    (void)arg;
    return store_remove(inner, call->name);
}

static struct err *layer_remove(struct store *s, const char *name)
{
    struct store_call call = {.op = STORE_REMOVE, .name = name};
    return run(layer_of(s), &call, do_remove, NULL);
}

/* ---- listings ---- */

struct entry {
    char *name;
    uint64_t bytes;
};

struct listing {
    struct entry *items;
    size_t n;
    size_t cap;
};

static void listing_clear(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].name);
    l->n = 0;
}

static struct err *collect(void *ctx, const char *name, uint64_t bytes)
{
    struct listing *l = ctx;
    mem_reserve((void **)&l->items, &l->cap, l->n, sizeof *l->items);
    l->items[l->n++] = (struct entry){mem_strdup(name), bytes};
    return NULL;
}

static struct err *do_collect(struct store *inner, const struct store_call *call,
                              void *arg)
{
    listing_clear(arg);
    return store_list(inner, call->name, collect, arg);
}

struct visitor {
    store_visit *visit;
    void *ctx;
};

static struct err *do_list(struct store *inner, const struct store_call *call, void *arg)
{
    const struct visitor *v = arg;
    return store_list(inner, call->name, v->visit, v->ctx);
}

static struct err *layer_list(struct store *s, const char *dir, store_visit *visit,
                              void *ctx)
{
    struct layer *l = layer_of(s);
    struct store_call call = {.op = STORE_LIST, .name = dir};
    struct visitor v = {visit, ctx};
    struct listing all = {0};
    if (!l->hooks->collects_lists)
        return run(l, &call, do_list, &v);
    struct err *e = run(l, &call, do_collect, &all);
    for (size_t i = 0; i < all.n && !e; i++)
        e = visit(ctx, all.items[i].name, all.items[i].bytes);
    listing_clear(&all);
    free(all.items);
    return e;
}

static struct err *layer_clean(struct store *s, int64_t older_s,
                               struct store_leftovers *out)
{
    return store_clean(layer_of(s)->inner, older_s, out);
}

static void layer_close(struct store *s)
{
    struct layer *l = layer_of(s);
    store_close(l->inner);
    if (l->hooks->fini)
        l->hooks->fini(l);
    free(l);
}

/* ---- puts in pieces ---- */

struct layer_upload {
    struct store_upload upload;
    struct store_upload *inner;
    struct store_call call;
    int64_t start;
};

static struct err *layer_begin(struct store *s, const char *dir,
                               struct store_upload **out)
{
    struct layer *l = layer_of(s);
    struct store_call call = {
        .op = STORE_PUT, .name = dir, .in_pieces = true, .attempt = 1};
    struct store_upload *inner = NULL;
    int64_t start = layer_now_ms(l);
    bool again;
    struct err *e = ask(l, &call);
    if (!e)
        e = store_begin(l->inner, dir, &inner);
    if (e)
        return settle(l, &call, start, e, &again);
    struct layer_upload *u = mem_zalloc(sizeof *u);
    u->upload.store = s;
    u->inner = inner;
    u->call = call;
    u->start = start;
    *out = &u->upload;
    return NULL;
}

static struct err *layer_append(struct store_upload *up, const void *data, size_t n)
{
    struct layer_upload *u = (struct layer_upload *)up;
    struct store_call piece = u->call;
    piece.bytes = n;
    TRY(ask(layer_of(up->store), &piece));
    u->call.bytes += n;
    return store_append(u->inner, data, n);
}

static struct err *layer_end(struct store_upload *up, const char *name)
{
    struct layer_upload *u = (struct layer_upload *)up;
    struct layer *l = layer_of(up->store);
    struct err *e = NULL;
    bool again;
    if (name) {
        u->call.name = name;
        e = store_commit(u->inner, name);
        e = settle(l, &u->call, u->start, e, &again);
    } else {
        store_abort(u->inner);
    }
    free(u);
    return e;
}

static const struct store_vt whole_vt = {
    .put = layer_put,
    .get = layer_get,
    .list = layer_list,
    .stat = layer_stat,
    .remove = layer_remove,
    .clean = layer_clean,
    .close = layer_close,
};

/* Around a backend that takes pieces. Around others the outermost layer collects them, so
 * that each layer sees one put, which can be done again. */
static const struct store_vt pieces_vt = {
    .put = layer_put,
    .begin = layer_begin,
    .append = layer_append,
    .end = layer_end,
    .get = layer_get,
    .list = layer_list,
    .stat = layer_stat,
    .remove = layer_remove,
    .clean = layer_clean,
    .close = layer_close,
};

void layer_setup(struct layer *l, struct store *inner, const struct layer_hooks *hooks,
                 const struct store_clock *clock)
{
    store_setup(&l->store, inner->vt->begin ? &pieces_vt : &whole_vt, inner->flags,
                inner->url);
    l->store.coherent = inner->coherent;
    l->inner = inner;
    l->hooks = hooks;
    l->clock = clock ? clock : &real_clock;
}
