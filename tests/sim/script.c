/* Scripted scenarios with exact virtual times. */
#include <string.h>

#include "tests/sim/script.h"
#include "tests/unit/suite.h"

bool script_captured(const struct world *w)
{
    return w->etcd.sets[0].state == SIM_CAPTURED;
}

bool script_aborted(const struct world *w)
{
    return w->etcd.sets[0].state == SIM_ABORTED;
}

int script_leader(const struct world *w)
{
    for (int i = 0; i < SIM_COORDS; i++)
        if (lead_is_leading(&w->coords[i].lead))
            return i;
    return -1;
}

static bool has_leader(const struct world *w)
{
    return script_leader(w) >= 0;
}

struct world *script_started(uint64_t seed)
{
    struct world *w = world_new(seed);
    ck_assert(world_run_until(w, has_leader, 5 * SEC));
    sim_create_set(w);
    return w;
}

/* The set is relaxed, and freezes one node after the other: 1, 2, 0. */
static struct world *started_relaxed(uint64_t seed)
{
    struct world *w = script_started(seed);
    w->sets[0].relaxed = true;
    w->sets[0].n_waves = SIM_NODES;
    for (size_t i = 0; i < SIM_NODES; i++)
        for (size_t d = 0; d < SIM_DOMAINS; d++)
            w->sets[0].waves[i][d] = (i + 2) % SIM_NODES;
    return w;
}

/* Which nodes the recorded set has all partitions of, none of, or others. */
static bool has_all_of(const struct world *w, int node)
{
    return w->etcd.sets[0].parts[node] == w->sets[0].parts[node];
}

static bool has_none_of(const struct world *w, int node)
{
    return w->etcd.sets[0].parts[node] == 0;
}

START_TEST(a_set_is_captured_when_nothing_fails)
{
    struct world *w = script_started(1);
    int64_t begun = w->now_ms;
    ck_assert(world_run_until(w, script_captured, 10 * SEC));
    ck_assert_int_lt(w->now_ms - begun, 2 * SEC);
    for (int i = 0; i < SIM_NODES; i++)
        for (unsigned d = 0; d < sim_layout[i].n_domains; d++)
            ck_assert_int_eq(w->nodes[i].domains[d].pauses[0].freezes, 1);
    settle(w);
    ck_assert(script_captured(w));
    world_free(w);
}
END_TEST

static enum round_call silenced;

static bool swallow_second_node(struct world *w, int node, enum round_call call)
{
    (void)w;
    return node == 1 && call == silenced;
}

static int64_t
    entered_ms[ROUND_LOST + 1]; /* when a round of any coordinator got there last */

static void note_time(struct world *w, int coord, enum round_state to)
{
    (void)coord;
    entered_ms[to] = w->now_ms;
}

/* One agent never hears this request. The set aborts exactly at the phase's deadline. */
static void silent_agent(enum round_call call, enum round_state phase, int64_t timeout_ms)
{
    struct world *w = script_started(2);
    silenced = call;
    w->swallow = swallow_second_node;
    w->on_round = note_time;
    ck_assert(world_run_until(w, script_aborted, 200 * SEC));
    ck_assert_int_eq(entered_ms[ROUND_ABORTING] - entered_ms[phase], timeout_ms);
    settle(w);
    world_free(w);
}

START_TEST(a_silent_agent_in_prepare_aborts_at_prepare_timeout)
{
    silent_agent(CALL_PREPARE, ROUND_PREPARING, SIM_PREPARE_TIMEOUT_MS);
}
END_TEST

START_TEST(a_silent_agent_in_freeze_aborts_at_freeze_timeout)
{
    silent_agent(CALL_FREEZE, ROUND_FREEZING, SIM_FREEZE_TIMEOUT_MS);
}
END_TEST

START_TEST(a_silent_agent_in_commit_aborts_after_the_hold)
{
    silent_agent(CALL_COMMIT, ROUND_CAPTURING, SIM_HOLD_MS + ROUND_COMMIT_SLACK_MS);
}
END_TEST

