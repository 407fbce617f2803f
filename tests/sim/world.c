#include "tests/sim/world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static bool before(const struct event *a, const struct event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->seq < b->seq;
}

static void swap(struct event *a, struct event *b)
{
    struct event t = *a;
    *a = *b;
    *b = t;
}

static void push(struct world *w, struct event ev)
{
    mem_reserve((void **)&w->queue, &w->cap_events, w->n_events, sizeof *w->queue);
    size_t i = w->n_events++;
    w->queue[i] = ev;
    while (i > 0 && before(&w->queue[i], &w->queue[(i - 1) / 2])) {
        swap(&w->queue[i], &w->queue[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

static struct event pop(struct world *w)
{
    struct event first = w->queue[0];
    w->queue[0] = w->queue[--w->n_events];
    size_t i = 0;
    for (;;) {
        size_t least = i;
        for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < w->n_events; k++)
            if (before(&w->queue[k], &w->queue[least]))
                least = k;
        if (least == i)
            return first;
        swap(&w->queue[i], &w->queue[least]);
        i = least;
    }
}

void world_post(struct world *w, struct proc *p, int64_t delay_ms, event_fn *fn,
                void *owner, void *data, uint64_t n)
{
    push(w, (struct event){.at_ms = w->now_ms + delay_ms,
                           .seq = w->seq++,
                           .proc = p,
                           .generation = p ? p->generation : 0,
                           .fn = fn,
                           .owner = owner,
                           .data = data,
                           .n = n});
}

/* For data that owns more: `drop` frees it if the event never happens. */
void world_post_owner(struct world *w, int64_t delay_ms, event_fn *fn, void *owner,
                      void *data, uint64_t n, void (*drop)(void *))
{
    push(w, (struct event){.at_ms = w->now_ms + delay_ms,
                           .seq = w->seq++,
                           .fn = fn,
                           .owner = owner,
                           .data = data,
                           .n = n,
                           .drop = drop});
}

bool chance(struct world *w, unsigned permille)
{
    return permille > 0 && rng_below(&w->rng, 1000) < permille;
}

void proc_kill(struct world *w, struct proc *p)
{
    (void)w;
    p->alive = false;
    p->paused = false;
    p->generation++;
}

void proc_pause(struct world *w, struct proc *p, bool paused)
{
    (void)w;
    p->paused = paused;
}

bool world_step(struct world *w)
{
    if (w->n_events == 0)
        return false;
    struct event ev = pop(w);
    assert(ev.at_ms >= w->now_ms);
    w->now_ms = ev.at_ms;
    if (ev.proc && ev.proc->paused && ev.generation == ev.proc->generation) {
        ev.at_ms += 10; /* it waits in a socket buffer until the process runs again */
        push(w, ev);
        return true;
    }
    if (!ev.proc || ev.generation == ev.proc->generation) {
        w->trace = w->trace * 31 + (uint64_t)ev.at_ms * 7 + ev.seq;
        ev.fn(w, &ev);
        check_world(w);
    }
    free(ev.data);
    return true;
}

bool world_run_until(struct world *w, world_cond *cond, int64_t ms)
{
    int64_t end = w->now_ms + ms;
    while (!cond(w)) {
        if (w->n_events == 0 || w->queue[0].at_ms > end)
            return false;
        world_step(w);
    }
    return true;
}

static bool never(const struct world *w)
{
    (void)w;
    return false;
}

void world_run(struct world *w, int64_t ms)
{
    int64_t end = w->now_ms + ms;
    world_run_until(w, never, ms);
    w->now_ms = end;
}

void sim_set_name(int set, struct set_id *out)
{
    snprintf(out->text, sizeof out->text, "set-%d", set);
}

int sim_set_number(const struct set_id *id)
{
    return atoi(id->text + strlen("set-"));
}

struct world *world_new(uint64_t seed)
{
    struct world *w = mem_zalloc(sizeof *w);
    w->seed = seed;
    rng_init(&w->rng, seed);
    w->now_ms = 1000000;
    w->next_call = 1;
    w->etcd.revision = 1;
    w->etcd.proc = (struct proc){"etcd", true, false, 1};
    for (int i = 0; i < SIM_NODES; i++) {
        struct sim_node *n = &w->nodes[i];
        n->index = i;
        n->capture_ms = 5;
        snprintf(n->name.text, sizeof n->name.text, "node-%d", i);
        snprintf(n->domain.text, sizeof n->domain.text, "node-%d/cgroup:db", i);
        sessions_init(&n->durable, &n->name);
        guard_start(w, n);
        agent_start(w, n);
    }
    for (int i = 0; i < SIM_COORDS; i++) {
        w->coords[i].index = i;
        coord_start(w, &w->coords[i]);
    }
    return w;
}

void world_free(struct world *w)
{
    for (size_t i = 0; i < w->n_events; i++) {
        if (w->queue[i].drop)
            w->queue[i].drop(w->queue[i].data);
        free(w->queue[i].data);
    }
    free(w->queue);
    for (int i = 0; i < SIM_NODES; i++) {
        sessions_fini(&w->nodes[i].sessions);
        sessions_fini(&w->nodes[i].durable);
    }
    for (int i = 0; i < SIM_COORDS; i++) {
        for (int k = 0; k < SIM_SETS; k++) {
            if (w->coords[i].runs[k].started) {
                round_fini(&w->coords[i].runs[k].round);
                round_acts_fini(&w->coords[i].runs[k].acts);
            }
        }
    }
    free(w);
}

int sim_create_set(struct world *w)
{
    assert(w->n_sets < SIM_SETS);
    int set = w->n_sets++;
    for (int i = 0; i < SIM_COORDS; i++)
        w->coords[i].wanted |= 1 << set;
    return set;
}
