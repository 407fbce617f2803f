#include "agent/guardian/slot.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guardian/answer.h"
#include "agent/guardian/clock.h"
#include "common/file/fd.h"
#include "common/obs/failpoint.h"
#include "common/obs/log.h"

#define NO_CONN (-1)
/* Who runs a thaw command keeps its time; if it does not, we do. */
#define HOOK_SPARE_MS 200

/* One reply is made at a time, by the one keeper thread: too large for the stack. */
static struct guard_reply reply_buffer;

static void step(struct slot *s, struct hold_event ev);

/* ---- Small things ---- */

static void note_move(void *ctx, const struct sm *m, const char *from, const char *to)
{
    const struct slot *s = ctx;
    log_info("guardian", m->name, "set=%s from=%s to=%s", s->set.text, from, to);
    failpoint(m->name, to);
}

static void set_error(struct slot_error *e, enum err_kind kind, const char *text)
{
    e->set = true;
    e->kind = kind;
    snprintf(e->text, sizeof(e->text), "%s", text);
}

void slot_init(struct slot *s, const struct slot_env *env, unsigned number)
{
    memset(s, 0, sizeof(*s));
    s->env = env;
    s->number = number;
    s->owner = NO_CONN;
    s->log.fd = -1;
    doer_init(&s->doer);
    for (unsigned i = 0; i < HOLD_MAX_DOMAINS; i++)
        s->domains[i].thaw_fd = s->domains[i].hook_pidfd = -1;
}

bool slot_is_idle(const struct slot *s)
{
    if (s->state == SLOT_RESOLVING || s->doer.pid < 0)
        return false;
    return s->state == SLOT_FREE || hold_is_settled(&s->hold);
}

static void wait_for(struct slot *s, enum hold_request request, int conn, uint32_t seq)
{
    s->waiters[request] = (struct slot_waiter){.waiting = true, .conn = conn, .seq = seq};
}

static void refuse_arm(struct slot *s, enum err_kind kind, const char *text)
{
    struct slot_waiter *w = &s->waiters[HOLD_REQ_ARM];
    if (w->waiting) {
        answer_plain(&reply_buffer, GUARD_ARM, w->seq, (int32_t)kind, text);
        s->env->reply(s->env->ctx, w->conn, &reply_buffer);
    }
    w->waiting = false;
    s->state = SLOT_FREE;
}

/* ---- Performing the core's actions ---- */

static void ask(struct slot *s, const struct hold_act *a)
{
    struct doer_request r = {
        .op = (int)a->kind, .index = a->index, .until_ms = a->until_ms};
    if (a->kind == HOLD_DO_CAPTURE || a->kind == HOLD_DO_PUBLISH ||
        a->kind == HOLD_DO_REMOVE) {
        r.part = s->parts[a->index].part;
        r.named = s->hold.members[a->index].named;
        memcpy(r.id, s->parts[a->index].capture, sizeof(r.id));
    }
    /* If it cannot take the request it is dying, and that will be the result. */
    doer_ask(&s->doer, &r);
}

static void ask_arm(struct slot *s)
{
    struct doer_request r = {.op = HOLD_DO_ARM,
                             .n = s->n_parts,
                             .n_domains = s->n_domains,
                             .agent_pid = s->agent_pid,
                             .hold_ms = s->hold_ms};
    for (unsigned i = 0; i < s->n_parts; i++) {
        r.parts[i] = s->parts[i].part;
        r.domain_of[i] = s->parts[i].error.set ? HOLD_MAX_DOMAINS : s->parts[i].domain;
    }
    doer_ask(&s->doer, &r);
}

/* Whatever the journal does not name could stay frozen for ever: no entry, no freeze. */
static void ask_freeze(struct slot *s, const struct hold_act *a)
{
    struct err *e = freezelog_mark(&s->log, a->index, true);
    if (e) {
        set_error(&s->domains[a->index].error, e->kind, "the freeze journal failed");
        log_err(LOG_LEVEL_ERROR, "guardian", "journal", e);
        step(s, (struct hold_event){.kind = HOLD_EV_FROZEN, .index = a->index});
        return;
    }
    s->doer.shared->may_be_frozen[a->index] = true;
    ask(s, a);
}

