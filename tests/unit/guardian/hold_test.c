#include "agent/flow/hold.h"

#include <string.h>

#include "tests/unit/guardian/hold_world.h"

START_TEST(a_hold_without_trouble_keeps_its_capture)
{
    struct world w;
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    ck_assert(did(&w, HOLD_DO_RECHECK, 0));
    report(&w, HOLD_EV_RECHECKED, 0, true);
    ck_assert(did(&w, HOLD_THAW, 0));
    ck_assert(!answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert(did(&w, HOLD_DO_PUBLISH, 0));
    report(&w, HOLD_EV_PUBLISHED, 0, true);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    ck_assert(hold_member_is_kept(&w.hold, 0));
    ck_assert(hold_is_settled(&w.hold));
}
END_TEST

START_TEST(hooks_then_cgroups_then_filesystems_and_back)
{
    struct world w;
    const enum hold_kind kinds[] = {HOLD_FSFREEZE, HOLD_CGROUP, HOLD_HOOK, HOLD_CGROUP};
    armed(&w, kinds, 4, (uint16_t[]){0, 1, 2, 3}, 4);
    ask_freeze(&w);
    static const unsigned order[] = {2, 1, 3, 0};
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(count(&w, HOLD_DO_FREEZE), 1);
        ck_assert(did(&w, HOLD_DO_FREEZE, order[i]));
        report_frozen(&w, order[i]);
    }
    step(&w, (struct hold_event){.kind = HOLD_EV_ABORT});
    ck_assert_uint_eq(count(&w, HOLD_THAW), 4);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(w.acts.items[i].index, order[3 - i]);
    for (unsigned i = 0; i < 4; i++)
        report(&w, HOLD_EV_THAWED, order[3 - i], true);
    ck_assert(answered(&w, HOLD_REQ_ABORT, HOLD_OK));
}
END_TEST

START_TEST(a_repeated_freeze_is_answered_and_never_freezes_again)
{
    struct world w;
    frozen_one(&w);
    struct epoch first = w.hold.domains[0].epoch;
    int64_t deadline = hold_timer_ms(&w.hold);
    w.now_ms += 3000;
    ask_freeze(&w);
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
    ck_assert_uint_eq(count(&w, HOLD_DO_FREEZE), 0);
    ck_assert_mem_eq(&first, &w.hold.domains[0].epoch, sizeof(first));
    ck_assert_int_eq(hold_timer_ms(&w.hold), deadline);
    w.now_ms = deadline;
    step(&w, (struct hold_event){.kind = HOLD_EV_TIMER});
    ask_freeze(&w);
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
    ck_assert_uint_eq(count(&w, HOLD_DO_FREEZE), 0);
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_EXPIRED);
}
END_TEST

/* Only the domain of this bit. */
static void ask_freeze_of(struct world *w, unsigned domain)
{
    bool domains[HOLD_MAX_DOMAINS] = {false};
    domains[domain] = true;
    step(w, (struct hold_event){.kind = HOLD_EV_FREEZE,
                                .domains = domains,
                                .hold_ms = 10000,
                                .freeze_timeout_ms = 5000});
}

/* Of two cgroups the second stands. */
static void one_of_two(struct world *w, enum hold_kind first, enum hold_kind second)
{
    armed(w, (enum hold_kind[]){first, second}, 2, (uint16_t[]){0, 1}, 2);
    ask_freeze_of(w, 1);
    ck_assert(did(w, HOLD_DO_FREEZE, 1));
    report_frozen(w, 1);
    ck_assert(answered(w, HOLD_REQ_FREEZE, HOLD_OK));
    ck_assert_uint_eq(count(w, HOLD_DO_FREEZE), 0);
}

START_TEST(a_second_freeze_freezes_what_the_first_did_not_name)
{
    struct world w;
    one_of_two(&w, HOLD_CGROUP, HOLD_CGROUP);
    struct epoch first = w.hold.domains[1].epoch;
    w.now_ms += 1000;
    ask_commit(&w, 2); /* not all of it stands */
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OUT_OF_TURN));
    ask_freeze_of(&w, 0);
    ck_assert_uint_eq(count(&w, HOLD_DO_FREEZE), 1);
    ck_assert(did(&w, HOLD_DO_FREEZE, 0));
    ck_assert(!answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
    report_frozen(&w, 0);
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
    ck_assert_mem_eq(&first, &w.hold.domains[1].epoch, sizeof(first));
    ck_assert_int_eq(hold_timer_ms(&w.hold), 11000); /* of the first request */
    ask_commit(&w, 2);
    ck_assert(count(&w, HOLD_DO_CAPTURE));
}
END_TEST

