#include "coordinator/flow/lead.h"

#include <string.h>

#include "tests/unit/suite.h"

/* One candidate, its clock, and what it asked for last. */
struct world {
    struct lead lead;
    struct lead_acts acts;
    int64_t now_ms;
};

static void feed(struct world *w, struct lead_event ev)
{
    ev.now_ms = w->now_ms;
    lead_step(&w->lead, &ev, &w->acts);
    ck_assert(!lead_is_leading(&w->lead) || w->now_ms < w->lead.trusted_until_ms);
}

static int count(const struct world *w, enum lead_act_kind kind)
{
    int n = 0;
    for (int i = 0; i < w->acts.n; i++)
        n += w->acts.items[i].kind == kind;
    return n;
}

static int64_t timer_at(const struct world *w)
{
    for (int i = 0; i < w->acts.n; i++)
        if (w->acts.items[i].kind == LEAD_ACT_TIMER)
            return w->acts.items[i].at_ms;
    return 0;
}

static void timer(struct world *w, int64_t now_ms)
{
    w->now_ms = now_ms;
    feed(w, (struct lead_event){.kind = LEAD_EV_TIMER});
}

static void granted(struct world *w, int64_t lease, int64_t sent_ms)
{
    feed(w, (struct lead_event){.kind = LEAD_EV_GRANTED,
                                .ok = true,
                                .lease = lease,
                                .ttl_ms = LEAD_TTL_MS,
                                .sent_ms = sent_ms});
}

static void campaigned(struct world *w, int64_t lease, bool won)
{
    feed(w, (struct lead_event){.kind = LEAD_EV_CAMPAIGNED,
                                .ok = true,
                                .lease = lease,
                                .won = won,
                                .revision = won ? 41 : 0,
                                .leader = {"other"}});
}

static void kept(struct world *w, int64_t lease, int64_t ttl_ms, int64_t sent_ms)
{
    feed(w, (struct lead_event){.kind = LEAD_EV_KEPT,
                                .ok = true,
                                .lease = lease,
                                .ttl_ms = ttl_ms,
                                .sent_ms = sent_ms});
}

static void start(struct world *w)
{
    *w = (struct world){.now_ms = 1000};
    lead_init(&w->lead);
    feed(w, (struct lead_event){.kind = LEAD_EV_START});
    ck_assert_int_eq(count(w, LEAD_ACT_GRANT), 1);
}

/* Leads from 1000 on with lease 7: trusted until 9500, kept alive at 4333. */
static void leading(struct world *w)
{
    start(w);
    granted(w, 7, 1000);
    ck_assert_int_eq(count(w, LEAD_ACT_CAMPAIGN), 1);
    campaigned(w, 7, true);
    ck_assert_int_eq(count(w, LEAD_ACT_LEADS), 1);
    ck_assert(lead_is_leading(&w->lead));
    ck_assert_int_eq(w->lead.revision, 41);
}

START_TEST(a_lease_runs_from_when_it_was_asked_for)
{
    struct world w;
    start(&w);
    w.now_ms = 3000;
    granted(&w, 7, 1000);
    ck_assert_int_eq(w.lead.trusted_until_ms, 1000 + LEAD_TTL_MS - LEAD_MARGIN_MS);
}
END_TEST

START_TEST(a_grant_that_failed_is_tried_again_after_a_second)
{
    struct world w;
    start(&w);
    feed(&w, (struct lead_event){.kind = LEAD_EV_GRANTED, .ok = false});
    ck_assert_int_eq(timer_at(&w), 1000 + LEAD_RETRY_MS);
    timer(&w, 1999);
    ck_assert_int_eq(count(&w, LEAD_ACT_GRANT), 0);
    timer(&w, 2000);
    ck_assert_int_eq(count(&w, LEAD_ACT_GRANT), 1);
}
END_TEST

START_TEST(who_loses_follows_keeps_its_lease_and_campaigns_when_the_leader_is_gone)
{
    struct world w;
    start(&w);
    granted(&w, 7, 1000);
    campaigned(&w, 7, false);
    ck_assert_int_eq(w.lead.sm.state, LEAD_FOLLOWING);
    ck_assert_str_eq(w.lead.leader.text, "other");
    ck_assert_int_eq(count(&w, LEAD_ACT_LEADS), 0);
    ck_assert_int_eq(count(&w, LEAD_ACT_KEEPALIVE), 1);
    feed(&w, (struct lead_event){.kind = LEAD_EV_LEADER_GONE});
    ck_assert_int_eq(count(&w, LEAD_ACT_CAMPAIGN), 1);
    campaigned(&w, 7, true);
    ck_assert(lead_is_leading(&w.lead));
}
END_TEST

START_TEST(an_unknown_campaign_is_repeated_with_the_same_lease)
{
    struct world w;
    start(&w);
    granted(&w, 7, 1000);
    feed(&w, (struct lead_event){.kind = LEAD_EV_CAMPAIGNED, .lease = 7, .ok = false});
    ck_assert(!lead_is_leading(&w.lead));
    ck_assert_int_eq(timer_at(&w), 2000);
    timer(&w, 2000);
    ck_assert_int_eq(count(&w, LEAD_ACT_CAMPAIGN), 1);
    ck_assert_int_eq(w.acts.items[0].lease, 7);
    campaigned(&w, 7, true);
    ck_assert(lead_is_leading(&w.lead));
}
END_TEST

