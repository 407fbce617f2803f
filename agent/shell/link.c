/* The agent's link to its guardian. One connection asks for nothing: its end tells that
 * the guardian is gone while no call is under way. Whenever a guardian answers anew, and
 * every so often, what it has captured is compared with what the journal promises. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/shell/agent.h"
#include "common/base/mem.h"
#include "common/obs/log.h"

enum {
    LINK_RETRY_MS = 500,
    LINK_HELLO_MS = 5000,
    LINK_RECONCILE_MS = 60000, /* between comparisons */
    LINK_SOON_MS = 1000,       /* after something changed */
    LINK_LIST_MS = 30000,
    LINK_MAX_CAPTURES = 4096, /* looked at in one comparison */
};

static void connect_later(void *arg);
static void reconcile(void *arg);

/* ---- being there ---- */

struct greeting {
    struct agent *agent;
    struct guard *guard;
    struct err *err;
};

static void run_greeting(void *arg)
{
    struct greeting *k = arg;
    k->err = guard_open(k->agent->conf->guardian_socket, LINK_HELLO_MS, &k->guard);
}

static void run_close(void *arg)
{
    struct agent *a = arg;
    guard_close(a->guard);
    a->guard = NULL;
}

static void run_close_side(void *arg)
{
    struct agent *a = arg;
    guard_close(a->guard_side);
    a->guard_side = NULL;
}

static void closed(void *arg)
{
    (void)arg;
}

static void away(struct agent *a, struct err *e)
{
    bool known = a->guard_error != NULL;
    err_free(a->guard_error);
    a->guard_error = e;
    if (known)
        return;
    AUTO(str) char *text = err_text(e);
    log_warn("guard", "away", "error=\"%s\" retry_ms=%d", text, LINK_RETRY_MS);
    notify_status("waiting for stillpoint-guardian");
    register_soon(a);
}

/* The other connections have ended too. They belong to their threads, which close them in
 * turn: before anything that is asked from now on. */
static void on_end(void *arg, uint32_t events)
{
    struct agent *a = arg;
    (void)events;
    loop_unwatch(a->loop, guard_fd(a->guard_watch));
    guard_close(STEAL(a->guard_watch));
    loop_timer_cancel(a->loop, &a->reconcile_timer);
    if (a->stopping)
        return;
    pool_submit(a->guard_pool, run_close, closed, a);
    pool_submit(a->guard_side_pool, run_close_side, closed, a);
    away(a, err_new(ERR_UNAVAILABLE,
                    "the guardian has ended; is stillpoint-guardian running?"));
    agent_feed(a, &(struct session_event){.kind = SESSION_EV_GUARD_LOST});
    connect_later(a);
}

static void end_greeting(void *arg)
{
    struct greeting *k = arg;
    struct agent *a = k->agent;
    struct err *e = k->err;
    a->guard_watch = k->guard;
    free(k);
    if (a->stopping) {
        err_free(e);
        return;
    }
    if (!e)
        e = loop_watch(a->loop, guard_fd(a->guard_watch), EPOLLIN | EPOLLRDHUP, on_end,
                       a);
    if (e) {
        guard_close(STEAL(a->guard_watch));
        away(a, e);
        loop_timer_set(a->loop, &a->link_timer, LINK_RETRY_MS, connect_later, a);
        return;
    }
    log_info("guard", "connected", "socket=%s", a->conf->guardian_socket);
    err_free(STEAL(a->guard_error));
    agent_ready(a);
    register_soon(a);
    loop_timer_set(a->loop, &a->reconcile_timer, LINK_SOON_MS, reconcile, a);
}

static void connect_later(void *arg)
{
    struct agent *a = arg;
    if (a->stopping)
        return;
    struct greeting *k = mem_zalloc(sizeof *k);
    k->agent = a;
    pool_submit(a->guard_side_pool, run_greeting, end_greeting, k);
}

void link_start(struct agent *a)
{
    connect_later(a);
}

/* ---- captures that nobody needs ---- */

struct found {
    struct part_id part;
    struct capture_id capture;
    bool partial;
};

struct listing {
    struct agent *agent;
    struct found *items; /* owned */
    size_t n, cap;
    struct err *err;
};

static void listing_free(struct listing *l)
{
    err_free(l->err);
    free(l->items);
    free(l);
}

static struct err *list_all(struct listing *l, struct guard *g)
{
    const struct guard_reply *r = NULL;
    do {
        TRY(guard_list(g, (uint32_t)l->n, LINK_LIST_MS, &r));
        for (uint32_t i = 0; i < r->n && l->n < LINK_MAX_CAPTURES; i++) {
            mem_reserve((void **)&l->items, &l->cap, l->n, sizeof *l->items);
            const struct guard_item *it = &r->items[i];
            l->items[l->n++] = (struct found){it->part, it->capture, it->partial};
        }
    } while (r->n > 0 && l->n < r->total && l->n < LINK_MAX_CAPTURES);
    return NULL;
}

static void run_list(void *arg)
{
    struct listing *l = arg;
    l->err = agent_guard_side(l->agent);
    if (!l->err)
        l->err = list_all(l, l->agent->guard_side);
    agent_guard_side_check(l->agent);
}

