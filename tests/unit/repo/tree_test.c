#include "common/repo/tree.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/base/mem.h"
#include "tests/unit/suite.h"

/* Texts as restic 0.19.1 was seen to write them (and as Go's documentation says). */
static const struct {
    const char *raw;
    const char *quoted;
} quotes[] = {
    {"plain", "plain"},
    {"a\"q", "a\\\"q"},
    {"back\\slash", "back\\\\slash"},
    {"nl\nx", "nl\\nx"},
    {"\xff", "\\xff"},
    {"\x01", "\\x01"},
    {"\x7f", "\\x7f"},
    {"\x1b", "\\x1b"},
    {"\a\b\t\v\f\r", "\\a\\b\\t\\v\\f\\r"},
    {"\xc2\xa0", "\\u00a0"},
    {"\xe2\x80\x8b", "\\u200b"},
    {"\xe2\x80\xa8", "\\u2028"},
    {"\xef\xbb\xbf", "\\ufeff"},
    {"\xf3\xa0\x80\x81", "\\U000e0001"},
    {"\xc3\xa9 \xf0\x9f\x98\x80 \xef\xbf\xbd", "\xc3\xa9 \xf0\x9f\x98\x80 \xef\xbf\xbd"},
    {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* a surrogate is not UTF-8 */
    {"\xc0\xaf", "\\xc0\\xaf"},          /* nor is an overlong slash */
};

START_TEST(names_are_quoted_as_go_does)
{
    for (size_t i = 0; i < ARRAY_LEN(quotes); i++) {
        AUTO_BUF struct buf q = {0};
        AUTO_BUF struct buf back = {0};
        go_quote(&q, quotes[i].raw, strlen(quotes[i].raw));
        ck_assert_str_eq(buf_text(&q), quotes[i].quoted);
        ck_assert(go_unquote(&back, q.data, q.len));
        ck_assert_str_eq(buf_text(&back), quotes[i].raw);
    }
}
END_TEST

START_TEST(unquoting_takes_octal_and_refuses_the_rest)
{
    static const char *const bad[] = {"\\",      "\\q",   "\\x1", "\\u12",
                                      "\\ud800", "\\400", "a\"b", "\\U00110000"};
    AUTO_BUF struct buf b = {0};
    ck_assert(go_unquote(&b, "\\101\\u00e9", 10));
    ck_assert_str_eq(buf_text(&b), "A\xc3\xa9");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!go_unquote(&b, bad[i], strlen(bad[i])), "%s", bad[i]);
}
END_TEST

START_TEST(json_strings_are_escaped_as_go_does)
{
    static const char raw[] = "<&>\"\\\n\x01\x7f\xe2\x80\xa8\xff\xc3\xa9";
    AUTO_BUF struct buf b = {0};
    go_json_string(&b, raw, strlen(raw));
    ck_assert_str_eq(buf_text(&b), "\"\\u003c\\u0026\\u003e\\\"\\\\\\n\\u0001\x7f\\u2028"
                                   "\\ufffd\xc3\xa9\"");
}
END_TEST

static void check_time(int64_t sec, uint32_t nsec, const char *want)
{
    AUTO_BUF struct buf b = {0};
    struct go_time back;
    go_time_format(&b, (struct go_time){sec, nsec});
    ck_assert_str_eq(buf_text(&b), want);
    ck_assert(go_time_parse(b.data, b.len, &back));
    ck_assert_int_eq(back.sec, sec);
    ck_assert_uint_eq(back.nsec, nsec);
}

START_TEST(times_lose_trailing_zeros_only)
{
    check_time(0, 0, "1970-01-01T00:00:00Z");
    check_time(-2, 500000000, "1969-12-31T23:59:58.5Z");
    check_time(951782400, 120000000, "2000-02-29T00:00:00.12Z");
    check_time(1000000000, 1, "2001-09-09T01:46:40.000000001Z");
    check_time(-62167219200, 0, "0000-01-01T00:00:00Z");
    check_time(253402300799, 999999999, "9999-12-31T23:59:59.999999999Z");
    check_time(-2203891200, 0, "1900-03-01T00:00:00Z");
}
END_TEST

START_TEST(times_of_any_zone_are_read)
{
    struct go_time t;
    static const char odd[] = "1970-01-01T05:29:58.5+05:30";
    ck_assert(go_time_parse(odd, strlen(odd), &t));
    ck_assert_int_eq(t.sec, -2);
    ck_assert_uint_eq(t.nsec, 500000000);
    ck_assert(!go_time_parse("1970-13-01T00:00:00Z", 20, &t));
    ck_assert(!go_time_parse("1970-01-01T00:00:00", 19, &t));
    ck_assert(!go_time_parse("1970-01-01T00:00:00+5:30", 24, &t));
}
END_TEST

