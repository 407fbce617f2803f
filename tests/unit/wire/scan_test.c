#include "common/wire/scan.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "stillpoint/v1/admin.pb-c.h"
#include "tests/unit/suite.h"

#define GET_SET &stillpoint__v1__set_request__descriptor
#define APPLY &stillpoint__v1__apply_group_request__descriptor

/* The error's text must hold `want`. */
static void refused(const ProtobufCMessageDescriptor *md, const char *bytes, size_t n,
                    const char *want)
{
    ProtobufCMessage *m = NULL;
    struct err *e = wire_unpack(md, bytes, n, &m);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_INVALID);
    AUTO(str) char *text = err_text(e);
    ck_assert_msg(strstr(text, want) != NULL, "%s", text);
    err_free(e);
}

START_TEST(a_nul_in_text_is_refused_by_name)
{
    refused(GET_SET,
            "\x0a\x03"
            "a\0b",
            5, "field 'set'");
}
END_TEST

START_TEST(a_nul_in_a_nested_list_is_refused_by_name)
{
    refused(APPLY,
            "\x0a\x05\x1a\x03"
            "a\0b",
            7, "field 'spec': field 'partitions'");
}
END_TEST

START_TEST(another_wire_type_is_refused_by_name)
{
    refused(GET_SET, "\x08\x01", 2, "field 'set'");
}
END_TEST

START_TEST(a_length_beyond_the_end_is_refused)
{
    refused(GET_SET,
            "\x0a\x7f"
            "a",
            3, "malformed");
    refused(GET_SET, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "malformed");
}
END_TEST

START_TEST(unknown_members_are_passed_over)
{
    ProtobufCMessage *m = NULL;
    ck_ok(wire_unpack(GET_SET, "\x0a\x01x\x98\x01\x05", 6, &m));
    ck_assert_str_eq(((Stillpoint__V1__SetRequest *)m)->set, "x");
    wire_free(m);
}
END_TEST

START_TEST(text_for_terminals_has_no_controls)
{
    AUTO(str) char *a = utf8_printable("a\033[2Jb\x7f\xc2\x9b\xffz", 100);
    ck_assert_str_eq(a, "a [2Jb  ?z");
    AUTO(str) char *b = utf8_printable("ab\xc3\xa4", 3);
    ck_assert_str_eq(b, "ab");
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("scan");
    tcase_add_test(tc, a_nul_in_text_is_refused_by_name);
    tcase_add_test(tc, a_nul_in_a_nested_list_is_refused_by_name);
    tcase_add_test(tc, another_wire_type_is_refused_by_name);
    tcase_add_test(tc, a_length_beyond_the_end_is_refused);
    tcase_add_test(tc, unknown_members_are_passed_over);
    tcase_add_test(tc, text_for_terminals_has_no_controls);
    return suite_main("scan", tc);
}
