/* What a set of a group would meet: asked of everybody (CheckGroup), or tried without a
 * capture (RehearseGroup). */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "coordinator/admin/admin.h"
#include "coordinator/flow/predict.h"
#include "coordinator/shell/run.h"
#include "stillpoint/v1/agent.pb-c.h"

enum {
    CHECK_ECHOES =
        3, /* after the answer, when the connection is warm; the slowest counts */
    CHECK_ECHO_MS = 5000,
    CHECK_ERROR_BYTES = 2000,
};

typedef Stillpoint__V1__PartCheck PartCheck;

static struct err *find_group(const struct coord *c, const char *name,
                              struct group_entry **out)
{
    TRY(leader_check(c));
    *out = admin_group(c, name);
    if (*out)
        return NULL;
    return err_new(ERR_NOT_FOUND,
                   "there is no group '%.80s': `stillpoint group list` shows all", name);
}

/* ---- CheckGroup ---- */

struct check;

/* One node's share of a check. */
struct check_node {
    struct check *check;
    const char *name; /* of its first part */
    int64_t sent_ns;  /* of the echo under way */
    int echoes;
    int64_t round_trip_us;
};

struct check {
    struct coord *coord;
    unsigned term;
    struct rpc_call *call;
    Stillpoint__V1__GroupSpec *spec;        /* owned */
    Stillpoint__V1__CheckGroupReply *reply; /* owned; parts as the group names them */
    struct check_node *nodes;               /* owned; of parts that may be asked about */
    size_t n_nodes;
    size_t waiting; /* nodes that have not come to their end */
};

static void refuse(PartCheck *p, struct err *e)
{
    AUTO(err) struct err *owned = e;
    AUTO(str) char *text = err_text(owned);
    pb_set(&p->error, text);
}

static bool is_asked(const PartCheck *p, const char *node)
{
    return !p->error[0] && strcmp(p->node, node) == 0;
}

static void describe(const struct coord *c, PartCheck *p)
{
    const struct node_entry *n = node_find(c, p->node);
    for (size_t i = 0; n && i < n->record->n_partitions; i++) {
        const Stillpoint__V1__PartitionInfo *info = n->record->partitions[i];
        if (strcmp(info->partition, p->partition) != 0)
            continue;
        pb_set(&p->quiesce, info->quiesce);
        pb_set(&p->capture, info->capture);
        pb_set(&p->domain, info->domain);
    }
}

static bool is_relaxed(const struct check *k)
{
    return k->spec->consistency == STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED;
}

/* As planning would see this partition. */
static PartCheck *plan_part(const struct check *k, const char *name)
{
    struct coord *c = k->coord;
    PartCheck *p = mem_alloc(sizeof *p);
    stillpoint__v1__part_check__init(p);
    AUTO(plan) struct plan *plan = NULL;
    struct plan_part id;
    struct err *bad = plan_parse_part(name, &id);
    if (!bad)
        bad = plan_make(&c->registry, &name, 1, !is_relaxed(k), loop_now_ms(), &plan);
    if (!bad)
        bad = node_check_repository(c, id.node.text, k->spec->repository);
    pb_set(&p->node, id.node.text);
    pb_set(&p->partition, id.part.text);
    describe(c, p);
    if (bad)
        refuse(p, bad);
    return p;
}

static bool is_required(const struct check *k, const char *name)
{
    for (size_t i = 0; i < k->spec->n_required; i++)
        if (strcmp(k->spec->required[i], name) == 0)
            return true;
    return false;
}

/* What the partitions that would be refused mean for the set. */
static struct err *judge_parts(const struct check *k)
{
    size_t refused = 0;
    for (size_t i = 0; i < k->reply->n_parts; i++) {
        if (!k->reply->parts[i]->error[0])
            continue;
        refused++;
        if (is_required(k, k->spec->partitions[i]))
            return err_new(ERR_CONFLICT, "'%s' is required", k->spec->partitions[i]);
    }
    if (refused > 0 && (!is_relaxed(k) || refused == k->reply->n_parts))
        return err_new(ERR_CONFLICT, "%zu of %zu partitions", refused, k->reply->n_parts);
    return NULL;
}

/* What planning says of the group as a whole, which no single partition shows. */
static struct err *judge_group(const struct check *k)
{
    AUTO(plan) struct plan *plan = NULL;
    TRY(judge_parts(k));
    for (const struct run *r = k->coord->runs; r; r = r->next)
        if (strcmp(r->draft->group, k->spec->group) == 0)
            return err_new(ERR_CONFLICT, "set '%s' is being taken", r->set.text);
    TRY(run_plan(k->coord, k->spec, &plan));
    return predict_judge(k->reply->predicted_pause_ms, k->spec->hold_limit_ms);
}

