#include "common/engine/problems.h"

#include <inttypes.h>

#include "common/base/mem.h"

void problems_init(struct problems *p)
{
    *p = (struct problems){0};
    pthread_mutex_init(&p->mu, NULL);
}

void problems_fini(struct problems *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->items[i].path);
        free(p->items[i].text);
    }
    free(p->items);
    pthread_mutex_destroy(&p->mu);
    *p = (struct problems){0};
}

void problems_add(struct problems *p, const char *path, struct err *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&p->mu);
    p->total++;
    if (p->n < PROBLEMS_KEPT) {
        mem_reserve((void **)&p->items, &p->cap, p->n, sizeof *p->items);
        p->items[p->n++] = (struct problem){mem_strdup(path), e->kind, err_text(e)};
    }
    pthread_mutex_unlock(&p->mu);
    err_free(e);
}

uint64_t problems_total(struct problems *p)
{
    pthread_mutex_lock(&p->mu);
    uint64_t n = p->total;
    pthread_mutex_unlock(&p->mu);
    return n;
}

struct err *problems_err(struct problems *p, enum err_kind kind, const char *what)
{
    struct err *e = NULL;
    pthread_mutex_lock(&p->mu);
    for (size_t i = 0; i < p->n; i++)
        if (p->items[i].kind == ERR_CORRUPT)
            kind = ERR_CORRUPT;
    if (p->total)
        e = err_new(kind, "%s: %" PRIu64 " %s, first: '%s': %s", what, p->total,
                    p->total == 1 ? "problem" : "problems", p->items[0].path,
                    p->items[0].text);
    pthread_mutex_unlock(&p->mu);
    return e;
}
