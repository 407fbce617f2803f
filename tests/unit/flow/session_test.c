#include "agent/flow/session.h"

#include <string.h>

#include "tests/unit/flow/session_world.h"

START_TEST(every_promise_is_journaled_before_it_is_made)
{
    struct world w;
    begin(&w);
    request(&w, SESSION_EV_PREPARE);
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    ck_assert(!asks(&w, SESSION_ACT_ARM));
    journaled(&w);
    ck_assert(asks(&w, SESSION_ACT_ARM));
    ck_assert(!asks(&w, SESSION_ACT_REPLY));
    armed(&w, "");
    said_yes(&w);
    request(&w, SESSION_EV_FREEZE);
    ck_assert_msg(!asks(&w, SESSION_ACT_JOURNAL), "no disk while others stand still");
    ck_assert(asks(&w, SESSION_ACT_FREEZE));
    frozen(&w);
    said_yes(&w);
    request(&w, SESSION_EV_COMMIT);
    ck_assert_msg(!asks(&w, SESSION_ACT_JOURNAL), "no disk inside the hold");
    ck_assert(asks(&w, SESSION_ACT_COMMIT));
    committed(&w);
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    ck_assert(!asks(&w, SESSION_ACT_REPLY));
    journaled(&w);
    said_yes(&w);
    ck_assert_int_eq(state(&w), SESSION_CAPTURED);
    end(&w);
}
END_TEST

START_TEST(a_proof_names_the_epochs_of_all_members)
{
    struct world w;
    at(&w, SESSION_CAPTURED);
    const struct proof *p = &sessions_find(&w.s, &w.cut.set)->proofs[0];
    ck_assert(digest_equal(&p->epochs, &w.cut.proofs[0].epochs));
    ck_assert_int_eq(p->cut_unix_ms, 77);
    ck_assert_int_eq(token_compare(&p->token, &w.cut.token), TOKEN_SAME);
    end(&w);
}
END_TEST

START_TEST(a_rehearsal_is_never_captured)
{
    struct world w;
    at(&w, SESSION_FROZEN);
    sessions_find(&w.s, &w.cut.set)->rehearsal = true;
    request(&w, SESSION_EV_COMMIT);
    said_no(&w, ERR_CONFLICT, "is a rehearsal");
    ck_assert(!asks(&w, SESSION_ACT_COMMIT));
    ck_assert_int_eq(state(&w), SESSION_FROZEN);
    end(&w);
}
END_TEST

/* A drill is fenced like a command: under the token that froze the set, and no other. */
START_TEST(a_fault_is_for_a_frozen_set_and_its_token_only)
{
    struct world w;
    at(&w, SESSION_PREPARED);
    ck_err(sessions_check_frozen(&w.s, &w.cut.set, &w.cut.token), ERR_CONFLICT);
    end(&w);
    at(&w, SESSION_FROZEN);
    struct token token = w.cut.token;
    ck_ok(sessions_check_frozen(&w.s, &w.cut.set, &token));
    token.revision--;
    ck_err(sessions_check_frozen(&w.s, &w.cut.set, &token), ERR_STALE_TOKEN);
    token.revision += 2;
    ck_err(sessions_check_frozen(&w.s, &w.cut.set, &token), ERR_CONFLICT);
    ck_err(sessions_check_frozen(&w.s, &(struct set_id){"other"}, &w.cut.token),
           ERR_CONFLICT);
    end(&w);
    at(&w, SESSION_CAPTURED);
    ck_err(sessions_check_frozen(&w.s, &w.cut.set, &w.cut.token), ERR_CONFLICT);
    end(&w);
}
END_TEST

static void undone_with(struct world *w, int64_t frozen_ns, int64_t thawed_ns)
{
    struct session_part part = w->part;
    part.frozen_at_ns = frozen_ns;
    part.thawed_at_ns = thawed_ns;
    sessions_step(&w->s,
                  &(struct session_event){.kind = SESSION_EV_UNDONE,
                                          .set = w->cut.set,
                                          .parts = &part,
                                          .n_parts = frozen_ns != 0,
                                          .now_ns = 900},
                  &w->acts);
}

