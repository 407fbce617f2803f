/* AgentService: requests become session events; perform.c answers them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/guardian/place.h"
#include "agent/shell/agent.h"
#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"
#include "stillpoint/v1/agent.pb-c.h"

/* ---- describe ---- */

static const char *quiesce_text(int method)
{
    static const char *const names[] = {"none", "fsfreeze", "cgroup", "hook"};
    return names[method];
}

static const char *capture_text(int method)
{
    static const char *const names[] = {"btrfs", "reflink", "copy"};
    return names[method];
}

static Stillpoint__V1__PartitionInfo *describe_part(struct agent *a,
                                                    const struct config_partition *p)
{
    Stillpoint__V1__PartitionInfo *m = mem_alloc(sizeof *m);
    stillpoint__v1__partition_info__init(m);
    struct domain_id domain = {{0}};
    AUTO(err) struct err *nowhere = place_domain(a->conf, p, &domain);
    if (nowhere)
        snprintf(domain.text, sizeof domain.text, "%s/unknown:%s", a->node.text, p->name);
    pb_set(&m->node, a->node.text);
    pb_set(&m->partition, p->name);
    pb_set(&m->path, p->path);
    pb_set(&m->quiesce, quiesce_text(p->quiesce.method));
    pb_set(&m->capture, capture_text(p->capture.method));
    pb_set(&m->domain, domain.text);
    m->read_only = p->read_only;
    for (size_t i = 0; i < p->n_labels; i++) {
        Stillpoint__V1__Label *l = mem_alloc(sizeof *l);
        stillpoint__v1__label__init(l);
        pb_set(&l->key, p->labels[i].key);
        pb_set(&l->value, p->labels[i].value);
        *PB_APPEND(m, labels) = l;
    }
    const struct err *why = nowhere ? nowhere : a->guard_error;
    AUTO(str) char *error = why ? err_text(why) : mem_strdup("");
    pb_set(&m->error, error);
    return m;
}

Stillpoint__V1__NodeRecord *service_describe(struct agent *a)
{
    Stillpoint__V1__NodeRecord *m = mem_alloc(sizeof *m);
    stillpoint__v1__node_record__init(m);
    m->schema = 1;
    pb_set(&m->node, a->node.text);
    pb_set(&m->address, a->conf->advertise ? a->conf->advertise : a->conf->listen);
    pb_set(&m->version, STILLPOINT_VERSION);
    m->protocol = STILLPOINT_PROTOCOL;
    pb_set(&m->boot_id, a->boot_id);
    m->drills = a->conf->drills;
    for (size_t i = 0; i < a->conf->n_partitions; i++)
        *PB_APPEND(m, partitions) = describe_part(a, &a->conf->partitions[i]);
    for (size_t i = 0; i < a->conf->n_repositories; i++)
        *PB_APPEND(m, repositories) = mem_strdup(a->conf->repositories[i].name);
    return m;
}

static void describe(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    (void)m;
    Stillpoint__V1__NodeRecord *r = service_describe(ctx);
    rpc_reply(call, &r->base);
    wire_free(&r->base);
}

/* ---- the steps of a round ---- */

static struct err *begin(struct session_event *ev, const char *set,
                         const Stillpoint__V1__Token *token)
{
    TRY(name_copy(ev->set.text, set, "field 'set':"));
    return token_from_pb(token, &ev->token);
}

struct err *service_partition(const struct agent *a, char *const *names, size_t i,
                              const struct config_partition **out)
{
    *out = config_partition(a->conf, names[i]);
    if (*out)
        return NULL;
    return err_new(ERR_NOT_FOUND,
                   "field 'partitions[%zu]': the file of node '%s' has no partition "
                   "'%.80s'",
                   i, a->node.text, names[i]);
}

