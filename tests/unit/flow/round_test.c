#include "tests/unit/flow/round_world.h"

/* Brings a new round to `state`, which is not final. */
static void at(struct world *w, enum round_state state)
{
    begin(w);
    if (state == ROUND_INSPECTING) {
        feed(w, (struct round_event){.kind = ROUND_EV_RECOVER});
    } else if (state != ROUND_PLANNED) {
        feed(w, (struct round_event){.kind = ROUND_EV_START});
        if (state != ROUND_OPENING)
            stored(w, STORED_OK);
        if (state == ROUND_ABORTING)
            no(w, 0, CALL_PREPARE, ERR_CONFLICT);
        else if (state >= ROUND_FREEZING)
            all_yes(w, CALL_PREPARE);
        if (state == ROUND_CAPTURING || state == ROUND_RECORDING)
            all_yes(w, CALL_FREEZE);
        if (state == ROUND_RECORDING)
            all_yes(w, CALL_COMMIT);
    }
    ck_assert_int_eq(w->round.sm.state, state);
}

static const enum round_call call_of[] = {[ROUND_INSPECTING] = CALL_INSPECT,
                                          [ROUND_PREPARING] = CALL_PREPARE,
                                          [ROUND_FREEZING] = CALL_FREEZE,
                                          [ROUND_CAPTURING] = CALL_COMMIT};

START_TEST(nothing_is_sent_before_the_record_is_stored)
{
    struct world w;
    begin(&w);
    feed(&w, (struct round_event){.kind = ROUND_EV_START});
    ck_assert_uint_eq(w.acts.n, 1);
    ck_assert_int_eq(w.acts.items[0].kind, ROUND_ACT_STORE_OPEN);
    stored(&w, STORED_OK);
    ck_assert_uint_eq(calls(&w, CALL_PREPARE), CUT_NODES);
    end(&w);
}
END_TEST

START_TEST(each_phase_begins_when_every_node_has_answered_and_not_before)
{
    struct world w;
    at(&w, ROUND_PREPARING);
    yes(&w, 2, CALL_PREPARE);
    yes(&w, 0, CALL_PREPARE);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), 0);
    yes(&w, 1, CALL_PREPARE);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), CUT_NODES);
    yes(&w, 1, CALL_FREEZE);
    yes(&w, 2, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), 0);
    yes(&w, 0, CALL_FREEZE);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), CUT_NODES);
    ck_assert_int_eq(w.round.cut_unix_ms, UNIX_MS);
    yes(&w, 0, CALL_COMMIT);
    yes(&w, 1, CALL_COMMIT);
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_CAPTURED), 0);
    yes(&w, 2, CALL_COMMIT);
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_CAPTURED), 1);
    stored(&w, STORED_OK);
    ck_assert_uint_eq(count(&w, ROUND_ACT_FINISHED), 1);
    ck_assert_int_eq(w.round.sm.state, ROUND_CAPTURED);
    end(&w);
}
END_TEST

/* So that all stand still for about equally long. */
START_TEST(who_stood_still_first_is_told_to_commit_first)
{
    static const size_t order[] = {2, 0, 1};
    struct world w;
    at(&w, ROUND_FREEZING);
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        yes(&w, order[i], CALL_FREEZE);
    size_t n = 0;
    for (size_t i = 0; i < w.acts.n; i++)
        if (w.acts.items[i].kind == ROUND_ACT_CALL)
            ck_assert_uint_eq(w.acts.items[i].node, order[n++]);
    ck_assert_uint_eq(n, CUT_NODES);
    end(&w);
}
END_TEST

START_TEST(one_refusal_aborts_all)
{
    struct world w;
    at(&w, _i);
    no(&w, 1, call_of[_i], ERR_CONFLICT);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), CUT_NODES);
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_ABORTED), 1);
    ck_assert_str_eq(w.round.error, "node 1 says no");
    all_yes(&w, CALL_ABORT);
    ck_assert_uint_eq(count(&w, ROUND_ACT_FINISHED), 0);
    stored(&w, STORED_OK);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTED);
    end(&w);
}
END_TEST

