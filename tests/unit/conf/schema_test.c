#include "common/conf/schema.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/conf/units.h"
#include "tests/unit/suite.h"

enum colour { RED, GREEN };
static const char *const colours[] = {"red", "green", NULL};

struct tls {
    char *ca;
    char *mode;
};

struct item {
    char *name;
    int64_t wait_ms;
    struct tls *tls;
};

struct app {
    char *name;
    char *dir;
    bool on;
    int64_t level;
    int64_t hold_ms;
    uint64_t chunk_bytes;
    int colour;
    char **peers;
    size_t n_peers;
    struct schema_pair *labels;
    size_t n_labels;
    struct tls tls;
    struct item *items;
    size_t n_items;
};

static struct err *check_peer(const char *text)
{
    return strchr(text, ':') ? NULL : err_new(ERR_INVALID, "'%s' has no port", text);
}

static const struct schema_field tls_fields[] = {
    {"ca", SCHEMA_PATH, .offset = offsetof(struct tls, ca), .required = true},
    {"mode", SCHEMA_STR, .offset = offsetof(struct tls, mode), .fallback = "strict"},
};
static const struct schema tls_schema = {sizeof(struct tls), tls_fields,
                                         ARRAY_LEN(tls_fields)};

static const struct schema_field item_fields[] = {
    {"name", SCHEMA_NAME, .offset = offsetof(struct item, name), .required = true},
    {"wait", SCHEMA_DURATION, .offset = offsetof(struct item, wait_ms), .fallback = "5s"},
    {"tls", SCHEMA_OPTIONAL, .offset = offsetof(struct item, tls), .schema = &tls_schema},
};
static const struct schema item_schema = {sizeof(struct item), item_fields,
                                          ARRAY_LEN(item_fields)};

static const struct schema_field app_fields[] = {
    {"name", SCHEMA_NAME, .offset = offsetof(struct app, name), .required = true},
    {"dir", SCHEMA_PATH, .offset = offsetof(struct app, dir)},
    {"on", SCHEMA_BOOL, .offset = offsetof(struct app, on), .fallback = "true"},
    {"level", SCHEMA_INT, .offset = offsetof(struct app, level), .min = -5, .max = 5},
    {"hold_limit", SCHEMA_DURATION, .offset = offsetof(struct app, hold_ms),
     .fallback = "10s", .min = 100, .max = 60000},
    {"chunk", SCHEMA_SIZE, .offset = offsetof(struct app, chunk_bytes)},
    {"colour", SCHEMA_ENUM, .offset = offsetof(struct app, colour), .names = colours},
    {"peers", SCHEMA_STRS, .offset = offsetof(struct app, peers),
     .count = offsetof(struct app, n_peers), .check = check_peer, .max = 2},
    {"labels", SCHEMA_PAIRS, .offset = offsetof(struct app, labels),
     .count = offsetof(struct app, n_labels)},
    {"tls", SCHEMA_OBJECT, .offset = offsetof(struct app, tls), .schema = &tls_schema},
    {"items", SCHEMA_OBJECTS, .offset = offsetof(struct app, items),
     .count = offsetof(struct app, n_items), .schema = &item_schema},
};
static const struct schema app_schema = {sizeof(struct app), app_fields,
                                         ARRAY_LEN(app_fields)};

static struct err *bind(const char *text, struct app *app)
{
    AUTO(conf) struct conf *c = NULL;
    TRY(conf_parse("f", text, strlen(text), &c));
    return schema_bind(c, &app_schema, app);
}

static void expect_refusal(const char *text, const char *want)
{
    struct app app;
    struct err *e = bind(text, &app);
    ck_assert_msg(e != NULL, "accepted: %s", text);
    AUTO(str) char *got = err_text(e);
    ck_assert_int_eq(e->kind, ERR_INVALID);
    ck_assert_str_eq(got, want);
    err_free(e);
}

START_TEST(every_type_reaches_its_member)
{
    struct app app;
    ck_ok(bind("name: alpha-1\n"
               "dir: /srv/data\n"
               "on: false\n"
               "level: -3\n"
               "hold_limit: 250ms\n"
               "chunk: 64KiB\n"
               "colour: green\n"
               "peers: ['a:1', b:2]\n"
               "labels: {rack: r1, empty: ''}\n"
               "tls: {ca: /etc/ca.pem}\n"
               "items:\n"
               "  - name: one\n"
               "  - name: two\n"
               "    wait: 1h\n"
               "    tls: {ca: /x, mode: lax}\n",
               &app));
    ck_assert_str_eq(app.name, "alpha-1");
    ck_assert_str_eq(app.dir, "/srv/data");
    ck_assert(!app.on);
    ck_assert_int_eq(app.level, -3);
    ck_assert_int_eq(app.hold_ms, 250);
    ck_assert_uint_eq(app.chunk_bytes, 65536);
    ck_assert_int_eq(app.colour, GREEN);
    ck_assert_uint_eq(app.n_peers, 2);
    ck_assert_str_eq(app.peers[1], "b:2");
    ck_assert_uint_eq(app.n_labels, 2);
    ck_assert_str_eq(app.labels[0].key, "rack");
    ck_assert_str_eq(app.labels[1].value, "");
    ck_assert_str_eq(app.tls.mode, "strict");
    ck_assert_uint_eq(app.n_items, 2);
    ck_assert_int_eq(app.items[0].wait_ms, 5000);
    ck_assert_ptr_null(app.items[0].tls);
    ck_assert_int_eq(app.items[1].wait_ms, 3600000);
    ck_assert_str_eq(app.items[1].tls->mode, "lax");
    schema_release(&app_schema, &app);
    ck_assert_ptr_null(app.name);
}
END_TEST

