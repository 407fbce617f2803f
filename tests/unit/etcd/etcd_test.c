#include "common/etcd/etcd.h"

#include <pthread.h>

#include "tests/unit/etcd/world.h"

static struct etcd *etcd;

static void setup(void)
{
    world_up(1);
    etcd = world_open(members[0].client_port, 5000);
}

static void teardown(void)
{
    etcd_close(etcd);
    world_down();
}

static void expect(const char *key, const char *value)
{
    struct etcd_range r;
    ck_ok(etcd_get(etcd, key, &r));
    ck_assert_uint_eq(r.n, value ? 1 : 0);
    if (value)
        ck_assert_str_eq(r.kvs[0].value, value);
    etcd_range_fini(&r);
}

static void put(const char *key, const char *value)
{
    ck_ok(etcd_put(etcd, key, value, strlen(value), 0, NULL));
}

START_TEST(what_is_put_is_read)
{
    static const char bytes[] = {0, 1, (char)0xff, 0, 'x'};
    int64_t revision, deleted;
    ck_ok(etcd_put(etcd, "/a/é", bytes, sizeof bytes, 0, &revision));
    struct etcd_range r;
    ck_ok(etcd_get(etcd, "/a/é", &r));
    ck_assert_uint_eq(r.n, 1);
    ck_assert_str_eq(r.kvs[0].key, "/a/é");
    ck_assert_uint_eq(r.kvs[0].value_len, sizeof bytes);
    ck_assert_mem_eq(r.kvs[0].value, bytes, sizeof bytes);
    ck_assert_int_eq(r.kvs[0].mod_revision, revision);
    ck_assert_int_eq(r.kvs[0].version, 1);
    etcd_range_fini(&r);
    ck_ok(etcd_delete(etcd, "/a/é", &deleted));
    ck_assert_int_eq(deleted, 1);
    expect("/a/é", NULL);
    ck_ok(etcd_delete(etcd, "/a/é", &deleted));
    ck_assert_int_eq(deleted, 0);
    put("/empty", "");
    expect("/empty", "");
}
END_TEST

START_TEST(a_prefix_is_exact)
{
    put("/p", "outside");
    put("/p/a", "1");
    put("/p/b", "2");
    put("/p0", "outside");
    put("/q", "outside");
    struct etcd_range r;
    ck_ok(etcd_list(etcd, "/p/", 0, 0, &r));
    ck_assert_uint_eq(r.n, 2);
    ck_assert_str_eq(r.kvs[0].key, "/p/a");
    ck_assert_str_eq(r.kvs[1].key, "/p/b");
    etcd_range_fini(&r);
    ck_ok(etcd_list(etcd, "", 0, 0, &r));
    ck_assert_uint_eq(r.n, 5);
    etcd_range_fini(&r);
    ck_ok(etcd_list(etcd, "", 0, 3, &r));
    ck_assert_uint_eq(r.n, 3);
    ck_assert(r.more);
    etcd_range_fini(&r);
    int64_t deleted;
    ck_ok(etcd_delete_prefix(etcd, "/p/", &deleted));
    ck_assert_int_eq(deleted, 2);
    expect("/p", "outside");
    expect("/p0", "outside");
}
END_TEST

START_TEST(a_long_list_is_one_consistent_state)
{
    enum { N = 2 * ETCD_PAGE + 1 };
    for (int i = 0; i < N;) {
        AUTO(etcd_txn) struct etcd_txn *t = etcd_txn_new();
        for (int k = 0; k < ETCD_TXN_OPS && i < N; k++, i++) {
            char key[32];
            snprintf(key, sizeof key, "/l/%05d", i);
            etcd_do_put(t, ETCD_THEN, key, "old", 3, 0);
        }
        struct etcd_txn_result result;
        ck_ok(etcd_commit(etcd, t, &result));
        ck_assert(result.succeeded);
        etcd_txn_result_fini(&result);
    }
    struct etcd_range r, then;
    ck_ok(etcd_list(etcd, "/l/", 0, 0, &r));
    ck_assert_uint_eq(r.n, N);
    for (int i = 0; i < N; i++) {
        char key[32];
        snprintf(key, sizeof key, "/l/%05d", i);
        ck_assert_str_eq(r.kvs[i].key, key);
    }
    int64_t revision = r.revision;
    put("/l/00000", "new");
    ck_ok(etcd_list(etcd, "/l/", revision, 0, &then));
    ck_assert_str_eq(then.kvs[0].value, "old");
    ck_assert_uint_eq(then.n, N);
    etcd_range_fini(&r);
    etcd_range_fini(&then);
}
END_TEST

