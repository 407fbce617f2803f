/* A round's drill: causes the fault at its moment, once, and lets the round go on as if
 * nothing had been arranged. A set that is taken over has none. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/etcd/etcd.h"
#include "common/obs/fault.h"
#include "common/obs/log.h"
#include "common/wire/wire.h"
#include "coordinator/shell/run.h"
#include "stillpoint/v1/agent.pb-c.h"

/* For the answer of an agent that may have died or stopped of the question. */
enum { DRILL_CALL_MS = 1000 };

static bool is_due(const struct drill *d, const struct round_act *a)
{
    if (d->when == DRILL_WHEN_CAPTURED)
        return a->kind == ROUND_ACT_STORE_CAPTURED;
    return a->kind == ROUND_ACT_CALL && a->call == CALL_COMMIT;
}

/* The Commit that waited for the drill, unless the round has gone on without it. */
static void send_commit(struct run *r, size_t node)
{
    const struct round_node *n = &r->round.nodes[node];
    if (r->round.sm.state == ROUND_CAPTURING && n->waiting && n->call == CALL_COMMIT)
        run_call(r, &(struct round_act){.call = CALL_COMMIT, .node = node});
}

/* ---- at an agent ---- */

struct drilling {
    struct coord *coord;
    unsigned term;
    uint64_t serial;
    size_t node;
};

static void on_drilled(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct drilling *k = arg;
    AUTO(err) struct err *owned = e;
    struct run *r = k->coord->term == k->term ? run_find(k->coord, k->serial) : NULL;
    size_t node = k->node;
    (void)m;
    free(k);
    if (!r)
        return;
    /* Silence is what was asked for. Anything else means that nothing happened, and a set
     * that looks drilled without having been would prove too much. */
    if (owned && owned->kind != ERR_UNAVAILABLE && owned->kind != ERR_TIMEOUT) {
        AUTO(str) char *text = err_text(owned);
        AUTO(str) char *why = mem_printf("the drill could not be caused: %s", text);
        pb_set(&r->draft->drill->error, text);
        run_feed(r, &(struct round_event){.kind = ROUND_EV_CANCEL, .reason = why});
        return;
    }
    send_commit(r, node);
}

static Stillpoint__V1__DrillFault fault_of(const struct drill *d)
{
    switch (d->what) {
    case DRILL_AGENT_DIES:
        return STILLPOINT__V1__DRILL_FAULT__DRILL_KILL_AGENT;
    case DRILL_AGENT_SLEEPS:
        return STILLPOINT__V1__DRILL_FAULT__DRILL_PAUSE_AGENT;
    case DRILL_GUARDIAN_DIES:
        return STILLPOINT__V1__DRILL_FAULT__DRILL_KILL_GUARDIAN;
    default:
        return STILLPOINT__V1__DRILL_FAULT__DRILL_NOTHING;
    }
}

static void fail_later(void *arg)
{
    on_drilled(arg, err_new(ERR_CONFLICT, "the node has not registered"), NULL);
}

static void ask_agent(struct run *r, size_t node)
{
    struct rpc_channel *ch = NULL;
    struct drilling *k = mem_alloc(sizeof *k);
    *k = (struct drilling){r->coord, r->coord->term, r->serial, node};
    AUTO(err) struct err *e = node_channel(r->coord, r->nodes[node].name, &ch);
    if (e) {
        loop_post(r->coord->loop, fail_later, k);
        return;
    }
    Stillpoint__V1__DrillRequest req = STILLPOINT__V1__DRILL_REQUEST__INIT;
    req.set = r->set.text;
    req.token = token_to_pb(&r->round.conf.token);
    req.fault = fault_of(r->drill);
    req.for_ms = r->draft->drill->fault_ms;
    const struct rpc_opts opts = {.timeout_ms = DRILL_CALL_MS};
    rpc_call_start(ch, &stillpoint__v1__agent_service__descriptor, "Drill", &req.base,
                   &opts, on_drilled, k);
    wire_free(&req.token->base);
}

/* ---- here ---- */

static void release_commits(void *arg)
{
    struct run *r = arg;
    r->drill = NULL;
    for (size_t i = 0; i < r->n_nodes; i++)
        send_commit(r, i);
}

static void withhold(struct run *r)
{
    if (!r->withheld)
        loop_timer_set(r->coord->loop, &r->drill_timer, r->draft->drill->fault_ms,
                       release_commits, r);
    r->withheld = true;
}

static void cause_here(struct run *r)
{
    enum drill_what what = r->drill->what;
    r->drill = NULL;
    if (what == DRILL_LEADER_DIES)
        fault_die();
    if (what == DRILL_LEADER_SLEEPS)
        log_err(LOG_LEVEL_ERROR, "drill", "failed",
                fault_stand_still(r->draft->drill->fault_ms));
    else
        etcd_cut(r->coord->etcd, r->draft->drill->fault_ms);
}

bool run_drill(struct run *r, const struct round_act *a)
{
    const struct drill *d = r->drill;
    if (!d || !is_due(d, a))
        return false;
    if (drill_is_on_agent(d) &&
        strcmp(r->nodes[a->node].name, r->draft->drill->node) != 0)
        return false;
    if (!r->withheld)
        log_warn("drill", "begins", "set=%s drill=%s node=%s for_ms=%lld", r->set.text,
                 d->name, r->draft->drill->node, (long long)r->draft->drill->fault_ms);
    if (d->what == DRILL_COMMIT_IS_LATE) {
        withhold(r);
        return true;
    }
    if (drill_is_on_agent(d)) {
        ask_agent(r, a->node);
        r->drill = NULL;
        return true;
    }
    cause_here(r);
    return false;
}
