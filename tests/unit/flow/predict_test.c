#include "coordinator/flow/predict.h"

#include "tests/unit/suite.h"

enum { NODES = 2, PARTS = 3 };

/* Two partitions on the first node, a slow one on the second. */
static int64_t predict(struct predict_part parts[PARTS], int64_t *reach_ms)
{
    static const struct predict_part given[PARTS] = {
        {.node = 0, .flush_ms = 5, .capture_ms = 10},
        {.node = 0, .flush_ms = 7, .capture_ms = 20},
        {.node = 1, .flush_ms = 40, .capture_ms = 3}};
    struct predict_node nodes[NODES] = {{.round_trip_us = 1}, {.round_trip_us = 2001}};
    for (int i = 0; i < PARTS; i++)
        parts[i] = given[i];
    return predict_pauses(parts, PARTS, nodes, NODES, reach_ms);
}

START_TEST(all_wait_for_the_slowest_node_and_the_way_there_and_back)
{
    struct predict_part parts[PARTS];
    int64_t reach_ms;
    predict(parts, &reach_ms);
    ck_assert_int_eq(reach_ms, 40 + 3);
}
END_TEST

START_TEST(captures_of_one_node_follow_one_another_and_others_do_not_wait)
{
    struct predict_part parts[PARTS];
    int64_t reach_ms;
    int64_t longest = predict(parts, &reach_ms);
    ck_assert_int_eq(parts[0].pause_ms, 43 + 10 + 20);
    ck_assert_int_eq(parts[1].pause_ms, 43 + 10 + 20);
    ck_assert_int_eq(parts[2].pause_ms, 43 + 3);
    ck_assert_int_eq(longest, 73);
}
END_TEST

/* The first wave stands still until the last does. */
START_TEST(waves_add_up)
{
    struct predict_part parts[2] = {
        {.node = 0, .flush_ms = 5, .capture_ms = 1},
        {.node = 1, .wave = 1, .flush_ms = 7, .capture_ms = 2}};
    struct predict_node nodes[NODES] = {{0}};
    int64_t reach_ms;
    ck_assert_int_eq(predict_pauses(parts, 2, nodes, NODES, &reach_ms), 12 + 2);
    ck_assert_int_eq(reach_ms, 12);
}
END_TEST

START_TEST(half_of_the_hold_limit_is_the_most)
{
    ck_ok(predict_judge(500, 1000));
    ck_err(predict_judge(501, 1000), ERR_CONFLICT);
}
END_TEST

START_TEST(numbers_that_cannot_be_are_refused)
{
    ck_ok(predict_check(0, 0));
    ck_ok(predict_check(PREDICT_MAX_MS, PREDICT_MAX_MS));
    ck_err(predict_check(5, 6), ERR_CORRUPT);
    ck_err(predict_check(5, -1), ERR_CORRUPT);
    ck_err(predict_check(INT64_MAX, 0), ERR_CORRUPT);
    ck_err(predict_check(INT64_MIN, 0), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("predict");
    tcase_add_test(tc, all_wait_for_the_slowest_node_and_the_way_there_and_back);
    tcase_add_test(tc, captures_of_one_node_follow_one_another_and_others_do_not_wait);
    tcase_add_test(tc, waves_add_up);
    tcase_add_test(tc, half_of_the_hold_limit_is_the_most);
    tcase_add_test(tc, numbers_that_cannot_be_are_refused);
    return suite_main("predict", tc);
}
