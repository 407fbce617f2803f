#include "agent/guardian/doer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guardian/doer_work.h"
#include "common/base/mem.h"

void doer_init(struct doer *d)
{
    *d = (struct doer){.pid = -1, .pidfd = -1, .socket = -1};
    d->shared = mmap(NULL, sizeof(*d->shared), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (d->shared == MAP_FAILED)
        abort();
}

/* Moves a descriptor out of the way of the low numbers. */
static int lift(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 64);
}

/* In the child: nothing of the keeper's but its own end and the lock of life. */
static void become(const struct doer *d, const struct config *config, int life_lock,
                   int socket, int keeper_pidfd)
{
    const int keep[] = {lift(socket), lift(keeper_pidfd), lift(life_lock)};
    for (int i = 0; i < (int)ARRAY_LEN(keep); i++)
        dup3(keep[i], 3 + i, O_CLOEXEC);
    close_range(3 + (unsigned)ARRAY_LEN(keep), ~0U, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A stop of the service reaches every process; the keeper decides what it means. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    doer_work(config, d->shared, 3, 4);
}

struct err *doer_start(struct doer *d, const struct config *config, int life_lock)
{
    assert(d->pid < 0);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_os(errno, "make a socket pair for the doer");
    memset(d->shared, 0, sizeof(*d->shared));
    int keeper = pidfd_open(getpid(), 0);
    pid_t pid = keeper < 0 ? -1 : fork();
    if (pid == 0) {
        become(d, config, life_lock, pair[1], keeper);
        _exit(0);
    }
    int os = errno;
    close(pair[1]);
    if (keeper >= 0)
        close(keeper);
    if (pid < 0) {
        close(pair[0]);
        return err_os(os, "start the doer");
    }
    d->pid = pid;
    d->socket = pair[0];
    d->pidfd = pidfd_open(pid, 0);
    if (d->pidfd < 0) {
        os = errno;
        kill(pid, SIGKILL);
        doer_bury(d);
        return err_os(os, "watch the doer");
    }
    return NULL;
}

void doer_bury(struct doer *d)
{
    if (d->pid > 0)
        waitpid(d->pid, NULL, 0);
    if (d->pidfd >= 0)
        close(d->pidfd);
    if (d->socket >= 0)
        close(d->socket);
    d->pid = -1;
    d->pidfd = -1;
    d->socket = -1;
}

bool doer_ask(struct doer *d, const struct doer_request *r)
{
    return send(d->socket, r, sizeof(*r), MSG_DONTWAIT | MSG_NOSIGNAL) ==
           (ssize_t)sizeof(*r);
}

int doer_hear(struct doer *d, struct doer_result *out, int *fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = out, .iov_len = sizeof(*out)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    *fd = -1;
    ssize_t n = recvmsg(d->socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof(*fd));
    return n == (ssize_t)sizeof(*out) ? 1 : -1;
}