START_TEST(a_silent_agent_in_abort_learns_the_verdict_when_it_registers)
{
    struct world *w = script_started(3);
    silenced = CALL_ABORT;
    w->swallow = swallow_second_node;
    w->nodes[2].trouble.captures = 1;
    ck_assert(world_run_until(w, script_aborted, 30 * SEC));
    world_run(w, 60 * SEC);
    check_settled(w);
    world_free(w);
}
END_TEST

START_TEST(one_capture_failing_out_of_three_aborts_and_leaks_nothing)
{
    struct world *w = script_started(4);
    w->nodes[1].trouble.captures = 1;
    ck_assert(world_run_until(w, script_aborted, 10 * SEC));
    settle(w);
    ck_assert(script_aborted(w));
    world_free(w);
}
END_TEST

/* The capture takes as long as the loop says; the hold is SIM_HOLD_MS. */
START_TEST(a_capture_that_outlives_its_hold_is_late_and_removed)
{
    static const int64_t capture_ms[] = {SIM_HOLD_MS - 200, SIM_HOLD_MS,
                                         SIM_HOLD_MS + 700};
    struct world *w = script_started(5);
    w->nodes[1].trouble.capture_ms = capture_ms[_i]; /* it has one partition */
    ck_assert(world_run_until(w, all_recorded, 60 * SEC));
    ck_assert_int_eq(script_captured(w), capture_ms[_i] < SIM_HOLD_MS);
    ck_assert_int_le(w->nodes[1].longest_pause_ms, SIM_HOLD_MS + 1000);
    settle(w);
    world_free(w);
}
END_TEST

static bool cut_before_commit(struct world *w, int node, enum round_call call)
{
    (void)w;
    (void)node;
    return call == CALL_COMMIT;
}

START_TEST(a_hold_that_expires_before_the_commit_refuses_it)
{
    struct world *w = script_started(6);
    w->swallow = cut_before_commit;
    ck_assert(world_run_until(w, script_aborted, 60 * SEC));
    for (int i = 0; i < SIM_NODES; i++)
        ck_assert_int_le(w->nodes[i].longest_pause_ms, SIM_HOLD_MS);
    ck_assert_int_ge(w->nodes[0].longest_pause_ms,
                     SIM_HOLD_MS - 100); /* the freeze's own */
    settle(w);
    world_free(w);
}
END_TEST

static enum round_state fatal;

static void kill_on_state(struct world *w, int coord, enum round_state to)
{
    if (to != fatal || w->armed++)
        return;
    coord_kill(w, coord, false);
}

/* The leader dies in state _i; the second coordinator decides within 30 s. */
START_TEST(a_second_coordinator_takes_over_from_every_state)
{
    struct world *w = script_started(7 + (uint64_t)_i);
    fatal = (enum round_state)_i;
    if (fatal == ROUND_ABORTING || fatal == ROUND_ABORTED)
        w->nodes[0].trouble.captures = 1;
    w->on_round = kill_on_state;
    int first = script_leader(w);
    world_run(w, 3 * SEC);
    if (fatal != ROUND_INSPECTING && fatal != ROUND_LOST)
        ck_assert_int_eq(w->armed, 1);
    if (!w->armed)
        coord_kill(w, first, false);
    ck_assert(world_run_until(w, all_recorded, 30 * SEC));
    ck_assert(fatal != ROUND_RECORDING || script_captured(w));
    settle(w);
    world_free(w);
}
END_TEST

static void kill_or_note(struct world *w, int coord, enum round_state to)
{
    note_time(w, coord, to);
    kill_on_state(w, coord, to);
}

START_TEST(a_silent_agent_in_inspect_aborts_at_inspect_timeout)
{
    struct world *w = script_started(15);
    fatal = ROUND_CAPTURING;
    silenced = CALL_INSPECT;
    w->swallow = swallow_second_node;
    w->on_round = kill_or_note;
    ck_assert(world_run_until(w, script_aborted, 60 * SEC));
    ck_assert_int_eq(w->armed, 1);
    ck_assert_int_eq(entered_ms[ROUND_ABORTING] - entered_ms[ROUND_INSPECTING],
                     ROUND_INSPECT_TIMEOUT_MS);
    settle(w);
    world_free(w);
}
END_TEST