START_TEST(a_second_freeze_that_fails_leaves_the_first_to_the_agent)
{
    struct world w;
    one_of_two(&w, HOLD_CGROUP, HOLD_CGROUP);
    ask_freeze_of(&w, 0);
    report(&w, HOLD_EV_FROZEN, 0, false);
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_NOT_FROZEN);
    ck_assert_int_eq(w.hold.domains[1].breach, HOLD_UNBROKEN);
    step(&w, (struct hold_event){.kind = HOLD_EV_ABORT});
    ck_assert(did(&w, HOLD_THAW, 1));
}
END_TEST

START_TEST(a_late_second_freeze_spares_what_nobody_asked_for)
{
    struct world w;
    const enum hold_kind kinds[] = {HOLD_CGROUP, HOLD_CGROUP, HOLD_CGROUP};
    armed(&w, kinds, 3, (uint16_t[]){0, 1, 2}, 3);
    ask_freeze_of(&w, 0);
    report_frozen(&w, 0);
    ask_freeze_of(&w, 1);
    w.now_ms += 5000;
    step(&w, (struct hold_event){.kind = HOLD_EV_TIMER});
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_UNBROKEN);
    ck_assert_int_eq(w.hold.domains[1].breach, HOLD_FREEZE_LATE);
    ck_assert_int_eq(w.hold.domains[2].breach, HOLD_UNBROKEN);
    ck_assert_int_eq(w.hold.domains[2].sm.state, HOLD_D_IDLE);
}
END_TEST

START_TEST(a_hold_that_expires_between_two_freezes_refuses_the_second)
{
    struct world w;
    one_of_two(&w, HOLD_CGROUP, HOLD_CGROUP);
    w.now_ms = 11000;
    ask_freeze_of(&w, 0);
    ck_assert(did(&w, HOLD_THAW, 1));
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OVER));
    ck_assert_uint_eq(count(&w, HOLD_DO_FREEZE), 0);
}
END_TEST

START_TEST(nothing_but_filesystems_freezes_while_one_stands)
{
    struct world w;
    bool also = _i;
    one_of_two(&w, also ? HOLD_FSFREEZE : HOLD_CGROUP, HOLD_FSFREEZE);
    ask_freeze_of(&w, 0);
    ck_assert_uint_eq(count(&w, HOLD_DO_FREEZE), also);
    ck_assert(also || answered(&w, HOLD_REQ_FREEZE, HOLD_OUT_OF_TURN));
    ck_assert_int_eq(w.hold.domains[1].breach, HOLD_UNBROKEN);
}
END_TEST

START_TEST(the_clock_starts_with_the_request_and_not_with_the_freeze)
{
    struct world w;
    armed(&w, (enum hold_kind[]){HOLD_FSFREEZE}, 1, (uint16_t[]){0}, 1);
    ck_assert_int_eq(hold_timer_ms(&w.hold), HOLD_NO_TIMER);
    ask_freeze(&w);
    ck_assert_int_eq(hold_timer_ms(&w.hold), 6000);
    w.now_ms = 5500;
    report_frozen(&w, 0);
    ck_assert_int_eq(hold_timer_ms(&w.hold), 11000);
}
END_TEST

START_TEST(expiry_breaks_the_epoch_then_thaws_and_refuses_the_commit)
{
    struct world w;
    frozen_one(&w);
    w.now_ms = 10999;
    step(&w, (struct hold_event){.kind = HOLD_EV_TIMER});
    ck_assert_uint_eq(w.acts.n, 0);
    w.now_ms = 11000;
    step(&w, (struct hold_event){.kind = HOLD_EV_TIMER});
    ck_assert(did(&w, HOLD_THAW, 0));
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_EXPIRED);
    ask_commit(&w, 1);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OVER));
    ck_assert_uint_eq(count(&w, HOLD_DO_CAPTURE), 0);
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert_int_eq(w.hold.sm.state, HOLD_ENDED);
    ck_assert(hold_is_settled(&w.hold));
}
END_TEST

