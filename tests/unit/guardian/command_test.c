#include "agent/guardian/command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/guardian/clock.h"
#include "common/base/mem.h"
#include "tests/unit/suite.h"

static struct err *run_shell(const char *script, int64_t timeout_ms)
{
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, (char *)script};
    struct command c;
    command_init(&c, argv, ARRAY_LEN(argv));
    return command_run(&c, timeout_ms);
}

static void expect_refusal(const char *script, enum err_kind kind, const char *part)
{
    struct err *e = run_shell(script, 5000);
    ck_assert_ptr_nonnull(e);
    AUTO(str) char *text = err_text(e);
    ck_assert_int_eq(e->kind, kind);
    ck_assert_msg(strstr(text, part) != NULL, "'%s' not in: %s", part, text);
    err_free(e);
}

START_TEST(success_is_exit_status_zero)
{
    ck_ok(run_shell("exit 0", 5000));
    expect_refusal("echo went wrong >&2; exit 4", ERR_IO,
                   "'/bin/sh' exited with status 4: went wrong");
    expect_refusal("kill -9 $$", ERR_IO, "killed by signal 9");
}
END_TEST

START_TEST(only_the_end_of_the_output_is_kept_and_on_one_line)
{
    struct err *e = run_shell("seq 1 100000; printf 'the\\nend'; exit 1", 5000);
    ck_assert_ptr_nonnull(e);
    ck_assert_ptr_nonnull(strstr(e->msg, "100000 the end"));
    ck_assert_ptr_null(strchr(e->msg, '\n'));
    ck_assert_uint_lt(strlen(e->msg), COMMAND_OUTPUT_BYTES + 100);
    err_free(e);
}
END_TEST

START_TEST(a_command_that_hangs_is_killed_with_its_children)
{
    AUTO(str) char *mark = mem_printf("/tmp/command_test.%d", (int)getpid());
    AUTO(str) char *script = mem_printf("(sleep 1; touch %s) & sleep 60", mark);
    int64_t from_ms = clock_ms();
    ck_err(run_shell(script, 200), ERR_TIMEOUT);
    ck_assert_int_lt(clock_ms() - from_ms, 900);
    /* The child would have left its mark by now. */
    ck_ok(run_shell("sleep 1.2", 5000));
    ck_assert_int_ne(access(mark, F_OK), 0);
}
END_TEST

START_TEST(a_daemon_left_behind_is_not_waited_for)
{
    AUTO(str) char *mark = mem_printf("/tmp/command_test.daemon.%d", (int)getpid());
    AUTO(str) char *script = mem_printf("(sleep 3; touch %s) & exit 0", mark);
    /* It holds the pipe open; the command itself has ended well. Whoever waited would
     * kill it at the deadline. */
    ck_ok(run_shell(script, 2000));
    ck_ok(run_shell("sleep 4", 10000));
    ck_assert_int_eq(access(mark, F_OK), 0);
    unlink(mark);
    /* What it writes does not keep the command running either. */
    ck_ok(run_shell("yes & exit 0", 300));
}
END_TEST

START_TEST(the_environment_is_its_own)
{
    setenv("SECRET", "x", 1);
    ck_ok(run_shell("test -z \"$SECRET\" && test -n \"$PATH\"", 5000));
}
END_TEST

START_TEST(what_cannot_be_started_says_so)
{
    char *argv[] = {(char[]){"/nowhere/command"}};
    struct command c;
    command_init(&c, argv, 1);
    struct err *e = command_run(&c, 1000);
    ck_assert_ptr_nonnull(e);
    ck_assert_ptr_nonnull(strstr(e->msg, "could not be started"));
    err_free(e);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("command");
    tcase_set_timeout(tc, 20);
    tcase_add_test(tc, success_is_exit_status_zero);
    tcase_add_test(tc, only_the_end_of_the_output_is_kept_and_on_one_line);
    tcase_add_test(tc, a_command_that_hangs_is_killed_with_its_children);
    tcase_add_test(tc, a_daemon_left_behind_is_not_waited_for);
    tcase_add_test(tc, the_environment_is_its_own);
    tcase_add_test(tc, what_cannot_be_started_says_so);
    return suite_main("command", tc);
}
