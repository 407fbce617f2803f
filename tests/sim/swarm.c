/* Random faults: each seed draws which kinds it uses, how often, and when. */
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/world.h"

/* The world of the run under way, for the one who reads an assertion of a core. */
static const struct world *running;

static void on_abort(int sig)
{
    (void)sig;
    if (running)
        trace_print(running);
    fflush(stderr);
    _exit(255);
}

enum fault {
    FAULT_COORD_DIES,
    FAULT_AGENT_DIES,
    FAULT_DOERS_DIE,
    FAULT_KEEPER_DIES,
    FAULT_NODE_DIES,
    FAULT_REBOOT,
    FAULT_CUT_TO,
    FAULT_CUT_FROM,
    FAULT_COORD_PAUSES,
    FAULT_AGENT_PAUSES,
    FAULT_KEEPER_PAUSES,
    FAULT_COORD_CLOCK,
    FAULT_NODE_CLOCK,
    FAULT_CALLS_FAIL,
    FAULT_CAPTURE_SLOW,
    FAULT_FREEZE_SLOW,
    FAULT_THAWS_FAIL,
    FAULT_FOREIGN_THAW,
    FAULT_COMPACTION,
    FAULT_ETCD_AWAY,
    FAULT_CANCEL,
    FAULT_KINDS,
};

/* What is left of I2's second when the clock of a node or its keeper stands still. */
enum { STALL_MS = 300, STEADY_MS = SIM_HOLD_MS + 1000 };

static void wake(struct world *w, struct event *ev)
{
    proc_pause(w, ev->owner, false);
}

static void pause_for(struct world *w, struct proc *p, int64_t ms)
{
    if (!p->alive || p->paused)
        return;
    proc_pause(w, p, true);
    world_post(w, NULL, ms, wake, p, NULL, 0);
}

static bool may_stall(struct world *w, struct sim_node *n)
{
    if (w->now_ms < n->steady_until_ms)
        return false;
    n->steady_until_ms = w->now_ms + STEADY_MS;
    return true;
}

/* Somebody thaws what is not theirs. A hook's pause nobody can look at. */
static void foreign_thaw(struct world *w, struct sim_node *n)
{
    unsigned d = (unsigned)below(w, sim_layout[n->index].n_domains);
    if (sim_layout[n->index].kinds[d] != HOLD_HOOK && kernel_thaw(w, n, d))
        note(w, "node %d: somebody else thawed domain %d", n->index, (int)d, 0);
}

static void calls_fail(struct world *w, struct sim_node *n)
{
    int *const which[] = {&n->trouble.arms, &n->trouble.first_arms, &n->trouble.freezes,
                          &n->trouble.captures, &n->trouble.captures};
    *which[below(w, 5)] = 1;
}

static void strike_node(struct world *w, enum fault fault, struct sim_node *n)
{
    static const int64_t capture_ms[] = {5, 200, SIM_HOLD_MS - 40, SIM_HOLD_MS};
    static const int64_t freeze_ms[] = {20, 500, SIM_FREEZE_TIMEOUT_MS, SIM_HOLD_MS};
    switch (fault) {
    case FAULT_AGENT_DIES:
        agent_kill(w, n->index, true);
        break;
    case FAULT_DOERS_DIE:
        doers_kill(w, n->index);
        break;
    case FAULT_KEEPER_DIES:
        keeper_kill(w, n->index, true);
        break;
    case FAULT_NODE_DIES:
        node_kill_all(w, n->index);
        break;
    case FAULT_REBOOT:
        node_reboot(w, n->index);
        break;
    case FAULT_AGENT_PAUSES:
        pause_for(w, &n->agent, below(w, 12 * SEC));
        break;
    case FAULT_KEEPER_PAUSES:
        if (may_stall(w, n))
            pause_for(w, &n->keeper, below(w, STALL_MS));
        break;
    case FAULT_NODE_CLOCK:
        if (may_stall(w, n))
            clock_stall(w, &n->clock, below(w, STALL_MS));
        break;
    case FAULT_CALLS_FAIL:
        calls_fail(w, n);
        break;
    case FAULT_CAPTURE_SLOW:
        n->trouble.capture_ms = capture_ms[below(w, 4)];
        break;
    case FAULT_FREEZE_SLOW:
        n->trouble.freeze_ms = freeze_ms[below(w, 4)];
        break;
    case FAULT_THAWS_FAIL:
        n->trouble.thaws = 1 + (int)below(w, 3);
        break;
    default:
        foreign_thaw(w, n);
    }
}