/* Each value is a megabyte, so a full page would be larger than a reply may be. */
START_TEST(large_values_come_in_smaller_pages)
{
    enum { N = 20, BYTES = 1 << 20 };
    char *value = mem_alloc(BYTES);
    memset(value, 'v', BYTES);
    for (int i = 0; i < N; i++) {
        char key[32];
        snprintf(key, sizeof key, "/big/%02d", i);
        ck_ok(etcd_put(etcd, key, value, BYTES - 16, 0, NULL));
    }
    struct etcd_range r;
    ck_ok(etcd_list(etcd, "/big/", 0, 0, &r));
    ck_assert_uint_eq(r.n, N);
    ck_assert_uint_eq(r.kvs[N - 1].value_len, BYTES - 16);
    etcd_range_fini(&r);
    ck_err(etcd_put(etcd, "/big/x", value, BYTES, 0, NULL), ERR_LIMIT);
    free(value);
}
END_TEST

START_TEST(a_lock_is_taken_once_and_its_revision_is_the_token)
{
    struct etcd_txn_result result;
    AUTO(etcd_txn) struct etcd_txn *t = etcd_txn_new();
    etcd_if_absent(t, "/lock");
    etcd_do_put(t, ETCD_THEN, "/lock", "me", 2, 0);
    etcd_do_get(t, ETCD_ELSE, "/lock");
    ck_ok(etcd_commit(etcd, t, &result));
    ck_assert(result.succeeded);
    ck_assert_uint_eq(result.n_ranges, 0);
    int64_t token = result.revision;
    etcd_txn_result_fini(&result);
    ck_ok(etcd_commit(etcd, t, &result));
    ck_assert(!result.succeeded);
    ck_assert_uint_eq(result.n_ranges, 1);
    ck_assert_uint_eq(result.ranges[0].n, 1);
    ck_assert_str_eq(result.ranges[0].kvs[0].value, "me");
    ck_assert_int_eq(result.ranges[0].kvs[0].create_revision, token);
    etcd_txn_result_fini(&result);
}
END_TEST

static bool holds(const char *key, enum etcd_target target, enum etcd_relation relation,
                  int64_t number)
{
    AUTO(etcd_txn) struct etcd_txn *t = etcd_txn_new();
    etcd_if(t, key, target, relation, number);
    etcd_do_get(t, ETCD_THEN, key);
    etcd_do_get(t, ETCD_ELSE, key);
    struct etcd_txn_result result;
    ck_ok(etcd_commit(etcd, t, &result));
    bool succeeded = result.succeeded;
    etcd_txn_result_fini(&result);
    return succeeded;
}

static bool value_holds(const char *key, enum etcd_relation relation, const char *value)
{
    AUTO(etcd_txn) struct etcd_txn *t = etcd_txn_new();
    etcd_if_value(t, key, relation, value, strlen(value));
    etcd_do_get(t, ETCD_THEN, key);
    etcd_do_get(t, ETCD_ELSE, key);
    struct etcd_txn_result result;
    ck_ok(etcd_commit(etcd, t, &result));
    bool succeeded = result.succeeded;
    etcd_txn_result_fini(&result);
    return succeeded;
}

/* Each target and relation, true and false: the gateway would silently ignore a member
 * that is spelled wrong. */
START_TEST(every_compare_compares_what_it_says)
{
    put("/k", "1");
    put("/k", "2");
    int64_t lease, ttl;
    ck_ok(etcd_lease_grant(etcd, 60, &lease, &ttl));
    ck_ok(etcd_put(etcd, "/k", "3", 1, lease, NULL));
    struct etcd_range r;
    ck_ok(etcd_get(etcd, "/k", &r));
    const int64_t now[] = {
        [ETCD_CREATE] = r.kvs[0].create_revision,
        [ETCD_MOD] = r.kvs[0].mod_revision,
        [ETCD_VERSION] = r.kvs[0].version,
        [ETCD_LEASE] = r.kvs[0].lease,
    };
    ck_assert_int_eq(now[ETCD_VERSION], 3);
    ck_assert_int_eq(now[ETCD_LEASE], lease);
    etcd_range_fini(&r);
    for (int t = ETCD_CREATE; t <= ETCD_LEASE; t++) {
        enum etcd_target target = (enum etcd_target)t;
        ck_assert(holds("/k", target, ETCD_EQUAL, now[t]));
        ck_assert(!holds("/k", target, ETCD_EQUAL, now[t] + 1));
        ck_assert(holds("/k", target, ETCD_NOT_EQUAL, now[t] + 1));
        ck_assert(!holds("/k", target, ETCD_NOT_EQUAL, now[t]));
        ck_assert(holds("/k", target, ETCD_GREATER, now[t] - 1));
        ck_assert(!holds("/k", target, ETCD_GREATER, now[t]));
        ck_assert(holds("/k", target, ETCD_LESS, now[t] + 1));
        ck_assert(!holds("/k", target, ETCD_LESS, now[t]));
    }
    ck_assert(value_holds("/k", ETCD_EQUAL, "3"));
    ck_assert(!value_holds("/k", ETCD_EQUAL, "2"));
    ck_assert(value_holds("/k", ETCD_NOT_EQUAL, "2"));
}
END_TEST