/* The leader sleeps for twice its lease while the second takes over, then wakes. */
static void pause_on_state(struct world *w, int coord, enum round_state to)
{
    if (to == fatal && !w->armed++)
        coord_pause(w, coord, true);
}

START_TEST(a_leader_that_wakes_with_an_old_token_changes_nothing)
{
    struct world *w = script_started(30 + (uint64_t)_i);
    fatal = (enum round_state)_i;
    w->on_round = pause_on_state;
    world_run(w, 2 * LEAD_TTL_MS);
    ck_assert_int_eq(w->armed, 1);
    for (int i = 0; i < SIM_COORDS; i++)
        coord_pause(w, i, false);
    settle(w);
    world_free(w);
}
END_TEST

START_TEST(a_write_that_timed_out_but_was_done_is_read_back)
{
    struct world *w = script_started(50 + (uint64_t)_i);
    w->faults.etcd_lost_permille = 200;
    world_run(w, 40 * SEC);
    settle(w);
    world_free(w);
}
END_TEST

START_TEST(lost_doubled_and_late_messages_change_nothing)
{
    struct world *w = script_started(80 + (uint64_t)_i);
    w->faults = (struct sim_faults){
        .lose_permille = 100, .double_permille = 200, .late_permille = 100};
    world_run(w, 30 * SEC);
    settle(w);
    world_free(w);
}
END_TEST

static enum hold_act_kind fatal_act;
static bool fatal_keeper;

static void kill_guard(struct world *w, int node, enum hold_act_kind act)
{
    if (node != 1 || act != fatal_act || w->armed++)
        return;
    if (fatal_keeper)
        keeper_kill(w, node, true);
    else
        doers_kill(w, node);
}

/* _i: the doer's step, twice: once for the doer's death, once for the keeper's. */
START_TEST(keeper_or_doer_may_die_at_each_step)
{
    static const enum hold_act_kind steps[] = {
        HOLD_DO_ARM, HOLD_DO_FREEZE, HOLD_DO_CAPTURE, HOLD_DO_RECHECK, HOLD_DO_PUBLISH};
    struct world *w = script_started(100 + (uint64_t)_i);
    fatal_act = steps[_i / 2];
    fatal_keeper = _i % 2;
    w->on_guard = kill_guard;
    world_run(w, 40 * SEC);
    ck_assert_int_ge(w->armed, 1);
    ck_assert(nothing_frozen(w));
    settle(w);
    world_free(w);
}
END_TEST

static void kill_agent_on_guard(struct world *w, int node, enum hold_act_kind act)
{
    if (node == 1 && act == fatal_act && !w->armed++)
        agent_kill(w, node, true);
}

START_TEST(an_agent_may_die_at_each_step)
{
    static const enum hold_act_kind steps[] = {HOLD_DO_ARM, HOLD_DO_FREEZE,
                                               HOLD_DO_CAPTURE, HOLD_DO_PUBLISH};
    struct world *w = script_started(120 + (uint64_t)_i);
    fatal_act = steps[_i];
    w->on_guard = kill_agent_on_guard;
    world_run(w, 40 * SEC);
    ck_assert_int_ge(w->armed, 1);
    settle(w);
    world_free(w);
}
END_TEST

static void kill_node_on_guard(struct world *w, int node, enum hold_act_kind act)
{
    if (node == 1 && act == fatal_act && !w->armed++)
        node_kill_all(w, node);
}

START_TEST(a_node_that_loses_all_its_processes_thaws_on_restart)
{
    static const enum hold_act_kind steps[] = {HOLD_DO_FREEZE, HOLD_DO_CAPTURE};
    struct world *w = script_started(130 + (uint64_t)_i);
    fatal_act = steps[_i];
    w->on_guard = kill_node_on_guard;
    world_run(w, 40 * SEC);
    ck_assert_int_ge(w->armed, 1);
    ck_assert(nothing_frozen(w));
    settle(w);
    world_free(w);
}
END_TEST