static void strike(struct world *w, enum fault fault)
{
    struct sim_node *n = &w->nodes[below(w, SIM_NODES)];
    int coord = (int)below(w, SIM_COORDS);
    note(w, "fault %d on node %d or coordinator %d", (int)fault, n->index, coord);
    switch (fault) {
    case FAULT_COORD_DIES:
        coord_kill(w, coord, true);
        break;
    case FAULT_CUT_TO:
        w->cut_to[coord][n->index] = !w->cut_to[coord][n->index];
        break;
    case FAULT_CUT_FROM:
        w->cut_from[coord][n->index] = !w->cut_from[coord][n->index];
        break;
    case FAULT_COORD_PAUSES:
        coord_pause(w, coord, !w->coords[coord].proc.paused);
        break;
    case FAULT_COORD_CLOCK:
        clock_stall(w, &w->coords[coord].clock, below(w, 5 * SEC));
        break;
    case FAULT_COMPACTION:
        etcd_compact(w);
        break;
    case FAULT_ETCD_AWAY:
        w->etcd.away_until_ms = w->now_ms + below(w, 15 * SEC);
        break;
    case FAULT_CANCEL:
        if (w->n_sets > 0)
            coord_cancel(w, (int)below(w, w->n_sets));
        break;
    default:
        strike_node(w, fault, n);
    }
}

static void agent_dies(struct world *w, struct event *ev)
{
    agent_kill(w, ((struct sim_node *)ev->owner)->index, true);
}

/* One fault of the kinds that this seed draws from. */
static void one_fault(struct world *w, struct event *ev)
{
    (void)ev;
    enum fault fault;
    if (!w->fault_kinds) /* settled meanwhile */
        return;
    do
        fault = (enum fault)below(w, FAULT_KINDS);
    while (!(w->fault_kinds >> fault & 1));
    strike(w, fault);
}

/* Faults right at a change of state hit windows that random times hardly ever do. */
static void maybe_at_round(struct world *w, int coord, enum round_state to)
{
    (void)coord;
    (void)to;
    if (chance(w, 40))
        world_post(w, NULL, below(w, 3), one_fault, NULL, NULL, 0);
}

static void maybe_at_guard(struct world *w, int node, enum hold_act_kind act)
{
    (void)node;
    (void)act;
    if (chance(w, 25))
        world_post(w, NULL, below(w, 3), one_fault, NULL, NULL, 0);
}

/* A journal is torn by a death between the first byte written and the rename. */
static void maybe_at_journal(struct world *w, int node, int64_t took_ms)
{
    if (chance(w, 10) && w->fault_kinds >> FAULT_AGENT_DIES & 1)
        world_post(w, NULL, below(w, took_ms + 1), agent_dies, &w->nodes[node], NULL, 0);
}

static void draw_faults(struct world *w)
{
    w->fault_kinds = 0;
    while (!w->fault_kinds)
        for (int i = 0; i < FAULT_KINDS; i++)
            w->fault_kinds |= (unsigned)chance(w, 350) << i;
    unsigned *const rates[] = {
        &w->faults.lose_permille,      &w->faults.double_permille,
        &w->faults.late_permille,      &w->faults.etcd_lost_permille,
        &w->faults.etcd_slow_permille, &w->faults.disk_slow_permille,
        &w->faults.garble_permille,
    };
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        *rates[i] = chance(w, 500) ? (unsigned)below(w, 80) : 0;
    w->faults.renamed_permille = 500;
    w->on_round = maybe_at_round;
    w->on_guard = maybe_at_guard;
    w->on_journal = maybe_at_journal;
}

/* Filesystems last; now and then not, which agents refuse. */
static void draw_waves(struct world *w, unsigned bad_permille, size_t n_waves, int node,
                       size_t *waves)
{
    const struct sim_layout *layout = &sim_layout[node];
    for (unsigned d = 0; d < layout->n_domains; d++)
        waves[d] = (size_t)below(w, (int64_t)n_waves);
    for (unsigned d = 1; d < layout->n_domains; d++)
        if (layout->kinds[d] == HOLD_FSFREEZE && waves[d] < waves[0] &&
            !chance(w, bad_permille))
            waves[d] = waves[0];
}

