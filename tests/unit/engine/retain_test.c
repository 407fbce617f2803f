/* Which snapshots a policy keeps; tests/interop/lifecycle.sh holds it against restic's.
 */
#include "common/engine/retain.h"

#include <string.h>

#include "tests/unit/suite.h"

enum { MAX = 40 };

/* Snapshots at given times, newest first. */
struct list {
    struct snapshot s[MAX];
    const struct snapshot *at[MAX];
    size_t n;
    bool keep[MAX];
};

static void add(struct list *l, const char *time)
{
    struct snapshot *s = &l->s[l->n];
    ck_assert(go_time_parse(time, strlen(time), &s->time));
    l->at[l->n++] = s;
}

static void fini(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        snapshot_fini(&l->s[i]);
}

/* What is kept, as a text of '+' and '-'. */
static const char *apply(struct list *l, const struct retain_policy *p)
{
    static char text[MAX + 1];
    const struct go_time now = {4000000000, 0};
    memset(l->keep, 0, sizeof l->keep);
    retain_apply(p, l->at, l->n, now, l->keep);
    for (size_t i = 0; i < l->n; i++)
        text[i] = l->keep[i] ? '+' : '-';
    text[l->n] = '\0';
    return text;
}

START_TEST(the_newest_of_each_day_stays)
{
    struct list l = {0};
    const struct retain_policy p = {.keep[RETAIN_DAILY] = 2};
    add(&l, "2024-03-01T10:00:00Z");
    add(&l, "2024-03-01T00:00:00Z");
    add(&l, "2024-02-29T23:59:59Z");
    add(&l, "2024-02-29T00:00:00Z");
    add(&l, "2024-02-28T00:00:00Z");
    ck_assert_str_eq(apply(&l, &p), "+-+--");
    fini(&l);
}
END_TEST

START_TEST(days_are_those_of_the_snapshots_zone)
{
    struct list l = {0};
    const struct retain_policy p = {.keep[RETAIN_DAILY] = 1};
    add(&l, "2024-03-01T01:00:00+02:00"); /* still February in UTC */
    add(&l, "2024-02-29T22:00:00Z");
    l.s[0].zone_s = 2 * 3600;
    ck_assert_str_eq(apply(&l, &p), "+-");
    fini(&l);
}
END_TEST

START_TEST(weeks_are_iso_weeks)
{
    struct list l = {0};
    const struct retain_policy p = {.keep[RETAIN_WEEKLY] = 2};
    add(&l, "2021-01-04T00:00:00Z"); /* Monday of week 1 */
    add(&l, "2021-01-03T00:00:00Z"); /* Sunday of week 53 of 2020 */
    add(&l, "2020-12-28T00:00:00Z"); /* its Monday */
    add(&l, "2020-12-27T00:00:00Z");
    ck_assert_str_eq(apply(&l, &p), "++--");
    fini(&l);
}
END_TEST

START_TEST(the_oldest_stays_while_a_count_is_left)
{
    struct list l = {0};
    const struct retain_policy two = {.keep[RETAIN_YEARLY] = 2};
    const struct retain_policy one = {.keep[RETAIN_YEARLY] = 1};
    add(&l, "2024-03-01T00:00:00Z");
    add(&l, "2024-02-01T00:00:00Z");
    add(&l, "2024-01-01T00:00:00Z");
    ck_assert_str_eq(apply(&l, &two), "+-+");
    ck_assert_str_eq(apply(&l, &one), "+--");
    fini(&l);
}
END_TEST

START_TEST(spans_are_measured_from_the_newest_that_is_past)
{
    struct list l = {0};
    struct retain_policy p = {0};
    ck_ok(retain_span_parse("1m", &p.within[RETAIN_LAST]));
    add(&l, "2200-01-01T00:00:00Z"); /* of the future, and inside any span */
    add(&l, "2024-03-31T00:00:00Z");
    add(&l, "2024-03-02T00:00:01Z"); /* a month before is February 31, which is March 2 */
    add(&l, "2024-03-02T00:00:00Z");
    add(&l, "2024-02-01T00:00:00Z");
    ck_assert_str_eq(apply(&l, &p), "+++--");
    fini(&l);
}
END_TEST

START_TEST(pins_and_tags_stay)
{
    struct list l = {0};
    struct strings both = {0};
    const struct retain_policy p = {.keep[RETAIN_LAST] = 1, .tags = &both, .tags_n = 1};
    strings_add(&both, "a");
    strings_add(&both, "b");
    for (int i = 0; i < 6; i++)
        add(&l, "2024-03-01T00:00:00Z");
    strings_add(&l.s[1].tags, "pin");
    strings_add(&l.s[2].tags, "pin=forever");
    strings_add(&l.s[3].tags, "pinned");
    strings_add(&l.s[4].tags, "a");
    strings_add(&l.s[5].tags, "b");
    strings_add(&l.s[5].tags, "a");
    ck_assert_str_eq(apply(&l, &p), "+++--+");
    strings_fini(&both);
    fini(&l);
}
END_TEST

START_TEST(spans_are_read_or_refused)
{
    struct retain_span s;
    ck_ok(retain_span_parse("1y5m7d2h", &s));
    ck_assert(s.years == 1 && s.months == 5 && s.days == 7 && s.hours == 2);
    static const char *const bad[] = {"1", "y", "1w", "-1d", "1d ", "99999999999d"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_err(retain_span_parse(bad[i], &s), ERR_INVALID);
}
END_TEST

START_TEST(an_empty_policy_is_empty)
{
    const struct retain_policy none = {0};
    struct retain_policy some = {.keep[RETAIN_YEARLY] = -1};
    ck_assert(retain_is_empty(&none));
    ck_assert(!retain_is_empty(&some));
    some = (struct retain_policy){.within[RETAIN_DAILY].hours = 1};
    ck_assert(!retain_is_empty(&some));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("retain");
    tcase_add_test(tc, the_newest_of_each_day_stays);
    tcase_add_test(tc, days_are_those_of_the_snapshots_zone);
    tcase_add_test(tc, weeks_are_iso_weeks);
    tcase_add_test(tc, the_oldest_stays_while_a_count_is_left);
    tcase_add_test(tc, spans_are_measured_from_the_newest_that_is_past);
    tcase_add_test(tc, pins_and_tags_stay);
    tcase_add_test(tc, spans_are_read_or_refused);
    tcase_add_test(tc, an_empty_policy_is_empty);
    return suite_main("retain", tc);
}
