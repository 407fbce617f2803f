#include "common/model/order.h"

#include "common/base/attr.h"
#include "tests/unit/suite.h"

static const struct domain_id a = {"n/cgroup:/a"}, b = {"n/cgroup:/b"},
                              disk = {"n/fsfreeze:8:1"}, other_disk = {"n/fsfreeze:8:2"},
                              hook = {"n/hook:db"};

static const struct {
    struct order_part parts[3];
    const char *says; /* NULL: in order */
} cases[] = {
    {{{"x", &a, 0}, {"y", &a, 0}, {"z", &b, 1}}, NULL},
    {{{"x", &b, 1}, {"y", &a, 0}, {"z", &disk, 1}}, NULL},
    {{{"x", &disk, 0}, {"y", &other_disk, 1}, {"z", &a, 0}}, NULL},
    {{{"x", &a, 0}, {"y", &hook, 1}, {"z", &disk, 2}}, NULL},
    {{{"x", &a, 0}, {"y", &b, 1}, {"z", &a, 1}},
     "'n/x' is in wave 1 and 'n/z' in wave 2, but one pause stops both (freeze domain "
     "'n/cgroup:/a'): put them into one wave"},
    {{{"x", &a, 1}, {"y", &b, 1}, {"z", &disk, 0}},
     "'n/z' in wave 1 freezes a filesystem, and 'n/x' stops writers in wave 2: one that "
     "waits for the filesystem would never stop; put 'x' into the same wave or an "
     "earlier "
     "one"},
    {{{"x", &disk, 0}, {"y", &a, 0}, {"z", &hook, 3}},
     "'n/x' in wave 1 freezes a filesystem, and 'n/z' stops writers in wave 4: one that "
     "waits for the filesystem would never stop; put 'z' into the same wave or an "
     "earlier "
     "one"},
};

START_TEST(an_order_that_no_kernel_can_keep_is_refused)
{
    AUTO(err) struct err *e = order_check("n", cases[_i].parts, 3);
    ck_assert_int_eq(e != NULL, cases[_i].says != NULL);
    if (!e)
        return;
    ck_assert_int_eq(e->kind, ERR_INVALID);
    ck_assert_str_eq(e->msg, cases[_i].says);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("order");
    tcase_add_loop_test(tc, an_order_that_no_kernel_can_keep_is_refused, 0,
                        ARRAY_LEN(cases));
    return suite_main("order", tc);
}
