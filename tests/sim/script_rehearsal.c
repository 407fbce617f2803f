/* Scenarios of rehearsals: everything freezes and thaws, and nothing comes of it. */
#include "tests/sim/script.h"
#include "tests/unit/suite.h"

static struct world *started_rehearsal(uint64_t seed)
{
    struct world *w = script_started(seed);
    w->sets[0].rehearsal = true;
    return w;
}

static int64_t entered_ms[ROUND_LOST + 1];

static void note_time(struct world *w, int coord, enum round_state to)
{
    (void)coord;
    entered_ms[to] = w->now_ms;
}

/* Each domain stood once; how long the longest did. */
static int64_t longest_pause_ms(const struct world *w)
{
    int64_t longest = 0;
    for (int i = 0; i < SIM_NODES; i++)
        for (unsigned d = 0; d < sim_layout[i].n_domains; d++) {
            const struct sim_pause *p = &w->nodes[i].domains[d].pauses[0];
            ck_assert_int_eq(p->freezes, 1);
            ck_assert_int_gt(p->to_ms, 0);
            if (p->to_ms - p->from_ms > longest)
                longest = p->to_ms - p->from_ms;
        }
    return longest;
}

static void nothing_came_of_it(struct world *w)
{
    settle(w);
    ck_assert_int_eq(w->etcd.sets[0].state, SIM_ABSENT);
    ck_assert(!w->etcd.sets[0].was_captured && !w->etcd.sets[0].was_aborted);
    for (int i = 0; i < SIM_NODES; i++)
        for (int k = 0; k < SIM_CAPTURES; k++)
            ck_assert(!w->nodes[i].captures[k].exists);
    world_free(w);
}

START_TEST(a_rehearsal_freezes_and_thaws_and_leaves_nothing)
{
    struct world *w = started_rehearsal(400);
    w->sets[0].relaxed = _i;
    w->on_round = note_time;
    ck_assert(world_run_until(w, all_recorded, 10 * SEC));
    ck_assert(nothing_frozen(w));
    ck_assert_int_gt(entered_ms[ROUND_ABORTED], entered_ms[ROUND_FREEZING]);
    ck_assert_int_le(longest_pause_ms(w),
                     entered_ms[ROUND_ABORTED] - entered_ms[ROUND_FREEZING]);
    nothing_came_of_it(w);
}
END_TEST

static void kill_when_freezing(struct world *w, int coord, enum round_state to)
{
    if (to == ROUND_FREEZING && !w->armed++)
        coord_kill(w, coord, false);
}

/* Nobody takes it over: the holds end at their limit, or when the next leader is asked.
 */
START_TEST(a_rehearsal_whose_coordinator_dies_thaws_and_is_forgotten)
{
    struct world *w = started_rehearsal(401);
    w->on_round = kill_when_freezing;
    ck_assert(world_run_until(w, all_recorded, 10 * SEC));
    ck_assert_int_eq(w->armed, 1);
    world_run(w, SIM_HOLD_MS + 100);
    ck_assert(nothing_frozen(w));
    ck_assert_int_le(longest_pause_ms(w), SIM_HOLD_MS);
    nothing_came_of_it(w);
}
END_TEST

static bool swallow_abort(struct world *w, int node, enum round_call call)
{
    (void)w;
    return node == 1 && call == CALL_ABORT;
}

/* Its Abort is lost, and while the round lasts nobody tells it anything else. */
START_TEST(a_rehearsal_that_nobody_ends_expires_with_its_hold)
{
    struct world *w = started_rehearsal(402);
    w->swallow = swallow_abort;
    w->on_round = note_time;
    ck_assert(world_run_until(w, all_recorded, 60 * SEC));
    ck_assert_int_eq(entered_ms[ROUND_ABORTED] - entered_ms[ROUND_ABORTING],
                     ROUND_ABORT_TIMEOUT_MS);
    const struct sim_pause *p = &w->nodes[1].domains[0].pauses[0];
    ck_assert_int_le(p->to_ms - p->from_ms, SIM_HOLD_MS);
    ck_assert_int_ge(p->to_ms - p->from_ms, SIM_HOLD_MS - 40); /* its freeze */
    ck_assert_int_lt(w->nodes[0].longest_pause_ms, SEC);
    nothing_came_of_it(w);
}
END_TEST

START_TEST(a_rehearsal_can_freeze_in_waves)
{
    struct world *w = started_rehearsal(403);
    w->sets[0].n_waves = 2;
    w->sets[0].waves[0][1] = 1;
    ck_assert(world_run_until(w, all_recorded, 10 * SEC));
    const struct sim_domain *front = &w->nodes[0].domains[0];
    const struct sim_domain *back = &w->nodes[0].domains[1];
    ck_assert_int_gt(back->pauses[0].from_ms, front->pauses[0].from_ms);
    ck_assert_int_le(back->pauses[0].from_ms, front->pauses[0].to_ms);
    nothing_came_of_it(w);
}
END_TEST

void script_rehearsal_add(struct TCase *tc)
{
    tcase_add_loop_test(tc, a_rehearsal_freezes_and_thaws_and_leaves_nothing, 0, 2);
    tcase_add_test(tc, a_rehearsal_whose_coordinator_dies_thaws_and_is_forgotten);
    tcase_add_test(tc, a_rehearsal_that_nobody_ends_expires_with_its_hold);
    tcase_add_test(tc, a_rehearsal_can_freeze_in_waves);
}