START_TEST(an_agent_that_may_not_have_heard_is_asked_again)
{
    static const enum err_kind kinds[] = {ERR_TIMEOUT, ERR_UNAVAILABLE};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct world w;
        at(&w, _i);
        no(&w, 1, call_of[_i], kinds[i]);
        ck_assert_int_eq(w.round.sm.state, _i);
        ck_assert_int_eq(timer_at(&w), 1000 + ROUND_RETRY_MS);
        timer(&w, 1000 + ROUND_RETRY_MS - 1);
        ck_assert_uint_eq(calls(&w, call_of[_i]), 0);
        timer(&w, 1000 + ROUND_RETRY_MS);
        ck_assert_uint_eq(calls(&w, call_of[_i]), 1);
        ck_assert_uint_eq(w.acts.items[0].node, 1);
        end(&w);
    }
}
END_TEST

static const struct {
    enum round_state state;
    int64_t after_ms;
    const char *says;
} silences[] = {
    {ROUND_PREPARING, PREPARE_MS,
     "prepare_timeout passed before every agent was prepared"},
    {ROUND_FREEZING, FREEZE_MS, "freeze_timeout passed before every domain was frozen"},
    {ROUND_CAPTURING, HOLD_MS + ROUND_COMMIT_SLACK_MS,
     "hold_limit passed before every partition was captured"},
    {ROUND_INSPECTING, ROUND_INSPECT_TIMEOUT_MS,
     "the coordinator was replaced and an agent of the set did not answer; create the "
     "set again when all are back"},
};

START_TEST(a_silent_agent_aborts_the_set_at_the_deadline)
{
    struct world w;
    at(&w, silences[_i].state);
    timer(&w, 1000 + silences[_i].after_ms - 1);
    ck_assert_int_eq(w.round.sm.state, silences[_i].state);
    ck_assert_int_eq(timer_at(&w), 1000 + silences[_i].after_ms);
    timer(&w, 1000 + silences[_i].after_ms);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), CUT_NODES);
    ck_assert_str_eq(w.round.error, silences[_i].says);
    end(&w);
}
END_TEST

START_TEST(a_stale_token_means_that_somebody_else_decides)
{
    struct world w;
    at(&w, _i);
    no(&w, 0, call_of[_i], ERR_STALE_TOKEN);
    ck_assert_int_eq(w.round.sm.state, ROUND_LOST);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), 0);
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_ABORTED), 0);
    end(&w);
}
END_TEST

START_TEST(late_answers_of_an_earlier_phase_change_nothing)
{
    struct world w;
    at(&w, ROUND_CAPTURING);
    no(&w, 0, CALL_PREPARE, ERR_CONFLICT);
    yes(&w, 0, CALL_FREEZE);
    ck_assert_int_eq(w.round.sm.state, ROUND_CAPTURING);
    ck_assert_uint_eq(w.round.n_epochs, CUT_NODES);
    yes(&w, 0, CALL_COMMIT);
    yes(&w, 0, CALL_COMMIT);
    ck_assert_uint_eq(w.round.n_proofs, 1);
    end(&w);
}
END_TEST

START_TEST(proofs_of_another_cut_abort_the_set)
{
    struct world w;
    at(&w, ROUND_CAPTURING);
    w.cut.proofs[2].unbroken = false;
    all_yes(&w, CALL_COMMIT);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    ck_assert_str_eq(w.round.error,
                     "part 'n2/db': its hold was broken before the capture");
    end(&w);
}
END_TEST

START_TEST(a_proof_too_few_aborts_the_set)
{
    struct world w;
    at(&w, ROUND_CAPTURING);
    yes(&w, 0, CALL_COMMIT);
    yes(&w, 1, CALL_COMMIT);
    feed(&w, (struct round_event){
                 .kind = ROUND_EV_REPLY, .node = 2, .call = CALL_COMMIT, .n_proofs = 0});
    ck_assert_str_eq(w.round.error, "2 proofs for 3 partitions");
    end(&w);
}
END_TEST

/* What was stored when nobody knows, and where that leads. */
#define AGAIN (-1) /* the same state, and the write is repeated */
static const struct {
    enum round_state state;
    enum round_found found;
    int leads_to;
} read_backs[] = {
    {ROUND_OPENING, FOUND_NOTHING, AGAIN},
    {ROUND_OPENING, FOUND_PREPARING, ROUND_PREPARING},
    {ROUND_OPENING, FOUND_CAPTURED, ROUND_LOST},
    {ROUND_OPENING, FOUND_ABORTED, ROUND_LOST},
    {ROUND_OPENING, FOUND_LOST, ROUND_LOST},
    {ROUND_RECORDING, FOUND_PREPARING, AGAIN},
    {ROUND_RECORDING, FOUND_CAPTURED, ROUND_CAPTURED},
    {ROUND_RECORDING, FOUND_ABORTED, ROUND_LOST},
    {ROUND_RECORDING, FOUND_LOST, ROUND_LOST},
    {ROUND_ABORTING, FOUND_PREPARING, AGAIN},
    {ROUND_ABORTING, FOUND_ABORTED, ROUND_ABORTED},
    {ROUND_ABORTING, FOUND_CAPTURED, ROUND_LOST},
    {ROUND_ABORTING, FOUND_LOST, ROUND_LOST},
};