static const struct check_node *node_of(const struct check *k, const char *name,
                                        size_t *index)
{
    for (size_t i = 0; i < k->n_nodes; i++)
        if (strcmp(k->nodes[i].name, name) == 0) {
            *index = i;
            return &k->nodes[i];
        }
    return NULL;
}

static void predict(struct check *k)
{
    Stillpoint__V1__CheckGroupReply *r = k->reply;
    struct predict_part *parts = mem_array(r->n_parts, sizeof *parts);
    struct predict_node *nodes = mem_array(k->n_nodes, sizeof *nodes);
    PartCheck **asked = mem_array(r->n_parts, sizeof *asked);
    size_t n = 0;
    struct wave *waves = run_waves(k->spec);
    for (size_t i = 0; i < k->n_nodes; i++)
        nodes[i].round_trip_us = k->nodes[i].round_trip_us;
    for (size_t i = 0; i < r->n_parts; i++) {
        PartCheck *p = r->parts[i];
        const struct check_node *node = node_of(k, p->node, &parts[n].node);
        if (!node || p->error[0])
            continue;
        p->round_trip_us = node->round_trip_us;
        parts[n].wave = waves_find(waves, k->spec->n_waves, p->node, p->partition);
        parts[n].flush_ms = p->flush_ms;
        parts[n].capture_ms = p->capture_ms;
        asked[n++] = p;
    }
    int64_t reach_ms;
    r->predicted_pause_ms = predict_pauses(parts, n, nodes, k->n_nodes, &reach_ms);
    for (size_t i = 0; i < n; i++) {
        asked[i]->reach_ms = reach_ms;
        asked[i]->predicted_pause_ms = parts[i].pause_ms;
    }
    free(waves);
    free(parts);
    free(nodes);
    free(asked);
}

static void check_free(struct check *k)
{
    wire_free(&k->spec->base);
    wire_free(&k->reply->base);
    free(k->nodes);
    free(k);
}

static void finish(struct check *k)
{
    if (k->term != k->coord->term) {
        rpc_fail(k->call, err_new(ERR_UNAVAILABLE, "the coordinator stopped leading"));
        check_free(k);
        return;
    }
    predict(k);
    k->reply->hold_limit_ms = k->spec->hold_limit_ms;
    AUTO(err) struct err *bad = judge_group(k);
    if (bad) {
        AUTO(str) char *text = err_text(bad);
        pb_set(&k->reply->error, text);
    }
    rpc_reply(k->call, &k->reply->base);
    check_free(k);
}

static void node_ended(struct check *k)
{
    if (--k->waiting == 0)
        finish(k);
}

/* ---- its calls ---- */

/* Of all that are asked about on this node. */
static void node_refuses(struct check_node *n, struct err *e)
{
    AUTO(err) struct err *owned = e;
    AUTO(str) char *text = err_text(owned);
    for (size_t i = 0; i < n->check->reply->n_parts; i++)
        if (is_asked(n->check->reply->parts[i], n->name))
            pb_set(&n->check->reply->parts[i]->error, text);
}

static void send_echo(struct check_node *n);

static void on_echo(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct check_node *n = arg;
    (void)m;
    int64_t us = (loop_now_ns() - n->sent_ns) / 1000;
    if (us > n->round_trip_us)
        n->round_trip_us = us;
    if (!e && ++n->echoes < CHECK_ECHOES) {
        send_echo(n);
        return;
    }
    if (e)
        node_refuses(n, e);
    node_ended(n->check);
}

/* Describe is the smallest question there is. */
static void send_echo(struct check_node *n)
{
    struct rpc_channel *ch = NULL;
    const struct rpc_opts opts = {.timeout_ms = CHECK_ECHO_MS};
    Stillpoint__V1__DescribeRequest req = STILLPOINT__V1__DESCRIBE_REQUEST__INIT;
    struct err *e = node_channel(n->check->coord, n->name, &ch);
    if (e) {
        node_refuses(n, e);
        node_ended(n->check);
        return;
    }
    n->sent_ns = loop_now_ns();
    rpc_call_start(ch, &stillpoint__v1__agent_service__descriptor, "Describe", &req.base,
                   &opts, on_echo, n);
}

static void take_answer(struct check_node *n, const Stillpoint__V1__PrepareReply *m)
{
    Stillpoint__V1__CheckGroupReply *r = n->check->reply;
    for (size_t i = 0; i < r->n_parts; i++) {
        PartCheck *p = r->parts[i];
        if (!is_asked(p, n->name))
            continue;
        size_t k = 0;
        while (k < m->n_parts && strcmp(m->parts[k]->partition, p->partition) != 0)
            k++;
        struct err *bad =
            k == m->n_parts
                ? err_new(ERR_CORRUPT, "its agent did not say anything about it")
                : predict_check(m->parts[k]->predicted_pause_ms, m->parts[k]->flush_ms);
        if (bad) {
            refuse(p, bad);
            continue;
        }
        p->flush_ms = m->parts[k]->flush_ms;
        p->capture_ms = m->parts[k]->predicted_pause_ms - m->parts[k]->flush_ms;
        p->dirty_bytes = m->parts[k]->dirty_bytes;
        AUTO(str) char *why = utf8_printable(m->parts[k]->error, CHECK_ERROR_BYTES);
        pb_set(&p->error, why);
    }
}

