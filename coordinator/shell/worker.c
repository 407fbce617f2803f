/* WorkerService: agents register, claim tasks and report. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "coordinator/shell/coord.h"
#include "stillpoint/v1/worker.pb-c.h"

enum { WORKER_MAX_OPEN_SETS = 4096, WORKER_MAX_CLAIM = 16, WORKER_MAX_RUNNING = 256 };
#define WORKER_MAX_UNIX_MS 253402300799999 /* the end of the year 9999 */

/* An agent speaks for itself only: the certificate's name is the node's. */
static struct err *check_self(struct rpc_call *call, const char *node)
{
    const char *name = rpc_call_peer(call)->name;
    if (strcmp(name, node) == 0)
        return NULL;
    return err_new(ERR_DENIED, "the certificate is of node '%s', the request of '%.80s'",
                   name, node);
}

/* ---- RegisterNode ---- */

/* A record on its way into the store. */
struct node_write {
    char *node, *json;
};

static void drop_node_write(void *arg)
{
    struct node_write *w = arg;
    free(w->node);
    free(w->json);
    free(w);
}

/* What was not stored is tried again when the node registers next. */
static void on_node_stored(struct coord *c, struct meta_txn *t, void *arg)
{
    struct node_write *w = arg;
    struct node_entry *n = node_find(c, w->node);
    if (meta_txn_outcome(t) != META_DONE) {
        log_warn("node", "store_failed", "node=%s", w->node);
        return;
    }
    if (!n)
        return;
    free(n->stored);
    n->stored = STEAL(w->json);
}

/* What would be stored: all but the time it was seen, which changes every few seconds. */
static char *stored_form(const Stillpoint__V1__NodeRecord *r)
{
    Stillpoint__V1__NodeRecord *copy = (Stillpoint__V1__NodeRecord *)pb_copy(&r->base);
    copy->last_seen_unix_ms = 0;
    copy->connected = 0;
    copy->clock_ahead_ms = 0;
    char *json = pbjson_encode(&copy->base, 0);
    wire_free(&copy->base);
    return json;
}

static void store_node(struct coord *c, const char *node, const char *json)
{
    struct meta_txn *t = meta_txn_new();
    struct meta_key k;
    meta_key(&k, "nodes/%s", node);
    meta_txn_put(t, &k, json, 0);
    AUTO(str) char *actor = mem_printf("spiffe://%s/agent/%s", c->conf->cluster, node);
    meta_txn_audit(t, actor, "node.register", node, "", "");
    struct node_write *w = mem_alloc(sizeof *w);
    *w = (struct node_write){mem_strdup(node), mem_strdup(json)};
    store_submit(c, t, on_node_stored, drop_node_write, w);
}

static struct err *take_node(struct coord *c, const Stillpoint__V1__NodeRecord *r,
                             int64_t unix_ms)
{
    Stillpoint__V1__NodeRecord *copy = (Stillpoint__V1__NodeRecord *)pb_copy(&r->base);
    copy->last_seen_unix_ms = wall_ms();
    copy->clock_ahead_ms = unix_ms ? unix_ms - copy->last_seen_unix_ms : 0;
    int64_t now_ms = loop_now_ms();
    TRY(node_put(c, copy, now_ms));
    struct node_entry *n = node_find(c, r->node);
    AUTO(str) char *form = stored_form(n->record);
    if (n->stored && strcmp(n->stored, form) == 0)
        return NULL;
    if (n->stored_ms && now_ms - n->stored_ms < COORD_NODE_STORE_MS)
        return NULL; /* the next registration finds the difference */
    n->stored_ms = now_ms;
    store_node(c, r->node, form);
    return NULL;
}

static void add_verdict(Stillpoint__V1__RegisterReply *reply, const char *set,
                        Stillpoint__V1__SetState state)
{
    Stillpoint__V1__Verdict *v = mem_alloc(sizeof *v);
    stillpoint__v1__verdict__init(v);
    pb_set(&v->set, set);
    v->state = state;
    *PB_APPEND(reply, verdicts) = v;
}