static const enum round_act_kind store_of[] = {
    [ROUND_OPENING] = ROUND_ACT_STORE_OPEN,
    [ROUND_RECORDING] = ROUND_ACT_STORE_CAPTURED,
    [ROUND_ABORTING] = ROUND_ACT_STORE_ABORTED,
};

START_TEST(an_unknown_write_is_read_back)
{
    enum round_state state = read_backs[_i].state;
    struct world w;
    at(&w, state);
    if (state == ROUND_ABORTING)
        all_yes(&w, CALL_ABORT);
    stored(&w, STORED_UNKNOWN);
    ck_assert_uint_eq(count(&w, ROUND_ACT_READ_BACK), 1);
    found(&w, FOUND_NO_IDEA);
    ck_assert_int_eq(timer_at(&w), 1000 + ROUND_STORE_RETRY_MS);
    timer(&w, 1000 + ROUND_STORE_RETRY_MS);
    ck_assert_uint_eq(count(&w, ROUND_ACT_READ_BACK), 1);
    ck_assert_uint_eq(count(&w, store_of[state]), 0);
    found(&w, read_backs[_i].found);
    if (read_backs[_i].leads_to == AGAIN) {
        ck_assert_uint_eq(count(&w, store_of[state]), 1);
        ck_assert_int_eq(w.round.sm.state, state);
    } else {
        ck_assert_int_eq(w.round.sm.state, read_backs[_i].leads_to);
    }
    end(&w);
}
END_TEST

START_TEST(a_conflicting_write_loses_the_round)
{
    static const enum round_state stores[] = {ROUND_OPENING, ROUND_RECORDING,
                                              ROUND_ABORTING};
    struct world w;
    at(&w, stores[_i]);
    stored(&w, STORED_CONFLICT);
    ck_assert_int_eq(w.round.sm.state, ROUND_LOST);
    ck_assert_uint_eq(count(&w, ROUND_ACT_FINISHED), 1);
    end(&w);
}
END_TEST

START_TEST(a_write_that_was_not_done_is_repeated)
{
    static const enum round_state stores[] = {ROUND_OPENING, ROUND_RECORDING,
                                              ROUND_ABORTING};
    struct world w;
    at(&w, stores[_i]);
    stored(&w, STORED_NOT_DONE);
    ck_assert_int_eq(timer_at(&w), 1000 + ROUND_STORE_RETRY_MS);
    timer(&w, 1000 + ROUND_STORE_RETRY_MS);
    ck_assert_uint_eq(count(&w, store_of[stores[_i]]), 1);
    end(&w);
}
END_TEST

static void cancel(struct world *w)
{
    feed(w, (struct round_event){.kind = ROUND_EV_CANCEL, .reason = "not today"});
}

START_TEST(a_cancel_before_the_commit_point_aborts_with_its_reason)
{
    struct world w;
    at(&w, _i);
    cancel(&w);
    if (_i == ROUND_OPENING) { /* a record that may exist is completed, then aborted */
        ck_assert_int_eq(w.round.sm.state, ROUND_OPENING);
        stored(&w, STORED_OK);
        ck_assert_uint_eq(calls(&w, CALL_PREPARE), 0);
    }
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), CUT_NODES);
    ck_assert_ptr_nonnull(strstr(w.round.error, "not today"));
    end(&w);
}
END_TEST

START_TEST(a_cancel_comes_too_late_once_recording_has_begun)
{
    struct world w;
    at(&w, ROUND_RECORDING);
    cancel(&w);
    ck_assert_int_eq(w.round.sm.state, ROUND_RECORDING);
    ck_assert_uint_eq(w.acts.n, 0);
    stored(&w, STORED_OK);
    ck_assert_int_eq(w.round.sm.state, ROUND_CAPTURED);
    end(&w);
}
END_TEST

START_TEST(a_cancel_of_what_is_aborting_keeps_the_first_reason)
{
    struct world w;
    at(&w, ROUND_ABORTING);
    cancel(&w);
    ck_assert_str_eq(w.round.error, "node 0 says no");
    ck_assert_uint_eq(calls(&w, CALL_ABORT), 0);
    end(&w);
}
END_TEST

