/* Rounds that go on without the nodes that fail, and rounds that freeze in waves. */
#include "tests/unit/flow/round_world.h"

/* ---- relaxed ---- */

/* Brings a relaxed round to `state`. */
static void relaxed_at(struct world *w, enum round_state state)
{
    begin_with(w, &(struct round_conf){.relaxed = true});
    if (state == ROUND_INSPECTING) {
        feed(w, (struct round_event){.kind = ROUND_EV_RECOVER});
        return;
    }
    feed(w, (struct round_event){.kind = ROUND_EV_START});
    stored(w, STORED_OK);
    if (state >= ROUND_FREEZING)
        all_yes(w, CALL_PREPARE);
    if (state >= ROUND_CAPTURING)
        all_yes(w, CALL_FREEZE);
    ck_assert_int_eq(w->round.sm.state, state);
}

static const enum round_call call_of[] = {[ROUND_INSPECTING] = CALL_INSPECT,
                                          [ROUND_PREPARING] = CALL_PREPARE,
                                          [ROUND_FREEZING] = CALL_FREEZE,
                                          [ROUND_CAPTURING] = CALL_COMMIT};

/* The cut without node 1: what its coordinator would have named. */
static void without_node_1(struct world *w)
{
    struct domain_epoch two[] = {w->cut.epochs[0], w->cut.epochs[2]};
    struct digest all;
    cut_digest(&w->cut.set, two, 2, &all);
    w->cut.proofs[0].epochs = w->cut.proofs[2].epochs = all;
}

static void ends_captured(struct world *w, size_t n_proofs)
{
    ck_assert_int_eq(w->round.sm.state, ROUND_RECORDING);
    ck_assert_uint_eq(count(w, ROUND_ACT_STORE_CAPTURED), 1);
    ck_assert_uint_eq(w->round.n_proofs, n_proofs);
    stored(w, STORED_OK);
    ck_assert_int_eq(w->round.sm.state, ROUND_CAPTURED);
    ck_assert_uint_eq(count(w, ROUND_ACT_FINISHED), 1);
}

START_TEST(a_node_that_refuses_is_aborted_and_the_others_go_on)
{
    struct world w;
    relaxed_at(&w, _i);
    no(&w, 1, call_of[_i], ERR_CONFLICT);
    ck_assert_int_eq(w.round.sm.state, _i);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), 1);
    ck_assert_uint_eq(calls_to(&w, CALL_ABORT, 1), 1);
    ck_assert(w.round.nodes[1].out);
    ck_assert_str_eq(w.round.nodes[1].error, "node 1 says no");
    if (_i <= ROUND_FREEZING)
        without_node_1(&w);
    for (enum round_state s = _i; s <= ROUND_CAPTURING; s++) {
        ck_assert_int_eq(w.round.sm.state, s);
        yes(&w, 0, call_of[s]);
        yes(&w, 2, call_of[s]);
    }
    /* Commit has named the epoch of a node that failed only then. */
    ck_assert_uint_eq(w.round.n_epochs, _i == ROUND_CAPTURING ? 3 : 2);
    ends_captured(&w, 2);
    end(&w);
}
END_TEST

START_TEST(a_node_that_is_silent_is_left_out_at_the_deadline)
{
    struct world w;
    static const int64_t after_ms[] = {[ROUND_PREPARING] = PREPARE_MS,
                                       [ROUND_FREEZING] = FREEZE_MS,
                                       [ROUND_CAPTURING] =
                                           HOLD_MS + ROUND_COMMIT_SLACK_MS};
    relaxed_at(&w, _i);
    yes(&w, 0, call_of[_i]);
    yes(&w, 2, call_of[_i]);
    timer(&w, 1000 + after_ms[_i] - 1);
    ck_assert_int_eq(w.round.sm.state, _i);
    timer(&w, 1000 + after_ms[_i]);
    ck_assert_int_eq(w.round.sm.state, _i + 1);
    ck_assert_uint_eq(calls_to(&w, CALL_ABORT, 1), 1);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), 1);
    ck_assert(w.round.nodes[1].out);
    end(&w);
}
END_TEST

START_TEST(a_late_answer_to_freeze_does_not_bring_a_node_back)
{
    struct world w;
    relaxed_at(&w, ROUND_FREEZING);
    without_node_1(&w);
    yes(&w, 0, CALL_FREEZE);
    yes(&w, 2, CALL_FREEZE);
    timer(&w, 1000 + FREEZE_MS);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), 2);
    yes(&w, 1, CALL_FREEZE);
    ck_assert_uint_eq(w.acts.n, 1); /* the timer */
    ck_assert_uint_eq(w.round.n_epochs, 2);
    yes(&w, 1, CALL_COMMIT);
    ck_assert_uint_eq(w.round.n_proofs, 0);
    yes(&w, 0, CALL_COMMIT);
    yes(&w, 2, CALL_COMMIT);
    ends_captured(&w, 2);
    end(&w);
}
END_TEST

