/* A store around another that does what a test's script says: fails a call before
 * anything was done, after it was done, or has the process die. */
#ifndef TESTS_UNIT_STORE_FAULT_STORE_H
#define TESTS_UNIT_STORE_FAULT_STORE_H

#include <signal.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/store/layer.h"

enum fault {
    FAULT_NONE,
    FAULT_REFUSED, /* UNAVAILABLE, not done */
    FAULT_LOST,    /* TIMEOUT, not done */
    FAULT_ECHO,    /* TIMEOUT, but done */
    FAULT_BROKEN,  /* IO, not done: nothing to try again */
    FAULT_KILL,    /* SIGKILL before it is done */
};

/* Decides about one call; called with the calls of all threads, one at a time each. */
typedef enum fault fault_script(void *ctx, const struct store_call *call);

struct fault_store {
    struct layer layer;
    fault_script *script;
    void *ctx;
};

/* What `before` decided, for `after` of the same call on the same thread. */
static _Thread_local enum fault fault_now;

static inline struct err *fault_before(struct layer *l, struct store_call *c)
{
    const struct fault_store *f = (const struct fault_store *)l;
    fault_now = f->script(f->ctx, c);
    switch (fault_now) {
    case FAULT_REFUSED:
        return err_new(ERR_UNAVAILABLE, "scripted: refused");
    case FAULT_LOST:
        return err_new(ERR_TIMEOUT, "scripted: no answer");
    case FAULT_BROKEN:
        return err_new(ERR_IO, "scripted: broken");
    case FAULT_KILL:
        raise(SIGKILL);
        return NULL;
    default:
        return NULL;
    }
}

static inline struct err *fault_after(struct layer *l, struct store_call *c,
                                      struct err *e, bool *again)
{
    (void)l;
    (void)c;
    (void)again;
    if (e || fault_now != FAULT_ECHO)
        return e;
    return err_new(ERR_TIMEOUT, "scripted: no answer");
}

static const struct layer_hooks fault_hooks = {.before = fault_before,
                                               .after = fault_after};

static inline struct store *fault_wrap(struct store *inner, fault_script *script,
                                       void *ctx)
{
    struct fault_store *f = mem_zalloc(sizeof *f);
    layer_setup(&f->layer, inner, &fault_hooks, NULL);
    f->script = script;
    f->ctx = ctx;
    return &f->layer.store;
}

#endif