static void note_thawed(struct slot *s, unsigned domain, enum quiesce_thaw result)
{
    assert(s->n_thawed < HOLD_MAX_DOMAINS);
    s->thawed[s->n_thawed++] = (struct hold_event){.kind = HOLD_EV_THAWED,
                                                   .index = domain,
                                                   .ok = result != QUIESCE_THAW_FAILED,
                                                   .was_frozen = result == QUIESCE_THAWED,
                                                   .at_ns = clock_ns()};
    if (result == QUIESCE_THAW_FAILED) {
        log_error("guardian", "thaw", "set=%s domain=%s error=\"%s\"", s->set.text,
                  s->domains[domain].id.text, strerror(errno));
        return;
    }
    s->doer.shared->may_be_frozen[domain] = false;
    log_err(LOG_LEVEL_ERROR, "guardian", "journal",
            freezelog_mark(&s->log, domain, false));
}

static void start_thaw_hook(struct slot *s, unsigned domain)
{
    struct slot_domain *d = &s->domains[domain];
    d->hook_pid = command_start(&d->thaw, d->first->quiesce.timeout_ms);
    d->hook_pidfd = d->hook_pid > 0 ? pidfd_open(d->hook_pid, 0) : -1;
    d->hook_until_ms = clock_ms() + d->first->quiesce.timeout_ms + HOOK_SPARE_MS;
    if (d->hook_pid < 0)
        note_thawed(s, domain, QUIESCE_THAW_FAILED);
}

static void thaw(struct slot *s, unsigned domain)
{
    struct slot_domain *d = &s->domains[domain];
    if (d->ops->thaw)
        note_thawed(s, domain, d->ops->thaw(d->thaw_fd));
    else
        start_thaw_hook(s, domain);
}

static void answer(struct slot *s, enum hold_request request, enum hold_verdict verdict)
{
    struct slot_waiter *w = &s->waiters[request];
    if (!w->waiting)
        return;
    w->waiting = false;
    answer_hold(s, request, verdict, w->seq, &reply_buffer);
    s->env->reply(s->env->ctx, w->conn, &reply_buffer);
}

static void perform(struct slot *s, const struct hold_acts *acts)
{
    for (unsigned i = 0; i < acts->n; i++) {
        const struct hold_act *a = &acts->items[i];
        switch (a->kind) {
        case HOLD_DO_ARM:
            ask_arm(s);
            break;
        case HOLD_DO_FREEZE:
            ask_freeze(s, a);
            break;
        case HOLD_DO_CAPTURE:
        case HOLD_DO_RECHECK:
        case HOLD_DO_PUBLISH:
        case HOLD_DO_REMOVE:
            ask(s, a);
            break;
        case HOLD_KILL_DOER:
            pidfd_send_signal(s->doer.pidfd, SIGKILL, NULL, 0);
            break;
        case HOLD_THAW:
            thaw(s, a->index);
            break;
        case HOLD_ANSWER:
            answer(s, (enum hold_request)a->index, a->verdict);
            break;
        }
    }
}

/* An open descriptor would keep the filesystem from being unmounted. */
static void release(struct slot *s)
{
    if (s->released)
        return;
    s->released = true;
    for (unsigned i = 0; i < s->n_domains; i++)
        fd_close(&s->domains[i].thaw_fd);
    freezelog_close(&s->log, s->env->dir, s->number);
    struct doer_request r = {.op = DOER_RESET};
    doer_ask(&s->doer, &r);
}

static void step_once(struct slot *s, struct hold_event ev)
{
    struct hold_acts acts;
    ev.now_ms = clock_ms();
    hold_step(&s->hold, &ev, &acts);
    perform(s, &acts);
}

/* A thaw is done by the time it is asked for: its result is fed when the actions of the
 * step are all performed. */
static void step(struct slot *s, struct hold_event ev)
{
    step_once(s, ev);
    while (s->n_thawed > 0) {
        struct hold_event next = s->thawed[0];
        memmove(&s->thawed[0], &s->thawed[1], --s->n_thawed * sizeof(next));
        step_once(s, next);
    }
    if (hold_is_settled(&s->hold))
        release(s);
}

/* ---- Arming ---- */