START_TEST(a_commit_at_the_deadline_is_too_late_without_any_timer)
{
    struct world w;
    frozen_one(&w);
    w.now_ms = 11000;
    ask_commit(&w, 1);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OVER));
    ck_assert(did(&w, HOLD_THAW, 0));
    ck_assert_uint_eq(count(&w, HOLD_DO_CAPTURE), 0);
}
END_TEST

START_TEST(a_capture_that_outlives_the_hold_is_late_and_removed)
{
    struct world w;
    capturing_one(&w);
    w.now_ms = 11000;
    report(&w, HOLD_EV_CAPTURED, 0, true); /* the result itself is past the deadline */
    ck_assert(did(&w, HOLD_THAW, 0));
    ck_assert(did(&w, HOLD_KILL_DOER, 0));
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    ck_assert(w.hold.members[0].late);
    ck_assert(!hold_member_is_kept(&w.hold, 0));
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert_uint_eq(count(&w, HOLD_DO_REMOVE), 0);
    ck_assert(!hold_is_settled(&w.hold));
    step(&w, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
    step(&w, (struct hold_event){.kind = HOLD_EV_DOER_READY});
    ck_assert(did(&w, HOLD_DO_REMOVE, 0));
    report(&w, HOLD_EV_REMOVED, 0, true);
    ck_assert(hold_is_settled(&w.hold));
}
END_TEST

START_TEST(expiry_between_capture_and_recheck_loses_the_capture)
{
    struct world w;
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    w.now_ms = 11000;
    report(&w, HOLD_EV_RECHECKED, 0, true);
    ck_assert(did(&w, HOLD_THAW, 0));
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_EXPIRED);
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert_int_eq(w.hold.members[0].sm.state, HOLD_M_LOST);
}
END_TEST

START_TEST(a_domain_that_was_let_go_in_time_survives_the_expiry_of_another)
{
    struct world w;
    armed(&w, (enum hold_kind[]){HOLD_CGROUP, HOLD_FSFREEZE}, 2, (uint16_t[]){0, 1}, 2);
    ask_freeze(&w);
    report_frozen(&w, 0);
    report_frozen(&w, 1);
    ask_commit(&w, 2);
    ck_assert(did(&w, HOLD_DO_CAPTURE, 1)); /* the filesystem first */
    report(&w, HOLD_EV_CAPTURED, 1, true);
    report(&w, HOLD_EV_RECHECKED, 1, true);
    ck_assert(did(&w, HOLD_THAW, 1)); /* not waiting for the cgroup's capture */
    ck_assert(did(&w, HOLD_DO_CAPTURE, 0));
    report(&w, HOLD_EV_THAWED, 1, true);
    w.now_ms = 11000;
    step(&w, (struct hold_event){.kind = HOLD_EV_TIMER});
    ck_assert(did(&w, HOLD_THAW, 0));
    ck_assert(did(&w, HOLD_KILL_DOER, 0));
    report(&w, HOLD_EV_THAWED, 0, true);
    step(&w, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
    step(&w, (struct hold_event){.kind = HOLD_EV_DOER_READY});
    ck_assert(did(&w, HOLD_DO_PUBLISH, 1));
    report(&w, HOLD_EV_PUBLISHED, 1, true);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    ck_assert(hold_member_is_kept(&w.hold, 1));
    ck_assert(!hold_member_is_kept(&w.hold, 0));
    ck_assert(did(&w, HOLD_DO_REMOVE, 0));
}
END_TEST

START_TEST(a_foreign_thaw_shows_in_our_own_and_loses_the_capture)
{
    struct world w;
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    report(&w, HOLD_EV_RECHECKED, 0, true);
    step(&w,
         (struct hold_event){.kind = HOLD_EV_THAWED, .ok = true, .was_frozen = false});
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_DISTURBED);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    ck_assert(!hold_member_is_kept(&w.hold, 0));
    ck_assert(did(&w, HOLD_DO_REMOVE, 0));
}
END_TEST

START_TEST(a_failed_recheck_loses_the_capture_and_thaws)
{
    struct world w;
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    report(&w, HOLD_EV_RECHECKED, 0, false);
    ck_assert(did(&w, HOLD_THAW, 0));
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert(did(&w, HOLD_DO_REMOVE, 0));
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_DISTURBED);
    ck_assert(!hold_member_is_kept(&w.hold, 0));
}
END_TEST

