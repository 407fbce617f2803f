#include "agent/flow/session_waves.h"

#include "tests/unit/flow/session_world.h"

static const struct session_part two_waves[] = {
    {.part = {"front"}, .domain = {"node-1/cgroup:/front"}, .wave = 1},
    {.part = {"back"}, .domain = {"node-1/cgroup:/back"}, .wave = 3},
};

static void freeze_wave(struct world *w, size_t wave)
{
    sessions_step(&w->s,
                  &(struct session_event){.kind = SESSION_EV_FREEZE,
                                          .call = ++w->call,
                                          .set = w->cut.set,
                                          .token = w->cut.token,
                                          .wave = wave},
                  &w->acts);
}

static void frozen_wave(struct world *w, size_t part)
{
    struct domain_epoch epoch = {two_waves[part].domain, w->cut.epochs[part].epoch};
    sessions_step(&w->s,
                  &(struct session_event){.kind = SESSION_EV_FROZEN,
                                          .set = w->cut.set,
                                          .epochs = &epoch,
                                          .n_epochs = 1},
                  &w->acts);
}

static void prepare_parts(struct world *w, const struct session_part *parts, size_t n)
{
    begin(w);
    sessions_step(&w->s,
                  &(struct session_event){.kind = SESSION_EV_PREPARE,
                                          .call = ++w->call,
                                          .set = w->cut.set,
                                          .token = w->cut.token,
                                          .parts = parts,
                                          .n_parts = n,
                                          .hold_limit_ms = 10000,
                                          .freeze_timeout_ms = 5000},
                  &w->acts);
}

/* Its front stands. */
static void front_frozen(struct world *w)
{
    prepare_parts(w, two_waves, 2);
    journaled(w);
    sessions_step(&w->s,
                  &(struct session_event){.kind = SESSION_EV_ARMED,
                                          .set = w->cut.set,
                                          .parts = two_waves,
                                          .n_parts = 2},
                  &w->acts);
    freeze_wave(w, 1);
    ck_assert(!asks(w, SESSION_ACT_JOURNAL));
    ck_assert(asks(w, SESSION_ACT_FREEZE));
    frozen_wave(w, 0);
    said_yes(w);
}

/* No write to a disk lies before or between waves: a restart undoes what Prepare wrote.
 */
START_TEST(a_second_wave_freezes_at_once_and_is_answered_by_itself)
{
    struct world w;
    front_frozen(&w);
    freeze_wave(&w, 3);
    ck_assert(asks(&w, SESSION_ACT_FREEZE));
    ck_assert(!asks(&w, SESSION_ACT_JOURNAL));
    struct session *set = find_act(&w, SESSION_ACT_FREEZE)->set;
    ck_assert_uint_eq(set->wave, 3);
    frozen_wave(&w, 1);
    said_yes(&w);
    ck_assert_uint_eq(find_act(&w, SESSION_ACT_REPLY)->wave, 3);
    ck_assert_uint_eq(set->n_epochs, 2);
    ck_assert(session_is_in_wave(set, &set->epochs[1], 3));
    ck_assert(!session_is_in_wave(set, &set->epochs[0], 3));
    end(&w);
}
END_TEST

START_TEST(a_repeated_freeze_of_an_earlier_wave_disturbs_nobody)
{
    struct world w;
    front_frozen(&w);
    freeze_wave(&w, 3);
    uint64_t second = w.call;
    freeze_wave(&w, 1);
    said_yes(&w);
    ck_assert_uint_eq(find_act(&w, SESSION_ACT_REPLY)->wave, 1);
    ck_assert_uint_eq(w.acts.n,
                      1); /* nothing is frozen again, no other call is answered */
    frozen_wave(&w, 1);
    ck_assert_uint_eq(find_act(&w, SESSION_ACT_REPLY)->call, second);
    freeze_wave(&w, 3);
    said_yes(&w);
    ck_assert(!asks(&w, SESSION_ACT_FREEZE));
    end(&w);
}
END_TEST

START_TEST(a_wave_out_of_turn_is_refused)
{
    struct world w;
    static const size_t none[] = {0, 2, 4};
    front_frozen(&w);
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        freeze_wave(&w, none[i]);
        said_no(&w, ERR_CONFLICT, "that it could freeze now");
        ck_assert(!asks(&w, SESSION_ACT_FREEZE));
    }
    ck_assert_int_eq(state(&w), SESSION_FROZEN);
    end(&w);
}
END_TEST

START_TEST(a_commit_before_the_last_wave_is_refused)
{
    struct world w;
    front_frozen(&w);
    ck_err(sessions_check_frozen(&w.s, &w.cut.set, &w.cut.token), ERR_CONFLICT);
    request(&w, SESSION_EV_COMMIT);
    said_no(&w, ERR_CONFLICT, "is not frozen on this node");
    ck_assert(!asks(&w, SESSION_ACT_COMMIT));
    end(&w);
}
END_TEST

START_TEST(a_second_wave_that_fails_undoes_the_first)
{
    struct world w;
    AUTO(err) struct err *e = err_new(ERR_CONFLICT, "it could not be frozen");
    front_frozen(&w);
    freeze_wave(&w, 3);
    sessions_step(
        &w.s,
        &(struct session_event){.kind = SESSION_EV_FROZEN, .set = w.cut.set, .err = e},
        &w.acts);
    said_no(&w, ERR_CONFLICT, "it could not be frozen");
    ck_assert(asks(&w, SESSION_ACT_UNDO));
    end(&w);
}
END_TEST

/* What is journaled of a promise says nothing of waves asked for, nor need it. */
START_TEST(a_captured_set_stands_by_all_its_waves_after_a_restart)
{
    const struct set_id id = {"s1"};
    AUTO(session) struct session *set = session_new(&id);
    set->parts = mem_dup(two_waves, sizeof two_waves);
    set->n_parts = 2;
    session_restore(set, SESSION_JOURNALING);
    ck_assert(session_wave_stands(set, 3));
    ck_ok(session_check_turn(set, 1));
    ck_ok(session_check_turn(set, 3));
    ck_err(session_check_turn(set, 2), ERR_CONFLICT);
    ck_ok(session_check_commit(set, NULL, 0));
}
END_TEST

START_TEST(waves_that_cannot_freeze_in_their_order_are_not_prepared)
{
    struct world w;
    struct session_part parts[] = {two_waves[0], two_waves[1]};
    parts[1].domain = parts[0].domain;
    prepare_parts(&w, parts, 2);
    said_no(&w, ERR_INVALID, "but one pause stops both");
    ck_assert_ptr_null(sessions_find(&w.s, &w.cut.set));
    end(&w);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("session_waves");
    tcase_add_test(tc, a_second_wave_freezes_at_once_and_is_answered_by_itself);
    tcase_add_test(tc, a_repeated_freeze_of_an_earlier_wave_disturbs_nobody);
    tcase_add_test(tc, a_wave_out_of_turn_is_refused);
    tcase_add_test(tc, a_commit_before_the_last_wave_is_refused);
    tcase_add_test(tc, a_second_wave_that_fails_undoes_the_first);
    tcase_add_test(tc, a_captured_set_stands_by_all_its_waves_after_a_restart);
    tcase_add_test(tc, waves_that_cannot_freeze_in_their_order_are_not_prepared);
    return suite_main("session_waves", tc);
}