void slot_arm(struct slot *s, int conn, pid_t agent_pid, const struct guard_request *r,
              const uint16_t *parts)
{
    assert(slot_is_idle(s) && r->n <= HOLD_MAX_MEMBERS);
    s->n_domains = 0;
    s->state = SLOT_RESOLVING;
    s->set = r->set;
    s->token = r->token;
    s->owner = conn;
    s->agent_pid = agent_pid;
    s->hold_ms = r->hold_ms;
    s->probe = r->probe != 0;
    s->n_parts = r->n;
    memset(s->waiters, 0, sizeof(s->waiters));
    struct doer_request ask_it = {.op = DOER_RESOLVE, .n = r->n};
    for (unsigned i = 0; i < r->n; i++) {
        s->parts[i] = (struct slot_part){.part = parts[i]};
        ask_it.parts[i] = parts[i];
    }
    wait_for(s, HOLD_REQ_ARM, conn, r->seq);
    doer_ask(&s->doer, &ask_it);
}

/* The domain of that name in this hold, added if it is new; HOLD_MAX_DOMAINS if full. */
static unsigned domain_index(struct slot *s, const struct doer_result *r, unsigned part)
{
    for (unsigned i = 0; i < s->n_domains; i++)
        if (strcmp(s->domains[i].id.text, r->domain.text) == 0)
            return i;
    if (s->n_domains == HOLD_MAX_DOMAINS)
        return HOLD_MAX_DOMAINS;
    struct slot_domain *d = &s->domains[s->n_domains];
    *d = (struct slot_domain){.id = r->domain,
                              .kind = r->hold_kind,
                              .thaw_fd = -1,
                              .hook_pid = -1,
                              .hook_pidfd = -1};
    d->first = &s->env->config->partitions[s->parts[part].part];
    d->ops = quiesce_of(d->first->quiesce.method);
    if (d->first->quiesce.hook)
        command_init(&d->thaw, d->first->quiesce.hook->thaw,
                     d->first->quiesce.hook->n_thaw);
    return s->n_domains++;
}

static void resolved_one(struct slot *s, const struct doer_result *r)
{
    struct slot_part *p = &s->parts[r->index];
    if (!r->ok) {
        set_error(&p->error, r->kind, r->text);
        return;
    }
    if (s->env->is_held(s->env->ctx, s->number, &r->domain)) {
        set_error(&p->error, ERR_CONFLICT,
                  "another set holds its freeze domain just now; try again later");
        return;
    }
    unsigned d = domain_index(s, r, r->index);
    if (d == HOLD_MAX_DOMAINS)
        set_error(&p->error, ERR_LIMIT,
                  "too many freeze domains in one set on this node");
    else
        p->domain = (uint16_t)d;
}

/* A part without a domain (it cannot be looked at) is answered, but takes no part in the
 * hold: the core wants every member to have one. It is given a domain that is never
 * frozen. */
static bool place_strays(struct slot *s)
{
    unsigned stray = HOLD_MAX_DOMAINS;
    for (unsigned i = 0; i < s->n_parts; i++) {
        if (!s->parts[i].error.set)
            continue;
        if (stray == HOLD_MAX_DOMAINS) {
            if (s->n_domains == HOLD_MAX_DOMAINS)
                return false;
            stray = s->n_domains++;
            s->domains[stray] = (struct slot_domain){
                .ops = &quiesce_none,
                .thaw_fd = -1,
                .hook_pid = -1,
                .hook_pidfd = -1,
                .first = &s->env->config->partitions[s->parts[i].part]};
        }
        s->parts[i].domain = (uint16_t)stray;
    }
    return true;
}

static struct err *write_freezelog(struct slot *s)
{
    TRY(freezelog_open(&s->log, s->env->dir, s->number));
    for (unsigned k = 0; k < s->n_domains; k++) {
        unsigned i = s->hold.order[k];
        const struct slot_domain *d = &s->domains[i];
        const char *what = d->target[0] ? d->target : d->first->name;
        TRY(freezelog_add(&s->log, i, d->ops, what));
    }
    return NULL;
}