START_TEST(a_transaction_beyond_the_limits_is_refused)
{
    struct etcd_txn_result result;
    AUTO(etcd_txn) struct etcd_txn *full = etcd_txn_new();
    for (int i = 0; i < ETCD_TXN_OPS; i++) {
        char key[16];
        snprintf(key, sizeof key, "/t/%d", i);
        etcd_do_put(full, ETCD_THEN, key, "v", 1, 0);
    }
    ck_ok(etcd_commit(etcd, full, &result));
    etcd_txn_result_fini(&result);
    etcd_do_put(full, ETCD_THEN, "/t/more", "v", 1, 0);
    ck_err(etcd_commit(etcd, full, &result), ERR_LIMIT);
    expect("/t/more", NULL);

    AUTO(etcd_txn) struct etcd_txn *twice = etcd_txn_new();
    etcd_do_put(twice, ETCD_THEN, "/same", "1", 1, 0);
    etcd_do_put(twice, ETCD_THEN, "/same", "2", 1, 0);
    ck_err(etcd_commit(etcd, twice, &result), ERR_INVALID);
    expect("/same", NULL);

    AUTO(etcd_txn) struct etcd_txn *empty = etcd_txn_new();
    etcd_if_absent(empty, "/x");
    ck_err(etcd_commit(etcd, empty, &result), ERR_INVALID);
}
END_TEST

START_TEST(a_key_goes_with_its_lease)
{
    int64_t lease, ttl = 0, id;
    ck_ok(etcd_lease_grant(etcd, 1, &lease, &ttl));
    ck_assert_int_ge(ttl, 1);
    ck_ok(etcd_put(etcd, "/leased", "v", 1, lease, NULL));
    ck_ok(etcd_lease_keep(etcd, lease, &ttl));
    ck_assert_int_ge(ttl, 1);
    expect("/leased", "v");
    int64_t end = loop_now_ms() + 20000;
    struct etcd_range r = {0};
    do {
        etcd_range_fini(&r);
        ck_ok(etcd_get(etcd, "/leased", &r));
    } while (r.n > 0 && loop_now_ms() < end);
    ck_assert_uint_eq(r.n, 0);
    etcd_range_fini(&r);
    ck_err(etcd_lease_keep(etcd, lease, &ttl), ERR_NOT_FOUND);
    ck_err(etcd_lease_revoke(etcd, lease), ERR_NOT_FOUND);
    ck_err(etcd_put(etcd, "/leased", "v", 1, lease, NULL), ERR_NOT_FOUND);

    ck_ok(etcd_lease_grant(etcd, 600, &id, &ttl));
    ck_ok(etcd_put(etcd, "/leased", "v", 1, id, NULL));
    ck_ok(etcd_lease_revoke(etcd, id));
    expect("/leased", NULL);
}
END_TEST

START_TEST(compacted_history_is_a_conflict)
{
    int64_t revision;
    put("/c", "1");
    ck_ok(etcd_put(etcd, "/c", "2", 1, 0, &revision));
    ck_ok(etcd_compact(etcd, revision));
    struct etcd_range r;
    ck_err(etcd_list(etcd, "/c", revision - 1, 0, &r), ERR_CONFLICT);
    ck_err(etcd_list(etcd, "/c", revision + 100, 0, &r), ERR_INVALID);
    expect("/c", "2");
}
END_TEST

/* --- unlucky networks --------------------------------------------------------------- */

static struct err *put_through(int port, int64_t timeout_ms, const char *key)
{
    AUTO(etcd) struct etcd *e = world_open(port, timeout_ms);
    struct etcd_range r;
    TRY(etcd_get(e, "/warm", &r)); /* so that the connection is a kept one */
    etcd_range_fini(&r);
    return etcd_put(e, key, "v", 1, 0, NULL);
}

