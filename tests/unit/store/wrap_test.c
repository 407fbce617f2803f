/* The wrappers that every store shares, around a store that does what a script says and
 * under a clock that only sleeping moves. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/store/fault_store.h"
#include "tests/unit/suite.h"

static const char name_of_a[] =
    "index/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/* What happens to the calls, in order; beyond the end all is well. */
struct script {
    enum fault faults[32];
    unsigned n;
    unsigned calls;
    enum store_op ops[64];
};

static enum fault play(void *ctx, const struct store_call *c)
{
    struct script *s = ctx;
    ck_assert_uint_lt(s->calls, 64);
    s->ops[s->calls] = c->op;
    unsigned at = s->calls++;
    return at < s->n ? s->faults[at] : FAULT_NONE;
}

static int64_t clock_ms;
static int64_t slept_ms;
static unsigned sleeps;

static int64_t fake_now(void *ctx)
{
    (void)ctx;
    return clock_ms;
}

static void fake_sleep(void *ctx, int64_t ms)
{
    (void)ctx;
    clock_ms += ms;
    slept_ms += ms;
    sleeps++;
}

static const struct store_clock fake = {fake_now, fake_sleep, NULL};
static char dir[64];
static struct script script;

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/wrap-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    script = (struct script){0};
    clock_ms = 1000000;
    slept_ms = 0;
    sleeps = 0;
}

static void tear_down(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static struct store *open_with(struct store_opts opts)
{
    struct store *s = NULL;
    opts.clock = &fake;
    ck_ok(store_open(dir, STORE_CREATE | STORE_RECLAIM, &s));
    return store_wrap(fault_wrap(s, play, &script), &opts);
}

#define SCRIPT(...)                                                                      \
    script = (struct script)                                                             \
    {                                                                                    \
        .faults = {__VA_ARGS__},                                                         \
        .n = sizeof((enum fault[]){__VA_ARGS__}) / sizeof(enum fault)                    \
    }

START_TEST(what_passes_is_tried_again)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 3});
    char out[4] = "";
    SCRIPT(FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED);
    ck_ok(store_put(s, name_of_a, "abc", 3));
    ck_assert_uint_eq(script.calls, 4);
    SCRIPT(FAULT_LOST);
    ck_ok(store_get(s, name_of_a, 0, out, 3));
    ck_assert_str_eq(out, "abc");
    ck_assert_uint_eq(script.calls, 2);
}
END_TEST

START_TEST(retries_end)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 2});
    SCRIPT(FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED);
    ck_err(store_put(s, name_of_a, "abc", 3), ERR_UNAVAILABLE);
    ck_assert_uint_eq(script.calls, 3);
}
END_TEST

START_TEST(what_does_not_pass_is_not_tried_again)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 5});
    uint64_t bytes;
    SCRIPT(FAULT_BROKEN);
    ck_err(store_put(s, name_of_a, "abc", 3), ERR_IO);
    ck_err(store_stat(s, name_of_a, &bytes), ERR_NOT_FOUND);
    ck_assert_uint_eq(script.calls, 2);
    ck_assert_uint_eq(sleeps, 0);
}
END_TEST

START_TEST(waits_grow_to_a_limit_and_differ)
{
    enum { TRIES = 12, BASE = 1000, MAX = 60000 };
    AUTO(store)
    struct store *s = open_with((struct store_opts){
        .retries = TRIES, .retry_base_ms = BASE, .retry_max_ms = MAX});
    int64_t most = 0, bound = BASE;
    SCRIPT(FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED,
           FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED,
           FAULT_REFUSED, FAULT_REFUSED);
    ck_ok(store_put(s, name_of_a, "abc", 3));
    for (int i = 0; i < TRIES; i++, bound = bound * 2 < MAX ? bound * 2 : MAX)
        most += bound;
    ck_assert_int_le(slept_ms, most);
    ck_assert_int_gt(slept_ms, 0);
    /* Jitter: thirteen waits at their bounds would be no jitter at all. */
    ck_assert_int_ne(slept_ms, most);
}
END_TEST