START_TEST(a_failed_capture_thaws_at_once_and_spares_the_others)
{
    struct world w;
    armed(&w, (enum hold_kind[]){HOLD_CGROUP, HOLD_CGROUP}, 2, (uint16_t[]){0, 1}, 2);
    ask_freeze(&w);
    report_frozen(&w, 0);
    report_frozen(&w, 1);
    ask_commit(&w, 2);
    report(&w, HOLD_EV_CAPTURED, 1, false);
    ck_assert(did(&w, HOLD_THAW, 1));
    ck_assert(did(&w, HOLD_DO_CAPTURE, 0));
    report(&w, HOLD_EV_THAWED, 1, true);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    report(&w, HOLD_EV_RECHECKED, 0, true);
    report(&w, HOLD_EV_THAWED, 0, true);
    report(&w, HOLD_EV_PUBLISHED, 0, true);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    ck_assert(hold_member_is_kept(&w.hold, 0));
    ck_assert(!hold_member_is_kept(&w.hold, 1));
}
END_TEST

START_TEST(the_last_failed_capture_does_not_leave_its_domain_frozen)
{
    struct world w;
    capturing_one(&w);
    step(&w, (struct hold_event){.kind = HOLD_EV_CAPTURED, .undo = true});
    ck_assert(did(&w, HOLD_THAW, 0));
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    ck_assert(did(&w, HOLD_DO_REMOVE, 0));
    report(&w, HOLD_EV_REMOVED, 0, false);
    ck_assert(w.hold.members[0].leaked);
    ck_assert(hold_is_settled(&w.hold));
}
END_TEST

/* The name may be taken by a capture of another set, which must survive. */
START_TEST(a_capture_that_made_nothing_removes_nothing)
{
    struct world w;
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, false);
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert_uint_eq(count(&w, HOLD_DO_REMOVE), 0);
    ck_assert(hold_is_settled(&w.hold));
}
END_TEST

START_TEST(only_what_was_to_be_published_loses_its_final_name)
{
    struct world w;
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    step(&w, (struct hold_event){.kind = HOLD_EV_ABORT});
    ck_assert(!w.hold.members[0].named);
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    report(&w, HOLD_EV_RECHECKED, 0, true);
    report(&w, HOLD_EV_THAWED, 0, true);
    step(&w, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
    ck_assert(w.hold.members[0].named);
}
END_TEST

START_TEST(a_freeze_that_returns_after_its_timeout_is_thawed_at_once)
{
    struct world w;
    armed(&w, (enum hold_kind[]){HOLD_CGROUP, HOLD_FSFREEZE, HOLD_FSFREEZE}, 3,
          (uint16_t[]){0, 1, 2}, 3);
    ask_freeze(&w);
    report_frozen(&w, 0);
    w.now_ms = 6000;
    step(&w, (struct hold_event){.kind = HOLD_EV_TIMER});
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
    ck_assert_int_eq(w.hold.domains[0].breach, HOLD_UNBROKEN);
    ck_assert_int_eq(w.hold.domains[1].breach, HOLD_FREEZE_LATE);
    ck_assert_int_eq(w.hold.domains[2].sm.state, HOLD_D_UNFROZEN);
    ck_assert_uint_eq(count(&w, HOLD_THAW), 0);
    report_frozen(&w, 1);
    ck_assert(did(&w, HOLD_THAW, 1));
    ck_assert(!w.hold.domains[1].has_epoch);
    ask_commit(&w, 2);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_BAD_EPOCH));
    ask_commit(&w, 1);
    ck_assert(did(&w, HOLD_DO_CAPTURE, 0));
}
END_TEST

START_TEST(a_freeze_that_returns_after_the_abort_is_thawed_at_once)
{
    struct world w;
    armed(&w, (enum hold_kind[]){HOLD_FSFREEZE}, 1, (uint16_t[]){0}, 1);
    ask_freeze(&w);
    step(&w, (struct hold_event){.kind = HOLD_EV_ABORT});
    ck_assert_uint_eq(count(&w, HOLD_THAW), 0);
    ck_assert(did(&w, HOLD_KILL_DOER, 0));
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OVER));
    report_frozen(&w, 0);
    ck_assert(did(&w, HOLD_THAW, 0));
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert(!answered(&w, HOLD_REQ_ABORT, HOLD_OK));
    step(&w, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
    step(&w, (struct hold_event){.kind = HOLD_EV_DOER_READY});
    ck_assert(answered(&w, HOLD_REQ_ABORT, HOLD_OK));
}
END_TEST