START_TEST(an_aborted_set_tells_how_long_it_was_frozen)
{
    struct world w;
    at(&w, SESSION_ABORTING);
    undone_with(&w, 100, 300);
    const struct session_part *p = &sessions_find(&w.s, &w.cut.set)->parts[0];
    ck_assert_int_eq(p->frozen_at_ns, 100);
    ck_assert_int_eq(p->thawed_at_ns, 300);
    ck_assert(!p->thawed_by_then);
    end(&w);
}
END_TEST

START_TEST(a_guardian_that_forgot_when_it_thawed_bounds_the_pause)
{
    struct world w;
    at(&w, SESSION_ABORTING);
    struct session_part *p = &sessions_find(&w.s, &w.cut.set)->parts[0];
    p->frozen_at_ns = 100;
    undone_with(&w, 0, 0);
    ck_assert_int_eq(p->thawed_at_ns, 900);
    ck_assert(p->thawed_by_then);
    end(&w);
}
END_TEST

/* ---- I7: repetitions ---- */

START_TEST(a_repeated_request_gets_the_recorded_answer_and_has_no_effect)
{
    static const struct {
        enum session_event_kind kind;
        enum session_state from;
    } repeats[] = {{SESSION_EV_PREPARE, SESSION_PREPARED},
                   {SESSION_EV_FREEZE, SESSION_FROZEN},
                   {SESSION_EV_COMMIT, SESSION_CAPTURED}};
    for (int s = (int)repeats[_i].from; s <= SESSION_CAPTURED; s++) {
        if (s == SESSION_JOURNALING || (s == SESSION_FREEZING && _i == 0))
            continue;
        struct world w;
        at(&w, (enum session_state)s);
        request(&w, repeats[_i].kind);
        said_yes(&w);
        ck_assert_int_eq(state(&w), s);
        ck_assert(!asks(&w, SESSION_ACT_ARM));
        ck_assert(!asks(&w, SESSION_ACT_FREEZE));
        ck_assert(!asks(&w, SESSION_ACT_COMMIT));
        end(&w);
    }
}
END_TEST

START_TEST(a_repetition_under_way_waits_for_the_one_answer)
{
    struct world w;
    at(&w, SESSION_FREEZING);
    uint64_t first = w.call;
    request(&w, SESSION_EV_FREEZE);
    const struct session_act *a = find_act(&w, SESSION_ACT_REPLY);
    ck_assert_uint_eq(a->call, first);
    ck_assert_int_eq(a->err->kind, ERR_UNAVAILABLE);
    ck_assert(!asks(&w, SESSION_ACT_FREEZE));
    frozen(&w);
    said_yes(&w);
    end(&w);
}
END_TEST

START_TEST(a_repeated_freeze_under_way_freezes_once)
{
    struct world w;
    at(&w, SESSION_PREPARED);
    request(&w, SESSION_EV_FREEZE);
    ck_assert(asks(&w, SESSION_ACT_FREEZE));
    request(&w, SESSION_EV_FREEZE);
    ck_assert(!asks(&w, SESSION_ACT_FREEZE));
    end(&w);
}
END_TEST

/* Its journal entry becomes durable while the guardian is freezing already. */
START_TEST(an_inspect_during_the_freeze_does_not_freeze_again)
{
    struct world w;
    at(&w, SESSION_FREEZING);
    request(&w, SESSION_EV_INSPECT);
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    journaled(&w);
    said_yes(&w);
    ck_assert(!asks(&w, SESSION_ACT_FREEZE));
    end(&w);
}
END_TEST

/* ---- I3: tokens ---- */

static struct token other_token(const struct world *w, int64_t revision, int incarnation)
{
    struct token t = {.revision = revision};
    memset(t.incarnation, incarnation, sizeof t.incarnation);
    (void)w;
    return t;
}