static void resolved_all(struct slot *s)
{
    if (!place_strays(s)) {
        refuse_arm(s, ERR_LIMIT, "too many freeze domains in one set on this node");
        return;
    }
    enum hold_kind kinds[HOLD_MAX_DOMAINS];
    uint16_t of[HOLD_MAX_MEMBERS];
    for (unsigned i = 0; i < s->n_domains; i++)
        kinds[i] = s->domains[i].kind;
    for (unsigned i = 0; i < s->n_parts; i++)
        of[i] = s->parts[i].domain;
    struct hold_acts acts;
    hold_init(&s->hold, kinds, s->n_domains, of, s->n_parts, &acts);
    s->state = SLOT_HELD;
    s->released = false;
    s->hold.sm.observer = note_move;
    s->hold.sm.observer_ctx = s;
    for (unsigned i = 0; i < s->n_domains; i++) {
        s->hold.domains[i].sm.observer = note_move;
        s->hold.domains[i].sm.observer_ctx = s;
    }
    perform(s, &acts);
}

static void armed(struct slot *s)
{
    bool ok[HOLD_MAX_MEMBERS];
    struct err *e = write_freezelog(s);
    for (unsigned i = 0; i < s->n_parts; i++) {
        struct slot_part *p = &s->parts[i];
        if (e && !p->error.set)
            set_error(&p->error, e->kind, "the freeze journal cannot be written");
        ok[i] = !p->error.set && !s->domains[p->domain].error.set;
    }
    log_err(LOG_LEVEL_ERROR, "guardian", "journal", e);
    step(s, (struct hold_event){.kind = HOLD_EV_ARMED, .member_ok = ok});
}

/* ---- Requests ---- */

static const struct slot_part *part_named(const struct slot *s, const char *name)
{
    for (unsigned i = 0; i < s->n_parts; i++)
        if (strcmp(s->env->config->partitions[s->parts[i].part].name, name) == 0)
            return &s->parts[i];
    return NULL;
}

static void plain(struct slot *s, int conn, const struct guard_request *r, int32_t kind,
                  const char *text)
{
    answer_plain(&reply_buffer, (enum guard_type)r->type, r->seq, kind, text);
    s->env->reply(s->env->ctx, conn, &reply_buffer);
}

static void commit(struct slot *s, int conn, const struct guard_request *r)
{
    static struct hold_want wants[HOLD_MAX_MEMBERS];
    bool fresh = s->hold.sm.state == HOLD_FROZEN;
    for (unsigned i = 0; i < r->n; i++) {
        const struct slot_part *p = part_named(s, r->parts[i].part.text);
        if (!p) {
            plain(s, conn, r, ERR_INVALID, "a partition is not part of this hold");
            return;
        }
        wants[i] = (struct hold_want){.member = (uint16_t)(p - s->parts),
                                      .epoch = r->parts[i].epoch};
    }
    /* Names are given once: what is captured under one must be removed under it. */
    for (unsigned i = 0; fresh && i < r->n; i++)
        memcpy(s->parts[wants[i].member].capture, r->parts[i].capture.text,
               sizeof(s->parts[0].capture));
    wait_for(s, HOLD_REQ_COMMIT, conn, r->seq);
    step(s, (struct hold_event){.kind = HOLD_EV_COMMIT,
                                .digest = r->digest,
                                .wants = wants,
                                .n_wants = r->n});
}

static void arm_again(struct slot *s, int conn, const struct guard_request *r)
{
    wait_for(s, HOLD_REQ_ARM, conn, r->seq);
    if (s->state == SLOT_HELD && s->hold.sm.state != HOLD_ARMING)
        answer(s, HOLD_REQ_ARM, HOLD_OK);
}

static void freeze(struct slot *s, int conn, const struct guard_request *r)
{
    bool domains[HOLD_MAX_DOMAINS] = {false};
    for (unsigned i = 0; i < s->n_parts; i++)
        for (unsigned k = 0; k < r->n; k++)
            if (strcmp(s->env->config->partitions[s->parts[i].part].name,
                       r->parts[k].part.text) == 0)
                domains[s->parts[i].domain] = true;
    wait_for(s, HOLD_REQ_FREEZE, conn, r->seq);
    step(s, (struct hold_event){.kind = HOLD_EV_FREEZE,
                                .domains = r->n ? domains : NULL,
                                .hold_ms = r->hold_ms,
                                .freeze_timeout_ms = r->freeze_timeout_ms});
}

