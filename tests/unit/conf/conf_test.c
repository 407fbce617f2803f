#include "common/conf/conf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "tests/unit/suite.h"

static struct conf *parsed(const char *text)
{
    struct conf *c = NULL;
    ck_ok(conf_parse("f.yaml", text, strlen(text), &c));
    return c;
}

/* Fails unless parsing `text` gives an error of this kind that holds `part`. */
static void expect_refusal(const char *text, enum err_kind kind, const char *part)
{
    struct conf *c = NULL;
    struct err *e = conf_parse("f.yaml", text, strlen(text), &c);
    ck_assert_msg(e != NULL, "accepted: %s", text);
    AUTO(str) char *got = err_text(e);
    ck_assert_msg(e->kind == kind, "kind %s: %s", err_kind_name(e->kind), got);
    ck_assert_msg(strstr(got, part) != NULL, "'%s' not in: %s", part, got);
    err_free(e);
}

START_TEST(values_remember_where_they_stood)
{
    AUTO(conf) struct conf *c = parsed("a: 1\nlist:\n  - x: 'two'\n  - x: three\n");
    const struct conf_node *n = conf_find(c, "list[1].x");
    ck_assert_ptr_nonnull(n);
    ck_assert_str_eq(n->text, "three");
    ck_assert_uint_eq(n->line, 4);
    ck_assert_uint_eq(n->column, 8);
    ck_assert(n->plain);
    ck_assert(!conf_find(c, "list[0].x")->plain);
    ck_assert_ptr_null(conf_find(c, "list[2].x"));
    ck_assert_ptr_null(conf_find(c, "list.x"));
    ck_assert_ptr_null(conf_find(c, "a.b"));
}
END_TEST

START_TEST(refusals_point_at_the_value_or_what_holds_it)
{
    AUTO(conf) struct conf *c = parsed("a:\n  b: 1\n");
    AUTO(err) struct err *there = conf_refuse(c, "a.b", "is %s", "bad");
    AUTO(err) struct err *missing = conf_refuse(c, "a.c", "is required");
    AUTO(err) struct err *whole = conf_refuse(c, "", "is sad");
    ck_assert_str_eq(there->msg, "f.yaml:2:6: key 'a.b': is bad");
    ck_assert_str_eq(missing->msg, "f.yaml:2:3: key 'a.c': is required");
    ck_assert_str_eq(whole->msg, "f.yaml:1:1: is sad");
}
END_TEST

START_TEST(what_is_not_plain_yaml_is_refused)
{
    expect_refusal("", ERR_INVALID, "empty");
    expect_refusal("# nothing\n", ERR_INVALID, "empty");
    expect_refusal("- a\n", ERR_INVALID, "f.yaml:1:1: expected 'key: value'");
    expect_refusal("a: [1\n", ERR_INVALID, "f.yaml:2:1:");
    expect_refusal("a: 1\nb: 2\na: 3\n", ERR_INVALID,
                   "f.yaml:3:1: key 'a': given twice, first in line 1");
    expect_refusal("a: 1\n---\nb: 2\n", ERR_INVALID, "f.yaml:3:1: a second document");
    expect_refusal("a: !!int 1\n", ERR_INVALID, "tags");
    expect_refusal("a: !cmd x\n", ERR_INVALID, "tags");
    expect_refusal("a: &x {b: 1}\nc:\n  <<: *x\n", ERR_INVALID, "merge keys");
    expect_refusal("? [a, b]\n: 1\n", ERR_INVALID, "a key must be a word");
    expect_refusal("a: \"x\\0y\"\n", ERR_INVALID, "NUL");
    expect_refusal("a: \xff\xfe\n", ERR_INVALID, "not UTF-8");
}
END_TEST

START_TEST(aliases_are_copies_within_limits)
{
    AUTO(conf) struct conf *c = parsed("a: &x {k: v}\nb: *x\n");
    ck_assert_str_eq(conf_find(c, "b.k")->text, "v");
    expect_refusal("a: &x [*x]\n", ERR_LIMIT, "nested deeper");
    expect_refusal("a: *nobody\n", ERR_INVALID, "undefined alias");
    /* Ten to the ninth values in a few hundred bytes. */
    AUTO_BUF struct buf bomb;
    buf_init(&bomb);
    buf_str(&bomb, "l0: &l0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 9; i++) {
        buf_printf(&bomb, "l%d: &l%d [", i, i);
        for (int k = 0; k < 10; k++)
            buf_printf(&bomb, "%s*l%d", k ? "," : "", i - 1);
        buf_str(&bomb, "]\n");
    }
    expect_refusal(buf_text(&bomb), ERR_LIMIT, "more than 200000 values");
}
END_TEST

START_TEST(size_depth_and_keys_are_limited)
{
    AUTO_BUF struct buf text;
    buf_init(&text);
    buf_str(&text, "a: ");
    for (int i = 0; i < 40; i++)
        buf_char(&text, '[');
    for (int i = 0; i < 40; i++)
        buf_char(&text, ']');
    expect_refusal(buf_text(&text), ERR_LIMIT, "nested deeper than 32");
    buf_clear(&text);
    for (int i = 0; i < CONF_MAX_KEYS + 1; i++)
        buf_printf(&text, "k%d: 1\n", i);
    expect_refusal(buf_text(&text), ERR_LIMIT, "more than 1024 keys");
    buf_clear(&text);
    while (text.len <= CONF_MAX_BYTES)
        buf_str(&text, "# a comment\n");
    expect_refusal(buf_text(&text), ERR_LIMIT, "larger than");
}
END_TEST

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert(fputs(text, f) >= 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(path, mode), 0);
}

START_TEST(a_file_others_may_write_is_not_trusted)
{
    char dir[] = "/tmp/conf_test.XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    AUTO(str) char *path = mem_printf("%s/a.yaml", dir);
    struct conf *c = NULL;
    ck_err(conf_read_trusted(path, &c), ERR_NOT_FOUND);
    write_file(path, "a: 1\n", 0600);
    ck_ok(conf_read_trusted(path, &c));
    conf_free(c);
    ck_assert_int_eq(chmod(path, 0620), 0);
    ck_err(conf_read_trusted(path, &c), ERR_DENIED);
    ck_ok(conf_read(path, &c));
    conf_free(c);
    ck_assert_int_eq(chmod(path, 0600), 0);
    ck_assert_int_eq(chmod(dir, 0777), 0);
    ck_err(conf_read_trusted(path, &c), ERR_DENIED);
    if (geteuid() == 0) {
        ck_assert_int_eq(chmod(dir, 0700), 0);
        ck_assert_int_eq(chown(path, 1000, 0), 0);
        ck_err(conf_read_trusted(path, &c), ERR_DENIED);
    }
    ck_err(conf_read(dir, &c), ERR_INVALID);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("conf");
    tcase_add_test(tc, values_remember_where_they_stood);
    tcase_add_test(tc, refusals_point_at_the_value_or_what_holds_it);
    tcase_add_test(tc, what_is_not_plain_yaml_is_refused);
    tcase_add_test(tc, aliases_are_copies_within_limits);
    tcase_add_test(tc, size_depth_and_keys_are_limited);
    tcase_add_test(tc, a_file_others_may_write_is_not_trusted);
    return suite_main("conf", tc);
}
