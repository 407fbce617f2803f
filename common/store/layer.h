/* What the wrappers around a store share: each is a `struct store` that passes every call
 * on to the store inside it and is asked before and after. `store_wrap` (store.h) puts
 * them together: retry around breaker around throttle around meter around the backend.
 * Any thread; hooks lock what they keep. */
#ifndef COMMON_STORE_LAYER_H
#define COMMON_STORE_LAYER_H

#include "common/store/store.h"

/* One call on its way through a layer. */
struct store_call {
    enum store_op op;
    const char *name; /* object, or directory of a listing */
    const void *data; /* of a put in one piece; else NULL */
    uint64_t bytes;   /* to put or to get */
    bool in_pieces;   /* a put that cannot be done again */
    unsigned attempt; /* from 1 on */
    bool unknown;     /* an earlier attempt may have been done after all */
    bool refused;     /* by `before` */
    int64_t took_ms;  /* set for `after` */
};

struct layer;
struct layer_hooks {
    /* May wait; an error refuses the call, and becomes its outcome. For a put in pieces
     * called with each piece's bytes. May be NULL. */
    struct err *(*before)(struct layer *l, struct store_call *call);
    /* Takes the outcome over and returns what becomes of it; *again asks for another
     * attempt (the returned error is freed then). May be NULL. */
    struct err *(*after)(struct layer *l, struct store_call *call, struct err *e,
                         bool *again);
    /* Frees what the hooks keep, not the layer. May be NULL. */
    void (*fini)(struct layer *l);
    /* Listings are collected before they are told, so that one can be done again. */
    bool collects_lists;
};

/* A wrapper's own struct (malloc) starts with this. */
struct layer {
    struct store store;
    struct store *inner; /* owned */
    const struct layer_hooks *hooks;
    const struct store_clock *clock;
};

/* Sets up a zeroed layer around `inner`, which it takes over. `clock` NULL: the real one.
 */
void layer_setup(struct layer *l, struct store *inner, const struct layer_hooks *hooks,
                 const struct store_clock *clock);
int64_t layer_now_ms(const struct layer *l);
void layer_sleep_ms(const struct layer *l, int64_t ms);

/* The wrappers; each takes `inner` over. */
struct store *retry_wrap(struct store *inner, const struct store_opts *opts);
struct store *breaker_wrap(struct store *inner, const struct store_opts *opts);
struct store *throttle_wrap(struct store *inner, const struct store_opts *opts);
struct store *meter_wrap(struct store *inner, const struct store_opts *opts);

#endif