static bool is_capture_of(const struct session *s, const struct found *f)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        struct capture_id id;
        capture_id_make(&s->set, &s->parts[i].part, &id);
        if (strcmp(id.text, f->capture.text) == 0)
            return true;
    }
    return false;
}

/* The one that the capture belongs to; NULL if none is known. */
static const struct session *session_of(const struct agent *a, const struct found *f)
{
    for (size_t i = 0; i < a->sessions.n_sets; i++)
        if (is_capture_of(a->sessions.sets[i], f))
            return a->sessions.sets[i];
    return NULL;
}

/* What is being made belongs to a round that is not over; what is finished, to a set that
 * is not aborted. Making ends with the round: what is half made then stays so. */
static bool session_needs(const struct agent *a, const struct found *f)
{
    const struct session *s = session_of(a, f);
    if (!s)
        return false;
    int state = s->sm.state;
    return f->partial ? state <= SESSION_COMMITTING || state == SESSION_ABORTING
                      : state != SESSION_ABORTED;
}

/* Started without a journal, nothing tells whether a capture from before was promised;
 * its task may still wait at the coordinator. By the next start the task has been taken,
 * and speaks for it. For what was captured since, its session speaks. */
static bool may_be_promised(const struct agent *a, const struct found *f)
{
    return a->no_journal && !f->partial && !session_of(a, f);
}

static bool task_needs(const struct agent *a, const struct found *f)
{
    for (const struct held_task *t = a->tasks; t; t = t->next)
        if (!t->finished && strcmp(t->work.task->capture, f->capture.text) == 0)
            return true;
    return false;
}

static void run_drop(void *arg)
{
    struct listing *l = arg;
    struct guard_part *parts = mem_array(l->n, sizeof *parts);
    for (size_t i = 0; i < l->n; i++)
        parts[i] =
            (struct guard_part){.part = l->items[i].part, .capture = l->items[i].capture};
    l->err = agent_guard_side(l->agent);
    for (size_t i = 0; !l->err && i < l->n; i += GUARD_MAX_PARTS) {
        size_t some = l->n - i < GUARD_MAX_PARTS ? l->n - i : GUARD_MAX_PARTS;
        l->err = guard_drop(l->agent->guard_side, parts + i, some, LINK_LIST_MS);
    }
    agent_guard_side_check(l->agent);
    free(parts);
}

static void end_drop(void *arg)
{
    struct listing *l = arg;
    log_err(LOG_LEVEL_WARN, "guard", "drop_failed", STEAL(l->err)); /* the next one */
    listing_free(l);
}

/* A set that is COMPLETE and has no capture here any more was released, though the
 * journal may have missed it by a crash. */
static void forget_released(struct agent *a, const struct listing *l)
{
    for (size_t i = 0; i < a->n_complete; i++) {
        const struct session *s = sessions_find(&a->sessions, &a->complete[i]);
        bool present = s == NULL;
        for (size_t k = 0; !present && k < l->n; k++)
            present = is_capture_of(s, &l->items[k]);
        struct session_event ev = {.kind = SESSION_EV_RELEASE, .set = a->complete[i]};
        if (!present)
            agent_feed(a, &ev);
    }
}

static void end_list(void *arg)
{
    struct listing *l = arg;
    struct agent *a = l->agent;
    if (a->stopping || l->err) {
        if (l->err && !a->stopping)
            log_err(LOG_LEVEL_WARN, "guard", "list_failed", STEAL(l->err));
        listing_free(l);
        return;
    }
    forget_released(a, l);
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct found *f = &l->items[i];
        if (session_needs(a, f) || task_needs(a, f) || may_be_promised(a, f) ||
            work_needs_base(a->conf, f->part.text, f->capture.text))
            continue;
        log_info("guard", "leftover", "partition=%s capture=%s partial=%d", f->part.text,
                 f->capture.text, f->partial);
        l->items[n++] = *f;
    }
    l->n = n;
    if (n > 0)
        pool_submit(a->guard_side_pool, run_drop, end_drop, l);
    else
        listing_free(l);
}

static void reconcile(void *arg)
{
    struct agent *a = arg;
    if (a->stopping)
        return;
    struct listing *l = mem_zalloc(sizeof *l);
    l->agent = a;
    pool_submit(a->guard_side_pool, run_list, end_list, l);
    loop_timer_set(a->loop, &a->reconcile_timer, LINK_RECONCILE_MS, reconcile, a);
}

void link_drop(struct agent *a, const char *partition, const char *capture)
{
    struct listing *l = mem_zalloc(sizeof *l);
    struct found f = {0};
    l->agent = a;
    l->err = name_copy(f.part.text, partition, "partition");
    if (!l->err && strlen(capture) < sizeof f.capture.text)
        memcpy(f.capture.text, capture, strlen(capture) + 1);
    /* One that is still needed goes with its own set's release. */
    if (!f.capture.text[0] || session_needs(a, &f) || task_needs(a, &f)) {
        listing_free(l);
        return;
    }
    l->items = mem_dup(&f, sizeof f);
    l->n = l->cap = 1;
    pool_submit(a->guard_side_pool, run_drop, end_drop, l);
}