START_TEST(a_lost_lock_ends_the_round_without_another_word)
{
    struct world w;
    at(&w, _i);
    feed(&w, (struct round_event){.kind = ROUND_EV_LOCK_LOST, .reason = "lease"});
    ck_assert_int_eq(w.round.sm.state, ROUND_LOST);
    ck_assert_uint_eq(w.acts.n, 1);
    ck_assert_int_eq(w.acts.items[0].kind, ROUND_ACT_FINISHED);
    timer(&w, 999999);
    ck_assert_uint_eq(w.acts.n, 0);
    end(&w);
}
END_TEST

START_TEST(an_abort_is_told_until_heard_or_given_up_but_never_before_it_is_recorded)
{
    struct world w;
    at(&w, ROUND_ABORTING);
    no(&w, 0, CALL_ABORT, ERR_UNAVAILABLE);
    timer(&w, 1000 + ROUND_RETRY_MS);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), 1);
    timer(&w, 1000 + ROUND_ABORT_TIMEOUT_MS);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    stored(&w, STORED_OK);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTED);
    end(&w);
}
END_TEST

START_TEST(a_lock_lost_after_the_abort_was_recorded_leaves_it_aborted)
{
    struct world w;
    at(&w, ROUND_ABORTING);
    stored(&w, STORED_OK);
    feed(&w, (struct round_event){.kind = ROUND_EV_LOCK_LOST, .reason = "lease"});
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTED);
    end(&w);
}
END_TEST

START_TEST(a_round_that_all_have_captured_is_rolled_forward)
{
    struct world w;
    at(&w, ROUND_INSPECTING);
    inspected(&w, 0, VIEW_CAPTURED);
    inspected(&w, 2, VIEW_CAPTURED);
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_CAPTURED), 0);
    inspected(&w, 1, VIEW_CAPTURED);
    ck_assert_uint_eq(count(&w, ROUND_ACT_STORE_CAPTURED), 1);
    ck_assert_int_eq(w.round.cut_unix_ms, w.cut.proofs[0].cut_unix_ms);
    stored(&w, STORED_OK);
    ck_assert_int_eq(w.round.sm.state, ROUND_CAPTURED);
    end(&w);
}
END_TEST

START_TEST(one_node_without_a_capture_aborts_what_was_taken_over)
{
    for (int view = VIEW_UNKNOWN; view <= VIEW_ABORTED; view++) {
        if (view == VIEW_CAPTURED)
            continue;
        struct world w;
        at(&w, ROUND_INSPECTING);
        inspected(&w, 0, VIEW_CAPTURED);
        inspected(&w, 1, (enum session_view)view);
        ck_assert_uint_eq(calls(&w, CALL_ABORT), CUT_NODES);
        end(&w);
    }
}
END_TEST

START_TEST(captures_of_different_cuts_are_not_rolled_forward)
{
    struct world w;
    at(&w, ROUND_INSPECTING);
    w.cut.proofs[1].epochs.b[0] ^= 1;
    for (size_t i = 0; i < CUT_NODES; i++)
        inspected(&w, i, VIEW_CAPTURED);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    end(&w);
}
END_TEST

/* Every domain has a proof, but of a fourth partition, which shares one, there is none.
 */
START_TEST(a_capture_too_few_is_not_rolled_forward)
{
    struct world w;
    at(&w, ROUND_INSPECTING);
    w.round.conf.n_parts = CUT_NODES + 1;
    for (size_t i = 0; i < CUT_NODES; i++)
        inspected(&w, i, VIEW_CAPTURED);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTING);
    end(&w);
}
END_TEST

/* ---- rehearsals ---- */

static void rehearse(struct world *w)
{
    begin(w);
    w->round.conf.rehearsal = true;
    feed(w, (struct round_event){.kind = ROUND_EV_START});
}

static bool stores(const struct world *w)
{
    return count(w, ROUND_ACT_STORE_OPEN) + count(w, ROUND_ACT_STORE_CAPTURED) +
               count(w, ROUND_ACT_STORE_ABORTED) + count(w, ROUND_ACT_READ_BACK) !=
           0;
}