START_TEST(a_watch_from_a_compacted_revision_lists_again)
{
    struct world *w = script_started(140);
    int first = script_leader(w);
    w->coords[1 - first].watch_revision = 0;
    etcd_compact(w);
    coord_kill(w, first, false);
    ck_assert(world_run_until(w, all_recorded, 30 * SEC));
    settle(w);
    world_free(w);
}
END_TEST

/* Answers to Commit are lost; every agent dies soon after it hears the Abort. */
static void agent_dies(struct world *w, struct event *ev)
{
    agent_kill(w, (int)ev->n, true);
}

static bool lose_commits_die_on_abort(struct world *w, int node, enum round_call call)
{
    if (call == CALL_COMMIT)
        w->cut_from[script_leader(w)][node] = true;
    if (call == CALL_ABORT && w->armed < SIM_NODES) {
        w->armed++;
        world_post(w, NULL, 3, agent_dies, NULL, NULL, (uint64_t)node);
    }
    return false;
}

static bool all_published(const struct world *w)
{
    int n = 0;
    for (int i = 0; i < SIM_NODES; i++)
        for (int k = 0; k < SIM_CAPTURES; k++)
            n += w->nodes[i].captures[k].exists && w->nodes[i].captures[k].published;
    return n == 6; /* of the layout */
}

/* Step 5.3. Agents that promised a capture hear Abort and die before the journal says so;
 * the coordinator dies before the record does. The next one may roll forward: whatever is
 * offered to it is still there. */
START_TEST(a_promise_is_withdrawn_durably_before_its_capture_goes)
{
    struct world *w = script_started(150);
    w->swallow = lose_commits_die_on_abort;
    ck_assert(world_run_until(w, all_published, 5 * SEC));
    world_run(w, 20); /* the promises are durable */
    w->faults.disk_slow_permille = 1000;
    w->etcd.away_until_ms = w->now_ms + SEC;
    int first = script_leader(w);
    coord_cancel(w, 0);
    world_run(w, 100);
    ck_assert_int_eq(w->armed, SIM_NODES);
    coord_kill(w, first, false);
    ck_assert(world_run_until(w, script_captured, 60 * SEC));
    settle(w);
    world_free(w);
}
END_TEST

static void cancel_now(struct world *w, struct event *ev)
{
    (void)ev;
    coord_cancel(w, 0);
}

static void cancel_on_state(struct world *w, int coord, enum round_state to)
{
    (void)coord;
    if (to == fatal && !w->armed++)
        world_post(w, NULL, 0, cancel_now, NULL, NULL, 0);
}

/* Step 5.1. Until the record may say CAPTURED the operator's wish is done within seconds;
 * from then on it comes too late and changes nothing. */
START_TEST(a_run_can_be_cancelled_in_every_state)
{
    struct world *w = script_started(160 + (uint64_t)_i);
    fatal = (enum round_state)_i;
    w->on_round = cancel_on_state;
    ck_assert(world_run_until(w, all_recorded, 5 * SEC));
    ck_assert_int_eq(w->armed, 1);
    ck_assert_int_eq(script_aborted(w), fatal < ROUND_RECORDING);
    settle(w);
    world_free(w);
}
END_TEST

static bool lose_answers_to_commit(struct world *w, int node, enum round_call call)
{
    if (call == CALL_COMMIT)
        w->cut_from[script_leader(w)][node] = true;
    return false;
}

/* All have captured, so that without the cancel it would be rolled forward. */
START_TEST(a_run_can_be_cancelled_while_it_is_taken_over)
{
    struct world *w = script_started(180);
    w->swallow = lose_answers_to_commit;
    ck_assert(world_run_until(w, all_published, 5 * SEC));
    world_run(w, 20); /* the promises are durable */
    coord_kill(w, script_leader(w), false);
    fatal = ROUND_INSPECTING;
    w->on_round = cancel_on_state;
    ck_assert(world_run_until(w, script_aborted, 30 * SEC));
    settle(w);
    world_free(w);
}
END_TEST

