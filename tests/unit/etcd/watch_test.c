#include "common/etcd/watch.h"

#include "tests/unit/etcd/world.h"

/* What the watcher believes: values by key "/w/<i>", rebuilt at each RESET. */
enum { KEYS = 16 };
static char view[KEYS][32];
static bool in_reset;
static int resets, synced, batches;
static int64_t last_revision;
static struct etcd *etcd;
static struct loop *loop;
static struct etcd_watch *watch;
static struct loop_timer timer;

static int index_of(const char *key)
{
    ck_assert_msg(strncmp(key, "/w/", 3) == 0, "%s", key);
    int i = atoi(key + 3);
    ck_assert(i >= 0 && i < KEYS);
    return i;
}

static void on_events(void *arg, const struct etcd_event *events, size_t n,
                      int64_t revision)
{
    ck_assert_ptr_eq(arg, view);
    ck_assert_msg(events[0].kind == ETCD_RESET || revision > last_revision,
                  "revision %ld came after %ld", (long)revision, (long)last_revision);
    last_revision = revision;
    batches++;
    for (size_t i = 0; i < n; i++) {
        const struct etcd_kv *kv = &events[i].kv;
        switch (events[i].kind) {
        case ETCD_RESET:
            ck_assert(!in_reset);
            in_reset = true;
            resets++;
            memset(view, 0, sizeof view);
            break;
        case ETCD_SYNCED:
            ck_assert(in_reset);
            in_reset = false;
            synced++;
            break;
        case ETCD_PUT:
            snprintf(view[index_of(kv->key)], 32, "%s", kv->value);
            break;
        case ETCD_DELETE:
            view[index_of(kv->key)][0] = '\0';
            break;
        }
    }
    loop_stop(loop);
}

static void give_up(void *arg)
{
    ck_abort_msg("no news: \"%s\" expected", (const char *)arg);
}

/* Runs the loop until the view shows `value` at key i. */
static void wait_for(int i, const char *value)
{
    loop_timer_set(loop, &timer, 40000, give_up, (void *)(uintptr_t)value);
    while (strcmp(view[i], value) != 0 || in_reset)
        loop_run(loop);
    loop_timer_cancel(loop, &timer);
}

static void put(int i, const char *value)
{
    char key[16];
    snprintf(key, sizeof key, "/w/%d", i);
    ck_ok(etcd_put(etcd, key, value, strlen(value), 0, NULL));
}

static void setup(void)
{
    world_up(1);
    etcd = world_open(members[0].client_port, 5000);
    ck_ok(loop_new(&loop));
}

static void setup_three(void)
{
    world_up(3);
    ck_ok(loop_new(&loop));
}

static void teardown(void)
{
    etcd_watch_close(watch);
    etcd_close(etcd);
    loop_free(loop);
    world_down();
}

START_TEST(a_watch_begins_with_what_there_is)
{
    put(1, "one");
    put(2, "two");
    ck_ok(etcd_put(etcd, "/x/3", "outside", 7, 0, NULL));
    watch = etcd_watch_open(etcd, loop, "/w/", on_events, view);
    wait_for(2, "two");
    ck_assert_str_eq(view[1], "one");
    ck_assert_int_eq(resets, 1);
    ck_assert_int_eq(synced, 1);
}
END_TEST

START_TEST(changes_come_in_order_and_none_is_missed)
{
    watch = etcd_watch_open(etcd, loop, "/w/", on_events, view);
    while (!synced)
        loop_run(loop);
    for (int i = 0; i < 300; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        put(i % KEYS, value);
    }
    ck_ok(etcd_delete(etcd, "/w/3", NULL));
    put(0, "end");
    wait_for(0, "end");
    ck_assert_str_eq(view[3], "");
    ck_assert_str_eq(view[11], "299");
    ck_assert_str_eq(view[10], "298");
    ck_assert_int_eq(resets, 1);
}
END_TEST

START_TEST(a_transaction_comes_in_one_batch)
{
    watch = etcd_watch_open(etcd, loop, "/w/", on_events, view);
    while (!synced)
        loop_run(loop);
    int before = batches;
    AUTO(etcd_txn) struct etcd_txn *t = etcd_txn_new();
    etcd_do_put(t, ETCD_THEN, "/w/1", "a", 1, 0);
    etcd_do_put(t, ETCD_THEN, "/w/2", "b", 1, 0);
    struct etcd_txn_result result;
    ck_ok(etcd_commit(etcd, t, &result));
    loop_run(loop);
    ck_assert_int_eq(batches, before + 1);
    ck_assert_int_eq(last_revision, result.revision);
    ck_assert_str_eq(view[1], "a");
    ck_assert_str_eq(view[2], "b");
    etcd_txn_result_fini(&result);
}
END_TEST

START_TEST(a_broken_connection_loses_nothing)
{
    struct proxy proxy;
    proxy_start(&proxy, members[0].client_port);
    AUTO(etcd) struct etcd *through = world_open(proxy.port, 5000);
    watch = etcd_watch_open(through, loop, "/w/", on_events, view);
    put(0, "before");
    wait_for(0, "before");
    proxy_set(&proxy, PROXY_CUT);
    put(1, "meanwhile");
    put(1, "meanwhile again");
    proxy_set(&proxy, PROXY_PASS);
    wait_for(1, "meanwhile again");
    ck_assert_int_eq(resets, 1);
    etcd_watch_close(watch);
    watch = NULL;
    proxy_stop(&proxy);
}
END_TEST