START_TEST(proofs_of_another_cut_leave_their_node_out)
{
    struct world w;
    relaxed_at(&w, ROUND_CAPTURING);
    w.cut.proofs[1].epochs.b[0] ^= 1;
    all_yes(&w, CALL_COMMIT);
    ck_assert(w.round.nodes[1].out);
    ck_assert_str_eq(w.round.nodes[1].error,
                     "part 'n1/db': its digest is not that of the epochs of this cut");
    ends_captured(&w, 2);
    end(&w);
}
END_TEST

START_TEST(a_relaxed_set_without_members_aborts_and_says_why)
{
    struct world w;
    relaxed_at(&w, _i);
    for (size_t i = 0; i < CUT_NODES; i++)
        no(&w, i, call_of[_i], ERR_CONFLICT);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_ABORTED), 1);
    ck_assert_str_eq(w.round.error,
                     "no partition of the group can be taken: node 2 says no");
    all_yes(&w, CALL_ABORT);
    stored(&w, STORED_OK);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTED);
    end(&w);
}
END_TEST

START_TEST(a_node_that_is_out_is_told_until_the_set_is_recorded)
{
    struct world w;
    relaxed_at(&w, ROUND_CAPTURING);
    no(&w, 1, CALL_COMMIT, ERR_CONFLICT);
    no(&w, 1, CALL_ABORT, ERR_TIMEOUT);
    yes(&w, 0, CALL_COMMIT);
    yes(&w, 2, CALL_COMMIT);
    ck_assert_int_eq(w.round.sm.state, ROUND_RECORDING);
    timer(&w, 1000 + ROUND_RETRY_MS);
    ck_assert_uint_eq(calls_to(&w, CALL_ABORT, 1), 1);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), 1);
    no(&w, 1, CALL_ABORT, ERR_STALE_TOKEN); /* the store will tell */
    ck_assert_int_eq(w.round.sm.state, ROUND_RECORDING);
    stored(&w, STORED_OK);
    ck_assert_int_eq(w.round.sm.state, ROUND_CAPTURED);
    end(&w);
}
END_TEST

START_TEST(a_relaxed_set_is_rolled_forward_with_what_was_captured)
{
    struct world w;
    relaxed_at(&w, ROUND_INSPECTING);
    inspected(&w, 0, VIEW_CAPTURED);
    inspected(&w, 1, _i);
    ck_assert(w.round.nodes[1].out);
    ck_assert_uint_eq(calls_to(&w, CALL_ABORT, 1), 1);
    inspected(&w, 2, VIEW_CAPTURED);
    ends_captured(&w, 2);
    end(&w);
}
END_TEST

START_TEST(a_silent_node_is_left_out_of_a_relaxed_take_over)
{
    struct world w;
    relaxed_at(&w, ROUND_INSPECTING);
    inspected(&w, 0, VIEW_CAPTURED);
    inspected(&w, 2, VIEW_CAPTURED);
    timer(&w, 1000 + ROUND_INSPECT_TIMEOUT_MS);
    ends_captured(&w, 2);
    end(&w);
}
END_TEST

START_TEST(nothing_captured_is_nothing_to_roll_forward)
{
    struct world w;
    relaxed_at(&w, ROUND_INSPECTING);
    inspected(&w, 0, VIEW_FROZEN);
    inspected(&w, 1, VIEW_PREPARED);
    ck_assert_int_eq(w.round.sm.state, ROUND_INSPECTING);
    inspected(&w, 2, VIEW_ABORTED);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    end(&w);
}
END_TEST

START_TEST(a_relaxed_set_can_be_cancelled_until_it_is_recorded)
{
    struct world w;
    relaxed_at(&w, _i);
    no(&w, 1, call_of[_i], ERR_CONFLICT);
    ck_assert(round_can_cancel(&w.round));
    feed(&w, (struct round_event){.kind = ROUND_EV_CANCEL, .reason = "enough"});
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), CUT_NODES);
    end(&w);
}
END_TEST

static const bool second_required[] = {false, true, false};