void slot_request(struct slot *s, int conn, const struct guard_request *r)
{
    if (r->type == GUARD_ARM) {
        arm_again(s, conn, r);
    } else if (s->state == SLOT_RESOLVING) {
        bool abort_it = r->type == GUARD_ABORT;
        if (abort_it)
            slot_stop(s);
        plain(s, conn, r, abort_it ? GUARD_OK : ERR_CONFLICT,
              abort_it ? "" : "the set is not armed yet");
    } else if (r->type == GUARD_FREEZE && s->probe) {
        plain(s, conn, r, ERR_CONFLICT, "it was armed to be looked at only");
    } else if (r->type == GUARD_FREEZE) {
        freeze(s, conn, r);
    } else if (r->type == GUARD_COMMIT) {
        commit(s, conn, r);
    } else {
        wait_for(s, HOLD_REQ_ABORT, conn, r->seq);
        step(s, (struct hold_event){.kind = HOLD_EV_ABORT});
    }
}

/* ---- Events ---- */

void slot_closed(struct slot *s, int conn)
{
    for (unsigned i = 0; i < SLOT_REQUESTS; i++)
        if (s->waiters[i].conn == conn)
            s->waiters[i].waiting = false;
    if (s->owner != conn)
        return;
    s->owner = NO_CONN;
    if (s->state == SLOT_RESOLVING)
        slot_stop(s);
    else if (s->state == SLOT_HELD)
        step(s, (struct hold_event){.kind = HOLD_EV_CLOSED});
}

void slot_stop(struct slot *s)
{
    if (s->state == SLOT_RESOLVING)
        pidfd_send_signal(s->doer.pidfd, SIGKILL, NULL, 0);
    else if (s->state == SLOT_HELD)
        step(s, (struct hold_event){.kind = HOLD_EV_CLOSED});
}

static void armed_domain(struct slot *s, const struct doer_result *r, int *fd)
{
    struct slot_domain *d = &s->domains[r->index];
    fd_close(&d->thaw_fd);
    d->thaw_fd = *fd;
    *fd = -1;
    memcpy(d->target, r->target, sizeof(d->target));
    if (!r->ok && d->id.text[0])
        set_error(&d->error, r->kind, r->text);
}

static void armed_member(struct slot *s, const struct doer_result *r)
{
    struct slot_part *p = &s->parts[r->index];
    p->flush_ms = r->flush_ms;
    p->capture_ms = r->capture_ms;
    p->dirty_bytes = r->dirty_bytes;
    if (!r->ok && !p->error.set)
        set_error(&p->error, r->kind, r->text);
}

/* Domains speak before their members do: a member's "could not be opened" says less. */
static void heard_while_arming(struct slot *s, const struct doer_result *r, int *fd)
{
    if (r->op == DOER_DOMAIN)
        armed_domain(s, r, fd);
    else if (r->op == DOER_MEMBER && !s->domains[s->parts[r->index].domain].error.set)
        armed_member(s, r);
    else if (r->op == HOLD_DO_ARM)
        armed(s);
}

static void heard_frozen(struct slot *s, const struct doer_result *r)
{
    struct hold_event ev = {.kind = HOLD_EV_FROZEN,
                            .index = r->index,
                            .ok = r->ok,
                            .undo = r->undo,
                            .at_ns = r->at_ns};
    ssize_t n = getrandom(&ev.epoch, sizeof(ev.epoch), 0);
    assert(n == (ssize_t)sizeof(ev.epoch));
    if (!r->ok)
        set_error(&s->domains[r->index].error, r->kind, r->text);
    if (!r->ok && !r->undo) {
        s->doer.shared->may_be_frozen[r->index] = false;
        log_err(LOG_LEVEL_ERROR, "guardian", "journal",
                freezelog_mark(&s->log, r->index, false));
    }
    step(s, ev);
}

static void heard_of_member(struct slot *s, const struct doer_result *r,
                            enum hold_event_kind kind)
{
    if (!r->ok && !s->parts[r->index].error.set)
        set_error(&s->parts[r->index].error, r->kind, r->text);
    if (!r->ok)
        log_warn("guardian", "capture", "set=%s capture=%s error=\"%s\"", s->set.text,
                 s->parts[r->index].capture, r->text);
    step(s, (struct hold_event){.kind = kind,
                                .index = r->index,
                                .ok = r->ok,
                                .undo = r->undo,
                                .at_ns = r->at_ns});
}

