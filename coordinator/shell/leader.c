#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "coordinator/shell/coord.h"

static void feed(struct coord *c, struct lead_event *ev);

int64_t wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct err *leader_check(const struct coord *c)
{
    if (lead_is_leading(&c->lead) && c->loaded && !c->stopping)
        return NULL;
    if (lead_is_leading(&c->lead) || c->stopping)
        return err_new(ERR_UNAVAILABLE, "coordinator '%s' is %s", c->conf->name,
                       c->stopping ? "stopping" : "reading the records: try again");
    const char *leader = c->lead.leader.text;
    return err_new(ERR_UNAVAILABLE, "coordinator '%s' does not lead%s%s%s", c->conf->name,
                   *leader ? ": ask '" : "; no leader is known: is etcd reachable?",
                   leader, *leader ? "'" : "");
}

/* One request of leadership; runs on a thread of its own so that a keep-alive never waits
 * behind other writes. */
struct ask {
    struct coord *coord;
    enum lead_act_kind kind;
    int64_t lease;
    struct lead_event ev;
    struct err *err;
};

static void run_ask(void *arg)
{
    struct ask *a = arg;
    struct meta *m = a->coord->meta;
    a->ev.sent_ms = loop_now_ms();
    a->ev.lease = a->lease;
    switch (a->kind) {
    case LEAD_ACT_GRANT:
        a->ev.kind = LEAD_EV_GRANTED;
        a->err = meta_grant(m, a->coord->conf->lease_ms, &a->ev.lease, &a->ev.ttl_ms);
        break;
    case LEAD_ACT_CAMPAIGN:
        a->ev.kind = LEAD_EV_CAMPAIGNED;
        a->err = meta_campaign(m, a->lease, &a->coord->self, &a->ev.won, &a->ev.revision,
                               &a->ev.leader);
        break;
    case LEAD_ACT_KEEPALIVE:
        a->ev.kind = LEAD_EV_KEPT;
        a->err = meta_keepalive(m, a->lease, &a->ev.ttl_ms);
        break;
    default:
        meta_revoke(m, a->lease);
        break;
    }
    a->ev.ok = a->err == NULL;
}

static void end_ask(void *arg)
{
    struct ask *a = arg;
    log_err(LOG_LEVEL_WARN, "lead", "etcd_failed", a->err);
    if (a->kind != LEAD_ACT_REVOKE)
        feed(a->coord, &a->ev);
    free(a);
}

static void on_timer(void *arg)
{
    feed(arg, &(struct lead_event){.kind = LEAD_EV_TIMER});
}

static void begin_term(struct coord *c)
{
    c->term++;
    log_info("lead", "leads", "coordinator=%s revision=%lld", c->conf->name,
             (long long)c->lead.revision);
    load_begin(c);
}

/* All that is under way is dropped: its results belong to a term that is over. */
static void end_term(struct coord *c)
{
    c->term++;
    c->loaded = false;
    log_warn("lead", "steps_down", "coordinator=%s", c->conf->name);
    runs_stop(c);
    watchers_end(c);
    load_forget(c);
}

static void perform(struct coord *c, const struct lead_act *act)
{
    int64_t wait;
    switch (act->kind) {
    case LEAD_ACT_LEADS:
        begin_term(c);
        return;
    case LEAD_ACT_STEPS_DOWN:
        end_term(c);
        return;
    case LEAD_ACT_TIMER:
        wait = act->at_ms - loop_now_ms();
        loop_timer_set(c->loop, &c->lead_timer, wait > 0 ? wait : 0, on_timer, c);
        return;
    default:
        break;
    }
    struct ask *a = mem_zalloc(sizeof *a);
    a->coord = c;
    a->kind = act->kind;
    a->lease = act->lease;
    pool_submit(c->lease_pool, run_ask, end_ask, a);
}

static void feed(struct coord *c, struct lead_event *ev)
{
    struct lead_acts acts;
    ev->now_ms = loop_now_ms();
    lead_step(&c->lead, ev, &acts);
    for (int i = 0; i < acts.n; i++)
        perform(c, &acts.items[i]);
}

static void log_move(void *ctx, const struct sm *m, const char *from, const char *to)
{
    const struct coord *c = ctx;
    log_info(m->name, "moved", "coordinator=%s from=%s to=%s", c->conf->name, from, to);
}

static void poll_leader(void *arg)
{
    struct coord *c = arg;
    /* A follower campaigns again and again; the transaction says who leads. */
    if (c->lead.sm.state == LEAD_FOLLOWING)
        feed(c, &(struct lead_event){.kind = LEAD_EV_LEADER_GONE});
    else if (c->loaded)
        sets_sweep(c);
    if (c->loaded && ++c->sweeps % COORD_LOCK_SWEEP == 0)
        locks_sweep(c);
    loop_timer_set(c->loop, &c->sweep_timer, COORD_SWEEP_MS, poll_leader, c);
}

void leader_start(struct coord *c)
{
    lead_init(&c->lead);
    c->lead.sm.observer = log_move;
    c->lead.sm.observer_ctx = c;
    feed(c, &(struct lead_event){.kind = LEAD_EV_START});
    loop_timer_set(c->loop, &c->sweep_timer, COORD_SWEEP_MS, poll_leader, c);
}

void leader_stop(struct coord *c)
{
    loop_timer_cancel(c->loop, &c->sweep_timer);
    feed(c, &(struct lead_event){.kind = LEAD_EV_STOP});
    loop_timer_cancel(c->loop, &c->lead_timer);
}
