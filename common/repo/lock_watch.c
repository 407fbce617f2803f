#include "common/repo/lock_watch.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/mem.h"

void lock_watch_init(struct lock_watch *w, const struct lock_claim *own)
{
    *w = (struct lock_watch){.own = *own};
}

void lock_watch_fini(struct lock_watch *w)
{
    free(w->holders);
    *w = (struct lock_watch){0};
}

/* By number only what is ours is judged: restic's lock does not say in which container
 * its process runs, and two may share a host's name. */
static bool is_dead(const struct lock_watch *w, const struct lock_claim *c)
{
    return c->session[0] && lock_claim_is_dead(c, &w->own);
}

/* Its newest lock: refreshing leaves two for a moment. */
static const struct lock_claim *find(const struct lock_claim *list, size_t n,
                                     const struct lock_claim *holder)
{
    const struct lock_claim *best = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!lock_claim_same_holder(&list[i], holder))
            continue;
        if (!best || list[i].time.sec > best->time.sec ||
            (list[i].time.sec == best->time.sec && list[i].time.nsec > best->time.nsec))
            best = &list[i];
    }
    return best;
}

static void look_at(struct lock_watch *w, struct lock_holder *h,
                    const struct lock_claim *list, size_t n, int64_t now_ms)
{
    const struct lock_claim *now = find(list, n, &h->claim);
    if (h->gone)
        return;
    h->missed = now ? 0 : h->missed + 1;
    if (now && !digest_equal(&now->id, &h->claim.id)) {
        h->claim = *now;
        h->fresh_ms = now_ms;
    }
    h->gone = h->missed >= LOCK_WATCH_LISTINGS || is_dead(w, &h->claim) ||
              now_ms - h->fresh_ms > (int64_t)LOCK_STALE_S * 1000;
}

static void add_holder(struct lock_watch *w, const struct lock_claim *c, int64_t now_ms)
{
    for (size_t i = 0; i < w->n; i++)
        if (lock_claim_same_holder(&w->holders[i].claim, c))
            return;
    mem_reserve((void **)&w->holders, &w->cap, w->n, sizeof *w->holders);
    w->holders[w->n++] =
        (struct lock_holder){.claim = *c, .fresh_ms = now_ms, .gone = is_dead(w, c)};
}

void lock_watch_see(struct lock_watch *w, const struct lock_claim *list, size_t n,
                    int64_t now_ms)
{
    for (size_t i = 0; i < w->n; i++)
        look_at(w, &w->holders[i], list, n, now_ms);
    for (size_t i = 0; i < n && w->listings < LOCK_WATCH_LISTINGS; i++)
        if (!lock_claim_same_holder(&list[i], &w->own))
            add_holder(w, &list[i], now_ms);
    w->listings++;
}

size_t lock_watch_left(const struct lock_watch *w)
{
    size_t left = 0;
    assert(w->listings >= LOCK_WATCH_LISTINGS);
    for (size_t i = 0; i < w->n; i++)
        left += !w->holders[i].gone;
    return left;
}