static void heard(struct slot *s, const struct doer_result *r, int *fd)
{
    if (s->state == SLOT_RESOLVING && r->op == DOER_MEMBER)
        resolved_one(s, r);
    else if (s->state == SLOT_RESOLVING && r->op == DOER_RESOLVE)
        resolved_all(s);
    if (s->state != SLOT_HELD || r->op == DOER_RESOLVE)
        return;
    switch (r->op) {
    case HOLD_DO_FREEZE:
        heard_frozen(s, r);
        break;
    case HOLD_DO_CAPTURE:
        heard_of_member(s, r, HOLD_EV_CAPTURED);
        break;
    case HOLD_DO_PUBLISH:
        heard_of_member(s, r, HOLD_EV_PUBLISHED);
        break;
    case HOLD_DO_REMOVE:
        heard_of_member(s, r, HOLD_EV_REMOVED);
        break;
    case HOLD_DO_RECHECK:
        if (!r->ok)
            set_error(&s->domains[r->index].error, r->kind, r->text);
        step(s, (struct hold_event){
                    .kind = HOLD_EV_RECHECKED, .index = r->index, .ok = r->ok});
        break;
    default:
        heard_while_arming(s, r, fd);
    }
}

void slot_hear(struct slot *s)
{
    static struct doer_result r;
    int fd;
    int got;
    while ((got = doer_hear(&s->doer, &r, &fd)) > 0) {
        heard(s, &r, &fd);
        fd_close(&fd);
    }
    s->doer_silent = got < 0;
}

void slot_doer_died(struct slot *s)
{
    slot_hear(s); /* what it said before it died comes first */
    doer_bury(&s->doer);
    log_warn("guardian", "doer", "slot=%u event=died set=%s", s->number,
             s->state == SLOT_FREE ? "" : s->set.text);
    if (s->state == SLOT_RESOLVING)
        refuse_arm(s, ERR_UNAVAILABLE, hold_breach_text(HOLD_DOER_DIED));
    else if (s->state == SLOT_HELD)
        step(s, (struct hold_event){.kind = HOLD_EV_DOER_DIED});
    slot_revive(s);
}

void slot_revive(struct slot *s)
{
    if (s->doer.pid > 0)
        return;
    struct err *e = doer_start(&s->doer, s->env->config, s->env->life_lock);
    s->doer_silent = false;
    if (e)
        log_err(LOG_LEVEL_WARN, "guardian", "doer", e);
    else if (s->state == SLOT_HELD)
        step(s, (struct hold_event){.kind = HOLD_EV_DOER_READY});
}

void slot_hook(struct slot *s, unsigned domain)
{
    struct slot_domain *d = &s->domains[domain];
    int status = 0;
    bool late = clock_ms() >= d->hook_until_ms;
    if (late)
        kill(-d->hook_pid, SIGKILL);
    if (waitpid(d->hook_pid, &status, late ? 0 : WNOHANG) != d->hook_pid)
        return;
    fd_close(&d->hook_pidfd);
    d->hook_pid = -1;
    errno = late ? ETIMEDOUT : EIO;
    note_thawed(s, domain, status == 0 ? QUIESCE_THAWED : QUIESCE_THAW_FAILED);
    struct hold_event ev = s->thawed[--s->n_thawed];
    step(s, ev);
}

void slot_tick(struct slot *s)
{
    slot_revive(s);
    if (s->state != SLOT_HELD)
        return;
    int64_t now_ms = clock_ms();
    for (unsigned i = 0; i < s->n_domains; i++)
        if (s->domains[i].hook_pid > 0 && now_ms >= s->domains[i].hook_until_ms)
            slot_hook(s, i);
    if (now_ms >= hold_timer_ms(&s->hold))
        step(s, (struct hold_event){.kind = HOLD_EV_TIMER});
}

int64_t slot_timer_ms(const struct slot *s)
{
    int64_t at = s->state == SLOT_HELD ? hold_timer_ms(&s->hold) : HOLD_NO_TIMER;
    if (s->doer.pid < 0)
        at = clock_ms() + HOLD_THAW_RETRY_MS;
    for (unsigned i = 0; i < s->n_domains; i++)
        if (s->domains[i].hook_pid > 0 && s->domains[i].hook_until_ms < at)
            at = s->domains[i].hook_until_ms;
    return at;
}
