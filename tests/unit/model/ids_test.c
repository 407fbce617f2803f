#include "common/model/ids.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/model/token.h"
#include "tests/unit/suite.h"

START_TEST(names_are_safe_as_keys_files_and_host_names)
{
    static const char *const good[] = {"a", "0", "node-1", "a.b_c-d", "_x"};
    static const char *const bad[] = {"",    ".",   "..",   ".a",       "-a", "A",
                                      "a/b", "a b", "a\nb", "\xc3\xa4", "a:b"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ck_assert_msg(name_is_valid(good[i]), "'%s'", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!name_is_valid(bad[i]), "'%s'", bad[i]);
}
END_TEST

START_TEST(a_name_has_63_bytes_and_not_one_more)
{
    char to[NAME_BYTES];
    char text[NAME_BYTES + 1];
    memset(text, 'a', sizeof text);
    text[NAME_BYTES] = '\0';
    AUTO(err) struct err *e = name_copy(to, text, "node");
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e->msg, "node '"));
    text[NAME_BYTES - 1] = '\0';
    ck_ok(name_copy(to, text, "node"));
    ck_assert_str_eq(to, text);
}
END_TEST

START_TEST(a_domain_is_printable_and_fits)
{
    struct domain_id d;
    char text[DOMAIN_BYTES + 1];
    memset(text, 'd', sizeof text);
    text[DOMAIN_BYTES] = '\0';
    ck_err(domain_copy(&d, text), ERR_INVALID);
    text[DOMAIN_BYTES - 1] = '\0';
    ck_ok(domain_copy(&d, text));
    ck_err(domain_copy(&d, ""), ERR_INVALID);
    ck_err(domain_copy(&d, "n/cgroup:a b"), ERR_INVALID);
    ck_err(domain_copy(&d, "n/cgroup:a\x7f"), ERR_INVALID);
    ck_ok(domain_copy(&d, "n/cgroup:/system.slice/db.service"));
}
END_TEST

START_TEST(the_longest_names_make_a_whole_capture_id)
{
    struct set_id set;
    struct part_id part;
    struct capture_id id;
    memset(set.text, 's', NAME_BYTES - 1);
    memset(part.text, 'p', NAME_BYTES - 1);
    set.text[NAME_BYTES - 1] = part.text[NAME_BYTES - 1] = '\0';
    capture_id_make(&set, &part, &id);
    ck_assert_uint_eq(strlen(id.text), 2 * (NAME_BYTES - 1) + 1);
    ck_assert_int_eq(id.text[NAME_BYTES - 1], '.');
}
END_TEST

static struct token token(uint8_t incarnation, int64_t revision)
{
    struct token t = {.revision = revision};
    t.incarnation[0] = incarnation;
    return t;
}

START_TEST(tokens_are_ordered_within_one_incarnation_only)
{
    struct token none = {.revision = 0};
    struct token a = token(1, 5), same = token(1, 5), newer = token(1, 6);
    struct token foreign = token(2, 6);
    ck_assert_int_eq(token_compare(&a, &same), TOKEN_SAME);
    ck_assert_int_eq(token_compare(&a, &newer), TOKEN_OLDER);
    ck_assert_int_eq(token_compare(&newer, &a), TOKEN_NEWER);
    ck_assert_int_eq(token_compare(&foreign, &a), TOKEN_FOREIGN);
    ck_assert_int_eq(token_compare(&a, &foreign), TOKEN_FOREIGN);
    ck_assert_int_eq(token_compare(&none, &a), TOKEN_OLDER);
    ck_assert_int_eq(token_compare(&foreign, &none), TOKEN_NEWER);
    ck_assert(!token_is_set(&none));
    ck_assert(token_is_set(&a));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("ids");
    tcase_add_test(tc, names_are_safe_as_keys_files_and_host_names);
    tcase_add_test(tc, a_name_has_63_bytes_and_not_one_more);
    tcase_add_test(tc, a_domain_is_printable_and_fits);
    tcase_add_test(tc, the_longest_names_make_a_whole_capture_id);
    tcase_add_test(tc, tokens_are_ordered_within_one_incarnation_only);
    return suite_main("ids", tc);
}