START_TEST(a_relaxed_set_aborts_without_a_node_that_is_required)
{
    struct world w;
    begin_with(&w, &(struct round_conf){.relaxed = true, .required = second_required});
    feed(&w, (struct round_event){.kind = ROUND_EV_START});
    stored(&w, STORED_OK);
    no(&w, 0, CALL_PREPARE, ERR_CONFLICT);
    yes(&w, 1, CALL_PREPARE);
    yes(&w, 2, CALL_PREPARE);
    if (_i == CALL_COMMIT) {
        yes(&w, 1, CALL_FREEZE);
        yes(&w, 2, CALL_FREEZE);
    }
    no(&w, 1, (enum round_call)_i, ERR_CONFLICT);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    ck_assert_str_eq(w.round.error, "node 1 says no");
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_ABORTED), 1);
    end(&w);
}
END_TEST

START_TEST(a_take_over_needs_what_is_required)
{
    struct world w;
    begin_with(&w, &(struct round_conf){.relaxed = true, .required = second_required});
    feed(&w, (struct round_event){.kind = ROUND_EV_RECOVER});
    inspected(&w, 0, VIEW_CAPTURED);
    inspected(&w, 2, VIEW_CAPTURED);
    timer(&w, 1000 + ROUND_INSPECT_TIMEOUT_MS);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    end(&w);
}
END_TEST

/* ---- waves ---- */

static const uint16_t one_by_one[] = {1 << 0, 1 << 1, 1 << 2};
static const uint16_t last_first[] = {1 << 1, 1 << 1, 1 << 0};
static const uint16_t first_is_both_ends[] = {1 << 0 | 1 << 2, 1 << 1, 1 << 1};

static void waves_at_freeze(struct world *w, bool relaxed, const uint16_t *waves,
                            size_t n)
{
    begin_with(w, &(struct round_conf){.relaxed = relaxed, .waves = waves, .n_waves = n});
    feed(w, (struct round_event){.kind = ROUND_EV_START});
    stored(w, STORED_OK);
    all_yes(w, CALL_PREPARE);
    ck_assert_int_eq(w->round.sm.state, ROUND_FREEZING);
}

START_TEST(a_wave_is_frozen_when_all_of_the_one_before_stands)
{
    struct world w;
    waves_at_freeze(&w, _i, last_first, 2);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 1);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 2), 1);
    yes(&w, 2, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 2);
    yes(&w, 0, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), 0);
    yes(&w, 1, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), CUT_NODES); /* one Commit for all waves */
    end(&w);
}
END_TEST

START_TEST(the_waves_of_a_strict_set_share_freeze_timeout)
{
    struct world w;
    waves_at_freeze(&w, false, one_by_one, 3);
    ck_assert_int_eq(timer_at(&w), 1000 + FREEZE_MS);
    w.now_ms += FREEZE_MS - 1;
    yes(&w, 0, CALL_FREEZE);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 1), 1);
    timer(&w, 1000 + FREEZE_MS);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    end(&w);
}
END_TEST

START_TEST(a_silent_wave_of_a_relaxed_set_costs_the_next_nothing_of_its_share)
{
    struct world w;
    waves_at_freeze(&w, true, one_by_one, 3);
    timer(&w, 1000 + FREEZE_MS / 3);
    ck_assert(w.round.nodes[0].out);
    ck_assert_uint_eq(calls_to(&w, CALL_ABORT, 0), 1);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 1), 1);
    yes(&w, 1, CALL_FREEZE);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 2), 1);
    yes(&w, 2, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), 2);
    end(&w);
}
END_TEST

START_TEST(a_wave_of_which_nobody_is_left_is_passed_over)
{
    struct world w;
    begin_with(&w,
               &(struct round_conf){.relaxed = true, .waves = one_by_one, .n_waves = 3});
    feed(&w, (struct round_event){.kind = ROUND_EV_START});
    stored(&w, STORED_OK);
    no(&w, 0, CALL_PREPARE, ERR_CONFLICT);
    no(&w, 2, CALL_PREPARE, ERR_CONFLICT);
    yes(&w, 1, CALL_PREPARE);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 1);
    yes(&w, 1, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), 1);
    end(&w);
}
END_TEST

/* The answer of node 0 to Freeze of this wave. */
static void froze(struct world *w, size_t wave, size_t epoch)
{
    feed(w, (struct round_event){.kind = ROUND_EV_REPLY,
                                 .call = CALL_FREEZE,
                                 .wave = wave,
                                 .epochs = &w->cut.epochs[epoch],
                                 .n_epochs = 1});
}

