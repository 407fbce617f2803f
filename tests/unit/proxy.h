/* A TCP proxy in a thread, for tests that need an unlucky network: passes bytes to a
 * port on loopback until told to swallow what comes back, or to cut. */
#ifndef TESTS_UNIT_PROXY_H
#define TESTS_UNIT_PROXY_H

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROXY_PAIRS = 64 };
enum proxy_mode {
    PROXY_PASS,
    PROXY_SWALLOW,  /* requests go through, nothing comes back */
    PROXY_CUT_BACK, /* requests go through, the first byte back ends the connection */
    PROXY_CUT,      /* ends all connections, takes new ones and ends them */
    PROXY_END,
};

struct proxy {
    int port; /* where it listens */
    int to_port;
    int listener, control;
    atomic_int mode;
    atomic_long back_bytes; /* that came from the server */
    pthread_t thread;
    int pairs[PROXY_PAIRS][2];
    int n;
};

static inline int proxy_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0);
    return fd;
}

static inline struct sockaddr_in proxy_loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A port that nobody listens on just now. */
static inline int proxy_free_port(void)
{
    int fd = proxy_socket();
    struct sockaddr_in a = proxy_loopback(0);
    socklen_t n = sizeof a;
    int rc = bind(fd, (struct sockaddr *)&a, n);
    assert(rc == 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    close(fd);
    return ntohs(a.sin_port);
}

static inline void proxy_drop(struct proxy *p, int i)
{
    close(p->pairs[i][0]);
    close(p->pairs[i][1]);
    p->n--;
    p->pairs[i][0] = p->pairs[p->n][0];
    p->pairs[i][1] = p->pairs[p->n][1];
}

static inline void proxy_accept(struct proxy *p)
{
    int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    int up = proxy_socket();
    struct sockaddr_in a = proxy_loopback(p->to_port);
    if (atomic_load(&p->mode) == PROXY_CUT || p->n == PROXY_PAIRS ||
        connect(up, (struct sockaddr *)&a, sizeof a) < 0) {
        close(fd);
        close(up);
        return;
    }
    p->pairs[p->n][0] = fd;
    p->pairs[p->n++][1] = up;
}

/* False when the pair has ended. */
static inline int proxy_move(struct proxy *p, int i, int side)
{
    char b[65536];
    ssize_t n = read(p->pairs[i][side], b, sizeof b);
    if (n <= 0)
        return 0;
    if (side == 1) {
        atomic_fetch_add(&p->back_bytes, n);
        if (atomic_load(&p->mode) == PROXY_SWALLOW)
            return 1;
        if (atomic_load(&p->mode) == PROXY_CUT_BACK)
            return 0;
    }
    for (ssize_t at = 0; at < n;) {
        ssize_t put = send(p->pairs[i][!side], b + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (put <= 0)
            return 0;
        at += put;
    }
    return 1;
}

static inline void *proxy_run(void *arg)
{
    struct proxy *p = arg;
    while (atomic_load(&p->mode) != PROXY_END) {
        struct pollfd fds[2 + 2 * PROXY_PAIRS] = {{p->listener, POLLIN, 0},
                                                  {p->control, POLLIN, 0}};
        int n = p->n;
        for (int i = 0; i < 2 * n; i++)
            fds[2 + i] = (struct pollfd){p->pairs[i / 2][i % 2], POLLIN, 0};
        poll(fds, (nfds_t)(2 + 2 * n), -1);
        uint64_t ignored;
        if (fds[1].revents && read(p->control, &ignored, sizeof ignored) > 0 &&
            atomic_load(&p->mode) == PROXY_CUT)
            while (p->n > 0)
                proxy_drop(p, 0);
        else
            for (int i = n - 1; i >= 0; i--)
                if ((fds[2 + 2 * i].revents && !proxy_move(p, i, 0)) ||
                    (fds[3 + 2 * i].revents && !proxy_move(p, i, 1)))
                    proxy_drop(p, i);
        if (fds[0].revents)
            proxy_accept(p);
    }
    return NULL;
}

static inline void proxy_start(struct proxy *p, int to_port)
{
    *p = (struct proxy){.to_port = to_port, .listener = proxy_socket()};
    struct sockaddr_in a = proxy_loopback(0);
    socklen_t n = sizeof a;
    int rc = bind(p->listener, (struct sockaddr *)&a, n);
    assert(rc == 0);
    listen(p->listener, 16);
    getsockname(p->listener, (struct sockaddr *)&a, &n);
    p->port = ntohs(a.sin_port);
    p->control = eventfd(0, EFD_CLOEXEC);
    pthread_create(&p->thread, NULL, proxy_run, p);
}

static inline void proxy_set(struct proxy *p, enum proxy_mode mode)
{
    atomic_store(&p->mode, mode);
    uint64_t one = 1;
    ssize_t put = write(p->control, &one, sizeof one);
    assert(put == sizeof one);
}

static inline void proxy_stop(struct proxy *p)
{
    proxy_set(p, PROXY_END);
    pthread_join(p->thread, NULL);
    while (p->n > 0)
        proxy_drop(p, 0);
    close(p->listener);
    close(p->control);
}

#endif