START_TEST(base64_round_trips_and_refuses_rubbish)
{
    /* RFC 4648, section 10. */
    static const char *const vectors[][2] = {
        {"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
        {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    static const char *const bad[] = {"Z", "Zg=", "Zg==Zg==", "Z===", "Zg=a", "Z-8="};
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        AUTO_BUF struct buf b = {0};
        AUTO_BUF struct buf back = {0};
        go_base64(&b, vectors[i][0], strlen(vectors[i][0]));
        ck_assert_str_eq(buf_text(&b), vectors[i][1]);
        ck_assert(go_base64_decode(&back, buf_text(&b), b.len));
        ck_assert_str_eq(buf_text(&back), vectors[i][0]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_BUF struct buf b = {0};
        ck_assert_msg(!go_base64_decode(&b, bad[i], strlen(bad[i])), "%s", bad[i]);
    }
}
END_TEST

/* Figures that restic 0.19.1 was seen to write. */
START_TEST(modes_are_gos)
{
    ck_assert_uint_eq(node_mode(S_IFREG | 04755), 8389101);
    ck_assert_uint_eq(node_mode(S_IFCHR | 0600), 69206400);
    ck_assert_uint_eq(node_mode(S_IFDIR | 03775), 2152727037u);
    ck_assert_uint_eq(node_mode(S_IFLNK | 0777), 134218239);
    ck_assert_uint_eq(node_permissions(node_mode(S_IFDIR | 07751)), 07751);
    ck_assert_uint_eq(makedev(300, 70000), 286338160);
}
END_TEST

static void fill(struct node *nd, enum node_type type, const char *name)
{
    nd->type = type;
    nd->name = mem_strdup(name);
    nd->mode = 0644;
    nd->mtime = nd->atime = nd->ctime = (struct go_time){0, 500000000};
}

#define TIMES                                                                            \
    "\"mtime\":\"1970-01-01T00:00:00.5Z\",\"atime\":\"1970-01-01T00:00:00.5Z\","         \
    "\"ctime\":\"1970-01-01T00:00:00.5Z\""
#define ID64 "0000000000000000000000000000000000000000000000000000000000000000"

START_TEST(a_tree_has_exactly_restics_bytes)
{
    AUTO_TREE struct tree t = {0};
    AUTO_BUF struct buf b = {0};
    const struct digest zero = {0};
    struct node *nd = tree_add(&t);
    fill(nd, NODE_SYMLINK, "l");
    nd->target = mem_strdup("<\xff");
    nd->links = 1;
    nd = tree_add(&t);
    fill(nd, NODE_FILE, "a\"q");
    nd->user = mem_strdup("root");
    nd->inode = UINT64_MAX;
    nd->size = 3;
    nd->links = 1;
    node_add_xattr(nd, "user.e", "", 0);
    node_add_content(nd, &zero);
    nd = tree_add(&t);
    fill(nd, NODE_FILE, "empty");
    nd->mode = 0;
    nd = tree_add(&t);
    fill(nd, NODE_DIR, "d");
    nd->has_subtree = true;
    nd = tree_add(&t);
    fill(nd, NODE_NONE, "left out");
    tree_sort(&t);
    tree_write(&t, &b);
    ck_assert_str_eq(
        buf_text(&b),
        "{\"nodes\":["
        "{\"name\":\"a\\\\\\\"q\",\"type\":\"file\",\"mode\":420," TIMES
        ",\"uid\":0,\"gid\":0,\"user\":\"root\",\"inode\":18446744073709551615,\"size\":"
        "3,"
        "\"links\":1,\"extended_attributes\":[{\"name\":\"user.e\",\"value\":\"\"}],"
        "\"content\":[\"" ID64 "\"]},"
        "{\"name\":\"d\",\"type\":\"dir\",\"mode\":420," TIMES
        ",\"uid\":0,\"gid\":0,\"content\":null,\"subtree\":\"" ID64 "\"},"
        "{\"name\":\"empty\",\"type\":\"file\"," TIMES
        ",\"uid\":0,\"gid\":0,\"content\":[]},"
        "{\"name\":\"l\",\"type\":\"symlink\",\"mode\":420," TIMES
        ",\"uid\":0,\"gid\":0,\"links\":1,\"linktarget\":\"\\u003c\\ufffd\","
        "\"linktarget_raw\":\"PP8=\",\"content\":null}"
        "]}\n");
    /* What is read back writes the same bytes. */
    AUTO_TREE struct tree back = {0};
    AUTO_BUF struct buf again = {0};
    ck_ok(tree_read(b.data, b.len, &back));
    tree_write(&back, &again);
    ck_assert_str_eq(buf_text(&again), buf_text(&b));
}
END_TEST

struct pieces {
    struct buf all;
    size_t longest;
    size_t n;
};

static struct err *take_piece(void *ctx, const void *data, size_t n)
{
    struct pieces *p = ctx;
    buf_add(&p->all, data, n);
    p->longest = n > p->longest ? n : p->longest;
    p->n++;
    return NULL;
}

/* A node with 20,000 ids, then 3,000 nodes: neither makes a piece much longer. */
START_TEST(a_list_in_pieces_is_the_whole_list)
{
    AUTO_TREE struct tree t = {0};
    AUTO_BUF struct buf whole = {0};
    AUTO_TREE_WRITER struct tree_writer w;
    struct pieces p = {0};
    struct node *nd = tree_add(&t);
    fill(nd, NODE_FILE, "a");
    for (int i = 0; i < 20000; i++) {
        struct digest id;
        hash_bytes(&i, sizeof i, &id);
        node_add_content(nd, &id);
    }
    for (int i = 0; i < 3000; i++) {
        char name[16];
        snprintf(name, sizeof name, "b%04d", i);
        nd = tree_add(&t);
        fill(nd, i % 2 ? NODE_FILE : NODE_DIR, name);
        nd->has_subtree = i % 2 == 0;
    }
    tree_write(&t, &whole);
    tree_writer_init(&w, take_piece, &p);
    for (size_t i = 0; i < t.n; i++)
        ck_ok(tree_writer_add(&w, &t.nodes[i]));
    ck_ok(tree_writer_end(&w));
    ck_assert_uint_eq(p.all.len, whole.len);
    ck_assert_mem_eq(p.all.data, whole.data, whole.len);
    ck_assert_uint_gt(p.n, 10);
    ck_assert_uint_lt(p.longest, 65 << 10);
    buf_fini(&p.all);
}
END_TEST

#define FILE_NODE(name) "{\"name\":\"" name "\",\"type\":\"file\",\"content\":[]}"

START_TEST(unknown_keys_are_skipped)
{
    static const char json[] =
        "{\"x\":[{\"nodes\":1}],\"nodes\":[{\"name\":\"a\",\"generic_attributes\":{"
        "\"content\":"
        "[1,{\"name\":2}]},\"type\":\"file\",\"content\":[],\"new\":[[{}]]}],\"y\":null}";
    AUTO_TREE struct tree t = {0};
    ck_ok(tree_read(json, strlen(json), &t));
    ck_assert_uint_eq(t.n, 1);
    ck_assert_str_eq(t.nodes[0].name, "a");
}
END_TEST

START_TEST(hostile_trees_are_refused)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"nodes\":[1]}",
        "{\"nodes\":[" FILE_NODE("..") "]}",
        "{\"nodes\":[" FILE_NODE(".") "]}",
        "{\"nodes\":[" FILE_NODE("") "]}",
        "{\"nodes\":[" FILE_NODE("a/b") "]}",
        "{\"nodes\":[" FILE_NODE("\\\\x2f") "]}",
        "{\"nodes\":[" FILE_NODE("a\\\\x00b") "]}",
        "{\"nodes\":[" FILE_NODE("a\\u0000b") "]}",
        "{\"nodes\":[" FILE_NODE("b") "," FILE_NODE("a") "]}",
        "{\"nodes\":[" FILE_NODE("a") "," FILE_NODE("a") "]}",
        "{\"nodes\":[" FILE_NODE("a") "," FILE_NODE("\\\\x61") "]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"content\":null}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"content\":[\"12\"]}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"dir\",\"content\":null}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"irregular\"}]}",
        "{\"nodes\":[{\"type\":\"fifo\"}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"fifo\",\"uid\":-1}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"fifo\",\"inode\":18446744073709551616}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"fifo\",\"mtime\":\"yesterday\"}]}",
        "{\"nodes\":[{\"name\":\"a\",\"type\":\"symlink\",\"linktarget_raw\":\"YQBi\"}]}",
        "{\"nodes\":[" FILE_NODE("a") "]",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_TREE struct tree t = {0};
        struct err *e = tree_read(bad[i], strlen(bad[i]), &t);
        ck_assert_msg(e && e->kind == ERR_CORRUPT, "taken: %s", bad[i]);
        err_free(e);
    }
}
END_TEST

START_TEST(deep_nesting_is_refused)
{
    AUTO_BUF struct buf b = {0};
    AUTO_TREE struct tree t = {0};
    buf_str(&b, "{\"x\":");
    for (int i = 0; i < 100000; i++)
        buf_char(&b, '[');
    ck_err(tree_read(b.data, b.len, &t), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("tree");
    tcase_add_test(tc, names_are_quoted_as_go_does);
    tcase_add_test(tc, unquoting_takes_octal_and_refuses_the_rest);
    tcase_add_test(tc, json_strings_are_escaped_as_go_does);
    tcase_add_test(tc, times_lose_trailing_zeros_only);
    tcase_add_test(tc, times_of_any_zone_are_read);
    tcase_add_test(tc, base64_round_trips_and_refuses_rubbish);
    tcase_add_test(tc, modes_are_gos);
    tcase_add_test(tc, a_tree_has_exactly_restics_bytes);
    tcase_add_test(tc, a_list_in_pieces_is_the_whole_list);
    tcase_add_test(tc, unknown_keys_are_skipped);
    tcase_add_test(tc, hostile_trees_are_refused);
    tcase_add_test(tc, deep_nesting_is_refused);
    return suite_main("repo tree", tc);
}