START_TEST(a_node_is_asked_once_for_each_of_its_waves)
{
    struct world w;
    waves_at_freeze(&w, _i, first_is_both_ends, 3);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 1);
    froze(&w, 0, 0);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 2);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 0), 0);
    yes(&w, 1, CALL_FREEZE);
    yes(&w, 2, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 1);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 0), 1);
    ck_assert_uint_eq(w.acts.items[0].wave, 2);
    froze(&w, 0, 0); /* late: of the wave that stands */
    ck_assert_uint_eq(w.round.n_epochs, CUT_NODES);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), 0);
    froze(&w, 2, 0);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), CUT_NODES);
    ck_assert_uint_eq(w.round.n_epochs, CUT_NODES + 1);
    end(&w);
}
END_TEST

START_TEST(a_node_is_not_asked_for_a_wave_that_it_refused)
{
    struct world w;
    begin_with(&w, &(struct round_conf){
                       .relaxed = true, .waves = first_is_both_ends, .n_waves = 3});
    feed(&w, (struct round_event){.kind = ROUND_EV_START});
    stored(&w, STORED_OK);
    feed(&w, (struct round_event){
                 .kind = ROUND_EV_REPLY, .call = CALL_PREPARE, .refused_waves = 1 << 0});
    yes(&w, 1, CALL_PREPARE);
    yes(&w, 2, CALL_PREPARE);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 2);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 0), 0);
    yes(&w, 1, CALL_FREEZE);
    yes(&w, 2, CALL_FREEZE);
    ck_assert_uint_eq(calls_to(&w, CALL_FREEZE, 0), 1);
    end(&w);
}
END_TEST

START_TEST(waves_that_would_take_more_than_half_of_the_hold_are_refused)
{
    struct world w;
    bool too_long = _i;
    begin_with(&w, &(struct round_conf){.waves = last_first, .n_waves = 2});
    feed(&w, (struct round_event){.kind = ROUND_EV_START});
    stored(&w, STORED_OK);
    prepared(&w, 0, 2000);
    prepared(&w, 1, 10); /* beside node 0, whose pause is the longer one */
    prepared(&w, 2, HOLD_MS / 2 - 2000 + too_long);
    ck_assert_int_eq(w.round.sm.state, too_long ? ROUND_ABORTING : ROUND_FREEZING);
    if (too_long)
        ck_assert_str_eq(w.round.error,
                         "the pause over 2 waves is expected to take 5001 ms, more than "
                         "half of the hold limit (10000 ms); raise hold_limit or make "
                         "fewer waves");
    end(&w);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("round_relaxed");
    const int first = ROUND_PREPARING, last = ROUND_CAPTURING + 1;
    tcase_add_loop_test(tc, a_node_that_refuses_is_aborted_and_the_others_go_on, first,
                        last);
    tcase_add_loop_test(tc, a_node_that_is_silent_is_left_out_at_the_deadline, first,
                        last);
    tcase_add_test(tc, a_late_answer_to_freeze_does_not_bring_a_node_back);
    tcase_add_test(tc, proofs_of_another_cut_leave_their_node_out);
    tcase_add_loop_test(tc, a_relaxed_set_without_members_aborts_and_says_why, first,
                        last);
    tcase_add_test(tc, a_node_that_is_out_is_told_until_the_set_is_recorded);
    tcase_add_loop_test(tc, a_relaxed_set_is_rolled_forward_with_what_was_captured,
                        VIEW_UNKNOWN, VIEW_CAPTURED);
    tcase_add_test(tc, a_silent_node_is_left_out_of_a_relaxed_take_over);
    tcase_add_test(tc, nothing_captured_is_nothing_to_roll_forward);
    tcase_add_loop_test(tc, a_relaxed_set_can_be_cancelled_until_it_is_recorded, first,
                        last);
    tcase_add_loop_test(tc, a_relaxed_set_aborts_without_a_node_that_is_required,
                        CALL_FREEZE, CALL_COMMIT + 1);
    tcase_add_test(tc, a_take_over_needs_what_is_required);
    tcase_add_loop_test(tc, a_wave_is_frozen_when_all_of_the_one_before_stands, 0, 2);
    tcase_add_test(tc, the_waves_of_a_strict_set_share_freeze_timeout);
    tcase_add_test(tc,
                   a_silent_wave_of_a_relaxed_set_costs_the_next_nothing_of_its_share);
    tcase_add_test(tc, a_wave_of_which_nobody_is_left_is_passed_over);
    tcase_add_loop_test(tc, a_node_is_asked_once_for_each_of_its_waves, 0, 2);
    tcase_add_test(tc, a_node_is_not_asked_for_a_wave_that_it_refused);
    tcase_add_loop_test(tc, waves_that_would_take_more_than_half_of_the_hold_are_refused,
                        0, 2);
    return suite_main("round_relaxed", tc);
}