/* For a node that a relaxed set was captured without, it is ABORTED. */
static Stillpoint__V1__SetState verdict_for(const Stillpoint__V1__SetRecord *r,
                                            const char *node)
{
    if (r->state < STILLPOINT__V1__SET_STATE__SET_CAPTURED)
        return r->state;
    for (size_t i = 0; i < r->n_parts; i++)
        if (strcmp(r->parts[i]->node, node) == 0 &&
            r->parts[i]->state != STILLPOINT__V1__PART_STATE__PART_MISSING)
            return r->state;
    return STILLPOINT__V1__SET_STATE__SET_ABORTED;
}

/* PROTOCOL.md step 5.4: the verdicts on what the agent still has open. */
static void add_verdicts(struct coord *c, const Stillpoint__V1__RegisterRequest *req,
                         Stillpoint__V1__RegisterReply *reply)
{
    for (size_t i = 0; i < req->n_open_sets; i++) {
        const struct set_entry *e = set_find(c, req->open_sets[i]->set);
        /* A rehearsal whose coordinator died has nobody else to end it. */
        if (!e && req->open_sets[i]->rehearsal && !run_exists(c, req->open_sets[i]->set))
            add_verdict(reply, req->open_sets[i]->set,
                        STILLPOINT__V1__SET_STATE__SET_ABORTED);
        if (e && !e->run)
            add_verdict(reply, e->record->set, verdict_for(e->record, req->node->node));
    }
}

static struct err *check_register(struct coord *c, struct rpc_call *call,
                                  const Stillpoint__V1__RegisterRequest *req)
{
    if (!req->node)
        return err_new(ERR_INVALID, "field 'node': missing");
    TRY(check_self(call, req->node->node));
    TRY(leader_check(c));
    if (req->n_open_sets > WORKER_MAX_OPEN_SETS)
        return err_new(ERR_LIMIT, "field 'open_sets': %zu, at most %d", req->n_open_sets,
                       WORKER_MAX_OPEN_SETS);
    if (req->unix_ms < 0 || req->unix_ms > WORKER_MAX_UNIX_MS)
        return err_new(ERR_INVALID, "field 'unix_ms': %lld is no time of day",
                       (long long)req->unix_ms);
    return take_node(c, req->node, req->unix_ms);
}

static void register_node(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__RegisterRequest *req = (const void *)m;
    struct err *e = check_register(c, call, req);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__RegisterReply *reply = mem_alloc(sizeof *reply);
    stillpoint__v1__register_reply__init(reply);
    reply->interval_ms = REGISTRY_INTERVAL_MS;
    pb_set_bytes(&reply->incarnation, c->incarnation, sizeof c->incarnation);
    add_verdicts(c, req, reply);
    rpc_reply(call, &reply->base);
    wire_free(&reply->base);
}

/* ---- Claim ---- */

/* Tasks whose claim is being stored; the call is answered when it is. */
struct claim {
    struct rpc_call *call;
    Stillpoint__V1__ClaimReply *reply; /* owned */
};

static void drop_claim(void *arg)
{
    struct claim *k = arg;
    if (k->call)
        rpc_fail(k->call, err_new(ERR_UNAVAILABLE, "the coordinator stopped leading"));
    wire_free(&k->reply->base);
    free(k);
}

static void on_claimed(struct coord *c, struct meta_txn *t, void *arg)
{
    struct claim *k = arg;
    bool done = meta_txn_outcome(t) == META_DONE;
    for (size_t i = 0; i < k->reply->n_tasks; i++) {
        struct task_entry *e = task_find(c, k->reply->tasks[i]->id);
        if (!e)
            continue;
        e->writing = false;
        if (!done)
            continue;
        e->record->state = k->reply->tasks[i]->state;
        e->record->attempt = k->reply->tasks[i]->attempt;
        e->mod_revision = meta_txn_revision(t);
        e->claimed_ms = loop_now_ms();
    }
    if (done)
        rpc_reply(k->call, &k->reply->base);
    else
        rpc_fail(k->call, err_new(ERR_UNAVAILABLE, "the claim could not be stored"));
    k->call = NULL;
    if (meta_txn_outcome(t) == META_UNKNOWN || meta_txn_outcome(t) == META_CONFLICT)
        load_again(c);
}

