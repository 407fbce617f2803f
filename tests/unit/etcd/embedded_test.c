#include "common/etcd/embedded.h"

#include <sys/stat.h>

#include "tests/unit/etcd/world.h"

static struct etcd_embedded *em;

static void setup(void)
{
    http_init();
    strcpy(world_dir, "/tmp/stillpoint-etcd-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(world_dir));
}

static void teardown(void)
{
    etcd_embedded_stop(em);
    world_down();
}

static void start(void)
{
    struct etcd_embedded_conf conf = {.data_dir = world_dir};
    ck_ok(etcd_embedded_start(&conf, &em));
}

static void expect(struct etcd *e, const char *key, const char *value)
{
    struct etcd_range r;
    ck_ok(etcd_get(e, key, &r));
    ck_assert_uint_eq(r.n, 1);
    ck_assert_str_eq(r.kvs[0].value, value);
    etcd_range_fini(&r);
}

START_TEST(data_survives_a_stop)
{
    for (int i = 0; i < 2; i++) {
        start();
        AUTO(etcd) struct etcd *e = NULL;
        ck_ok(etcd_embedded_open(em, &e));
        if (i == 0)
            ck_ok(etcd_put(e, "/k", "v", 1, 0, NULL));
        expect(e, "/k", "v");
        pid_t pid = etcd_embedded_pid(em);
        ck_assert_int_gt(pid, 0);
        etcd_embedded_stop(em);
        em = NULL;
        ck_assert_int_eq(kill(pid, 0), -1);
    }
}
END_TEST

START_TEST(a_child_that_dies_is_started_again)
{
    start();
    AUTO(etcd) struct etcd *e = NULL;
    ck_ok(etcd_embedded_open(em, &e));
    ck_ok(etcd_put(e, "/k", "v", 1, 0, NULL));
    pid_t first = etcd_embedded_pid(em);
    ck_assert_int_eq(kill(first, SIGKILL), 0);
    /* Its pid must change, not only its answers come back. */
    for (int i = 0; i < 1000; i++) {
        pid_t now = etcd_embedded_pid(em);
        if (now > 0 && now != first)
            break;
        struct timespec moment = {0, 10 * 1000000};
        nanosleep(&moment, NULL);
    }
    ck_assert_int_ne(etcd_embedded_pid(em), first);
    world_wait(e);
    expect(e, "/k", "v");
}
END_TEST

START_TEST(strangers_on_the_machine_are_refused)
{
    start();
    char key[128], cert[128];
    snprintf(cert, sizeof cert, "%s/etcd.pem", world_dir);
    snprintf(key, sizeof key, "%s/etcd.key", world_dir);
    const char *endpoints[] = {etcd_embedded_endpoint(em), NULL};
    struct etcd_conf conf = {.endpoints = endpoints, .ca = cert, .timeout_ms = 2000};
    AUTO(etcd) struct etcd *e = NULL;
    ck_ok(etcd_open(&conf, &e));
    struct err *err = etcd_put(e, "/k", "v", 1, 0, NULL);
    ck_assert_ptr_nonnull(err);
    err_free(err);
    AUTO(etcd) struct etcd *ours = NULL;
    ck_ok(etcd_embedded_open(em, &ours));
    struct etcd_range r;
    ck_ok(etcd_get(ours, "/k", &r));
    ck_assert_uint_eq(r.n, 0);
    etcd_range_fini(&r);
    struct stat st;
    ck_assert_int_eq(stat(key, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(stat(world_dir, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0700);
}
END_TEST

/* A supervisor that is killed takes its etcd along. */
START_TEST(it_does_not_outlive_its_supervisor)
{
    int report[2];
    ck_assert_int_eq(pipe(report), 0);
    pid_t supervisor = fork();
    if (supervisor == 0) {
        start();
        pid_t pid = etcd_embedded_pid(em);
        ssize_t put = write(report[1], &pid, sizeof pid);
        (void)put;
        pause();
    }
    pid_t etcd_pid = 0;
    ck_assert_int_eq(read(report[0], &etcd_pid, sizeof etcd_pid), sizeof etcd_pid);
    ck_assert_int_eq(kill(etcd_pid, 0), 0);
    kill(supervisor, SIGKILL);
    waitpid(supervisor, NULL, 0);
    char stat_path[64], state = 'R';
    snprintf(stat_path, sizeof stat_path, "/proc/%d/stat", etcd_pid);
    for (int i = 0; i < 500 && state != 'Z' && state != 'X'; i++) {
        FILE *f = fopen(stat_path, "re");
        if (!f)
            state = 'X';
        else if (fscanf(f, "%*d %*s %c", &state) != 1)
            state = 'X';
        if (f)
            fclose(f);
        struct timespec moment = {0, 10 * 1000000};
        nanosleep(&moment, NULL);
    }
    ck_assert_msg(state == 'Z' || state == 'X', "etcd is in state %c", state);
    close(report[0]);
    close(report[1]);
}
END_TEST

START_TEST(a_missing_program_is_said_at_once)
{
    struct etcd_embedded_conf conf = {.data_dir = world_dir,
                                      .binary = "/nonexistent/etcd"};
    int64_t before = loop_now_ms();
    ck_err(etcd_embedded_start(&conf, &em), ERR_NOT_FOUND);
    ck_assert_int_lt(loop_now_ms() - before, 10000);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("embedded");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, data_survives_a_stop);
    tcase_add_test(tc, a_child_that_dies_is_started_again);
    tcase_add_test(tc, strangers_on_the_machine_are_refused);
    tcase_add_test(tc, it_does_not_outlive_its_supervisor);
    tcase_add_test(tc, a_missing_program_is_said_at_once);
    return suite_main("embedded", tc);
}