START_TEST(a_failed_freeze_is_undone_only_when_there_is_something_to_undo)
{
    for (int undo = 0; undo < 2; undo++) {
        struct world w;
        armed(&w, (enum hold_kind[]){HOLD_FSFREEZE}, 1, (uint16_t[]){0}, 1);
        ask_freeze(&w);
        step(&w, (struct hold_event){.kind = HOLD_EV_FROZEN, .undo = undo});
        ck_assert_uint_eq(count(&w, HOLD_THAW), (unsigned)undo);
        ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
        ck_assert_int_eq(w.hold.domains[0].breach, HOLD_NOT_FROZEN);
        if (undo)
            report(&w, HOLD_EV_THAWED, 0, true);
        ck_assert_int_eq(w.hold.sm.state, HOLD_ENDED);
    }
}
END_TEST

START_TEST(a_thaw_that_fails_is_tried_until_it_works)
{
    struct world w;
    frozen_one(&w);
    step(&w, (struct hold_event){.kind = HOLD_EV_ABORT});
    for (int i = 0; i < 3; i++) {
        report(&w, HOLD_EV_THAWED, 0, false);
        ck_assert_int_eq(hold_timer_ms(&w.hold), w.now_ms + HOLD_THAW_RETRY_MS);
        w.now_ms += HOLD_THAW_RETRY_MS;
        step(&w, (struct hold_event){.kind = HOLD_EV_TIMER});
        ck_assert(did(&w, HOLD_THAW, 0));
        ck_assert(hold_is_frozen(&w.hold));
    }
    report(&w, HOLD_EV_THAWED, 0, true);
    ck_assert(answered(&w, HOLD_REQ_ABORT, HOLD_OK));
}
END_TEST

START_TEST(a_commit_with_a_foreign_epoch_captures_nothing)
{
    struct world w;
    frozen_one(&w);
    struct hold_want want = {.member = 0, .epoch = epoch_of(7)};
    step(&w, (struct hold_event){.kind = HOLD_EV_COMMIT, .wants = &want, .n_wants = 1});
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_BAD_EPOCH));
    ck_assert_uint_eq(w.acts.n, 1);
    ask_commit(&w, 1);
    ck_assert(did(&w, HOLD_DO_CAPTURE, 0));
}
END_TEST

START_TEST(a_repeated_commit_has_one_effect_and_one_digest)
{
    struct world w;
    capturing_one(&w);
    ask_commit(&w, 1);
    ck_assert_uint_eq(w.acts.n, 0);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    report(&w, HOLD_EV_RECHECKED, 0, true);
    report(&w, HOLD_EV_THAWED, 0, true);
    report(&w, HOLD_EV_PUBLISHED, 0, true);
    ask_commit(&w, 1);
    ck_assert_uint_eq(w.acts.n, 1);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OK));
    struct hold_event other = {.kind = HOLD_EV_COMMIT};
    other.digest.b[0] = 1;
    step(&w, other);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_BAD_EPOCH));
    ck_assert(hold_member_is_kept(&w.hold, 0));
}
END_TEST

START_TEST(requests_out_of_turn_change_nothing)
{
    struct world w;
    armed(&w, (enum hold_kind[]){HOLD_CGROUP}, 1, (uint16_t[]){0}, 1);
    ask_commit(&w, 1);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OUT_OF_TURN));
    ask_freeze(&w);
    ask_commit(&w, 1);
    ck_assert(answered(&w, HOLD_REQ_COMMIT, HOLD_OUT_OF_TURN));
    ck_assert_int_eq(w.hold.sm.state, HOLD_FREEZING);
}
END_TEST

START_TEST(members_that_failed_their_checks_are_left_out)
{
    struct world w = {.now_ms = 1000};
    const enum hold_kind kinds[] = {HOLD_CGROUP, HOLD_FSFREEZE};
    hold_init(&w.hold, kinds, 2, (uint16_t[]){0, 1}, 2, &w.acts);
    const bool ok[] = {true, false};
    step(&w, (struct hold_event){.kind = HOLD_EV_ARMED, .member_ok = ok});
    ask_freeze(&w);
    report_frozen(&w, 0);
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OK));
    ck_assert_int_eq(w.hold.domains[1].sm.state, HOLD_D_UNFROZEN);
}
END_TEST