static void on_checked(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct check_node *n = arg;
    if (e) {
        node_refuses(n, err_wrap(e, "Check on node '%s'", n->name));
        node_ended(n->check);
        return;
    }
    take_answer(n, (const void *)m);
    send_echo(n);
}

static void ask_node(struct check_node *n)
{
    struct rpc_channel *ch = NULL;
    const struct check *k = n->check;
    struct err *e = node_channel(k->coord, n->name, &ch);
    if (e) {
        node_refuses(n, e);
        node_ended(n->check);
        return;
    }
    Stillpoint__V1__CheckRequest req = STILLPOINT__V1__CHECK_REQUEST__INIT;
    req.hold_limit_ms = k->spec->hold_limit_ms;
    for (size_t i = 0; i < k->reply->n_parts; i++)
        if (is_asked(k->reply->parts[i], n->name))
            *PB_APPEND(&req, partitions) = k->reply->parts[i]->partition;
    const struct rpc_opts opts = {.timeout_ms = k->spec->prepare_timeout_ms};
    rpc_call_start(ch, &stillpoint__v1__agent_service__descriptor, "Check", &req.base,
                   &opts, on_checked, n);
    free(req.partitions);
}

static struct check *check_new(struct coord *c, struct rpc_call *call,
                               const struct group_entry *g)
{
    struct check *k = mem_zalloc(sizeof *k);
    k->coord = c;
    k->term = c->term;
    k->call = call;
    k->spec = (Stillpoint__V1__GroupSpec *)pb_copy(&g->spec->base);
    k->reply = mem_alloc(sizeof *k->reply);
    stillpoint__v1__check_group_reply__init(k->reply);
    k->nodes = mem_array(g->spec->n_partitions, sizeof *k->nodes);
    for (size_t i = 0; i < g->spec->n_partitions; i++) {
        PartCheck *p = plan_part(k, g->spec->partitions[i]);
        size_t known;
        if (!p->error[0] && !node_of(k, p->node, &known))
            k->nodes[k->n_nodes++] = (struct check_node){.check = k, .name = p->node};
        *PB_APPEND(k->reply, parts) = p;
    }
    return k;
}

void admin_check_group(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    struct group_entry *g;
    struct err *e = find_group(c, ((const Stillpoint__V1__GroupRequest *)m)->group, &g);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct check *k = check_new(c, call, g);
    k->waiting = k->n_nodes + 1; /* an answer may come before all are asked */
    for (size_t i = 0; i < k->n_nodes; i++)
        ask_node(&k->nodes[i]);
    node_ended(k);
}

/* ---- RehearseGroup ---- */

static void on_rehearsed(void *arg, struct err *e, const Stillpoint__V1__SetRecord *d)
{
    struct rpc_call *call = arg;
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__RehearseReply *r = mem_alloc(sizeof *r);
    stillpoint__v1__rehearse_reply__init(r);
    pb_set(&r->rehearsal, d->set);
    r->frozen = !d->error[0];
    pb_set(&r->error, d->error);
    for (size_t i = 0; i < d->n_parts; i++) {
        Stillpoint__V1__PartRehearsed *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_rehearsed__init(p);
        pb_set(&p->node, d->parts[i]->node);
        pb_set(&p->partition, d->parts[i]->partition);
        p->predicted_pause_ms = d->parts[i]->predicted_pause_ms;
        p->pause_us = d->parts[i]->pause_us;
        p->pause_at_most = d->parts[i]->pause_at_most;
        *PB_APPEND(r, parts) = p;
    }
    rpc_reply(call, &r->base);
    wire_free(&r->base);
}

static struct err *rehearse(struct coord *c, struct rpc_call *call, const char *group)
{
    struct group_entry *g;
    uint8_t bytes[4];
    char hex[9];
    TRY(find_group(c, group, &g));
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return err_new(ERR_IO, "no random numbers");
    hex_encode(bytes, sizeof bytes, hex);
    AUTO(str) char *id = mem_printf("%s-rehearsal-%s", group, hex);
    AUTO(str) char *actor = admin_actor(call);
    run_rehearse(c, g, id, actor, on_rehearsed, call);
    return NULL;
}

void admin_rehearse_group(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct err *e = rehearse(ctx, call, ((const Stillpoint__V1__GroupRequest *)m)->group);
    if (e)
        rpc_fail(call, e);
}
