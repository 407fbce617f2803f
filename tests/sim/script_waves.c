/* Scenarios of waves within one node. The first node has a cgroup's domain and a
 * filesystem's. */
#include "tests/sim/script.h"
#include "tests/unit/suite.h"

/* The first node's cgroup, then all of the others, then the first node's filesystem. */
static struct world *started_waves(uint64_t seed)
{
    struct world *w = script_started(seed);
    struct sim_plan *plan = &w->sets[0];
    plan->n_waves = 3;
    plan->waves[0][1] = 2;
    for (size_t i = 1; i < SIM_NODES; i++)
        plan->waves[i][0] = 1;
    return w;
}

static const struct sim_pause *pause_of(const struct world *w, int node, int domain)
{
    return &w->nodes[node].domains[domain].pauses[0];
}

START_TEST(one_node_freezes_in_two_waves)
{
    struct world *w = started_waves(300);
    ck_assert(world_run_until(w, script_captured, 10 * SEC));
    for (int i = 1; i < SIM_NODES; i++) {
        ck_assert_int_gt(pause_of(w, i, 0)->from_ms, pause_of(w, 0, 0)->from_ms);
        ck_assert_int_gt(pause_of(w, 0, 1)->from_ms, pause_of(w, i, 0)->from_ms);
    }
    for (int i = 0; i < SIM_NODES; i++)
        for (unsigned d = 0; d < sim_layout[i].n_domains; d++)
            ck_assert_int_eq(pause_of(w, i, (int)d)->freezes, 1);
    settle(w);
    world_free(w);
}
END_TEST

static bool swallow_commit(struct world *w, int node, enum round_call call)
{
    (void)w;
    return node == 0 && call == CALL_COMMIT;
}

/* The one clock of a hold: a later wave of the node does not set it back. */
START_TEST(the_hold_limit_counts_from_the_first_wave_of_a_node)
{
    struct world *w = started_waves(301);
    w->swallow = swallow_commit;
    ck_assert(world_run_until(w, script_aborted, 60 * SEC));
    const struct sim_pause *front = pause_of(w, 0, 0), *back = pause_of(w, 0, 1);
    ck_assert_int_le(front->to_ms - front->from_ms, SIM_HOLD_MS);
    ck_assert_int_ge(front->to_ms - front->from_ms, SIM_HOLD_MS - 40); /* its freeze */
    ck_assert_int_eq(back->to_ms, front->to_ms);
    ck_assert_int_gt(back->from_ms, front->from_ms + 40);
    settle(w);
    world_free(w);
}
END_TEST

static bool swallow_second_freeze(struct world *w, int node, enum round_call call)
{
    return node == 0 && call == CALL_FREEZE && w->armed++ > 0;
}

static int64_t entered_ms[ROUND_LOST + 1];

static void note_time(struct world *w, int coord, enum round_state to)
{
    (void)coord;
    entered_ms[to] = w->now_ms;
}

START_TEST(a_node_that_is_silent_in_its_second_wave_aborts_at_freeze_timeout)
{
    struct world *w = started_waves(302);
    w->swallow = swallow_second_freeze;
    w->on_round = note_time;
    ck_assert(world_run_until(w, script_aborted, 60 * SEC));
    ck_assert_int_eq(entered_ms[ROUND_ABORTING] - entered_ms[ROUND_FREEZING],
                     SIM_FREEZE_TIMEOUT_MS);
    ck_assert_int_eq(pause_of(w, 0, 0)->freezes, 1);
    ck_assert_int_eq(pause_of(w, 0, 1)->freezes, 0);
    settle(w);
    world_free(w);
}
END_TEST

/* Every request arrives twice, the second up to eight seconds later. */
START_TEST(a_repeated_freeze_of_a_wave_freezes_nothing_again)
{
    struct world *w = started_waves(310 + (uint64_t)_i);
    w->faults.double_permille = 1000;
    ck_assert(world_run_until(w, script_captured, 20 * SEC));
    settle(w);
    ck_assert_int_eq(pause_of(w, 0, 0)->freezes, 1);
    ck_assert_int_eq(pause_of(w, 0, 1)->freezes, 1);
    world_free(w);
}
END_TEST

static int victim;

/* Between the node's two waves: when its second freeze has begun. */
static void kill_in_second_wave(struct world *w, int node, enum hold_act_kind act)
{
    if (node != 0 || act != HOLD_DO_FREEZE || w->armed++ != 1)
        return;
    if (victim == 0)
        agent_kill(w, node, true);
    else if (victim == 1)
        doers_kill(w, node);
    else
        keeper_kill(w, node, true);
}

START_TEST(agent_doer_or_keeper_may_die_in_the_second_wave)
{
    struct world *w = started_waves(320 + (uint64_t)_i);
    victim = _i;
    w->on_guard = kill_in_second_wave;
    ck_assert(world_run_until(w, script_aborted, 40 * SEC));
    ck_assert_int_ge(w->armed, 2);
    settle(w);
    world_free(w);
}
END_TEST

/* A task that waits for the filesystem would never stop. */
START_TEST(a_filesystem_that_would_freeze_before_a_cgroup_of_its_node_is_refused)
{
    struct world *w = started_waves(330);
    w->sets[0].waves[0][0] = 2;
    w->sets[0].waves[0][1] = 0;
    ck_assert(world_run_until(w, script_aborted, 40 * SEC));
    for (int i = 0; i < SIM_NODES; i++)
        for (unsigned d = 0; d < sim_layout[i].n_domains; d++)
            ck_assert_int_eq(pause_of(w, i, (int)d)->freezes, 0);
    settle(w);
    world_free(w);
}
END_TEST

/* What could not be armed leaves a relaxed node without anything in its first wave. */
START_TEST(a_wave_of_which_nothing_is_left_on_a_node_is_passed_over)
{
    struct world *w = started_waves(331);
    w->sets[0].relaxed = true;
    w->sets[0].parts[0] = 1u << 0 | 1u << 2;
    w->nodes[0].trouble.first_arms = 1;
    ck_assert(world_run_until(w, script_captured, 20 * SEC));
    ck_assert_int_eq(pause_of(w, 0, 0)->freezes, 0);
    ck_assert_int_eq(pause_of(w, 0, 1)->freezes, 1);
    ck_assert_uint_eq(w->etcd.sets[0].parts[0], 1u << 2);
    settle(w);
    world_free(w);
}
END_TEST

void script_waves_add(struct TCase *tc)
{
    tcase_add_test(tc, one_node_freezes_in_two_waves);
    tcase_add_test(tc, the_hold_limit_counts_from_the_first_wave_of_a_node);
    tcase_add_test(tc, a_node_that_is_silent_in_its_second_wave_aborts_at_freeze_timeout);
    tcase_add_loop_test(tc, a_repeated_freeze_of_a_wave_freezes_nothing_again, 0, 10);
    tcase_add_loop_test(tc, agent_doer_or_keeper_may_die_in_the_second_wave, 0, 3);
    tcase_add_test(tc,
                   a_filesystem_that_would_freeze_before_a_cgroup_of_its_node_is_refused);
    tcase_add_test(tc, a_wave_of_which_nothing_is_left_on_a_node_is_passed_over);
}
