#include "agent/shell/guard.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/guardian/clock.h"
#include "common/base/mem.h"

#define BUSY_RETRY_MS 50

struct guard {
    int fd;
    bool broken;
    int pid; /* as it said; 0: it did not */
    uint32_t seq;
    struct guard_request request;
    struct guard_reply reply;
};

void guard_close(struct guard *g)
{
    if (!g)
        return;
    close(g->fd);
    free(g);
}

int guard_fd(const struct guard *g)
{
    return g->fd;
}

struct err *guard_process(const struct guard *g, pid_t *out)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);
    if (getsockopt(g->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0)
        return err_os(errno, "ask who the guardian is");
    if (g->pid < 2 || g->pid != peer.pid)
        return err_new(
            ERR_CONFLICT,
            "the guardian says that it is process %d, the kernel that %d is at "
            "its socket",
            g->pid, (int)peer.pid);
    *out = peer.pid;
    return NULL;
}

bool guard_is_broken(const struct guard *g)
{
    return g->broken;
}

static struct err *gone(int os)
{
    return err_make(ERR_UNAVAILABLE, os, ERR_WHERE,
                    "the guardian closed the connection; it was stopped or has crashed");
}

static struct guard_request *begin(struct guard *g, enum guard_type type)
{
    struct guard_request *r = &g->request;
    memset(r, 0, GUARD_REQUEST_BYTES(0));
    r->magic = GUARD_MAGIC;
    r->version = GUARD_VERSION;
    r->type = (uint16_t)type;
    r->seq = ++g->seq;
    return r;
}

static void name_set(struct guard_request *r, const struct set_id *set,
                     const struct token *token)
{
    r->set = *set;
    r->token = *token;
}

static void name_parts(struct guard_request *r, const struct guard_part *parts, size_t n)
{
    r->n = (uint32_t)n;
    memcpy(r->parts, parts, n * sizeof(*parts));
}

/* Waits until `fd` is ready for `events`. */
static struct err *wait_ready(int fd, short events, int64_t until_ms)
{
    for (;;) {
        int64_t left_ms = until_ms - clock_ms();
        if (left_ms <= 0)
            return err_new(ERR_TIMEOUT, "the guardian did not answer in time");
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms);
        if (n > 0)
            return NULL;
        if (n < 0 && errno != EINTR)
            return err_os(errno, "wait for the guardian");
    }
}

static struct err *send_request(struct guard *g, int64_t until_ms)
{
    size_t bytes = GUARD_REQUEST_BYTES(g->request.n);
    while (send(g->fd, &g->request, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return gone(errno);
        TRY(wait_ready(g->fd, POLLOUT, until_ms));
    }
    return NULL;
}

static struct err *check_reply(const struct guard *g, size_t bytes)
{
    const struct guard_reply *r = &g->reply;
    if (bytes < GUARD_REPLY_BYTES(0) || r->magic != GUARD_MAGIC ||
        r->n > GUARD_MAX_PARTS || bytes != GUARD_REPLY_BYTES(r->n))
        return err_new(ERR_CORRUPT, "the guardian's answer has the wrong shape");
    if (r->version != GUARD_VERSION)
        return err_new(ERR_UNAVAILABLE,
                       "the guardian speaks version %u, this agent %u; restart both",
                       r->version, GUARD_VERSION);
    return NULL;
}

/* The reply to the request just sent; answers to earlier ones that timed out are passed
 * over. */
static struct err *receive_reply(struct guard *g, int64_t until_ms)
{
    for (;;) {
        TRY(wait_ready(g->fd, POLLIN, until_ms));
        ssize_t n = recv(g->fd, &g->reply, sizeof(g->reply), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return gone(n < 0 ? errno : 0);
        TRY(check_reply(g, (size_t)n));
        if (g->reply.seq == g->request.seq)
            return NULL;
    }
}

static struct err *call_once(struct guard *g, int64_t until_ms)
{
    g->broken = true; /* until the answer is here */
    TRY(send_request(g, until_ms));
    TRY(receive_reply(g, until_ms));
    g->broken = false;
    g->reply.text[sizeof(g->reply.text) - 1] = 0;
    if (g->reply.kind != GUARD_OK)
        return err_new((enum err_kind)g->reply.kind, "%s", g->reply.text);
    return NULL;
}

static struct err *call(struct guard *g, int64_t timeout_ms,
                        const struct guard_reply **out)
{
    TRY(call_once(g, clock_ms() + timeout_ms));
    if (out)
        *out = &g->reply;
    return NULL;
}

/* LIST and DROP are served one at a time, for all connections. */
static struct err *call_patiently(struct guard *g, int64_t timeout_ms)
{
    int64_t until_ms = clock_ms() + timeout_ms;
    for (;;) {
        struct err *e = call_once(g, until_ms);
        bool busy = e && e->kind == ERR_UNAVAILABLE && !g->broken;
        if (!busy || clock_ms() + BUSY_RETRY_MS >= until_ms)
            return e;
        err_free(e);
        poll(NULL, 0, BUSY_RETRY_MS);
        g->request.seq = ++g->seq;
    }
}

static struct err *connect_to(int fd, const char *path, int64_t until_ms)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path))
        return err_new(ERR_INVALID, "socket path '%s' is too long", path);
    memcpy(a.sun_path, path, strlen(path) + 1);
    while (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        if (errno == ENOENT || errno == ECONNREFUSED)
            return err_make(
                ERR_UNAVAILABLE, errno, ERR_WHERE,
                "no guardian listens at '%s'; is stillpoint-guardian running?", path);
        if (errno != EAGAIN && errno != EINTR)
            return err_os(errno, "connect to '%s'", path);
        if (clock_ms() >= until_ms)
            return err_new(ERR_TIMEOUT, "the guardian at '%s' is too busy", path);
        poll(NULL, 0, 10);
    }
    return NULL;
}