START_TEST(a_lease_that_runs_out_while_campaigning_is_replaced)
{
    struct world w;
    start(&w);
    granted(&w, 7, 1000);
    timer(&w, 9500);
    ck_assert_int_eq(w.lead.sm.state, LEAD_IDLE);
    campaigned(&w, 7, true);
    ck_assert_msg(!lead_is_leading(&w.lead),
                  "won with a lease that is no longer trusted");
    timer(&w, 10500);
    ck_assert_int_eq(count(&w, LEAD_ACT_GRANT), 1);
    granted(&w, 8, 10500);
    campaigned(&w, 7, true);
    ck_assert_msg(!lead_is_leading(&w.lead), "an answer of the old lease");
    campaigned(&w, 8, true);
    ck_assert(lead_is_leading(&w.lead));
}
END_TEST

START_TEST(a_keepalive_is_sent_once_and_renews_the_trust)
{
    struct world w;
    leading(&w);
    timer(&w, 4333);
    ck_assert_int_eq(count(&w, LEAD_ACT_KEEPALIVE), 0); /* sent when it began to lead */
    w.now_ms = 4400;
    kept(&w, 7, LEAD_TTL_MS, 4350);
    ck_assert_int_eq(w.lead.trusted_until_ms, 4350 + 8500);
    ck_assert_int_eq(timer_at(&w), 4350 + LEAD_TTL_MS / 3);
    timer(&w, 4350 + LEAD_TTL_MS / 3);
    ck_assert_int_eq(count(&w, LEAD_ACT_KEEPALIVE), 1);
    timer(&w, 8000);
    ck_assert_int_eq(count(&w, LEAD_ACT_KEEPALIVE), 0);
}
END_TEST

START_TEST(a_leader_steps_down_before_its_lease_can_end_when_no_answer_comes)
{
    struct world w;
    leading(&w);
    ck_assert_int_eq(timer_at(&w), 9500);
    timer(&w, 9499);
    ck_assert(lead_is_leading(&w.lead));
    timer(&w, 9500);
    ck_assert_int_eq(count(&w, LEAD_ACT_STEPS_DOWN), 1);
    ck_assert(!lead_is_leading(&w.lead));
    kept(&w, 7, LEAD_TTL_MS, 9400);
    ck_assert_msg(!lead_is_leading(&w.lead), "a late answer does not bring it back");
    ck_assert_int_eq(w.lead.lease, 0);
}
END_TEST

START_TEST(a_dead_lease_ends_the_term_at_once)
{
    struct world w;
    leading(&w);
    kept(&w, 7, 0, 1000);
    ck_assert_int_eq(count(&w, LEAD_ACT_STEPS_DOWN), 1);
    ck_assert_int_eq(timer_at(&w), 1000 + LEAD_RETRY_MS);
}
END_TEST

START_TEST(a_failed_keepalive_is_repeated_while_the_lease_is_trusted)
{
    struct world w;
    leading(&w);
    feed(&w, (struct lead_event){.kind = LEAD_EV_KEPT, .lease = 7, .ok = false});
    ck_assert(lead_is_leading(&w.lead));
    timer(&w, 1000 + LEAD_RETRY_MS);
    ck_assert_int_eq(count(&w, LEAD_ACT_KEEPALIVE), 1);
    ck_assert_int_eq(w.lead.trusted_until_ms, 9500);
}
END_TEST

START_TEST(a_late_answer_of_an_old_lease_renews_nothing)
{
    struct world w;
    leading(&w);
    timer(&w, 9500);
    timer(&w, 10500);
    granted(&w, 8, 10500);
    campaigned(&w, 8, true);
    int64_t until = w.lead.trusted_until_ms;
    w.now_ms = 12000;
    kept(&w, 7, LEAD_TTL_MS, 11900);
    ck_assert_int_eq(w.lead.trusted_until_ms, until);
    kept(&w, 7, 0, 11900);
    ck_assert_msg(lead_is_leading(&w.lead), "the death of the old lease is old news");
}
END_TEST

START_TEST(a_stop_gives_the_lease_back_and_nothing_follows)
{
    struct world w;
    leading(&w);
    feed(&w, (struct lead_event){.kind = LEAD_EV_STOP});
    ck_assert_int_eq(count(&w, LEAD_ACT_STEPS_DOWN), 1);
    ck_assert_int_eq(count(&w, LEAD_ACT_REVOKE), 1);
    ck_assert_int_eq(w.acts.items[1].lease, 7);
    timer(&w, 99999);
    ck_assert_int_eq(w.acts.n, 0);
    feed(&w, (struct lead_event){.kind = LEAD_EV_START});
    ck_assert_int_eq(w.acts.n, 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("lead");
    tcase_add_test(tc, a_lease_runs_from_when_it_was_asked_for);
    tcase_add_test(tc, a_grant_that_failed_is_tried_again_after_a_second);
    tcase_add_test(
        tc, who_loses_follows_keeps_its_lease_and_campaigns_when_the_leader_is_gone);
    tcase_add_test(tc, an_unknown_campaign_is_repeated_with_the_same_lease);
    tcase_add_test(tc, a_lease_that_runs_out_while_campaigning_is_replaced);
    tcase_add_test(tc, a_keepalive_is_sent_once_and_renews_the_trust);
    tcase_add_test(tc, a_leader_steps_down_before_its_lease_can_end_when_no_answer_comes);
    tcase_add_test(tc, a_dead_lease_ends_the_term_at_once);
    tcase_add_test(tc, a_failed_keepalive_is_repeated_while_the_lease_is_trusted);
    tcase_add_test(tc, a_late_answer_of_an_old_lease_renews_nothing);
    tcase_add_test(tc, a_stop_gives_the_lease_back_and_nothing_follows);
    return suite_main("lead", tc);
}
