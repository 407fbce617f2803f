#include "coordinator/flow/drill.h"

#include <string.h>

#include "tests/unit/suite.h"

enum { HOLD_MS = 4000, LEASE_MS = 7000 };

START_TEST(every_drill_is_found_by_its_own_name)
{
    ck_assert_uint_ge(n_drills, 5);
    for (size_t i = 0; i < n_drills; i++) {
        const struct drill *d = NULL;
        ck_ok(drill_find(drills[i].name, &d));
        ck_assert_ptr_eq(d, &drills[i]);
    }
}
END_TEST

START_TEST(an_unknown_drill_is_told_which_there_are)
{
    const struct drill *d;
    AUTO(err) struct err *e = drill_find("kill-all", &d);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_NOT_FOUND);
    for (size_t i = 0; i < n_drills; i++)
        ck_assert_ptr_nonnull(strstr(e->msg, drills[i].name));
}
END_TEST

/* A fault that is over before the guardian's timer or the lease notices it tests nothing.
 */
START_TEST(faults_outlast_what_they_are_to_try)
{
    for (size_t i = 0; i < n_drills; i++) {
        int64_t ms = drill_fault_ms(&drills[i], HOLD_MS, LEASE_MS);
        switch (drills[i].what) {
        case DRILL_AGENT_SLEEPS:
        case DRILL_COMMIT_IS_LATE:
            ck_assert_int_gt(ms, HOLD_MS);
            break;
        case DRILL_LEADER_SLEEPS:
        case DRILL_ETCD_IS_CUT:
            ck_assert_int_ge(ms, 2 * LEASE_MS);
            break;
        default:
            ck_assert_int_eq(ms, 0);
        }
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("drill");
    tcase_add_test(tc, every_drill_is_found_by_its_own_name);
    tcase_add_test(tc, an_unknown_drill_is_told_which_there_are);
    tcase_add_test(tc, faults_outlast_what_they_are_to_try);
    return suite_main("drill", tc);
}