START_TEST(a_rehearsal_freezes_all_and_ends_without_a_commit_or_a_record)
{
    struct world w;
    rehearse(&w);
    ck_assert(!stores(&w));
    ck_assert_uint_eq(calls(&w, CALL_PREPARE), CUT_NODES);
    all_yes(&w, CALL_PREPARE);
    ck_assert_uint_eq(calls(&w, CALL_FREEZE), CUT_NODES);
    for (size_t i = 0; i < CUT_NODES; i++) {
        ck_assert_uint_eq(calls(&w, CALL_ABORT), 0);
        yes(&w, i, CALL_FREEZE);
    }
    ck_assert_uint_eq(calls(&w, CALL_ABORT), CUT_NODES);
    ck_assert_uint_eq(calls(&w, CALL_COMMIT), 0);
    ck_assert(w.round.rehearsed && !stores(&w));
    all_yes(&w, CALL_ABORT);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTED);
    ck_assert(!stores(&w));
    ck_assert_uint_eq(count(&w, ROUND_ACT_FINISHED), 1);
    end(&w);
}
END_TEST

START_TEST(a_rehearsal_that_cannot_freeze_says_why_and_stores_nothing)
{
    struct world w;
    rehearse(&w);
    all_yes(&w, CALL_PREPARE);
    yes(&w, 0, CALL_FREEZE);
    no(&w, 1, CALL_FREEZE, ERR_CONFLICT);
    ck_assert_uint_eq(calls(&w, CALL_ABORT), CUT_NODES);
    ck_assert(!w.round.rehearsed && !stores(&w));
    ck_assert_ptr_nonnull(strstr(w.round.error, "node 1 says no"));
    all_yes(&w, CALL_ABORT);
    ck_assert_int_eq(w.round.sm.state, ROUND_ABORTED);
    end(&w);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("round");
    tcase_add_test(tc, a_rehearsal_freezes_all_and_ends_without_a_commit_or_a_record);
    tcase_add_test(tc, a_rehearsal_that_cannot_freeze_says_why_and_stores_nothing);
    tcase_add_test(tc, nothing_is_sent_before_the_record_is_stored);
    tcase_add_test(tc, each_phase_begins_when_every_node_has_answered_and_not_before);
    tcase_add_test(tc, who_stood_still_first_is_told_to_commit_first);
    tcase_add_loop_test(tc, one_refusal_aborts_all, ROUND_INSPECTING,
                        ROUND_CAPTURING + 1);
    tcase_add_loop_test(tc, an_agent_that_may_not_have_heard_is_asked_again,
                        ROUND_INSPECTING, ROUND_CAPTURING + 1);
    tcase_add_loop_test(tc, a_silent_agent_aborts_the_set_at_the_deadline, 0,
                        ARRAY_LEN(silences));
    tcase_add_loop_test(tc, a_stale_token_means_that_somebody_else_decides,
                        ROUND_INSPECTING, ROUND_CAPTURING + 1);
    tcase_add_test(tc, late_answers_of_an_earlier_phase_change_nothing);
    tcase_add_test(tc, proofs_of_another_cut_abort_the_set);
    tcase_add_test(tc, a_proof_too_few_aborts_the_set);
    tcase_add_loop_test(tc, an_unknown_write_is_read_back, 0, ARRAY_LEN(read_backs));
    tcase_add_loop_test(tc, a_conflicting_write_loses_the_round, 0, 3);
    tcase_add_loop_test(tc, a_write_that_was_not_done_is_repeated, 0, 3);
    tcase_add_loop_test(tc, a_cancel_before_the_commit_point_aborts_with_its_reason,
                        ROUND_OPENING, ROUND_CAPTURING + 1);
    tcase_add_test(tc, a_cancel_comes_too_late_once_recording_has_begun);
    tcase_add_test(tc, a_cancel_of_what_is_aborting_keeps_the_first_reason);
    tcase_add_loop_test(tc, a_lost_lock_ends_the_round_without_another_word,
                        ROUND_OPENING, ROUND_ABORTING + 1);
    tcase_add_test(
        tc, an_abort_is_told_until_heard_or_given_up_but_never_before_it_is_recorded);
    tcase_add_test(tc, a_lock_lost_after_the_abort_was_recorded_leaves_it_aborted);
    tcase_add_test(tc, a_round_that_all_have_captured_is_rolled_forward);
    tcase_add_test(tc, one_node_without_a_capture_aborts_what_was_taken_over);
    tcase_add_test(tc, captures_of_different_cuts_are_not_rolled_forward);
    tcase_add_test(tc, a_capture_too_few_is_not_rolled_forward);
    return suite_main("round", tc);
}
