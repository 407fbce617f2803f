#include "common/base/chunks.h"

#include "tests/unit/suite.h"

START_TEST(what_is_written_is_understood)
{
    struct chunks c;
    ck_ok(chunks_parse("files", &c));
    ck_assert(!c.database && !c.bytes);
    ck_ok(chunks_parse("database", &c));
    ck_assert(c.database && !c.bytes);
    ck_ok(chunks_parse("4KiB", &c));
    ck_assert_uint_eq(c.bytes, 4096);
    ck_ok(chunks_parse("8MiB", &c));
    ck_assert_uint_eq(c.bytes, 8 << 20);
    static const char *const bad[] = {
        "",     "file", "2KiB",  "16MiB", "48KiB", "64",
        "64KB", "0KiB", "-4KiB", " 4KiB", "4KiB ", "99999999999999999999KiB"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_err(chunks_parse(bad[i], &c), ERR_INVALID);
}
END_TEST

START_TEST(pieces_double_until_a_directory_can_list_them)
{
    const struct chunks database = {.database = true}, fixed = {.bytes = 65536},
                        files = {0};
    static const struct {
        uint64_t files, bytes;
        size_t piece;
    } cases[] = {
        {0, 0, 16 << 10},
        {1, UINT64_C(250000) << 14, 16 << 10},
        {1, (UINT64_C(250000) << 14) + 1, 32 << 10},
        {100, UINT64_C(1) << 30, 512 << 10}, /* 100 GiB */
        {1, UINT64_C(1) << 60, 8 << 20},     /* there it ends */
        {249999, 1, 16 << 10},
        {250001, 1, 8 << 20}, /* no size helps: one piece a file */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct chunks_sum s = {0};
        for (uint64_t n = 0; n < cases[i].files; n++)
            chunks_count(&s, cases[i].bytes);
        ck_assert_uint_eq(chunks_bytes(&database, &s), cases[i].piece);
        ck_assert_uint_eq(chunks_bytes(&fixed, &s), 65536);
        ck_assert_uint_eq(chunks_bytes(&files, &s), 0);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("chunks");
    tcase_add_test(tc, what_is_written_is_understood);
    tcase_add_test(tc, pieces_double_until_a_directory_can_list_them);
    return suite_main("base chunks", tc);
}