/* While the watch is cut off, a key goes and history is compacted: the watcher cannot
 * know by events, so it is told everything anew. */
START_TEST(compaction_during_a_gap_starts_anew)
{
    struct proxy proxy;
    proxy_start(&proxy, members[0].client_port);
    AUTO(etcd) struct etcd *through = world_open(proxy.port, 5000);
    put(1, "goes");
    watch = etcd_watch_open(through, loop, "/w/", on_events, view);
    wait_for(1, "goes");
    proxy_set(&proxy, PROXY_CUT);
    ck_ok(etcd_delete(etcd, "/w/1", NULL));
    put(2, "stays");
    int64_t revision;
    ck_ok(etcd_put(etcd, "/w/3", "last", 4, 0, &revision));
    ck_ok(etcd_compact(etcd, revision));
    proxy_set(&proxy, PROXY_PASS);
    wait_for(3, "last");
    ck_assert_int_eq(resets, 2);
    ck_assert_str_eq(view[1], "");
    ck_assert_str_eq(view[2], "stays");
    put(4, "alive");
    wait_for(4, "alive");
    ck_assert_int_eq(resets, 2);
    etcd_watch_close(watch);
    watch = NULL;
    proxy_stop(&proxy);
}
END_TEST

START_TEST(a_watch_may_close_while_a_batch_waits)
{
    watch = etcd_watch_open(etcd, loop, "/w/", on_events, view);
    while (!synced)
        loop_run(loop);
    put(0, "unseen");
    etcd_watch_close(watch);
    watch = NULL;
    ck_assert_int_eq(batches, 1);
}
END_TEST

/* --- three members ------------------------------------------------------------------ */

static void open_three(void)
{
    char urls[MEMBERS][64];
    const char *endpoints[MEMBERS + 1] = {0};
    for (int i = 0; i < MEMBERS; i++) {
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%d", members[i].client_port);
        endpoints[i] = urls[i];
    }
    struct etcd_conf conf = {.endpoints = endpoints, .timeout_ms = 3000};
    ck_ok(etcd_open(&conf, &etcd));
}

/* Puts a key. What timed out may have happened; putting the same again is harmless. */
static void put_for_certain(int i)
{
    char key[16];
    snprintf(key, sizeof key, "/w/%d", i % KEYS);
    int64_t end = loop_now_ms() + 30000;
    struct err *err = etcd_put(etcd, key, "v", 1, 0, NULL);
    while (err && loop_now_ms() < end) {
        ck_assert_msg(err->kind == ERR_TIMEOUT || err->kind == ERR_UNAVAILABLE, "%s",
                      err_text(err));
        err_free(err);
        err = etcd_put(etcd, key, "v", 1, 0, NULL);
    }
    ck_ok(err);
}

START_TEST(one_member_of_three_may_die)
{
    open_three();
    watch = etcd_watch_open(etcd, loop, "/w/", on_events, view);
    while (!synced)
        loop_run(loop);
    for (int i = 0; i < 5; i++)
        put_for_certain(i);
    wait_for(4, "v");
    member_kill(0); /* the endpoint in use, leader or not */
    for (int i = 5; i < 10; i++)
        put_for_certain(i);
    wait_for(9, "v");
    struct etcd_range r;
    ck_ok(etcd_list(etcd, "/w/", 0, 0, &r));
    ck_assert_uint_eq(r.n, 10);
    etcd_range_fini(&r);
}
END_TEST

START_TEST(without_a_majority_nothing_is_promised)
{
    open_three();
    put_for_certain(0);
    member_kill(0);
    member_kill(1);
    struct err *err = etcd_put(etcd, "/w/1", "v", 1, 0, NULL);
    ck_assert_ptr_nonnull(err);
    ck_assert_msg(err->kind == ERR_TIMEOUT || err->kind == ERR_UNAVAILABLE, "%s",
                  err_text(err));
    err_free(err);
    struct etcd_range r;
    err = etcd_get(etcd, "/w/0", &r);
    ck_assert_ptr_nonnull(err);
    ck_assert_msg(err->kind == ERR_TIMEOUT || err->kind == ERR_UNAVAILABLE, "%s",
                  err_text(err));
    err_free(err);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *one = tcase_create("one");
    tcase_add_checked_fixture(one, setup, teardown);
    tcase_set_timeout(one, 120);
    tcase_add_test(one, a_watch_begins_with_what_there_is);
    tcase_add_test(one, changes_come_in_order_and_none_is_missed);
    tcase_add_test(one, a_transaction_comes_in_one_batch);
    tcase_add_test(one, a_broken_connection_loses_nothing);
    tcase_add_test(one, compaction_during_a_gap_starts_anew);
    tcase_add_test(one, a_watch_may_close_while_a_batch_waits);
    suite_add_tcase(s, one);
    TCase *three = tcase_create("three");
    tcase_add_checked_fixture(three, setup_three, teardown);
    tcase_set_timeout(three, 120);
    tcase_add_test(three, one_member_of_three_may_die);
    tcase_add_test(three, without_a_majority_nothing_is_promised);
    suite_add_tcase(s, three);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