START_TEST(a_put_of_unknown_outcome_is_looked_up)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 3});
    SCRIPT(FAULT_ECHO);
    ck_ok(store_put(s, name_of_a, "abc", 3));
    /* One put; then it was seen to be there. */
    ck_assert_uint_eq(script.calls, 2);
    ck_assert_int_eq(script.ops[1], STORE_STAT);
}
END_TEST

START_TEST(a_lost_put_is_done_again)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 3});
    uint64_t bytes = 0;
    SCRIPT(FAULT_LOST);
    ck_ok(store_put(s, name_of_a, "abc", 3));
    ck_ok(store_stat(s, name_of_a, &bytes));
    ck_assert_uint_eq(bytes, 3);
}
END_TEST

START_TEST(a_late_success_is_no_conflict)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 3});
    /* The put was done, its answer lost, and so was the first look. */
    SCRIPT(FAULT_ECHO, FAULT_LOST);
    ck_ok(store_put(s, name_of_a, "abc", 3));
    ck_assert_int_eq(script.ops[2], STORE_PUT);
}
END_TEST

START_TEST(somebody_elses_object_is_a_conflict)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 3});
    ck_ok(store_put(s, "config", "abc", 3));
    SCRIPT(FAULT_LOST);
    ck_err(store_put(s, "config", "xyz", 3), ERR_CONFLICT);
    /* But our own, whose answer was lost, is none. */
    ck_ok(store_remove(s, "config"));
    SCRIPT(FAULT_ECHO);
    ck_ok(store_put(s, "config", "abc", 3));
}
END_TEST

START_TEST(a_removal_of_unknown_outcome_succeeds)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 3});
    ck_ok(store_put(s, name_of_a, "abc", 3));
    SCRIPT(FAULT_ECHO);
    ck_ok(store_remove(s, name_of_a));
    ck_err(store_remove(s, name_of_a), ERR_NOT_FOUND);
}
END_TEST

static struct err *count_names(void *ctx, const char *name, uint64_t bytes)
{
    (void)name;
    (void)bytes;
    ++*(unsigned *)ctx;
    return NULL;
}

START_TEST(a_listing_is_told_once)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 3});
    unsigned n = 0;
    ck_ok(store_put(s, name_of_a, "abc", 3));
    SCRIPT(FAULT_ECHO, FAULT_ECHO);
    ck_ok(store_list(s, "index", count_names, &n));
    ck_assert_uint_eq(n, 1);
}
END_TEST

START_TEST(cancelling_ends_the_waiting)
{
    atomic_bool cancel = true;
    AUTO(store)
    struct store *s = open_with((struct store_opts){.retries = 50, .cancel = &cancel});
    SCRIPT(FAULT_REFUSED, FAULT_REFUSED);
    ck_err(store_put(s, name_of_a, "abc", 3), ERR_UNAVAILABLE);
    ck_assert_uint_eq(script.calls, 1);
    ck_assert_uint_eq(sleeps, 0);
}
END_TEST

START_TEST(a_breaker_opens_probes_and_closes)
{
    AUTO(store)
    struct store *s =
        open_with((struct store_opts){.breaker_failures = 3, .breaker_open_ms = 5000});
    uint64_t bytes;
    SCRIPT(FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED, FAULT_REFUSED);
    for (int i = 0; i < 3; i++)
        ck_err(store_put(s, name_of_a, "abc", 3), ERR_UNAVAILABLE);
    ck_assert_uint_eq(script.calls, 3);
    ck_err(store_put(s, name_of_a, "abc", 3), ERR_UNAVAILABLE);
    ck_assert_uint_eq(script.calls, 3); /* not even asked */
    clock_ms += 5000;
    ck_err(store_put(s, name_of_a, "abc", 3), ERR_UNAVAILABLE); /* the probe fails */
    ck_assert_uint_eq(script.calls, 4);
    ck_err(store_put(s, name_of_a, "abc", 3), ERR_UNAVAILABLE);
    ck_assert_uint_eq(script.calls, 4);
    clock_ms += 5000;
    ck_err(store_stat(s, name_of_a, &bytes), ERR_NOT_FOUND); /* an answer closes it */
    ck_ok(store_put(s, name_of_a, "abc", 3));
}
END_TEST

