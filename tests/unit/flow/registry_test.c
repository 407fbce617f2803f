#include "coordinator/flow/registry.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/version.h"
#include "tests/unit/suite.h"

static void put(struct registry *r, const char *name, size_t n_parts, int64_t now_ms)
{
    struct node_info info = {.n_parts = n_parts};
    snprintf(info.node.text, sizeof info.node.text, "%s", name);
    info.parts = mem_array(n_parts, sizeof *info.parts);
    ck_ok(registry_put(r, &info, now_ms));
    ck_assert_ptr_null(info.parts);
}

static const struct registry_node *find(const struct registry *r, const char *name)
{
    struct node_id id;
    snprintf(id.text, sizeof id.text, "%s", name);
    return registry_find(r, &id);
}

START_TEST(nodes_are_found_whatever_the_order_they_came_in)
{
    static const char *const names[] = {"m", "a", "z", "b", "y"};
    struct registry r;
    registry_init(&r);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put(&r, names[i], 1, 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        ck_assert_str_eq(find(&r, names[i])->info.node.text, names[i]);
    for (size_t i = 1; i < r.n_nodes; i++)
        ck_assert_int_lt(strcmp(r.nodes[i - 1].info.node.text, r.nodes[i].info.node.text),
                         0);
    ck_assert_ptr_null(find(&r, "n"));
    registry_fini(&r);
}
END_TEST

START_TEST(a_later_registration_replaces_the_earlier_one)
{
    struct registry r;
    registry_init(&r);
    put(&r, "a", 3, 10);
    put(&r, "a", 1, 20);
    ck_assert_uint_eq(r.n_nodes, 1);
    ck_assert_uint_eq(find(&r, "a")->info.n_parts, 1);
    ck_assert_int_eq(find(&r, "a")->seen_ms, 20);
    registry_fini(&r);
}
END_TEST

START_TEST(a_node_that_is_silent_for_ten_seconds_is_away)
{
    struct registry r;
    registry_init(&r);
    put(&r, "a", 0, 5000);
    ck_assert(registry_is_connected(find(&r, "a"), 5000));
    ck_assert(registry_is_connected(find(&r, "a"), 14999));
    ck_assert(!registry_is_connected(find(&r, "a"), 15000));
    registry_fini(&r);
}
END_TEST

START_TEST(one_node_too_many_is_refused_and_known_ones_still_register)
{
    struct registry r;
    registry_init(&r);
    char name[NAME_BYTES];
    for (int i = 0; i < REGISTRY_MAX_NODES; i++) {
        snprintf(name, sizeof name, "n%05d", i);
        put(&r, name, 0, 0);
    }
    struct node_info info = {.node = {"zz"}};
    ck_err(registry_put(&r, &info, 0), ERR_LIMIT);
    put(&r, "n00000", 2, 1);
    ck_assert_uint_eq(find(&r, "n00000")->info.n_parts, 2);
    registry_fini(&r);
}
END_TEST

START_TEST(an_older_protocol_and_a_clock_that_is_off_are_told)
{
    static const struct {
        int protocol;
        int64_t ahead_ms;
        const char *says; /* NULL: nothing is wrong */
    } cases[] = {
        {STILLPOINT_PROTOCOL, 0, NULL},
        {STILLPOINT_PROTOCOL + 1, 0, NULL},
        {STILLPOINT_PROTOCOL, REGISTRY_CLOCK_MS, NULL},
        {STILLPOINT_PROTOCOL, -REGISTRY_CLOCK_MS, NULL},
        {0, 0, "its agent speaks protocol 1, this coordinator 3: "},
        {STILLPOINT_PROTOCOL - 1, 0, "its agent speaks protocol 2, this coordinator 3: "},
        {STILLPOINT_PROTOCOL, REGISTRY_CLOCK_MS + 1,
         "the node's clock is 10 minutes ahead of the coordinator's: "},
        {STILLPOINT_PROTOCOL, -7200000,
         "the node's clock is 2 hours behind the coordinator's: "},
        {STILLPOINT_PROTOCOL, 365ll * 86400000,
         "the node's clock is 365 days ahead of the coordinator's: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO(str)
        char *text = registry_node_fault(cases[i].protocol, cases[i].ahead_ms);
        ck_assert_int_eq(text != NULL, cases[i].says != NULL);
        if (text)
            ck_assert_msg(strstr(text, cases[i].says) == text, "%s", text);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("registry");
    tcase_add_test(tc, nodes_are_found_whatever_the_order_they_came_in);
    tcase_add_test(tc, a_later_registration_replaces_the_earlier_one);
    tcase_add_test(tc, a_node_that_is_silent_for_ten_seconds_is_away);
    tcase_add_test(tc, one_node_too_many_is_refused_and_known_ones_still_register);
    tcase_add_test(tc, an_older_protocol_and_a_clock_that_is_off_are_told);
    return suite_main("registry", tc);
}