START_TEST(nobody_there_is_certainly_not_done)
{
    AUTO(etcd) struct etcd *e = world_open(proxy_free_port(), 1000);
    ck_err(etcd_put(e, "/k", "v", 1, 0, NULL), ERR_UNAVAILABLE);
    struct etcd_range r;
    ck_err(etcd_get(e, "/k", &r), ERR_UNAVAILABLE);
}
END_TEST

/* The reply to a write is swallowed, or the connection breaks instead of it: it was
 * executed exactly once, and the caller is told that this is not known. */
START_TEST(a_lost_reply_is_an_unknown_outcome_and_not_repeated)
{
    static const enum proxy_mode modes[] = {PROXY_SWALLOW, PROXY_CUT_BACK};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct proxy proxy;
        proxy_start(&proxy, members[0].client_port);
        AUTO(etcd) struct etcd *e = world_open(proxy.port, 1000);
        struct etcd_range r;
        ck_ok(etcd_get(e, "/warm", &r)); /* the connection is a kept one */
        etcd_range_fini(&r);
        proxy_set(&proxy, modes[i]);
        char key[16];
        snprintf(key, sizeof key, "/once/%zu", i);
        ck_err(etcd_put(e, key, "v", 1, 0, NULL), ERR_TIMEOUT);
        ck_ok(etcd_get(etcd, key, &r));
        ck_assert_uint_eq(r.n, 1);
        ck_assert_int_eq(r.kvs[0].version, 1);
        etcd_range_fini(&r);
        proxy_stop(&proxy);
    }
}
END_TEST

/* A kept connection that has died must not make curl send a write a second time on its
 * own; a read may be. */
START_TEST(a_dead_kept_connection_costs_a_write_but_no_read)
{
    struct proxy proxy;
    proxy_start(&proxy, members[0].client_port);
    AUTO(etcd) struct etcd *e = world_open(proxy.port, 2000);
    struct etcd_range r;
    ck_ok(etcd_get(e, "/warm", &r));
    etcd_range_fini(&r);
    proxy_set(&proxy, PROXY_CUT);
    proxy_set(&proxy, PROXY_PASS);
    ck_ok(etcd_get(e, "/warm", &r));
    etcd_range_fini(&r);
    proxy_stop(&proxy);
    ck_err(put_through(proxy.port, 1000, "/k"), ERR_UNAVAILABLE);
}
END_TEST

/* --- something that is not etcd ----------------------------------------------------- */

static const char *fake_answer;

static void *fake_run(void *arg)
{
    int listener = *(int *)arg;
    int fd = accept(listener, NULL, NULL);
    char b[4096];
    ssize_t got = read(fd, b, sizeof b);
    ck_assert_int_gt(got, 0);
    ssize_t put_bytes = send(fd, fake_answer, strlen(fake_answer), MSG_NOSIGNAL);
    ck_assert_int_eq(put_bytes, (ssize_t)strlen(fake_answer));
    shutdown(fd, SHUT_WR);
    while (read(fd, b, sizeof b) > 0) /* else the rest of the request makes a reset */
        continue;
    close(fd);
    return NULL;
}

static struct err *ask_fake(const char *answer, bool write)
{
    fake_answer = answer;
    int listener = proxy_socket();
    struct sockaddr_in a = proxy_loopback(0);
    socklen_t n = sizeof a;
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&a, n), 0);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&a, &n);
    pthread_t thread;
    pthread_create(&thread, NULL, fake_run, &listener);
    AUTO(etcd) struct etcd *e = world_open(ntohs(a.sin_port), 2000);
    struct etcd_range r = {0};
    struct err *err = write ? etcd_put(e, "/k", "v", 1, 0, NULL) : etcd_get(e, "/k", &r);
    etcd_range_fini(&r);
    pthread_join(thread, NULL);
    close(listener);
    return err;
}

#define REPLY(status, body) "HTTP/1.1 " status " x\r\nConnection: close\r\n\r\n" body

