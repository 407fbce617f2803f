#include "agent/guardian/keeper.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "agent/guardian/answer.h"
#include "agent/guardian/capture.h"
#include "agent/guardian/clock.h"
#include "agent/guardian/janitor.h"
#include "agent/guardian/urgency.h"
#include "common/obs/log.h"
#include "common/obs/notify.h"

#define NO_CONN (-1)
#define HEAP_RESERVE ((size_t)1 << 20)
#define SOCKET_BYTES (1 << 20)
#define STOP_MS 2000 /* to thaw everything when asked to stop */
#define MAX_HOLD_MS 600000

struct conn {
    int fd; /* -1: free */
    pid_t pid;
    int id; /* never used again */
};

enum watch_kind {
    WATCH_LISTEN,
    WATCH_SIGNAL,
    WATCH_TIMER,
    WATCH_CONN,
    WATCH_DOER_SAYS,
    WATCH_DOER_DIES,
    WATCH_HOOK,
    WATCH_JANITOR_SAYS,
    WATCH_JANITOR_DIES,
};

struct watch {
    enum watch_kind kind;
    unsigned index, domain;
};

#define MAX_WATCHES (8 + KEEPER_CONNS + KEEPER_SLOTS * (2 + HOLD_MAX_DOMAINS))

/* All of it static: nothing is allocated once something is frozen. */
static struct keeper {
    struct slot_env env;
    struct slot slots[KEEPER_SLOTS];
    struct janitor janitor;
    struct conn conns[KEEPER_CONNS];
    int last_conn;
    int listen_fd, signal_fd, timer_fd;
    bool stopping;
    int64_t stop_ms;   /* then it ends, thawed or not */
    int beat_every_ms; /* to the service manager's watchdog; -1: it has none */
    int64_t next_beat_ms;
    struct guard_request request;
    struct guard_reply reply;
    unsigned n_watches;
    struct pollfd polls[MAX_WATCHES];
    struct watch watches[MAX_WATCHES];
} keeper;

/* ---- Connections ---- */

static void drop_conn(struct conn *c)
{
    if (c->fd < 0)
        return;
    int id = c->id;
    close(c->fd);
    c->fd = -1;
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        slot_closed(&keeper.slots[i], id);
    janitor_closed(&keeper.janitor, id);
}

static struct conn *conn_by_id(int id)
{
    for (unsigned i = 0; i < KEEPER_CONNS; i++)
        if (keeper.conns[i].fd >= 0 && keeper.conns[i].id == id)
            return &keeper.conns[i];
    return NULL;
}

/* An agent that does not read is cut off; the end of its connection is noticed as that of
 * any other. */
