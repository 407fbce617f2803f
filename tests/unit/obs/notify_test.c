#include "common/obs/notify.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/suite.h"

/* What the service manager would get: a datagram socket named in the environment. */
static int manager(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/notify_test.%d", (int)getpid());
    unlink(a.sun_path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    setenv("NOTIFY_SOCKET", a.sun_path, 1);
    return fd;
}

static void expect(int fd, const char *text)
{
    char got[256] = "";
    ck_assert_int_gt(recv(fd, got, sizeof got - 1, 0), 0);
    ck_assert_str_eq(got, text);
}

static void done(int fd)
{
    close(fd);
    unlink(getenv("NOTIFY_SOCKET"));
}

START_TEST(ready_and_beats_reach_the_manager)
{
    int fd = manager();
    setenv("WATCHDOG_USEC", "3000000", 1);
    notify_ready(NULL, "serving");
    expect(fd, "READY=1\nSTATUS=serving");
    ck_assert_int_eq(notify_interval_ms(), 1500);
    notify_beat();
    expect(fd, "WATCHDOG=1");
    done(fd);
}
END_TEST

START_TEST(a_loop_beats_as_soon_as_it_is_ready)
{
    int fd = manager();
    setenv("WATCHDOG_USEC", "3000000", 1);
    AUTO(loop) struct loop *l = NULL;
    ck_ok(loop_new(&l));
    notify_ready(l, "serving");
    expect(fd, "READY=1\nSTATUS=serving");
    expect(fd, "WATCHDOG=1");
    done(fd);
}
END_TEST

START_TEST(without_a_watchdog_there_is_no_interval)
{
    unsetenv("WATCHDOG_USEC");
    ck_assert_int_eq(notify_interval_ms(), -1);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("notify");
    tcase_add_test(tc, ready_and_beats_reach_the_manager);
    tcase_add_test(tc, a_loop_beats_as_soon_as_it_is_ready);
    tcase_add_test(tc, without_a_watchdog_there_is_no_interval);
    return suite_main("notify", tc);
}
