#include "coordinator/flow/lead.h"

#include <assert.h>

/*  IDLE → GRANTING → CAMPAIGNING ─won→ LEADING
 *             ↑          ↑  └─lost→ FOLLOWING ─┐
 *             │          └────leader gone──────┤
 *             └──────────lease dead────────────┘ */
static const struct sm_state states[] = {
    [LEAD_IDLE] = {"IDLE", SM_INITIAL, SM_TO(LEAD_GRANTING) | SM_TO(LEAD_STOPPED)},
    [LEAD_GRANTING] = {"GRANTING", 0,
                       SM_TO(LEAD_CAMPAIGNING) | SM_TO(LEAD_IDLE) | SM_TO(LEAD_STOPPED)},
    [LEAD_CAMPAIGNING] = {"CAMPAIGNING", 0,
                          SM_TO(LEAD_LEADING) | SM_TO(LEAD_FOLLOWING) | SM_TO(LEAD_IDLE) |
                              SM_TO(LEAD_STOPPED)},
    [LEAD_FOLLOWING] = {"FOLLOWING", 0,
                        SM_TO(LEAD_CAMPAIGNING) | SM_TO(LEAD_IDLE) | SM_TO(LEAD_STOPPED)},
    [LEAD_LEADING] = {"LEADING", 0, SM_TO(LEAD_IDLE) | SM_TO(LEAD_STOPPED)},
    [LEAD_STOPPED] = {"STOPPED", SM_FINAL, 0},
};

void lead_init(struct lead *l)
{
    *l = (struct lead){0};
    sm_init(&l->sm, "lead", states, LEAD_IDLE);
}

bool lead_is_leading(const struct lead *l)
{
    return l->sm.state == LEAD_LEADING;
}

static void act(struct lead_acts *out, enum lead_act_kind kind, int64_t lease)
{
    assert(out->n < LEAD_MAX_ACTS);
    out->items[out->n++] = (struct lead_act){.kind = kind, .lease = lease};
}

static void grant(struct lead *l, struct lead_acts *out)
{
    sm_move(&l->sm, LEAD_GRANTING);
    l->next_ms = 0;
    act(out, LEAD_ACT_GRANT, 0);
}

static void campaign(struct lead *l, struct lead_acts *out)
{
    if (l->sm.state != LEAD_CAMPAIGNING)
        sm_move(&l->sm, LEAD_CAMPAIGNING);
    l->next_ms = 0;
    act(out, LEAD_ACT_CAMPAIGN, l->lease);
}

/* The lease is dead or can no longer be trusted: begin again with a new one. */
static void drop_lease(struct lead *l, int64_t now_ms, struct lead_acts *out)
{
    if (lead_is_leading(l))
        act(out, LEAD_ACT_STEPS_DOWN, 0);
    sm_move(&l->sm, LEAD_IDLE);
    l->lease = 0;
    l->keeping = false;
    l->next_ms = now_ms + LEAD_RETRY_MS;
}

static void trust(struct lead *l, const struct lead_event *ev)
{
    l->trusted_until_ms = ev->sent_ms + ev->ttl_ms - LEAD_MARGIN_MS;
    l->next_ms = ev->sent_ms + ev->ttl_ms / 3;
}

static void on_granted(struct lead *l, const struct lead_event *ev, struct lead_acts *out)
{
    if (l->sm.state != LEAD_GRANTING)
        return;
    if (!ev->ok) {
        drop_lease(l, ev->now_ms, out);
        return;
    }
    l->lease = ev->lease;
    trust(l, ev);
    campaign(l, out);
}

static void on_campaigned(struct lead *l, const struct lead_event *ev,
                          struct lead_acts *out)
{
    if (l->sm.state != LEAD_CAMPAIGNING || ev->lease != l->lease)
        return;    /* of a lease that is gone, and its key with it */
    if (!ev->ok) { /* unknown: the next campaign reads what became of this one */
        l->next_ms = ev->now_ms + LEAD_RETRY_MS;
        return;
    }
    l->leader = ev->leader;
    l->next_ms = ev->now_ms;
    if (!ev->won) {
        sm_move(&l->sm, LEAD_FOLLOWING);
        return;
    }
    l->revision = ev->revision;
    sm_move(&l->sm, LEAD_LEADING);
    act(out, LEAD_ACT_LEADS, l->lease);
}

static void on_kept(struct lead *l, const struct lead_event *ev, struct lead_acts *out)
{
    l->keeping = false;
    if (!l->lease || (ev->ok && ev->lease != l->lease))
        return;
    if (ev->ok && ev->ttl_ms == 0)
        drop_lease(l, ev->now_ms, out);
    else if (ev->ok)
        trust(l, ev);
    else
        l->next_ms = ev->now_ms + LEAD_RETRY_MS;
}

static void on_time(struct lead *l, int64_t now_ms, struct lead_acts *out)
{
    if (l->lease && now_ms >= l->trusted_until_ms) {
        drop_lease(l, now_ms, out);
        return;
    }
    if (l->next_ms == 0 || now_ms < l->next_ms)
        return;
    switch (l->sm.state) {
    case LEAD_IDLE:
        grant(l, out);
        return;
    case LEAD_CAMPAIGNING:
        campaign(l, out);
        return;
    case LEAD_FOLLOWING:
    case LEAD_LEADING:
        if (!l->keeping)
            act(out, LEAD_ACT_KEEPALIVE, l->lease);
        l->keeping = true;
        l->next_ms = 0;
        return;
    default:
        return;
    }
}

static void stop(struct lead *l, struct lead_acts *out)
{
    if (lead_is_leading(l))
        act(out, LEAD_ACT_STEPS_DOWN, 0);
    if (l->lease)
        act(out, LEAD_ACT_REVOKE, l->lease);
    sm_move(&l->sm, LEAD_STOPPED);
    l->lease = 0;
}

static void set_timer(const struct lead *l, struct lead_acts *out)
{
    int64_t at = l->next_ms;
    if (l->lease && (at == 0 || l->trusted_until_ms < at))
        at = l->trusted_until_ms;
    if (at == 0)
        return;
    act(out, LEAD_ACT_TIMER, 0);
    out->items[out->n - 1].at_ms = at;
}

void lead_step(struct lead *l, const struct lead_event *ev, struct lead_acts *out)
{
    out->n = 0;
    if (sm_is_final(&l->sm))
        return;
    switch (ev->kind) {
    case LEAD_EV_START:
        if (l->sm.state == LEAD_IDLE)
            grant(l, out);
        break;
    case LEAD_EV_GRANTED:
        on_granted(l, ev, out);
        break;
    case LEAD_EV_CAMPAIGNED:
        on_campaigned(l, ev, out);
        break;
    case LEAD_EV_KEPT:
        on_kept(l, ev, out);
        break;
    case LEAD_EV_LEADER_GONE:
        if (l->sm.state == LEAD_FOLLOWING)
            campaign(l, out);
        break;
    case LEAD_EV_TIMER:
        break;
    case LEAD_EV_STOP:
        stop(l, out);
        return;
    }
    on_time(l, ev->now_ms, out);
    set_timer(l, out);
}
