#include "coordinator/flow/waves.h"

#include <string.h>

#include "common/base/attr.h"
#include "tests/unit/suite.h"

static char *const group[] = {(char *)"n1/a", (char *)"n1/b", (char *)"n2/a",
                              (char *)"n3/a"};

static const struct {
    const char *waves[4]; /* names, separated by blanks; NULL: no more waves */
    const char *says;     /* NULL: in order */
} cases[] = {
    {{NULL}, NULL},
    {{"n3/a", "n1/b n1/a", "n2/a"}, NULL},
    {{"n1/a n1/b n2/a n3/a"}, NULL},
    {{"n1/a n1/b n2/a"}, "field 'waves': 'n3/a' is in none of them"},
    {{"n1/a n1/b", "", "n2/a n3/a"}, "field 'waves[1]': no partitions"},
    {{"n1/a n1/b", "n2/a n3/a n4/a"},
     "field 'waves[1]': 'n4/a' is none of the group's partitions"},
    {{"n1/a n1/b", "n2/a n3/a n2/a"}, "field 'waves[1]': 'n2/a' is listed twice"},
    {{"n1/a n1/b n2/a", "n2/a n3/a"}, "field 'waves[1]': 'n2/a' is in wave 1 already"},
    {{"n1/a n2/a", "n3/a", "n1/b"}, NULL},
};

enum { NAMES = 8 };

/* Splits a copy of the case's texts. */
struct split {
    char text[4][64];
    char *names[4][NAMES];
    struct wave waves[4];
    size_t n;
};

static void split(size_t i, struct split *out)
{
    *out = (struct split){.n = 0};
    for (; out->n < 4 && cases[i].waves[out->n]; out->n++) {
        struct wave *w = &out->waves[out->n];
        strcpy(out->text[out->n], cases[i].waves[out->n]);
        char *rest = out->text[out->n], *name;
        while ((name = strsep(&rest, " ")))
            if (*name)
                out->names[out->n][w->n++] = name;
        w->partitions = out->names[out->n];
    }
}

START_TEST(waves_are_an_order_of_the_groups_partitions)
{
    struct split s;
    split((size_t)_i, &s);
    AUTO(err) struct err *e = waves_check(group, ARRAY_LEN(group), s.waves, s.n);
    ck_assert_int_eq(e != NULL, cases[_i].says != NULL);
    if (!e)
        return;
    ck_assert_int_eq(e->kind, ERR_INVALID);
    ck_assert_str_eq(e->msg, cases[_i].says);
}
END_TEST

START_TEST(too_many_waves_are_refused)
{
    struct wave waves[WAVES_MAX + 1] = {{0}};
    ck_err(waves_check(group, ARRAY_LEN(group), waves, WAVES_MAX + 1), ERR_INVALID);
}
END_TEST

START_TEST(a_partition_has_the_wave_that_lists_it)
{
    struct split s;
    split(ARRAY_LEN(cases) - 1, &s);
    ck_assert_uint_eq(waves_find(s.waves, s.n, "n1", "a"), 0);
    ck_assert_uint_eq(waves_find(s.waves, s.n, "n3", "a"), 1);
    ck_assert_uint_eq(waves_find(s.waves, s.n, "n1", "b"), 2);
    ck_assert_uint_eq(waves_find(s.waves, s.n, "n", "b"), 0);
    ck_assert_uint_eq(waves_find(s.waves, s.n, "n1", "bb"), 0);
    ck_assert_uint_eq(waves_find(NULL, 0, "n2", "a"), 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("waves");
    tcase_add_loop_test(tc, waves_are_an_order_of_the_groups_partitions, 0,
                        ARRAY_LEN(cases));
    tcase_add_test(tc, too_many_waves_are_refused);
    tcase_add_test(tc, a_partition_has_the_wave_that_lists_it);
    return suite_main("waves", tc);
}