static const enum session_event_kind requests[] = {SESSION_EV_PREPARE, SESSION_EV_FREEZE,
                                                   SESSION_EV_COMMIT, SESSION_EV_ABORT,
                                                   SESSION_EV_INSPECT};

START_TEST(an_older_token_is_refused_by_every_request)
{
    struct world w;
    at(&w, SESSION_FROZEN);
    struct token older = other_token(&w, w.cut.token.revision - 1, 0x5a);
    request_as(&w, requests[_i], "s1", &older);
    said_no(&w, ERR_STALE_TOKEN, "newer than 6");
    ck_assert_uint_eq(w.acts.n, 1);
    ck_assert_int_eq(state(&w), SESSION_FROZEN);
    end(&w);
}
END_TEST

START_TEST(a_token_of_another_incarnation_is_refused_by_every_request)
{
    struct world w;
    at(&w, SESSION_FROZEN);
    struct token foreign = other_token(&w, 1000, 0x77);
    request_as(&w, requests[_i], "s1", &foreign);
    said_no(&w, ERR_CONFLICT, "incarnation is 7777");
    ck_assert_int_eq(state(&w), SESSION_FROZEN);
    request_as(&w, requests[_i], "unheard-of", &foreign);
    ck_assert_ptr_nonnull(find_act(&w, SESSION_ACT_REPLY)->err);
    ck_assert_uint_eq(w.s.n_sets, 1);
    end(&w);
}
END_TEST

START_TEST(a_newer_token_may_inspect_and_abort_only)
{
    struct world w;
    at(&w, SESSION_FROZEN);
    struct token newer = other_token(&w, w.cut.token.revision + 1, 0x5a);
    request_as(&w, requests[_i], "s1", &newer);
    if (requests[_i] == SESSION_EV_ABORT || requests[_i] == SESSION_EV_INSPECT) {
        ck_assert(asks(&w, SESSION_ACT_UNDO));
        ck_assert_int_eq(state(&w), SESSION_ABORTING);
        journaled(&w);
        undone(&w, NULL);
        journaled(&w);
        request(&w, SESSION_EV_COMMIT); /* the old coordinator's, late */
        said_no(&w, ERR_STALE_TOKEN, "newer than 7");
    } else {
        said_no(&w, ERR_CONFLICT, "prepared with another token");
        ck_assert_int_eq(state(&w), SESSION_FROZEN);
    }
    end(&w);
}
END_TEST

START_TEST(a_newer_token_may_inspect_a_capture_and_leaves_it)
{
    struct world w;
    at(&w, SESSION_CAPTURED);
    struct token newer = other_token(&w, w.cut.token.revision + 1, 0x5a);
    request_as(&w, SESSION_EV_INSPECT, "s1", &newer);
    ck_assert(!asks(&w, SESSION_ACT_REPLY));
    journaled(&w);
    said_yes(&w);
    ck_assert_int_eq(state(&w), SESSION_CAPTURED);
    request(&w, SESSION_EV_ABORT);
    said_no(&w, ERR_STALE_TOKEN, "newer than 7");
    end(&w);
}
END_TEST

/* An abort that overtakes its prepare must stop it. */
START_TEST(an_abort_of_an_unknown_set_fences_its_prepare)
{
    struct world w;
    begin(&w);
    request(&w, SESSION_EV_ABORT);
    journaled(&w);
    said_yes(&w);
    request(&w, SESSION_EV_PREPARE);
    said_no(&w, ERR_CONFLICT, "not prepared on this node");
    end(&w);
}
END_TEST

START_TEST(two_sets_never_share_a_domain)
{
    struct world w;
    at(&w, SESSION_PREPARED);
    request_as(&w, SESSION_EV_PREPARE, "s2", &w.cut.token);
    said_no(&w, ERR_CONFLICT, "in use by set 's1'");
    end(&w);
    at(&w, SESSION_CAPTURED); /* its domain has thawed */
    request_as(&w, SESSION_EV_PREPARE, "s2", &w.cut.token);
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    end(&w);
}
END_TEST