START_TEST(other_failures_leave_a_breaker_closed)
{
    AUTO(store)
    struct store *s =
        open_with((struct store_opts){.breaker_failures = 2, .breaker_open_ms = 5000});
    SCRIPT(FAULT_REFUSED, FAULT_BROKEN, FAULT_REFUSED, FAULT_NONE);
    for (int i = 0; i < 3; i++)
        err_free(store_put(s, name_of_a, "abc", 3));
    ck_ok(store_put(s, name_of_a, "abc", 3));
}
END_TEST

START_TEST(bytes_are_throttled_each_way)
{
    enum { N = 3000 };
    static char data[N];
    AUTO(store)
    struct store *s =
        open_with((struct store_opts){.up_bytes_per_s = 1000, .down_bytes_per_s = 500});
    ck_ok(store_put(s, name_of_a, data, N));
    ck_assert_int_eq(slept_ms, 3000);
    ck_ok(store_get(s, name_of_a, 0, data, N));
    /* While 3 s passed for the way up, one second's worth was saved for the way down. */
    ck_assert_int_eq(slept_ms, 3000 + 6000 - 1000);
    uint64_t bytes;
    ck_ok(store_stat(s, name_of_a, &bytes));
    ck_assert_int_eq(slept_ms, 8000);
}
END_TEST

START_TEST(pieces_are_throttled_and_counted)
{
    static char data[1000];
    struct store_meter meter = {0};
    struct store_upload *u = NULL;
    AUTO(store)
    struct store *s = open_with((struct store_opts){
        .up_bytes_per_s = 1000, .meter = &meter, .retries = 2, .breaker_failures = 1});
    ck_ok(store_begin(s, "index", &u));
    for (int i = 0; i < 5; i++)
        ck_ok(store_append(u, data, sizeof data));
    ck_ok(store_commit(u, name_of_a));
    ck_assert_int_eq(slept_ms, 5000);
    ck_assert_uint_eq(atomic_load(&meter.ops[STORE_PUT].calls), 1);
    ck_assert_uint_eq(atomic_load(&meter.ops[STORE_PUT].bytes), 5000);
    ck_ok(store_begin(s, "index", &u));
    store_abort(u);
    ck_assert_uint_eq(atomic_load(&meter.ops[STORE_PUT].calls), 1);
}
END_TEST

START_TEST(a_meter_counts_attempts_errors_and_times)
{
    struct store_meter meter = {0};
    AUTO(store)
    struct store *s = open_with((struct store_opts){.meter = &meter, .retries = 3});
    uint64_t bytes;
    char out[3];
    SCRIPT(FAULT_REFUSED);
    ck_ok(store_put(s, name_of_a, "abc", 3));
    ck_ok(store_get(s, name_of_a, 0, out, 3));
    ck_err(store_stat(s, "index/nothing", &bytes), ERR_NOT_FOUND);
    const struct store_meter_op *put = &meter.ops[STORE_PUT];
    ck_assert_uint_eq(atomic_load(&put->calls), 2);
    ck_assert_uint_eq(atomic_load(&put->errors), 1);
    ck_assert_uint_eq(atomic_load(&put->bytes), 3);
    ck_assert_uint_eq(atomic_load(&put->histogram[0]), 2);
    ck_assert_uint_eq(atomic_load(&meter.ops[STORE_STAT].errors), 0);
    ck_assert_uint_eq(atomic_load(&meter.ops[STORE_GET].bytes), 3);
    ck_assert_str_eq(store_op_name(STORE_REMOVE), "remove");
}
END_TEST