struct err *guard_open(const char *socket_path, int64_t timeout_ms, struct guard **out)
{
    AUTO(guard) struct guard *g = mem_zalloc(sizeof(*g));
    g->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (g->fd < 0)
        return err_os(errno, "make a socket");
    TRY(connect_to(g->fd, socket_path, clock_ms() + timeout_ms));
    begin(g, GUARD_HELLO);
    TRY_CTX(call(g, timeout_ms, NULL), "greet the guardian at '%s'", socket_path);
    if (sscanf(g->reply.text, "stillpoint-guardian %d", &g->pid) != 1)
        g->pid = 0;
    *out = STEAL(g);
    return NULL;
}

struct err *guard_arm(struct guard *g, const struct set_id *set,
                      const struct token *token, bool probe, int64_t hold_ms,
                      const struct part_id *parts, size_t n, int64_t timeout_ms,
                      const struct guard_reply **out)
{
    if (n > GUARD_MAX_PARTS)
        return err_new(ERR_LIMIT, "%zu partitions in one set on this node; at most %d", n,
                       GUARD_MAX_PARTS);
    struct guard_request *r = begin(g, GUARD_ARM);
    name_set(r, set, token);
    r->hold_ms = hold_ms;
    r->probe = probe;
    r->n = (uint32_t)n;
    memset(r->parts, 0, n * sizeof(r->parts[0]));
    for (size_t i = 0; i < n; i++)
        r->parts[i].part = parts[i];
    return call(g, timeout_ms, out);
}

struct err *guard_freeze(struct guard *g, const struct set_id *set,
                         const struct token *token, const struct guard_part *parts,
                         size_t n, int64_t hold_ms, int64_t freeze_timeout_ms,
                         int64_t timeout_ms, const struct guard_reply **out)
{
    assert(n <= GUARD_MAX_PARTS);
    struct guard_request *r = begin(g, GUARD_FREEZE);
    name_set(r, set, token);
    name_parts(r, parts, n);
    r->hold_ms = hold_ms;
    r->freeze_timeout_ms = freeze_timeout_ms;
    return call(g, timeout_ms, out);
}

struct err *guard_commit(struct guard *g, const struct set_id *set,
                         const struct token *token, const struct digest *digest,
                         const struct guard_part *parts, size_t n, int64_t timeout_ms,
                         const struct guard_reply **out)
{
    assert(n <= GUARD_MAX_PARTS);
    struct guard_request *r = begin(g, GUARD_COMMIT);
    name_set(r, set, token);
    r->digest = *digest;
    name_parts(r, parts, n);
    return call(g, timeout_ms, out);
}

struct err *guard_abort(struct guard *g, const struct set_id *set,
                        const struct token *token, int64_t timeout_ms,
                        const struct guard_reply **out)
{
    name_set(begin(g, GUARD_ABORT), set, token);
    return call(g, timeout_ms, out);
}

struct err *guard_drop(struct guard *g, const struct guard_part *parts, size_t n,
                       int64_t timeout_ms)
{
    assert(n <= GUARD_MAX_PARTS);
    name_parts(begin(g, GUARD_DROP), parts, n);
    TRY(call_patiently(g, timeout_ms));
    for (uint32_t i = 0; i < g->reply.n; i++) {
        const struct guard_item *item = &g->reply.items[i];
        if (item->kind != GUARD_OK)
            return err_new((enum err_kind)item->kind, "drop capture '%s' of '%s': %s",
                           item->capture.text, item->part.text, item->text);
    }
    return NULL;
}

struct err *guard_list(struct guard *g, uint32_t from, int64_t timeout_ms,
                       const struct guard_reply **out)
{
    begin(g, GUARD_LIST)->from = from;
    TRY(call_patiently(g, timeout_ms));
    *out = &g->reply;
    return NULL;
}