START_TEST(requests_out_of_turn_are_refused)
{
    struct world w;
    begin(&w);
    request(&w, SESSION_EV_FREEZE);
    said_no(&w, ERR_CONFLICT, "never prepared");
    request(&w, SESSION_EV_COMMIT);
    said_no(&w, ERR_CONFLICT, "never frozen");
    end(&w);
    at(&w, SESSION_ARMING);
    request(&w, SESSION_EV_FREEZE);
    said_no(&w, ERR_CONFLICT, "still being prepared");
    end(&w);
    at(&w, SESSION_PREPARED);
    request(&w, SESSION_EV_COMMIT);
    said_no(&w, ERR_CONFLICT, "not frozen");
    end(&w);
}
END_TEST

START_TEST(a_commit_must_name_this_nodes_epoch)
{
    struct world w;
    at(&w, SESSION_FROZEN);
    w.cut.epochs[0].epoch.b[3] ^= 1;
    request(&w, SESSION_EV_COMMIT);
    said_no(&w, ERR_CONFLICT, "does not name the epoch of domain 'n0/cgroup:db'");
    ck_assert_int_eq(state(&w), SESSION_FROZEN);
    end(&w);
}
END_TEST

START_TEST(a_partition_that_cannot_be_armed_refuses_the_prepare_and_is_undone)
{
    struct world w;
    at(&w, SESSION_ARMING);
    armed(&w, "its disk is full");
    said_no(&w, ERR_CONFLICT, "partition 'db': its disk is full");
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    end(&w);
}
END_TEST

/* ---- restarts ---- */

START_TEST(what_was_under_way_at_a_restart_is_undone_and_never_frozen_again)
{
    struct world w;
    at(&w, _i);
    sessions_restarted(&w.s, &w.acts);
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    ck_assert(!asks(&w, SESSION_ACT_FREEZE));
    request(&w, SESSION_EV_FREEZE);
    said_no(&w, ERR_CONFLICT, "the agent restarted during the round");
    journaled(&w);
    undone(&w, NULL);
    journaled(&w);
    request(&w, SESSION_EV_FREEZE);
    said_no(&w, ERR_CONFLICT, "the agent restarted during the round");
    end(&w);
}
END_TEST

START_TEST(a_capture_outlives_a_restart)
{
    struct world w;
    at(&w, SESSION_CAPTURED);
    sessions_restarted(&w.s, &w.acts);
    ck_assert_uint_eq(w.acts.n, 0);
    request(&w, SESSION_EV_COMMIT);
    said_yes(&w);
    end(&w);
}
END_TEST

START_TEST(a_lost_guardian_undoes_what_it_held)
{
    struct world w;
    at(&w, _i);
    sessions_step(&w.s, &(struct session_event){.kind = SESSION_EV_GUARD_LOST}, &w.acts);
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    ck_assert_int_eq(state(&w), SESSION_ABORTING);
    end(&w);
}
END_TEST

/* ---- undoing ---- */

START_TEST(a_promised_capture_is_withdrawn_durably_before_it_is_removed)
{
    struct world w;
    at(&w, SESSION_CAPTURED);
    request(&w, SESSION_EV_ABORT);
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    ck_assert(!asks(&w, SESSION_ACT_UNDO));
    journaled(&w);
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    ck_assert(!asks(&w, SESSION_ACT_REPLY));
    undone(&w, NULL);
    journaled(&w);
    said_yes(&w);
    end(&w);
}
END_TEST

START_TEST(what_is_frozen_is_thawed_without_waiting_for_the_disk)
{
    struct world w;
    at(&w, SESSION_FROZEN);
    request(&w, SESSION_EV_ABORT);
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    end(&w);
}
END_TEST

START_TEST(an_undo_that_failed_is_asked_for_again)
{
    struct world w;
    at(&w, SESSION_ABORTING);
    journaled(&w);
    AUTO(err) struct err *e = err_new(ERR_IO, "busy");
    undone(&w, e);
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    ck_assert_int_eq(state(&w), SESSION_ABORTING);
    end(&w);
}
END_TEST

