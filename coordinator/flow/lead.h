/* Which coordinator leads: an etcd lease, a key created under it, and a deadline after
 * which the leader no longer trusts its own lease (M5). No I/O, no clock. Loop thread
 * only. */
#ifndef COORDINATOR_FLOW_LEAD_H
#define COORDINATOR_FLOW_LEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/sm.h"
#include "common/model/ids.h"

enum {
    LEAD_TTL_MS = 10000, /* of a lease, unless configured */
    LEAD_MARGIN_MS =
        1500, /* stop trusting the lease this long before etcd could drop it */
    LEAD_RETRY_MS =
        1000, /* between attempts while etcd does not answer or another leads */
};

enum lead_state {
    LEAD_IDLE,
    LEAD_GRANTING,    /* asking for a lease */
    LEAD_CAMPAIGNING, /* creating the leader key under it */
    LEAD_FOLLOWING,   /* another one leads; our lease is kept for the next attempt */
    LEAD_LEADING,
    LEAD_STOPPED,
};

enum lead_event_kind {
    LEAD_EV_START,
    LEAD_EV_GRANTED,     /* ok: lease, ttl_ms; else it was not granted, or unknown */
    LEAD_EV_CAMPAIGNED,  /* ok: won or lost, the leader's name; else unknown */
    LEAD_EV_KEPT,        /* ok: ttl_ms, 0 when the lease is dead; else unknown */
    LEAD_EV_LEADER_GONE, /* the leader key has vanished, or may have */
    LEAD_EV_TIMER,
    LEAD_EV_STOP,
};

struct lead_event {
    enum lead_event_kind kind;
    int64_t now_ms;
    bool ok;
    int64_t sent_ms; /* when the request that this answers was sent: a lease runs from
                        there */
    int64_t lease;
    int64_t ttl_ms;
    bool won;
    int64_t revision;      /* of the leader key, when won */
    struct node_id leader; /* who leads, when lost */
};

enum lead_act_kind {
    LEAD_ACT_GRANT,
    LEAD_ACT_CAMPAIGN, /* with `lease`; repeatable: a key already ours counts as won */
    LEAD_ACT_KEEPALIVE,
    LEAD_ACT_REVOKE,
    LEAD_ACT_LEADS,      /* this coordinator leads from now on */
    LEAD_ACT_STEPS_DOWN, /* …no longer: everything under way is lost to it */
    LEAD_ACT_TIMER,
};
struct lead_act {
    enum lead_act_kind kind;
    int64_t lease;
    int64_t at_ms;
};
enum { LEAD_MAX_ACTS = 4 };
struct lead_acts {
    struct lead_act items[LEAD_MAX_ACTS];
    int n;
};

/* Invariant: LEADING only while now_ms < trusted_until_ms. */
struct lead {
    struct sm sm;
    int64_t lease;
    int64_t revision; /* of the leader key while LEADING */
    int64_t trusted_until_ms;
    int64_t next_ms;       /* when the timer has something to do */
    bool keeping;          /* a keep-alive is under way */
    struct node_id leader; /* as last heard; empty: unknown */
};

void lead_init(struct lead *l);
void lead_step(struct lead *l, const struct lead_event *ev, struct lead_acts *out);
bool lead_is_leading(const struct lead *l);

#endif
