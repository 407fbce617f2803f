/* What every unit test program needs: one Check suite, run, its result as exit status. */
#ifndef TESTS_UNIT_SUITE_H
#define TESTS_UNIT_SUITE_H

#include <check.h>
#include <stdlib.h>

#include "common/base/err.h"

/* Fails the test and prints the chain when `expr` returns an error. */
#define ck_ok(expr)                                                                      \
    do {                                                                                 \
        struct err *ck_e = (expr);                                                       \
        ck_assert_msg(ck_e == NULL, "%s", err_text(ck_e));                               \
    } while (0)
/* Fails the test unless `expr` returns an error of this kind. */
#define ck_err(expr, want)                                                               \
    do {                                                                                 \
        struct err *ck_e = (expr);                                                       \
        ck_assert_msg(ck_e != NULL, "expected %s, got success", #want);                  \
        ck_assert_msg(ck_e->kind == (want), "expected %s, got: %s", #want,               \
                      err_text(ck_e));                                                   \
        err_free(ck_e);                                                                  \
    } while (0)

/* Runs the suite whose only test case is `tc` and returns main's status. */
static inline int suite_main(const char *name, TCase *tc)
{
    Suite *s = suite_create(name);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