/* The record's verdict is final, whatever tokens have been here since. */
START_TEST(the_verdict_removes_a_capture_without_a_token)
{
    struct world w;
    at(&w, SESSION_CAPTURED);
    struct token newer = other_token(&w, 1000, 0x5a);
    request_as(&w, SESSION_EV_PREPARE, "s2", &newer);
    const struct session_event verdict = {.kind = SESSION_EV_VERDICT, .set = w.cut.set};
    sessions_step(&w.s, &verdict, &w.acts);
    ck_assert_int_eq(state(&w), SESSION_ABORTING);
    ck_assert(!asks(&w, SESSION_ACT_UNDO));
    journaled(&w);
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    undone(&w, NULL);
    sessions_step(&w.s, &verdict, &w.acts);
    ck_assert_uint_eq(w.acts.n, 0);
    end(&w);
}
END_TEST

START_TEST(a_release_forgets_captured_sets_only)
{
    struct world w;
    const struct session_event release = {.kind = SESSION_EV_RELEASE, .set = {"s1"}};
    at(&w, SESSION_FROZEN);
    sessions_step(&w.s, &release, &w.acts);
    ck_assert_int_eq(state(&w), SESSION_FROZEN);
    end(&w);
    at(&w, SESSION_CAPTURED);
    sessions_step(&w.s, &release, &w.acts);
    ck_assert_ptr_null(sessions_find(&w.s, &w.cut.set));
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    end(&w);
}
END_TEST

START_TEST(a_full_table_refuses_and_forgets_aborted_sets_only)
{
    struct world w;
    begin(&w);
    char name[NAME_BYTES];
    for (int i = 0; i < SESSION_MAX_SETS; i++) {
        snprintf(name, sizeof name, "old%d", i);
        request_as(&w, SESSION_EV_ABORT, name, &w.cut.token);
    }
    request(&w, SESSION_EV_PREPARE);
    said_no(&w, ERR_LIMIT, "64 sets are open");
    journaled(&w);
    request(&w, SESSION_EV_PREPARE);
    ck_assert(asks(&w, SESSION_ACT_JOURNAL));
    ck_assert_uint_eq(w.s.n_sets, SESSION_MAX_SETS);
    ck_assert_ptr_null(sessions_find(&w.s, &(struct set_id){"old0"}));
    end(&w);
}
END_TEST

/* Two partitions, of which the first cannot be armed. */
static void prepare_two(struct world *w, bool relaxed, const char *second_error)
{
    struct session_part parts[2] = {w->part, w->part};
    strcpy(parts[0].part.text, "log");
    strcpy(parts[0].domain.text, "n0/cgroup:log");
    struct session_event ev = {.kind = SESSION_EV_PREPARE,
                               .call = ++w->call,
                               .set = w->cut.set,
                               .token = w->cut.token,
                               .parts = parts,
                               .n_parts = 2,
                               .relaxed = relaxed};
    sessions_step(&w->s, &ev, &w->acts);
    journaled(w);
    strcpy(parts[0].error, "its disk is full");
    strcpy(parts[1].error, second_error);
    sessions_step(
        &w->s,
        &(struct session_event){
            .kind = SESSION_EV_ARMED, .set = w->cut.set, .parts = parts, .n_parts = 2},
        &w->acts);
}

START_TEST(a_relaxed_set_goes_on_without_what_cannot_be_armed)
{
    struct world w;
    begin(&w);
    prepare_two(&w, true, "");
    said_yes(&w);
    const struct session *set = sessions_find(&w.s, &w.cut.set);
    ck_assert_uint_eq(set->n_parts, 1);
    ck_assert_str_eq(set->parts[0].part.text, "db");
    ck_assert_uint_eq(set->n_refused, 1);
    ck_assert_str_eq(set->refused[0].part.text, "log");
    ck_assert_str_eq(set->refused[0].error, "its disk is full");
    request(&w, SESSION_EV_PREPARE); /* I7: the same answer */
    said_yes(&w);
    ck_assert_uint_eq(set->n_refused, 1);
    request(&w, SESSION_EV_FREEZE);
    journaled(&w);
    frozen(&w);
    request(&w, SESSION_EV_COMMIT);
    committed(&w); /* one proof is all of it */
    journaled(&w);
    said_yes(&w);
    ck_assert_int_eq(state(&w), SESSION_CAPTURED);
    end(&w);
}
END_TEST

