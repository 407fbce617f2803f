
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

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

void world_post_as(struct world *w, struct proc *p, int64_t delay_ms, event_fn *fn,
                   const char *what, void *owner, void *data, uint64_t n,
                   void (*drop)(void *))
{
    push(w, (struct event){.at_ms = w->now_ms + delay_ms,
                           .seq = w->seq++,
                           .proc = p,
                           .generation = p ? p->generation : 0,
                           .fn = fn,
                           .what = what,
                           .owner = owner,
                           .data = data,
                           .n = n,
                           .drop = drop});
}

bool chance(struct world *w, unsigned permille)
{
    return permille > 0 && rng_below(&w->rng, 1000) < permille;
}

int64_t below(struct world *w, int64_t n)
{
    return (int64_t)rng_below(&w->rng, (uint64_t)n);
}

/* What waited in socket buffers arrives now, in its order. */
static void release(struct world *w, const struct proc *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < w->n_held; i++) {
        struct event ev = w->held[i];
        if (ev.proc != p) {
            w->held[kept++] = ev;
            continue;
        }
        ev.at_ms = w->now_ms;
        ev.seq = w->seq++;
        push(w, ev);
    }
    w->n_held = kept;
}

void proc_kill(struct world *w, struct proc *p)
{
    p->alive = false;
    p->paused = false;
    p->generation++;
    release(w, p);
}

void proc_pause(struct world *w, struct proc *p, bool paused)
{
    p->paused = paused;
    if (!paused)
        release(w, p);
}

int64_t clock_now(const struct world *w, const struct sim_clock *c)
{
    if (w->now_ms < c->stall_until_ms)
        return c->stall_from_ms - c->lag_ms;
    return w->now_ms - c->lag_ms - (c->stall_until_ms - c->stall_from_ms);
}

void clock_stall(struct world *w, struct sim_clock *c, int64_t ms)
{
    c->lag_ms = w->now_ms - clock_now(w, c);
    c->stall_from_ms = w->now_ms;
    c->stall_until_ms = w->now_ms + ms;
}

bool world_step(struct world *w)
{
    if (w->n_events == 0)
        return false;
    struct event ev = pop(w);
    assert(ev.at_ms >= w->now_ms);
    w->now_ms = ev.at_ms;
    if (ev.proc && ev.proc->paused && ev.generation == ev.proc->generation) {
        mem_reserve((void **)&w->held, &w->cap_held, w->n_held, sizeof *w->held);
        w->held[w->n_held++] = ev;
        return true;
    }
    if (!ev.proc || ev.generation == ev.proc->generation) {
        trace_mix(w, (uint64_t)ev.at_ms);
        trace_text(w, ev.what);
        ev.fn(w, &ev);
        check_world(w);
    } else if (ev.drop) {
        ev.drop(ev.data);
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

const struct sim_layout sim_layout[SIM_NODES] = {
    {2, {HOLD_CGROUP, HOLD_FSFREEZE}, 3, {0, 0, 1}},
    {1, {HOLD_CGROUP}, 1, {0}},
    {1, {HOLD_HOOK}, 2, {0, 0}},
};

unsigned sim_domain_mask(int node, unsigned parts)
{
    unsigned mask = 0;
    for (unsigned p = 0; p < sim_layout[node].n_parts; p++)
        if (parts >> p & 1)
            mask |= 1u << sim_layout[node].domain_of[p];
    return mask;
}

static void start_node(struct world *w, int i)
{
    struct sim_node *n = &w->nodes[i];
    n->index = i;
    n->trouble = (struct sim_trouble){.freeze_ms = 20, .capture_ms = 5};
    snprintf(n->name.text, sizeof n->name.text, "node-%d", i);
    static const char *const kinds[] = {[HOLD_NONE] = "none",
                                        [HOLD_HOOK] = "hook",
                                        [HOLD_CGROUP] = "cgroup",
                                        [HOLD_FSFREEZE] = "fsfreeze"};
    for (unsigned d = 0; d < sim_layout[i].n_domains; d++)
        snprintf(n->domain_names[d].text, sizeof n->domain_names[d].text,
                 "node-%d/%s:db-%u", i, kinds[sim_layout[i].kinds[d]], d);
    sessions_init(&n->durable, &n->name);
    guard_start(w, n);
    agent_start(w, n);
}

struct world *world_new(uint64_t seed)
{
    struct world *w = mem_zalloc(sizeof *w);
    w->seed = seed;
    rng_init(&w->rng, seed);
    w->now_ms = 1000000;
    w->next_call = 1;
    w->gone = -1;
    w->etcd.revision = 1;
    w->etcd.proc = (struct proc){"etcd", true, false, 1};
    for (int i = 0; i < SIM_NODES; i++)
        start_node(w, i);
    for (int i = 0; i < SIM_COORDS; i++) {
        w->coords[i].index = i;
        coord_start(w, &w->coords[i]);
    }
    return w;
}

static void drop_events(struct event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (events[i].drop)
            events[i].drop(events[i].data);
        free(events[i].data);
    }
    free(events);
}

void world_free(struct world *w)
{
    drop_events(w->queue, w->n_events);
    drop_events(w->held, w->n_held);
    for (int i = 0; i < SIM_NODES; i++) {
        sessions_fini(&w->nodes[i].sessions);
        sessions_fini(&w->nodes[i].durable);
    }
    for (int i = 0; i < SIM_COORDS; i++)
        for (int k = 0; k < SIM_SETS; k++)
            run_end(&w->coords[i].runs[k]);
    free(w);
}

int sim_create_planned(struct world *w, const struct sim_plan *plan)
{
    assert(w->n_sets < SIM_SETS);
    w->sets[w->n_sets] = *plan;
    note(w, "set %d of group %d is asked for", w->n_sets, plan->group, 0);
    return w->n_sets++;
}

int sim_create_set(struct world *w)
{
    struct sim_plan all = {0};
    for (int i = 0; i < SIM_NODES; i++)
        all.parts[i] = (1u << sim_layout[i].n_parts) - 1;
    return sim_create_planned(w, &all);
}