START_TEST(a_hold_whose_members_all_failed_is_over)
{
    struct world w = {.now_ms = 1000};
    hold_init(&w.hold, (enum hold_kind[]){HOLD_CGROUP}, 1, (uint16_t[]){0}, 1, &w.acts);
    const bool ok[] = {false};
    step(&w, (struct hold_event){.kind = HOLD_EV_ARMED, .member_ok = ok});
    ck_assert(answered(&w, HOLD_REQ_ARM, HOLD_OK));
    ck_assert(hold_is_settled(&w.hold));
    ask_freeze(&w);
    ck_assert(answered(&w, HOLD_REQ_FREEZE, HOLD_OVER));
}
END_TEST

START_TEST(an_abort_after_the_commit_removes_what_was_kept)
{
    struct world w;
    capturing_one(&w);
    report(&w, HOLD_EV_CAPTURED, 0, true);
    report(&w, HOLD_EV_RECHECKED, 0, true);
    report(&w, HOLD_EV_THAWED, 0, true);
    report(&w, HOLD_EV_PUBLISHED, 0, true);
    step(&w, (struct hold_event){.kind = HOLD_EV_CLOSED});
    ck_assert(hold_member_is_kept(&w.hold, 0));
    step(&w, (struct hold_event){.kind = HOLD_EV_ABORT});
    ck_assert(did(&w, HOLD_DO_REMOVE, 0));
    ck_assert(!answered(&w, HOLD_REQ_ABORT, HOLD_OK));
    report(&w, HOLD_EV_REMOVED, 0, true);
    ck_assert(answered(&w, HOLD_REQ_ABORT, HOLD_OK));
}
END_TEST

START_TEST(domains_without_a_wanted_member_are_let_go_at_the_commit)
{
    struct world w;
    armed(&w, (enum hold_kind[]){HOLD_CGROUP, HOLD_HOOK}, 2, (uint16_t[]){0, 1}, 2);
    ask_freeze(&w);
    report_frozen(&w, 1);
    report_frozen(&w, 0);
    ask_commit(&w, 1);
    ck_assert(did(&w, HOLD_THAW, 1));
    ck_assert(did(&w, HOLD_DO_CAPTURE, 0));
}
END_TEST

/* Brings a hold to each of its stages: ARMING, armed, freezing, frozen, capturing,
 * rechecking, thawing, publishing. */
enum { N_STAGES = 8 };
static void at_stage(struct world *w, int stage)
{
    if (stage == 0) {
        w->now_ms = 1000;
        hold_init(&w->hold, (enum hold_kind[]){HOLD_FSFREEZE}, 1, (uint16_t[]){0}, 1,
                  &w->acts);
        return;
    }
    armed(w, (enum hold_kind[]){HOLD_FSFREEZE}, 1, (uint16_t[]){0}, 1);
    if (stage >= 2)
        ask_freeze(w);
    if (stage >= 3)
        report_frozen(w, 0);
    if (stage >= 4)
        ask_commit(w, 1);
    if (stage >= 5)
        report(w, HOLD_EV_CAPTURED, 0, true);
    if (stage >= 6)
        report(w, HOLD_EV_RECHECKED, 0, true);
    if (stage >= 7)
        report(w, HOLD_EV_THAWED, 0, true);
}

