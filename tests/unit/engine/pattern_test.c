#include "common/engine/pattern.h"

#include "tests/unit/suite.h"

struct expectation {
    const char *pattern;
    const char *path;
    enum pattern_match match;
};

static void check_all(const struct expectation *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(pattern_match(list[i].pattern, list[i].path) == list[i].match,
                      "'%s' against '%s'", list[i].pattern, list[i].path);
}

START_TEST(anchored_patterns_match_from_the_root_on)
{
    static const struct expectation list[] = {
        {"/a/b", "/a/b", PATTERN_YES},     {"/a/b", "/a/b/c", PATTERN_YES},
        {"/a/b", "/a", PATTERN_BELOW},     {"/a/b", "/a/bb", PATTERN_NO},
        {"/a/b/", "/a/b", PATTERN_YES},    {"/", "/x", PATTERN_YES},
        {"/a/*.c", "/a/x.c", PATTERN_YES}, {"/a/*.c", "/a/b/x.c", PATTERN_NO},
        {"/a/b", "/x/a/b", PATTERN_NO},    {"/a/?", "/a/bb", PATTERN_NO},
        {"/*/b", "/x/b", PATTERN_YES},     {"/*/b", "/x", PATTERN_BELOW},
    };
    check_all(list, sizeof list / sizeof *list);
}
END_TEST

START_TEST(others_match_at_any_depth)
{
    static const struct expectation list[] = {
        {"b", "/a/b", PATTERN_YES},       {"b", "/a/b/c", PATTERN_YES},
        {"b", "/a/c", PATTERN_BELOW},     {"b/c", "/a/b/c", PATTERN_YES},
        {"b/c", "/a/c", PATTERN_BELOW},   {"*.txt", "/x/y/n.txt", PATTERN_YES},
        {"*.txt", "/x/y", PATTERN_BELOW},
    };
    check_all(list, sizeof list / sizeof *list);
}
END_TEST

START_TEST(two_stars_stand_for_any_directories)
{
    static const struct expectation list[] = {
        {"/a/**/z", "/a/z", PATTERN_YES},     {"/a/**/z", "/a/b/c/z", PATTERN_YES},
        {"/a/**/z", "/a/b", PATTERN_BELOW},   {"/a/**/z", "/b/z", PATTERN_NO},
        {"/**", "/anything/at", PATTERN_YES}, {"/a/**", "/a", PATTERN_YES},
    };
    check_all(list, sizeof list / sizeof *list);
}
END_TEST

START_TEST(a_name_with_brackets_matches_itself)
{
    static const struct expectation list[] = {
        {"/a/[x]", "/a/[x]", PATTERN_YES},
        {"/a/[x]", "/a/x", PATTERN_YES},
        {"/a/[x]", "/a/y", PATTERN_NO},
        {"/a/*", "/a/*", PATTERN_YES},
    };
    check_all(list, sizeof list / sizeof *list);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("pattern");
    tcase_add_test(tc, anchored_patterns_match_from_the_root_on);
    tcase_add_test(tc, others_match_at_any_depth);
    tcase_add_test(tc, two_stars_stand_for_any_directories);
    tcase_add_test(tc, a_name_with_brackets_matches_itself);
    return suite_main("engine pattern", tc);
}