static struct err *prepare_parts(struct agent *a,
                                 const Stillpoint__V1__PrepareRequest *req,
                                 struct session_part *parts)
{
    for (size_t i = 0; i < req->n_partitions; i++) {
        const struct config_partition *p;
        TRY(service_partition(a, req->partitions, i, &p));
        TRY(name_copy(parts[i].part.text, p->name, "partition"));
        TRY(place_domain(a->conf, p, &parts[i].domain));
        parts[i].wave = req->n_waves ? (size_t)req->waves[i] : 0;
    }
    return NULL;
}

static struct err *check_prepare(const Stillpoint__V1__PrepareRequest *req)
{
    if (req->n_partitions == 0 || req->n_partitions > SESSION_MAX_PARTS)
        return err_new(ERR_INVALID, "field 'partitions': %zu, 1 to %d are allowed",
                       req->n_partitions, SESSION_MAX_PARTS);
    if (req->n_waves != 0 && req->n_waves != req->n_partitions)
        return err_new(ERR_INVALID, "field 'waves': %zu for %zu partitions", req->n_waves,
                       req->n_partitions);
    for (size_t i = 0; i < req->n_waves; i++)
        if (req->waves[i] < 0)
            return err_new(ERR_INVALID, "field 'waves[%zu]': %d", i, req->waves[i]);
    if (req->hold_limit_ms < 100 || req->hold_limit_ms > 60000)
        return err_new(ERR_INVALID, "field 'hold_limit_ms': %lld is not 100 to 60000",
                       (long long)req->hold_limit_ms);
    if (req->freeze_timeout_ms < 1 || req->freeze_timeout_ms > 3600000)
        return err_new(ERR_INVALID, "field 'freeze_timeout_ms': %lld",
                       (long long)req->freeze_timeout_ms);
    return NULL;
}

static void prepare(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct agent *a = ctx;
    const Stillpoint__V1__PrepareRequest *req = (const void *)m;
    struct session_event ev = {
        .kind = SESSION_EV_PREPARE,
        .hold_limit_ms = req->hold_limit_ms,
        .freeze_timeout_ms = req->freeze_timeout_ms,
        .relaxed = req->consistency == STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED,
        .rehearsal = req->rehearsal,
        .n_parts = req->n_partitions};
    struct err *e = check_prepare(req);
    struct session_part *parts = e ? NULL : mem_array(req->n_partitions, sizeof *parts);
    if (!e)
        e = begin(&ev, req->set, req->token);
    if (!e)
        e = prepare_parts(a, req, parts);
    if (e) {
        rpc_fail(call, e);
    } else {
        ev.parts = parts;
        ev.call = agent_pend(a, call);
        agent_feed(a, &ev);
    }
    free(parts);
}

/* Freeze, Abort and Inspect: set and token, nothing to convert. */
static void simple(struct agent *a, struct rpc_call *call, struct session_event *ev,
                   const char *set, const Stillpoint__V1__Token *token)
{
    struct err *e = begin(ev, set, token);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    ev->call = agent_pend(a, call);
    agent_feed(a, ev);
}

static void freeze(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    const Stillpoint__V1__FreezeRequest *req = (const void *)m;
    struct session_event ev = {.kind = SESSION_EV_FREEZE, .wave = (size_t)req->wave};
    if (req->wave < 0)
        rpc_fail(call, err_new(ERR_INVALID, "field 'wave': %d", req->wave));
    else
        simple(ctx, call, &ev, req->set, req->token);
}

static void abort_set(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    const Stillpoint__V1__AbortRequest *req = (const void *)m;
    struct session_event ev = {.kind = SESSION_EV_ABORT, .reason = req->reason};
    simple(ctx, call, &ev, req->set, req->token);
}

static void inspect(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    const Stillpoint__V1__InspectRequest *req = (const void *)m;
    simple(ctx, call, &(struct session_event){.kind = SESSION_EV_INSPECT}, req->set,
           req->token);
}