START_TEST(the_death_of_the_doer_leaves_nothing_frozen_at_any_stage)
{
    for (int stage = 0; stage < N_STAGES; stage++) {
        struct world w;
        at_stage(&w, stage);
        step(&w, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
        bool thaw_asked = stage >= 2 && stage <= 5;
        ck_assert_uint_eq(count(&w, HOLD_THAW), thaw_asked);
        if (thaw_asked)
            ck_assert_int_eq(w.hold.domains[0].breach, HOLD_DOER_DIED);
        if (stage >= 2 && stage <= 6)
            report(&w, HOLD_EV_THAWED, 0, true);
        ck_assert(!hold_is_frozen(&w.hold));
        step(&w, (struct hold_event){.kind = HOLD_EV_DOER_READY});
        if (stage == 6) {
            /* Captured, checked and let go before the death: it keeps its value. */
            ck_assert(did(&w, HOLD_DO_PUBLISH, 0));
            report(&w, HOLD_EV_PUBLISHED, 0, true);
            ck_assert(hold_member_is_kept(&w.hold, 0));
        } else if (stage >= 4) {
            ck_assert(did(&w, HOLD_DO_REMOVE, 0));
            report(&w, HOLD_EV_REMOVED, 0, true);
        }
        ck_assert(hold_is_settled(&w.hold));
    }
}
END_TEST

START_TEST(a_closed_connection_leaves_nothing_at_any_stage)
{
    for (int stage = 0; stage < N_STAGES; stage++) {
        struct world w;
        at_stage(&w, stage);
        step(&w, (struct hold_event){.kind = HOLD_EV_CLOSED});
        if (w.hold.doer == HOLD_DOER_DYING)
            step(&w, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
        if (stage >= 2 && stage <= 6)
            report(&w, HOLD_EV_THAWED, 0, true);
        if (w.hold.doer == HOLD_DOER_DEAD)
            step(&w, (struct hold_event){.kind = HOLD_EV_DOER_READY});
        if (stage >= 4) {
            ck_assert(did(&w, HOLD_DO_REMOVE, 0));
            report(&w, HOLD_EV_REMOVED, 0, true);
        }
        ck_assert_int_eq(w.hold.sm.state, HOLD_ENDED);
        ck_assert(hold_is_settled(&w.hold));
        ck_assert_int_eq(w.hold.breach, HOLD_CLOSED);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("hold");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_hold_without_trouble_keeps_its_capture);
    tcase_add_test(tc, hooks_then_cgroups_then_filesystems_and_back);
    tcase_add_test(tc, a_repeated_freeze_is_answered_and_never_freezes_again);
    tcase_add_test(tc, a_second_freeze_freezes_what_the_first_did_not_name);
    tcase_add_test(tc, a_second_freeze_that_fails_leaves_the_first_to_the_agent);
    tcase_add_test(tc, a_late_second_freeze_spares_what_nobody_asked_for);
    tcase_add_test(tc, a_hold_that_expires_between_two_freezes_refuses_the_second);
    tcase_add_loop_test(tc, nothing_but_filesystems_freezes_while_one_stands, 0, 2);
    tcase_add_test(tc, the_clock_starts_with_the_request_and_not_with_the_freeze);
    tcase_add_test(tc, expiry_breaks_the_epoch_then_thaws_and_refuses_the_commit);
    tcase_add_test(tc, a_commit_at_the_deadline_is_too_late_without_any_timer);
    tcase_add_test(tc, a_capture_that_outlives_the_hold_is_late_and_removed);
    tcase_add_test(tc, expiry_between_capture_and_recheck_loses_the_capture);
    tcase_add_test(tc, a_domain_that_was_let_go_in_time_survives_the_expiry_of_another);
    tcase_add_test(tc, a_foreign_thaw_shows_in_our_own_and_loses_the_capture);
    tcase_add_test(tc, a_failed_recheck_loses_the_capture_and_thaws);
    tcase_add_test(tc, a_failed_capture_thaws_at_once_and_spares_the_others);
    tcase_add_test(tc, the_last_failed_capture_does_not_leave_its_domain_frozen);
    tcase_add_test(tc, a_capture_that_made_nothing_removes_nothing);
    tcase_add_test(tc, only_what_was_to_be_published_loses_its_final_name);
    tcase_add_test(tc, a_freeze_that_returns_after_its_timeout_is_thawed_at_once);
    tcase_add_test(tc, a_freeze_that_returns_after_the_abort_is_thawed_at_once);
    tcase_add_test(tc, a_failed_freeze_is_undone_only_when_there_is_something_to_undo);
    tcase_add_test(tc, a_thaw_that_fails_is_tried_until_it_works);
    tcase_add_test(tc, a_commit_with_a_foreign_epoch_captures_nothing);
    tcase_add_test(tc, a_repeated_commit_has_one_effect_and_one_digest);
    tcase_add_test(tc, requests_out_of_turn_change_nothing);
    tcase_add_test(tc, members_that_failed_their_checks_are_left_out);
    tcase_add_test(tc, a_hold_whose_members_all_failed_is_over);
    tcase_add_test(tc, an_abort_after_the_commit_removes_what_was_kept);
    tcase_add_test(tc, domains_without_a_wanted_member_are_let_go_at_the_commit);
    tcase_add_test(tc, the_death_of_the_doer_leaves_nothing_frozen_at_any_stage);
    tcase_add_test(tc, a_closed_connection_leaves_nothing_at_any_stage);
    return suite_main("hold", tc);
}