/* Membership changes between runs: each set has that of its own moment. */
static void draw_plan(struct world *w, unsigned bad_permille, struct sim_plan *plan)
{
    *plan = (struct sim_plan){.group = (int)below(w, SIM_GROUPS)};
    plan->relaxed = chance(w, 400);
    plan->rehearsal = chance(w, 150);
    for (int i = 0; i < SIM_NODES; i++)
        plan->required[i] = chance(w, 200);
    plan->n_waves = chance(w, 500) ? 1 + (size_t)below(w, SIM_WAVES) : 0;
    for (int i = 0; i < SIM_NODES && plan->n_waves; i++)
        draw_waves(w, bad_permille, plan->n_waves, i, plan->waves[i]);
    bool any = false;
    while (!any) {
        for (int i = 0; i < SIM_NODES; i++) {
            unsigned all = (1u << sim_layout[i].n_parts) - 1;
            plan->parts[i] = chance(w, 600) ? all : (unsigned)below(w, all + 1);
            any |= plan->parts[i] != 0;
        }
    }
}

void settle(struct world *w)
{
    w->fault_kinds = 0;
    w->swallow = NULL;
    w->on_round = NULL;
    w->on_guard = NULL;
    w->on_journal = NULL;
    w->faults = (struct sim_faults){0};
    w->etcd.away_until_ms = 0;
    memset(w->cut_to, 0, sizeof w->cut_to);
    memset(w->cut_from, 0, sizeof w->cut_from);
    for (int i = 0; i < SIM_COORDS; i++)
        proc_pause(w, &w->coords[i].proc, false);
    for (int i = 0; i < SIM_NODES; i++)
        w->nodes[i].trouble = (struct sim_trouble){.freeze_ms = 20, .capture_ms = 5};
    /* Each set that a lost machine belongs to runs into its timeouts, one by one. */
    int64_t timeouts_ms = SIM_PREPARE_TIMEOUT_MS + ROUND_ABORT_TIMEOUT_MS + 10 * SEC;
    world_run_until(w, world_is_settled,
                    120 * SEC + (w->gone < 0 ? 0 : w->n_sets * timeouts_ms));
    world_run(w, 15 * SEC);
    check_settled(w);
}

/* Whatever has been before: with every machine back and no fault, a set is captured, and
 * all of it. Nothing else would notice that nobody succeeds any more. */
static void take_one_more(struct world *w)
{
    struct sim_plan plan;
    draw_plan(w, 0, &plan);
    plan.rehearsal = false;
    int set = sim_create_planned(w, &plan);
    world_run_until(w, world_is_settled, 30 * SEC);
    check_whole(w, set);
}

static void count(const struct world *w, struct swarm_sum *sum)
{
    for (int s = 0; s < w->n_sets; s++) {
        sum->captured += w->etcd.sets[s].state == SIM_CAPTURED;
        sum->aborted += w->etcd.sets[s].state == SIM_ABORTED;
        sum->in_part +=
            w->etcd.sets[s].state == SIM_CAPTURED &&
            memcmp(w->etcd.sets[s].parts, w->sets[s].parts, sizeof w->sets[s].parts) != 0;
    }
    sum->trace = sum->trace * 31 + w->trace;
}

void swarm_run(uint64_t seed, struct swarm_sum *sum)
{
    static const int64_t pauses_ms[] = {60, 60, 200, 9000};
    struct world *w = world_new(seed);
    struct sim_plan plan;
    running = w;
    signal(SIGABRT, on_abort);
    draw_faults(w);
    int steps = 4 + (int)below(w, 14);
    for (int i = 0; i < steps; i++) {
        if (i % 3 == 0) {
            draw_plan(w, 50, &plan);
            sim_create_planned(w, &plan);
        }
        world_run(w, below(w, pauses_ms[below(w, 4)]));
        one_fault(w, NULL);
    }
    world_run(w, below(w, 20 * SEC));
    if (chance(w, 150)) /* a machine that never comes back */
        node_reboot(w, w->gone = (int)below(w, SIM_NODES));
    settle(w);
    if (w->gone < 0)
        take_one_more(w);
    count(w, sum);
    running = NULL;
    world_free(w);
}