static void commit(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct agent *a = ctx;
    const Stillpoint__V1__CommitRequest *req = (const void *)m;
    struct session_event ev = {.kind = SESSION_EV_COMMIT,
                               .cut_unix_ms = req->cut_unix_ms,
                               .n_epochs = req->n_epochs};
    struct domain_epoch *epochs = NULL;
    struct err *e = begin(&ev, req->set, req->token);
    if (!e)
        e = epochs_from_pb(req->epochs, req->n_epochs, &epochs);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    ev.epochs = epochs;
    ev.call = agent_pend(a, call);
    agent_feed(a, &ev);
    free(epochs);
}

/* ---- WatchWork ---- */

static void unlink_stream(struct watch_stream *s)
{
    struct watch_stream **at = &s->agent->streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
}

static void on_gone(void *arg)
{
    struct watch_stream *s = arg;
    unlink_stream(s);
    rpc_end(s->call);
    free(s);
}

void service_end_streams(struct agent *a)
{
    while (a->streams)
        on_gone(a->streams);
}

static void send_progress(struct watch_stream *s, const struct held_task *t)
{
    const Stillpoint__V1__TaskRecord *r = t->work.task;
    if (s->slow || (s->set[0] && strcmp(s->set, r->set) != 0))
        return;
    Stillpoint__V1__WorkProgress p = STILLPOINT__V1__WORK_PROGRESS__INIT;
    p.task = r->id;
    p.set = r->set;
    p.partition = r->partition;
    p.kind = r->kind;
    p.state = r->state;
    p.error = r->error;
    p.files = atomic_load(&t->work.files);
    p.bytes_read = atomic_load(&t->work.bytes_read);
    p.bytes_stored = atomic_load(&t->work.bytes_stored);
    s->slow = !rpc_send(s->call, &p.base);
}

/* What it missed is older than what every task says of itself now. */
static void on_writable(void *arg)
{
    struct watch_stream *s = arg;
    s->slow = false;
    for (struct held_task *t = s->agent->tasks; t; t = t->next)
        send_progress(s, t);
}

void service_progress(struct agent *a, const struct held_task *t)
{
    for (struct watch_stream *s = a->streams; s; s = s->next)
        send_progress(s, t);
}

static void watch_work(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct agent *a = ctx;
    const Stillpoint__V1__WatchWorkRequest *req = (const void *)m;
    char set[NAME_BYTES] = "";
    struct err *e = req->set[0] ? name_copy(set, req->set, "field 'set':") : NULL;
    int n = 0;
    for (const struct watch_stream *s = a->streams; s; s = s->next)
        n++;
    if (!e && n >= AGENT_MAX_STREAMS)
        e = err_new(ERR_LIMIT, "%d streams watch already", AGENT_MAX_STREAMS);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct watch_stream *s = mem_zalloc(sizeof *s);
    s->call = call;
    s->agent = a;
    memcpy(s->set, set, sizeof set);
    s->next = a->streams;
    a->streams = s;
    for (struct held_task *t = a->tasks; t; t = t->next)
        send_progress(s, t);
    rpc_call_on_writable(call, on_writable, s);
    rpc_call_on_cancel(call, on_gone, s);
}

struct err *service_add(struct agent *a)
{
    static const struct rpc_method methods[] = {
        {"Describe", RPC_COORDINATOR | RPC_OPERATOR, describe},
        {"Check", RPC_COORDINATOR, check_serve},
        {"Prepare", RPC_COORDINATOR, prepare},
        {"Drill", RPC_COORDINATOR, drill_serve},
        {"Remains", RPC_COORDINATOR, remains_serve},
        {"Freeze", RPC_COORDINATOR, freeze},
        {"Commit", RPC_COORDINATOR, commit},
        {"Abort", RPC_COORDINATOR, abort_set},
        {"Inspect", RPC_COORDINATOR, inspect},
        {"WatchWork", RPC_COORDINATOR | RPC_OPERATOR, watch_work},
        {NULL, 0, NULL},
    };
    return rpc_server_add(a->server, &stillpoint__v1__agent_service__descriptor, methods,
                          a);
}