START_TEST(absent_keys_get_their_defaults)
{
    struct app app;
    ck_ok(bind("name: a\n", &app));
    ck_assert(app.on);
    ck_assert_int_eq(app.hold_ms, 10000);
    ck_assert_ptr_null(app.dir);
    ck_assert_str_eq(app.tls.mode, "strict");
    ck_assert_ptr_null(app.tls.ca);
    ck_assert_uint_eq(app.n_items, 0);
    schema_release(&app_schema, &app);
}
END_TEST

START_TEST(unknown_keys_name_the_nearest_known_one)
{
    expect_refusal("name: a\nhold_limt: 5s\n",
                   "f:2:12: key 'hold_limt': unknown key; did "
                   "you mean 'hold_limit'?");
    expect_refusal("name: a\nitems:\n - nam: x\n",
                   "f:3:9: key 'items[0].nam': unknown key; did you mean 'name'?");
    expect_refusal("name: a\ntls: {certificate: /x}\n",
                   "f:2:20: key 'tls.certificate': unknown key; known here: ca, mode");
    expect_refusal("name: a\ncolour: gren\n",
                   "f:2:9: key 'colour': 'gren' is unknown; did "
                   "you mean 'green'? (known: red, green)");
}
END_TEST

START_TEST(wrong_values_say_what_is_expected)
{
    expect_refusal("dir: /a\n", "f:1:1: key 'name': is required");
    expect_refusal("name: a\ntls: {}\n", "f:2:6: key 'tls.ca': is required");
    expect_refusal("name:\n", "f:1:6: key 'name': has no value");
    expect_refusal("name: A b\n",
                   "f:1:7: key 'name': 'A b' is not a name; use a-z, 0-9, '.', '_' and "
                   "'-', beginning with a letter or digit");
    expect_refusal("name: a\ndir: srv\n",
                   "f:2:6: key 'dir': 'srv' is a relative path; begin it with '/'");
    expect_refusal("name: a\nhold_limit: 10\n",
                   "f:2:13: key 'hold_limit': '10' has no unit; write for example 250ms, "
                   "10s, 5m, 1h or 7d");
    expect_refusal("name: a\nhold_limit: 2m\n",
                   "f:2:13: key 'hold_limit': '2m' is out of "
                   "range; allowed are 100 to 60000 ms");
    expect_refusal("name: a\non: yes\n",
                   "f:2:5: key 'on': 'yes' is neither true nor false");
    expect_refusal("name: a\nlevel: 1.5\n",
                   "f:2:8: key 'level': '1.5' is not a whole number");
    expect_refusal("name: [a]\n", "f:1:7: key 'name': expected one value");
    expect_refusal("name: a\npeers: x:1\n",
                   "f:2:8: key 'peers': expected a list ('- item' lines or [a, b])");
    expect_refusal("name: a\npeers: [x]\n", "f:2:9: key 'peers[0]': 'x' has no port");
    expect_refusal("name: a\npeers: [a:1, a:2, a:3]\n",
                   "f:2:8: key 'peers': has 3 entries; at most 2 are allowed");
}
END_TEST

START_TEST(paths_must_be_in_normal_form)
{
    static const char *const bad[] = {"/a//b", "/a/", "/a/./b", "/a/../b", "//", "/.."};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(str) char *text = mem_printf("name: a\ndir: %s\n", bad[i]);
        struct app app;
        struct err *e = bind(text, &app);
        ck_assert_msg(e && strstr(e->msg, "normal form"), "accepted %s", bad[i]);
        err_free(e);
    }
    static const char *const good[] = {"/", "/a", "/a/b.c/..d"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        AUTO(str) char *text = mem_printf("name: a\ndir: %s\n", good[i]);
        struct app app;
        ck_ok(bind(text, &app));
        schema_release(&app_schema, &app);
    }
}
END_TEST

START_TEST(units_are_exact_and_bounded)
{
    int64_t ms = -1;
    uint64_t bytes = 0;
    ck_ok(units_duration("0", &ms));
    ck_assert_int_eq(ms, 0);
    ck_ok(units_duration("2d", &ms));
    ck_assert_int_eq(ms, INT64_C(172800000));
    ck_ok(units_size("3MB", &bytes));
    ck_assert_uint_eq(bytes, 3000000);
    ck_ok(units_size("1GiB", &bytes));
    ck_assert_uint_eq(bytes, UINT64_C(1073741824));
    ck_ok(units_size("7B", &bytes));
    ck_assert_uint_eq(bytes, 7);
    static const char *const bad[] = {"",
                                      "s",
                                      "-1s",
                                      "1 s",
                                      "1s ",
                                      "1.5s",
                                      "1S",
                                      "+1s",
                                      "99999999999999999999s",
                                      "9223372036854775807s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_err(units_duration(bad[i], &ms), ERR_INVALID);
    ck_err(units_size("16777216TiB", &bytes), ERR_INVALID);
    ck_err(units_size("1Mib", &bytes), ERR_INVALID);
    int64_t v = 0;
    ck_ok(units_int("-9223372036854775807", &v));
    ck_err(units_int("9223372036854775808", &v), ERR_INVALID);
    ck_err(units_int("-", &v), ERR_INVALID);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("schema");
    tcase_add_test(tc, every_type_reaches_its_member);
    tcase_add_test(tc, absent_keys_get_their_defaults);
    tcase_add_test(tc, unknown_keys_name_the_nearest_known_one);
    tcase_add_test(tc, wrong_values_say_what_is_expected);
    tcase_add_test(tc, paths_must_be_in_normal_form);
    tcase_add_test(tc, units_are_exact_and_bounded);
    return suite_main("schema", tc);
}