START_TEST(replies_that_make_no_sense_are_no_success)
{
    ck_err(ask_fake(REPLY("200", "{\"kvs\":[{\"key\":\"!\"}]}"), false), ERR_CORRUPT);
    ck_err(ask_fake(REPLY("200", "{\"kvs\":7}"), false), ERR_CORRUPT);
    ck_err(ask_fake(REPLY("200", "<html>"), false), ERR_CORRUPT);
    ck_err(ask_fake(REPLY("200", "{\"header\":{\"revision\":\"x\"}}"), false),
           ERR_CORRUPT);
    ck_err(ask_fake(REPLY("200", "<html>"), true), ERR_TIMEOUT);
    ck_err(ask_fake(REPLY("502", "bad gateway"), true), ERR_TIMEOUT);
    ck_err(ask_fake(REPLY("502", "bad gateway"), false), ERR_UNAVAILABLE);
    ck_err(ask_fake(REPLY("404", "Not Found"), true), ERR_INVALID);
    /* 3.4 and 3.5 give the same code with other HTTP statuses and members. */
    ck_err(ask_fake(REPLY("412", "{\"error\":\"x\",\"message\":\"x\",\"code\":9}"), true),
           ERR_CONFLICT);
    ck_err(ask_fake(REPLY("400", "{\"code\":9, \"message\":\"x\"}"), true), ERR_CONFLICT);
    ck_err(ask_fake(REPLY("200", "{\"code\":5, \"message\":\"x\"}"), true),
           ERR_NOT_FOUND);
    ck_err(ask_fake(REPLY("503", "{\"code\":14, \"message\":\"x\"}"), true), ERR_TIMEOUT);
    ck_err(ask_fake(REPLY("429", "{\"code\":8, \"message\":\"etcdserver: mvcc: database "
                                 "space exceeded\"}"),
                    true),
           ERR_NO_SPACE);
}
END_TEST

/* --- authentication ----------------------------------------------------------------- */

static void etcdctl(const char *command)
{
    AUTO(str)
    char *line = mem_printf("ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:%d %s "
                            ">/dev/null 2>&1",
                            members[0].client_port, command);
    ck_assert_msg(system(line) == 0, "%s", line);
}

START_TEST(a_user_is_authenticated_and_again_when_its_token_is_gone)
{
    etcdctl("user add root:secret");
    etcdctl("user grant-role root root");
    etcdctl("auth enable");
    ck_err(etcd_put(etcd, "/k", "v", 1, 0, NULL), ERR_DENIED);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", members[0].client_port);
    const char *endpoints[] = {url, NULL};
    struct etcd_conf conf = {
        .endpoints = endpoints, .user = "root", .password = "secret"};
    AUTO(etcd) struct etcd *e = NULL;
    ck_ok(etcd_open(&conf, &e));
    ck_ok(etcd_put(e, "/k", "v", 1, 0, NULL));
    /* Any change of users makes old tokens invalid. */
    etcdctl("--user root:secret user add other:x");
    ck_ok(etcd_put(e, "/k", "w", 1, 0, NULL));
    conf.password = "wrong";
    AUTO(etcd) struct etcd *bad = NULL;
    ck_ok(etcd_open(&conf, &bad));
    ck_err(etcd_put(bad, "/k", "v", 1, 0, NULL), ERR_DENIED);
}
END_TEST

START_TEST(endpoints_are_checked)
{
    static const char *const bad[] = {"127.0.0.1:2379", NULL};
    static const char *const none[] = {NULL};
    struct etcd *e;
    struct etcd_conf conf = {.endpoints = bad};
    ck_err(etcd_open(&conf, &e), ERR_INVALID);
    conf.endpoints = none;
    ck_err(etcd_open(&conf, &e), ERR_INVALID);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("etcd");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, what_is_put_is_read);
    tcase_add_test(tc, a_prefix_is_exact);
    tcase_add_test(tc, a_long_list_is_one_consistent_state);
    tcase_add_test(tc, large_values_come_in_smaller_pages);
    tcase_add_test(tc, a_lock_is_taken_once_and_its_revision_is_the_token);
    tcase_add_test(tc, every_compare_compares_what_it_says);
    tcase_add_test(tc, a_transaction_beyond_the_limits_is_refused);
    tcase_add_test(tc, a_key_goes_with_its_lease);
    tcase_add_test(tc, compacted_history_is_a_conflict);
    tcase_add_test(tc, nobody_there_is_certainly_not_done);
    tcase_add_test(tc, a_lost_reply_is_an_unknown_outcome_and_not_repeated);
    tcase_add_test(tc, a_dead_kept_connection_costs_a_write_but_no_read);
    tcase_add_test(tc, replies_that_make_no_sense_are_no_success);
    tcase_add_test(tc, a_user_is_authenticated_and_again_when_its_token_is_gone);
    tcase_add_test(tc, endpoints_are_checked);
    return suite_main("etcd", tc);
}