/* ---- relaxed sets, waves ---- */

START_TEST(waves_freeze_one_after_the_other)
{
    struct world *w = started_relaxed(190);
    ck_assert(world_run_until(w, script_captured, 10 * SEC));
    const struct sim_pause *first = &w->nodes[1].domains[0].pauses[0];
    const struct sim_pause *second = &w->nodes[2].domains[0].pauses[0];
    const struct sim_pause *third = &w->nodes[0].domains[0].pauses[0];
    ck_assert_int_gt(second->from_ms, first->from_ms);
    ck_assert_int_gt(third->from_ms, second->from_ms);
    for (int i = 0; i < SIM_NODES; i++)
        ck_assert(has_all_of(w, i));
    settle(w);
    world_free(w);
}
END_TEST

/* The wave's share of freeze_timeout is all that a silent agent costs the others. */
START_TEST(a_silent_agent_is_left_out_of_a_relaxed_set)
{
    struct world *w = started_relaxed(191);
    silenced = CALL_FREEZE;
    w->swallow = swallow_second_node;
    w->on_round = note_time;
    ck_assert(world_run_until(w, script_captured, 30 * SEC));
    int64_t took_ms = entered_ms[ROUND_CAPTURING] - entered_ms[ROUND_FREEZING];
    ck_assert_int_ge(took_ms, SIM_FREEZE_TIMEOUT_MS / SIM_NODES);
    ck_assert_int_lt(took_ms, SIM_FREEZE_TIMEOUT_MS);
    ck_assert(has_none_of(w, 1));
    ck_assert(has_all_of(w, 0));
    ck_assert(has_all_of(w, 2));
    settle(w);
    world_free(w);
}
END_TEST

/* Its Abort is lost, too. */
START_TEST(a_capture_that_nobody_answered_for_goes_when_its_node_registers)
{
    struct world *w = started_relaxed(192);
    silenced = CALL_ABORT;
    w->swallow = swallow_second_node;
    w->nodes[1].trouble.capture_ms = SIM_HOLD_MS; /* outlives its hold */
    ck_assert(world_run_until(w, script_captured, 30 * SEC));
    ck_assert(has_none_of(w, 1));
    world_run(w, 30 * SEC);
    check_settled(w);
    world_free(w);
}
END_TEST

/* Longer than freeze_timeout, shorter than the lease and the hold: no wave is left out
 * for a time in which nobody asked it. */
START_TEST(waves_that_a_sleeping_coordinator_delays_have_their_share)
{
    struct world *w = started_relaxed(193);
    fatal = ROUND_FREEZING;
    w->on_round = pause_on_state;
    world_run(w, SIM_FREEZE_TIMEOUT_MS + 1500);
    ck_assert_int_eq(w->armed, 1);
    for (int i = 0; i < SIM_COORDS; i++)
        coord_pause(w, i, false);
    ck_assert(world_run_until(w, script_captured, 10 * SEC));
    for (int i = 0; i < SIM_NODES; i++)
        ck_assert(has_all_of(w, i));
    settle(w);
    world_free(w);
}
END_TEST

START_TEST(a_relaxed_set_is_taken_over_from_every_state)
{
    struct world *w = started_relaxed(200 + (uint64_t)_i);
    fatal = (enum round_state)_i;
    w->on_round = kill_on_state;
    world_run(w, 3 * SEC);
    ck_assert_int_eq(w->armed, 1);
    ck_assert(world_run_until(w, all_recorded, 40 * SEC));
    ck_assert_int_eq(script_captured(w), fatal >= ROUND_CAPTURING);
    settle(w);
    world_free(w);
}
END_TEST