static bool is_running(const Stillpoint__V1__ClaimRequest *req, const char *id)
{
    for (size_t i = 0; i < req->n_running; i++)
        if (strcmp(req->running[i], id) == 0)
            return true;
    return false;
}

static bool claimable(const struct task_entry *e, const Stillpoint__V1__ClaimRequest *req)
{
    return strcmp(e->record->node, req->node) == 0 && !e->writing && !e->unstored &&
           e->record->state < STILLPOINT__V1__TASK_STATE__TASK_DONE &&
           !is_running(req, e->record->id);
}

static void claim_one(struct task_entry *e, const char *actor, struct meta_txn *t,
                      struct claim *k)
{
    Stillpoint__V1__TaskRecord *r =
        (Stillpoint__V1__TaskRecord *)pb_copy(&e->record->base);
    r->state = STILLPOINT__V1__TASK_STATE__TASK_RUNNING;
    r->attempt++;
    struct meta_key key;
    meta_key(&key, "tasks/%s/%s", r->node, r->id);
    AUTO(str) char *json = pbjson_encode(&r->base, 0);
    meta_txn_if_mod(t, &key, e->mod_revision);
    meta_txn_put(t, &key, json, 0);
    meta_txn_audit(t, actor, "task.claim", r->id, task_state_text(e->record->state),
                   task_state_text(r->state));
    e->writing = true;
    *PB_APPEND(k->reply, tasks) = r;
}

static void claim(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__ClaimRequest *req = (const void *)m;
    struct err *e = check_self(call, req->node);
    if (!e)
        e = leader_check(c);
    if (!e && (req->most < 1 || req->most > WORKER_MAX_CLAIM))
        e = err_new(ERR_INVALID, "field 'most': %d is not 1 to %d", req->most,
                    WORKER_MAX_CLAIM);
    if (!e && req->n_running > WORKER_MAX_RUNNING)
        e = err_new(ERR_LIMIT, "field 'running': %zu, at most %d", req->n_running,
                    WORKER_MAX_RUNNING);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct claim *k = mem_zalloc(sizeof *k);
    k->call = call;
    k->reply = mem_alloc(sizeof *k->reply);
    stillpoint__v1__claim_reply__init(k->reply);
    struct meta_txn *t = meta_txn_new();
    AUTO(str)
    char *actor = mem_printf("spiffe://%s/agent/%s", c->conf->cluster, req->node);
    for (size_t i = 0; i < c->n_tasks && k->reply->n_tasks < (size_t)req->most; i++)
        if (claimable(c->tasks[i], req))
            claim_one(c->tasks[i], actor, t, k);
    if (k->reply->n_tasks > 0) {
        store_submit(c, t, on_claimed, drop_claim, k);
        return;
    }
    meta_txn_free(t);
    rpc_reply(call, &k->reply->base);
    k->call = NULL;
    drop_claim(k);
}

/* ---- Report ---- */

static void report(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__ReportRequest *req = (const void *)m;
    struct err *e = check_self(call, req->node);
    if (!e)
        e = leader_check(c);
    if (!e && !req->task)
        e = err_new(ERR_INVALID, "field 'task': missing");
    if (!e)
        e = task_report(c, req->node, req->task);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__ReportReply reply = STILLPOINT__V1__REPORT_REPLY__INIT;
    rpc_reply(call, &reply.base);
}

struct err *worker_serve(struct coord *c)
{
    static const struct rpc_method methods[] = {
        {"RegisterNode", RPC_AGENT, register_node},
        {"Claim", RPC_AGENT, claim},
        {"Report", RPC_AGENT, report},
        {NULL, 0, NULL},
    };
    return rpc_server_add(c->server, &stillpoint__v1__worker_service__descriptor, methods,
                          c);
}