START_TEST(a_strict_set_or_one_without_partitions_is_refused)
{
    struct world w;
    bool relaxed = _i;
    begin(&w);
    prepare_two(&w, relaxed, relaxed ? "its disk is gone" : "");
    const struct session_act *a = find_act(&w, SESSION_ACT_REPLY);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(a->err);
    ck_assert_int_eq(a->err->kind, ERR_CONFLICT);
    ck_assert_int_eq(state(&w), SESSION_ABORTING);
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    end(&w);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("session");
    tcase_add_test(tc, every_promise_is_journaled_before_it_is_made);
    tcase_add_test(tc, a_proof_names_the_epochs_of_all_members);
    tcase_add_test(tc, a_rehearsal_is_never_captured);
    tcase_add_test(tc, a_fault_is_for_a_frozen_set_and_its_token_only);
    tcase_add_test(tc, an_aborted_set_tells_how_long_it_was_frozen);
    tcase_add_test(tc, a_guardian_that_forgot_when_it_thawed_bounds_the_pause);
    tcase_add_loop_test(tc, a_repeated_request_gets_the_recorded_answer_and_has_no_effect,
                        0, 3);
    tcase_add_test(tc, a_repetition_under_way_waits_for_the_one_answer);
    tcase_add_test(tc, a_repeated_freeze_under_way_freezes_once);
    tcase_add_test(tc, an_inspect_during_the_freeze_does_not_freeze_again);
    tcase_add_loop_test(tc, an_older_token_is_refused_by_every_request, 0, 5);
    tcase_add_loop_test(tc, a_token_of_another_incarnation_is_refused_by_every_request, 0,
                        5);
    tcase_add_loop_test(tc, a_newer_token_may_inspect_and_abort_only, 0, 5);
    tcase_add_test(tc, a_newer_token_may_inspect_a_capture_and_leaves_it);
    tcase_add_test(tc, an_abort_of_an_unknown_set_fences_its_prepare);
    tcase_add_test(tc, two_sets_never_share_a_domain);
    tcase_add_test(tc, requests_out_of_turn_are_refused);
    tcase_add_test(tc, a_commit_must_name_this_nodes_epoch);
    tcase_add_test(tc,
                   a_partition_that_cannot_be_armed_refuses_the_prepare_and_is_undone);
    tcase_add_loop_test(tc,
                        what_was_under_way_at_a_restart_is_undone_and_never_frozen_again,
                        SESSION_NEW, SESSION_COMMITTING + 1);
    tcase_add_test(tc, a_capture_outlives_a_restart);
    tcase_add_loop_test(tc, a_lost_guardian_undoes_what_it_held, SESSION_ARMING,
                        SESSION_COMMITTING + 1);
    tcase_add_test(tc, a_promised_capture_is_withdrawn_durably_before_it_is_removed);
    tcase_add_test(tc, what_is_frozen_is_thawed_without_waiting_for_the_disk);
    tcase_add_test(tc, an_undo_that_failed_is_asked_for_again);
    tcase_add_test(tc, the_verdict_removes_a_capture_without_a_token);
    tcase_add_test(tc, a_release_forgets_captured_sets_only);
    tcase_add_test(tc, a_full_table_refuses_and_forgets_aborted_sets_only);
    tcase_add_test(tc, a_relaxed_set_goes_on_without_what_cannot_be_armed);
    tcase_add_loop_test(tc, a_strict_set_or_one_without_partitions_is_refused, 0, 2);
    return suite_main("session", tc);
}
