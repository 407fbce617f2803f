#include "agent/guardian/command.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guardian/clock.h"
#include "agent/guardian/urgency.h"
#include "common/obs/log.h"

void command_init(struct command *c, char **argv, size_t n)
{
    assert(n > 0 && n <= CONFIG_MAX_ARGS);
    memset(c, 0, sizeof(*c));
    memcpy(c->argv, argv, n * sizeof(*argv));
}

/* In the child. Only calls that are safe after a fork from a threaded process. */
static void become(const struct command *c, int output)
{
    static char path[] =
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    static char *const environment[] = {path, NULL};
    urgency_set(URGENCY_COPY);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    /* A killed guardian must not leave half a freeze running. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    close_range(3, ~0U, 0);
    execve(c->argv[0], c->argv, environment);
    _exit(127);
}

/* The end of what the command printed, as one line. */
struct output {
    char text[COMMAND_OUTPUT_BYTES + 1];
    size_t len;
};

static void keep_end(struct output *o, const char *bytes, size_t n)
{
    if (n > COMMAND_OUTPUT_BYTES) {
        bytes += n - COMMAND_OUTPUT_BYTES;
        n = COMMAND_OUTPUT_BYTES;
    }
    size_t over =
        o->len + n > COMMAND_OUTPUT_BYTES ? o->len + n - COMMAND_OUTPUT_BYTES : 0;
    memmove(o->text, o->text + over, o->len - over);
    o->len -= over;
    for (size_t i = 0; i < n; i++)
        o->text[o->len++] = (unsigned char)bytes[i] < ' ' ? ' ' : bytes[i];
    o->text[o->len] = 0;
}

/* Reads until the end or the deadline; false at the deadline. When the command has ended,
 * what it left behind may go on and keep the pipe open: writers would wait for that. */
static bool collect(int fd, int pidfd, int64_t until_ms, struct output *o)
{
    for (;;) {
        int64_t left_ms = until_ms - clock_ms();
        struct pollfd p[] = {{.fd = fd, .events = POLLIN},
                             {.fd = pidfd, .events = POLLIN}};
        if (left_ms <= 0)
            return false;
        if (poll(p, ARRAY_LEN(p), (int)left_ms) <= 0)
            continue;
        if (!p[0].revents)
            return true;
        char bytes[1024];
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n == 0)
            return true;
        if (n > 0)
            keep_end(o, bytes, (size_t)n);
    }
}

/* Waits for the exit; false at the deadline. A command may close its output and stay. */
static bool reap(pid_t pid, int64_t until_ms, int *status)
{
    while (waitpid(pid, status, WNOHANG) == 0) {
        if (clock_ms() >= until_ms)
            return false;
        poll(NULL, 0, 5);
    }
    return true;
}

static struct err *verdict(const struct command *c, int status, const struct output *o)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return NULL;
    const char *sep = o->len ? ": " : "";
    if (WIFSIGNALED(status))
        return err_new(ERR_IO, "'%s' was killed by signal %d%s%s", c->argv[0],
                       WTERMSIG(status), sep, o->text);
    if (WEXITSTATUS(status) == 127 && o->len == 0)
        return err_new(ERR_IO, "'%s' could not be started (exit status 127)", c->argv[0]);
    return err_new(ERR_IO, "'%s' exited with status %d%s%s", c->argv[0],
                   WEXITSTATUS(status), sep, o->text);
}

struct err *command_run(const struct command *c, int64_t timeout_ms)
{
    int64_t until_ms = clock_ms() + timeout_ms;
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return err_os(errno, "make a pipe for '%s'", c->argv[0]);
    pid_t pid = fork();
    if (pid == 0)
        become(c, pipe_fds[1]);
    int os = errno;
    close(pipe_fds[1]);
    if (pid < 0) {
        close(pipe_fds[0]);
        return err_os(os, "start '%s'", c->argv[0]);
    }
    struct output o = {.len = 0};
    int status = 0, pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    /* Children that it left behind may fill the pipe: then its exit decides. */
    bool in_time =
        collect(pipe_fds[0], pidfd, until_ms, &o) && reap(pid, until_ms, &status);
    close(pipe_fds[0]);
    if (pidfd >= 0)
        close(pidfd);
    if (in_time)
        return verdict(c, status, &o);
    if (waitpid(pid, &status, WNOHANG) == pid) {
        kill(-pid, SIGKILL);
        return verdict(c, status, &o);
    }
    kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    return err_new(ERR_TIMEOUT, "'%s' did not end within %lld ms and was killed%s%s",
                   c->argv[0], (long long)timeout_ms, o.len ? ": " : "", o.text);
}

pid_t command_start(const struct command *c, int64_t timeout_ms)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_range(3, ~0U, 0);
    struct err *e = command_run(c, timeout_ms);
    int status = e ? 1 : 0;
    log_err(LOG_LEVEL_ERROR, "guardian", "command", e);
    _exit(status);
}
