#include "coordinator/flow/tasks.h"

#include <string.h>

#include "common/base/attr.h"
#include "tests/unit/suite.h"

enum { PARTS = 3 };
#define P PART_PENDING
#define C PART_CAPTURED
#define S PART_STORED
#define V PART_VERIFIED
#define F PART_FAILED
#define M PART_MISSING

/* What is to follow from a state and its parts: next state, and the tasks that must
 * exist, as one letter and a part's number each (u v s r). */
static const struct {
    enum set_state state;
    enum part_state parts[PARTS];
    bool sealed;
    enum set_state next;
    const char *needs;
} table[] = {
    /* before the cut, and when it is all over */
    {STATE_PLANNED, {P, P, P}, false, STATE_PLANNED, ""},
    {STATE_PREPARING, {P, P, P}, false, STATE_PREPARING, ""},
    {STATE_FREEZING, {P, P, P}, false, STATE_FREEZING, ""},
    {STATE_CAPTURING, {C, P, P}, false, STATE_CAPTURING, ""},
    {STATE_ABORTED, {P, P, P}, false, STATE_ABORTED, ""},
    {STATE_EXPIRED, {V, V, V}, true, STATE_EXPIRED, ""},
    /* upload: of those only that are not stored */
    {STATE_CAPTURED, {C, C, C}, false, STATE_UPLOADING, "u0u1u2"},
    {STATE_UPLOADING, {C, C, C}, false, STATE_UPLOADING, "u0u1u2"},
    {STATE_UPLOADING, {S, C, C}, false, STATE_UPLOADING, "u1u2"},
    {STATE_UPLOADING, {S, C, V}, false, STATE_UPLOADING, "u1"},
    {STATE_CAPTURED, {S, S, C}, false, STATE_UPLOADING, "u2"},
    /* verify when all are stored */
    {STATE_UPLOADING, {S, S, S}, false, STATE_VALIDATING, "v0v1v2"},
    {STATE_VALIDATING, {S, S, S}, false, STATE_VALIDATING, "v0v1v2"},
    {STATE_VALIDATING, {V, S, V}, false, STATE_VALIDATING, "v1"},
    {STATE_CAPTURED, {V, V, S}, false, STATE_VALIDATING, "v2"},
    /* one seal when all are verified */
    {STATE_VALIDATING, {V, V, V}, false, STATE_VALIDATING, "s"},
    {STATE_UPLOADING, {V, V, V}, false, STATE_VALIDATING, "s"},
    {STATE_VALIDATING, {V, S, V}, true, STATE_VALIDATING, "v1"},
    /* complete: captures may go */
    {STATE_VALIDATING, {V, V, V}, true, STATE_COMPLETE, "r0r1r2"},
    {STATE_COMPLETE, {V, V, V}, true, STATE_COMPLETE, "r0r1r2"},
    /* a part that failed for good; captures stay for the repair */
    {STATE_UPLOADING, {S, F, C}, false, STATE_DAMAGED, ""},
    {STATE_VALIDATING, {V, V, F}, false, STATE_DAMAGED, ""},
    {STATE_VALIDATING, {F, F, F}, true, STATE_DAMAGED, ""},
    {STATE_DAMAGED, {V, F, V}, false, STATE_DAMAGED, ""},
    /* what a relaxed set misses is passed over */
    {STATE_CAPTURED, {M, C, C}, false, STATE_UPLOADING, "u1u2"},
    {STATE_UPLOADING, {M, S, S}, false, STATE_VALIDATING, "v1v2"},
    {STATE_VALIDATING, {V, M, V}, false, STATE_VALIDATING, "s"},
    {STATE_VALIDATING, {V, V, M}, true, STATE_COMPLETE, "r0r1"},
    {STATE_UPLOADING, {M, F, S}, false, STATE_DAMAGED, ""},
};

static void decide(const struct tasks_view *v, enum set_state *next, char *text)
{
    struct tasks_need needs[2 * PARTS + 1];
    struct tasks_next out = {.needs = needs};
    tasks_decide(v, &out);
    ck_assert_uint_le(out.n_needs, ARRAY_LEN(needs));
    *text = '\0';
    for (size_t i = 0; i < out.n_needs; i++) {
        *text++ = task_kind_name(needs[i].kind)[0];
        if (needs[i].part == TASKS_NO_PART)
            ck_assert_int_eq(needs[i].kind, TASK_SEAL);
        else
            *text++ = (char)('0' + needs[i].part);
        *text = '\0';
    }
    *next = out.state;
}

START_TEST(each_state_needs_exactly_its_tasks)
{
    struct tasks_view v = {table[_i].state, table[_i].parts, PARTS, table[_i].sealed};
    enum set_state next;
    char needs[4 * PARTS];
    decide(&v, &next, needs);
    ck_assert_int_eq(next, table[_i].next);
    ck_assert_str_eq(needs, table[_i].needs);
}
END_TEST

/* Any coordinator may ask at any time, before or after the state was recorded. */
START_TEST(asking_again_in_the_next_state_gives_the_same)
{
    struct tasks_view v = {table[_i].state, table[_i].parts, PARTS, table[_i].sealed};
    enum set_state next, again;
    char needs[4 * PARTS], same[4 * PARTS];
    decide(&v, &next, needs);
    v.state = next;
    decide(&v, &again, same);
    ck_assert_int_eq(again, next);
    ck_assert_str_eq(same, needs);
}
END_TEST

START_TEST(final_states_are_known)
{
    for (int s = STATE_PLANNED; s <= STATE_DAMAGED; s++)
        ck_assert_int_eq(set_state_is_terminal((enum set_state)s),
                         s == STATE_COMPLETE || s == STATE_EXPIRED ||
                             s == STATE_ABORTED || s == STATE_DAMAGED);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("tasks");
    tcase_add_loop_test(tc, each_state_needs_exactly_its_tasks, 0, ARRAY_LEN(table));
    tcase_add_loop_test(tc, asking_again_in_the_next_state_gives_the_same, 0,
                        ARRAY_LEN(table));
    tcase_add_test(tc, final_states_are_known);
    return suite_main("tasks", tc);
}