static void send_reply(void *ctx, int conn, const struct guard_reply *r)
{
    (void)ctx;
    const struct conn *c = conn_by_id(conn);
    if (c && send(c->fd, r, GUARD_REPLY_BYTES(r->n), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        log_warn("guardian", "reply", "pid=%d error=\"%s\"", (int)c->pid,
                 strerror(errno));
        shutdown(c->fd, SHUT_RDWR);
    }
}

static void plain(int conn, const struct guard_request *r, int32_t kind, const char *text)
{
    answer_plain(&keeper.reply, (enum guard_type)r->type, r->seq, kind, text);
    send_reply(NULL, conn, &keeper.reply);
}

static void accept_conn(void)
{
    int fd = accept4(keeper.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer;
    socklen_t n = sizeof(peer);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0 || peer.uid != 0) {
        log_warn("guardian", "refused", "uid=%d pid=%d", (int)peer.uid, (int)peer.pid);
        close(fd);
        return;
    }
    const int bytes = SOCKET_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    for (unsigned i = 0; i < KEEPER_CONNS; i++) {
        if (keeper.conns[i].fd >= 0)
            continue;
        keeper.conns[i] =
            (struct conn){.fd = fd, .pid = peer.pid, .id = ++keeper.last_conn};
        return;
    }
    log_warn("guardian", "refused", "pid=%d error=\"too many connections\"",
             (int)peer.pid);
    close(fd);
}

/* ---- Requests ---- */

static bool text_ends(const char *text, size_t bytes)
{
    return memchr(text, 0, bytes) != NULL;
}

/* What is wrong with a datagram, or NULL. Root sent it; a mistake must still not reach a
 * path or an assertion. */
static const char *flaw(const struct guard_request *r, size_t bytes)
{
    if (bytes < GUARD_REQUEST_BYTES(0) || r->magic != GUARD_MAGIC)
        return "not a request";
    if (r->version != GUARD_VERSION)
        return "another version; restart agent and guardian";
    if (r->type >= GUARD_TYPES || r->n > GUARD_MAX_PARTS ||
        bytes != GUARD_REQUEST_BYTES(r->n))
        return "a request of the wrong shape";
    if (!text_ends(r->set.text, sizeof(r->set.text)))
        return "a set without end";
    bool about_set = r->type >= GUARD_ARM && r->type <= GUARD_ABORT;
    if (about_set && !name_is_valid(r->set.text))
        return "not a set's name";
    if (r->type == GUARD_FREEZE &&
        (r->hold_ms < 1 || r->hold_ms > MAX_HOLD_MS || r->freeze_timeout_ms < 1))
        return "a hold limit out of range";
    for (unsigned i = 0; i < r->n; i++) {
        const struct guard_part *p = &r->parts[i];
        if (!text_ends(p->part.text, sizeof(p->part.text)) ||
            !text_ends(p->capture.text, sizeof(p->capture.text)))
            return "a text without end";
        bool has_capture = r->type == GUARD_COMMIT || r->type == GUARD_DROP;
        if (has_capture && !capture_id_is_valid(p->capture.text))
            return "not a capture's id";
        if (!config_partition(keeper.env.config, p->part.text))
            return "an unknown partition; agent and guardian read different files?";
    }
    return NULL;
}

static bool same_token(const struct token *a, const struct token *b)
{
    return a->revision == b->revision &&
           memcmp(a->incarnation, b->incarnation, sizeof(a->incarnation)) == 0;
}

static struct slot *slot_of_set(const struct set_id *set)
{
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        if (keeper.slots[i].state != SLOT_FREE &&
            strcmp(keeper.slots[i].set.text, set->text) == 0)
            return &keeper.slots[i];
    return NULL;
}

/* A free slot, or one whose hold is over. */
static struct slot *idle_slot(void)
{
    struct slot *found = NULL;
    for (unsigned i = KEEPER_SLOTS; i-- > 0;) {
        struct slot *s = &keeper.slots[i];
        if (slot_is_idle(s) && (!found || s->state == SLOT_FREE))
            found = s;
    }
    return found;
}

static void arm(const struct conn *c, const struct guard_request *r)
{
    uint16_t parts[GUARD_MAX_PARTS];
    struct slot *s = idle_slot();
    if (r->n == 0) {
        plain(c->id, r, ERR_INVALID, "no partitions are named");
        return;
    }
    if (!s || keeper.stopping) {
        plain(c->id, r, ERR_UNAVAILABLE,
              keeper.stopping ? "the guardian is stopping"
                              : "as many sets as there may be are under way already");
        return;
    }
    for (unsigned i = 0; i < r->n; i++) {
        const struct config_partition *p =
            config_partition(keeper.env.config, r->parts[i].part.text);
        parts[i] = (uint16_t)(p - keeper.env.config->partitions);
        for (unsigned k = 0; k < i; k++)
            if (parts[k] == parts[i]) {
                plain(c->id, r, ERR_INVALID, "a partition is named twice");
                return;
            }
    }
    slot_arm(s, c->id, c->pid, r, parts);
}

static void about_set(const struct conn *c, const struct guard_request *r)
{
    struct slot *s = slot_of_set(&r->set);
    if (s && !same_token(&s->token, &r->token) && r->type != GUARD_ABORT) {
        /* A later token may begin anew once the earlier one's hold is over. */
        if (r->type != GUARD_ARM || !slot_is_idle(s)) {
            plain(c->id, r, ERR_STALE_TOKEN, "the set is held under another token");
            return;
        }
        s->state = SLOT_FREE;
        s = NULL;
    }
    if (s && r->type == GUARD_ARM && slot_is_idle(s) && s->hold.sm.state == HOLD_ENDED) {
        s->state = SLOT_FREE;
        s = NULL;
    }
    if (s)
        slot_request(s, c->id, r);
    else if (r->type == GUARD_ARM)
        arm(c, r);
    else if (r->type == GUARD_ABORT)
        plain(c->id, r, GUARD_OK, "");
    else
        plain(c->id, r, ERR_NOT_FOUND, "no such set is armed");
}

static void list_or_drop(const struct conn *c, const struct guard_request *r)
{
    char note[GUARD_TEXT_BYTES] = "";
    for (unsigned i = 0; i < KEEPER_SLOTS; i++) {
        const struct slot *s = &keeper.slots[i];
        size_t n = strlen(note);
        if (s->state == SLOT_HELD)
            snprintf(note + n, sizeof(note) - n, "%s%s=%s", n ? " " : "", s->set.text,
                     sm_name(&s->hold.sm));
    }
    janitor_request(&keeper.janitor, c->id, r, note);
}

static void greet(const struct conn *c, const struct guard_request *r)
{
    char text[64];
    snprintf(text, sizeof(text), "stillpoint-guardian %d", (int)getpid());
    plain(c->id, r, GUARD_OK, text);
}

static void serve(const struct conn *c, const struct guard_request *r)
{
    if (r->type == GUARD_HELLO)
        greet(c, r);
    else if (r->type == GUARD_LIST || r->type == GUARD_DROP)
        list_or_drop(c, r);
    else
        about_set(c, r);
}

static void read_conn(struct conn *c)
{
    ssize_t n = recv(c->fd, &keeper.request, sizeof(keeper.request), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop_conn(c);
        return;
    }
    const char *wrong = flaw(&keeper.request, (size_t)n);
    if (!wrong) {
        serve(c, &keeper.request);
        return;
    }
    log_warn("guardian", "refused", "pid=%d error=\"%s\"", (int)c->pid, wrong);
    if ((size_t)n < GUARD_REQUEST_BYTES(0))
        drop_conn(c);
    else
        plain(c->id, &keeper.request, ERR_INVALID, wrong);
}

/* ---- The loop ---- */

static void watch(int fd, enum watch_kind kind, unsigned index, unsigned domain)
{
    if (fd < 0)
        return;
    assert(keeper.n_watches < MAX_WATCHES);
    keeper.polls[keeper.n_watches] = (struct pollfd){.fd = fd, .events = POLLIN};
    keeper.watches[keeper.n_watches] =
        (struct watch){.kind = kind, .index = index, .domain = domain};
    keeper.n_watches++;
}

static void watch_slot(const struct slot *s, unsigned i)
{
    if (!s->doer_silent)
        watch(s->doer.socket, WATCH_DOER_SAYS, i, 0);
    watch(s->doer.pidfd, WATCH_DOER_DIES, i, 0);
    for (unsigned d = 0; d < s->n_domains; d++)
        watch(s->domains[d].hook_pidfd, WATCH_HOOK, i, d);
}

/* What frees is looked at before what asks: deaths and results come first. */
static void watch_all(void)
{
    keeper.n_watches = 0;
    watch(keeper.timer_fd, WATCH_TIMER, 0, 0);
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        watch_slot(&keeper.slots[i], i);
    if (!keeper.janitor.doer_silent)
        watch(keeper.janitor.doer.socket, WATCH_JANITOR_SAYS, 0, 0);
    watch(keeper.janitor.doer.pidfd, WATCH_JANITOR_DIES, 0, 0);
    for (unsigned i = 0; i < KEEPER_CONNS; i++)
        watch(keeper.conns[i].fd, WATCH_CONN, i, 0);
    watch(keeper.listen_fd, WATCH_LISTEN, 0, 0);
    watch(keeper.signal_fd, WATCH_SIGNAL, 0, 0);
}

static void stop(void)
{
    struct signalfd_siginfo info;
    ssize_t n = read(keeper.signal_fd, &info, sizeof(info));
    (void)n;
    if (keeper.stopping)
        return;
    keeper.stopping = true;
    keeper.stop_ms = clock_ms() + STOP_MS;
    log_info("guardian", "stopping", "reason=\"a signal\"");
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        slot_stop(&keeper.slots[i]);
}

static void dispatch(const struct watch *w)
{
    struct slot *s = &keeper.slots[w->index % KEEPER_SLOTS];
    switch (w->kind) {
    case WATCH_LISTEN:
        accept_conn();
        break;
    case WATCH_SIGNAL:
        stop();
        break;
    case WATCH_TIMER:
        break; /* every turn of the loop looks at the clock */
    case WATCH_CONN:
        read_conn(&keeper.conns[w->index]);
        break;
    case WATCH_DOER_SAYS:
        slot_hear(s);
        break;
    case WATCH_DOER_DIES:
        slot_doer_died(s);
        break;
    case WATCH_HOOK:
        slot_hook(s, w->domain);
        break;
    case WATCH_JANITOR_SAYS:
        janitor_hear(&keeper.janitor);
        break;
    case WATCH_JANITOR_DIES:
        janitor_doer_died(&keeper.janitor);
        break;
    }
}

static void set_timer(void)
{
    int64_t at_ms = keeper.stopping ? keeper.stop_ms : HOLD_NO_TIMER;
    for (unsigned i = 0; i < KEEPER_SLOTS; i++) {
        int64_t slot_ms = slot_timer_ms(&keeper.slots[i]);
        if (slot_ms < at_ms)
            at_ms = slot_ms;
    }
    struct itimerspec t = {0};
    if (at_ms != HOLD_NO_TIMER) {
        /* A time of zero would disarm it. */
        t.it_value.tv_sec = at_ms / 1000;
        t.it_value.tv_nsec = at_ms % 1000 * 1000000 + 1;
    }
    int r = timerfd_settime(keeper.timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
    assert(r == 0);
}

static bool all_settled(void)
{
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        if (!slot_is_idle(&keeper.slots[i]))
            return false;
    return true;
}

static bool anything_frozen(void)
{
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        if (keeper.slots[i].state != SLOT_FREE && hold_is_frozen(&keeper.slots[i].hold))
            return true;
    return false;
}

/* The service manager hears of us while nothing is frozen; then nothing may make us wait,
 * and no hold is as long as the manager's patience (WatchdogSec). */
static void beat(void)
{
    if (keeper.beat_every_ms < 0 || clock_ms() < keeper.next_beat_ms || anything_frozen())
        return;
    notify_beat();
    keeper.next_beat_ms = clock_ms() + keeper.beat_every_ms;
}

static void turn(void)
{
    beat();
    watch_all();
    set_timer();
    int n = poll(keeper.polls, keeper.n_watches, keeper.beat_every_ms);
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        slot_tick(&keeper.slots[i]);
    /* One event a turn: what it changes is seen before the next is looked at. */
    for (unsigned i = 0; n > 0 && i < keeper.n_watches; i++) {
        if (keeper.polls[i].revents != 0 && keeper.watches[i].kind != WATCH_TIMER) {
            dispatch(&keeper.watches[i]);
            return;
        }
    }
    uint64_t fired;
    ssize_t got = read(keeper.timer_fd, &fired, sizeof(fired));
    (void)got;
}

void keeper_run(void)
{
    keeper.beat_every_ms = notify_interval_ms();
    while (!keeper.stopping || (!all_settled() && clock_ms() < keeper.stop_ms))
        turn();
}

/* ---- Start ---- */

static bool domain_is_held(void *ctx, unsigned slot, const struct domain_id *domain)
{
    (void)ctx;
    for (unsigned i = 0; i < KEEPER_SLOTS; i++) {
        const struct slot *s = &keeper.slots[i];
        if (i == slot || s->probe || slot_is_idle(s))
            continue;
        for (unsigned d = 0; d < s->n_domains; d++)
            if (strcmp(s->domains[d].id.text, domain->text) == 0)
                return true;
    }
    return false;
}

/* No page of the keeper may have to be read or written back while a disk stands still;
 * the heap keeps what it has, so that a log line needs nothing from the kernel. */
static void pin_memory(void)
{
    mallopt(M_TRIM_THRESHOLD, (int)(64 * HEAP_RESERVE));
    mallopt(M_MMAP_THRESHOLD, (int)(64 * HEAP_RESERVE));
    void *reserve = malloc(HEAP_RESERVE);
    if (reserve)
        memset(reserve, 1, HEAP_RESERVE);
    /* The compiler must not see through this pair. */
    __asm__ volatile("" : : "r"(reserve) : "memory");
    free(reserve);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        log_warn("guardian", "memory", "error=\"cannot be locked: %s\"", strerror(errno));
}

struct err *keeper_init(const struct config *config, const char *dir, int listen_fd,
                        int life_lock)
{
    keeper.env = (struct slot_env){.config = config,
                                   .dir = dir,
                                   .life_lock = life_lock,
                                   .reply = send_reply,
                                   .is_held = domain_is_held};
    keeper.listen_fd = listen_fd;
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    keeper.signal_fd = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
    keeper.timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (keeper.signal_fd < 0 || keeper.timer_fd < 0)
        return err_os(errno, "set up the keeper");
    for (unsigned i = 0; i < KEEPER_CONNS; i++)
        keeper.conns[i].fd = -1;
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        slot_init(&keeper.slots[i], &keeper.env, i);
    janitor_init(&keeper.janitor, &keeper.env);
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        slot_revive(&keeper.slots[i]);
    janitor_revive(&keeper.janitor);
    pin_memory();
    urgency_set(URGENCY_KEEP);
    return NULL;
}