START_TEST(options_stand_behind_the_path)
{
    struct store_opts o = {.retries = 1};
    AUTO(str) char *plain = NULL;
    ck_ok(store_opts_read("local:/a/b?up=20MiB&down=5&breaker=7", &o, &plain));
    ck_assert_str_eq(plain, "local:/a/b");
    ck_assert_uint_eq(o.up_bytes_per_s, 20u << 20);
    ck_assert_uint_eq(o.down_bytes_per_s, 5);
    ck_assert_uint_eq(o.breaker_failures, 7);
    ck_assert_uint_eq(o.retries, 1);
    static const char *const bad[] = {"local:/a?up",         "local:/a?up=x",
                                      "local:/a?pu=1",       "local:/a?retries=101",
                                      "local:/a?down=-1",    "local:/a?down=1TB",
                                      "local:/a?retries=1&", "local:/a?retries=1MiB"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *rest = NULL;
        ck_err(store_opts_read(bad[i], &o, &rest), ERR_INVALID);
        free(rest);
    }
}
END_TEST

START_TEST(a_url_opens_with_its_options)
{
    AUTO(str) char *url = mem_printf("local:%s?retries=3&up=1GiB", dir);
    struct store *opened = NULL;
    ck_ok(store_open(url, STORE_CREATE, &opened));
    AUTO(store) struct store *s = opened;
    ck_ok(store_put(s, name_of_a, "abc", 3));
    ck_err(store_remove(s, name_of_a), ERR_DENIED);
    ck_assert_str_eq(s->url, dir);
    /* Without a scheme a question mark is part of the path. */
    AUTO(str) char *odd = mem_printf("%s/x?y=z", dir);
    struct store *other = NULL;
    ck_ok(store_open(odd, STORE_CREATE, &other));
    store_close(other);
    ck_assert_int_eq(access(odd, F_OK), 0);
}
END_TEST

START_TEST(old_leftovers_are_cleaned)
{
    AUTO(store) struct store *s = open_with((struct store_opts){.retries = 1});
    struct store_leftovers got = {0};
    AUTO(str) char *old = mem_printf("%s/data/aa/aaaa-tmp-12-3", dir);
    AUTO(str) char *fresh = mem_printf("%s/index/bbbb-tmp-99", dir);
    AUTO(str) char *sub = mem_printf("%s/data/aa", dir);
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = 1000}};
    ck_ok(store_put(s, name_of_a, "abc", 3));
    ck_assert(mkdir(sub, 0700) == 0 || errno == EEXIST);
    fclose(fopen(old, "w"));
    ck_assert_int_eq(truncate(old, 50), 0);
    ck_assert_int_eq(utimensat(-1, old, times, 0), 0);
    fclose(fopen(fresh, "w"));
    ck_ok(store_clean(s, STORE_LEFTOVER_AGE_S, &got));
    ck_assert_uint_eq(got.files, 1);
    ck_assert_uint_eq(got.bytes, 50);
    ck_assert_int_ne(access(old, F_OK), 0);
    ck_assert_int_eq(access(fresh, F_OK), 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("wrap");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, what_passes_is_tried_again);
    tcase_add_test(tc, retries_end);
    tcase_add_test(tc, what_does_not_pass_is_not_tried_again);
    tcase_add_test(tc, waits_grow_to_a_limit_and_differ);
    tcase_add_test(tc, a_put_of_unknown_outcome_is_looked_up);
    tcase_add_test(tc, a_lost_put_is_done_again);
    tcase_add_test(tc, a_late_success_is_no_conflict);
    tcase_add_test(tc, somebody_elses_object_is_a_conflict);
    tcase_add_test(tc, a_removal_of_unknown_outcome_succeeds);
    tcase_add_test(tc, a_listing_is_told_once);
    tcase_add_test(tc, cancelling_ends_the_waiting);
    tcase_add_test(tc, a_breaker_opens_probes_and_closes);
    tcase_add_test(tc, other_failures_leave_a_breaker_closed);
    tcase_add_test(tc, bytes_are_throttled_each_way);
    tcase_add_test(tc, pieces_are_throttled_and_counted);
    tcase_add_test(tc, a_meter_counts_attempts_errors_and_times);
    tcase_add_test(tc, options_stand_behind_the_path);
    tcase_add_test(tc, a_url_opens_with_its_options);
    tcase_add_test(tc, old_leftovers_are_cleaned);
    return suite_main("store wrappers", tc);
}