/* Two have captured when the leader dies, and the third refuses. */
START_TEST(a_relaxed_set_is_rolled_forward_with_those_that_have_captured)
{
    struct world *w = started_relaxed(210);
    w->nodes[2].trouble.captures = 1;
    fatal = ROUND_RECORDING;
    w->on_round = kill_on_state;
    ck_assert(world_run_until(w, script_captured, 40 * SEC));
    ck_assert_int_eq(w->armed, 1);
    ck_assert(has_none_of(w, 2));
    ck_assert(has_all_of(w, 0));
    ck_assert(has_all_of(w, 1));
    settle(w);
    world_free(w);
}
END_TEST

START_TEST(a_relaxed_run_can_be_cancelled_in_every_state)
{
    struct world *w = started_relaxed(220 + (uint64_t)_i);
    fatal = (enum round_state)_i;
    w->on_round = cancel_on_state;
    ck_assert(world_run_until(w, all_recorded, 5 * SEC));
    ck_assert_int_eq(w->armed, 1);
    ck_assert_int_eq(script_aborted(w), fatal < ROUND_RECORDING);
    settle(w);
    world_free(w);
}
END_TEST

void script_add(struct TCase *tc)
{
    tcase_add_test(tc, a_set_is_captured_when_nothing_fails);
    tcase_add_test(tc, a_silent_agent_in_prepare_aborts_at_prepare_timeout);
    tcase_add_test(tc, a_silent_agent_in_freeze_aborts_at_freeze_timeout);
    tcase_add_test(tc, a_silent_agent_in_commit_aborts_after_the_hold);
    tcase_add_test(tc, a_silent_agent_in_abort_learns_the_verdict_when_it_registers);
    tcase_add_test(tc, one_capture_failing_out_of_three_aborts_and_leaks_nothing);
    tcase_add_loop_test(tc, a_capture_that_outlives_its_hold_is_late_and_removed, 0, 3);
    tcase_add_test(tc, a_hold_that_expires_before_the_commit_refuses_it);
    tcase_add_loop_test(tc, a_second_coordinator_takes_over_from_every_state,
                        ROUND_OPENING, ROUND_LOST);
    tcase_add_test(tc, a_silent_agent_in_inspect_aborts_at_inspect_timeout);
    tcase_add_loop_test(tc, a_leader_that_wakes_with_an_old_token_changes_nothing,
                        ROUND_PREPARING, ROUND_ABORTING);
    tcase_add_loop_test(tc, a_write_that_timed_out_but_was_done_is_read_back, 0, 25);
    tcase_add_loop_test(tc, lost_doubled_and_late_messages_change_nothing, 0, 20);
    tcase_add_loop_test(tc, keeper_or_doer_may_die_at_each_step, 0, 10);
    tcase_add_loop_test(tc, an_agent_may_die_at_each_step, 0, 4);
    tcase_add_loop_test(tc, a_node_that_loses_all_its_processes_thaws_on_restart, 0, 2);
    tcase_add_test(tc, a_promise_is_withdrawn_durably_before_its_capture_goes);
    tcase_add_loop_test(tc, a_run_can_be_cancelled_in_every_state, ROUND_PREPARING,
                        ROUND_ABORTING);
    tcase_add_loop_test(tc, a_run_can_be_cancelled_in_every_state, ROUND_OPENING,
                        ROUND_INSPECTING);
    tcase_add_test(tc, a_run_can_be_cancelled_while_it_is_taken_over);
    tcase_add_test(tc, a_watch_from_a_compacted_revision_lists_again);
    tcase_add_test(tc, waves_freeze_one_after_the_other);
    tcase_add_test(tc, a_silent_agent_is_left_out_of_a_relaxed_set);
    tcase_add_test(tc, a_capture_that_nobody_answered_for_goes_when_its_node_registers);
    tcase_add_test(tc, waves_that_a_sleeping_coordinator_delays_have_their_share);
    tcase_add_loop_test(tc, a_relaxed_set_is_taken_over_from_every_state, ROUND_PREPARING,
                        ROUND_ABORTING);
    tcase_add_test(tc, a_relaxed_set_is_rolled_forward_with_those_that_have_captured);
    tcase_add_loop_test(tc, a_relaxed_run_can_be_cancelled_in_every_state,
                        ROUND_PREPARING, ROUND_ABORTING);
}
