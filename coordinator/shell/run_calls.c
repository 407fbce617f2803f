/* A round's calls to agents: messages out, answers back into the round. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "coordinator/flow/predict.h"
#include "coordinator/shell/run.h"
#include "stillpoint/v1/agent.pb-c.h"

enum {
    CALL_COMMIT_MS =
        5000, /* one attempt; the answer is recorded, so it may be repeated */
    CALL_ABORT_MS = 5000,
    CALL_INSPECT_MS = 3000,
    CALL_ERROR_BYTES = 255, /* of a partition that an agent refuses */
};

struct call {
    struct coord *coord;
    unsigned term;
    uint64_t serial;
    size_t node;
    size_t wave; /* of Freeze */
    enum round_call call;
};

static ProtobufCMessage *prepare_request(const struct run *r, size_t node)
{
    Stillpoint__V1__PrepareRequest *m = mem_alloc(sizeof *m);
    stillpoint__v1__prepare_request__init(m);
    pb_set(&m->set, r->set.text);
    pb_set(&m->group, r->draft->group);
    m->token = token_to_pb(&r->round.conf.token);
    m->hold_limit_ms = r->draft->spec->hold_limit_ms;
    m->freeze_timeout_ms = r->draft->spec->freeze_timeout_ms;
    m->consistency = r->draft->spec->consistency;
    m->rehearsal = r->rehearsal;
    const struct run_node *n = &r->nodes[node];
    m->waves = mem_array(n->n, sizeof *m->waves);
    for (size_t i = n->first; i < n->first + n->n; i++) {
        if (!run_is_planned(r->draft->parts[i]))
            continue;
        m->waves[m->n_waves++] = (int32_t)r->parts[i].wave;
        *PB_APPEND(m, partitions) = mem_strdup(r->draft->parts[i]->partition);
    }
    return &m->base;
}

/* The same for all: it names the epochs of all, which do not change any more. */
static struct rpc_packed *pack_commit(const struct run *r)
{
    Stillpoint__V1__CommitRequest *m = mem_alloc(sizeof *m);
    stillpoint__v1__commit_request__init(m);
    pb_set(&m->set, r->set.text);
    m->token = token_to_pb(&r->round.conf.token);
    m->epochs = epochs_to_pb(r->round.epochs, r->round.n_epochs);
    m->n_epochs = r->round.n_epochs;
    m->cut_unix_ms = r->round.cut_unix_ms;
    struct rpc_packed *packed = rpc_packed_new(&m->base);
    wire_free(&m->base);
    return packed;
}

/* Freeze, Abort and Inspect begin alike: set and token. */
#define SIMPLE_REQUEST(Type, type)                                                       \
    ({                                                                                   \
        Stillpoint__V1__##Type *m_ = mem_alloc(sizeof *m_);                              \
        stillpoint__v1__##type##__init(m_);                                              \
        pb_set(&m_->set, r->set.text);                                                   \
        m_->token = token_to_pb(&r->round.conf.token);                                   \
        m_;                                                                              \
    })

static ProtobufCMessage *abort_request(const struct run *r, size_t node)
{
    Stillpoint__V1__AbortRequest *m = SIMPLE_REQUEST(AbortRequest, abort_request);
    const char *own = r->round.nodes[node].error;
    pb_set(&m->reason, own && !r->round.error[0] ? own : r->round.error);
    return &m->base;
}

static ProtobufCMessage *freeze_request(const struct run *r, size_t wave)
{
    Stillpoint__V1__FreezeRequest *m = SIMPLE_REQUEST(FreezeRequest, freeze_request);
    m->wave = (int32_t)wave;
    return &m->base;
}

/* Of all calls but Commit, which is packed once. */
static ProtobufCMessage *request_of(const struct run *r, const struct round_act *a)
{
    switch (a->call) {
    case CALL_PREPARE:
        return prepare_request(r, a->node);
    case CALL_FREEZE:
        return freeze_request(r, a->wave);
    case CALL_ABORT:
        return abort_request(r, a->node);
    default:
        return &SIMPLE_REQUEST(InspectRequest, inspect_request)->base;
    }
}

static const char *method_of(enum round_call call)
{
    static const char *const names[] = {
        [CALL_PREPARE] = "Prepare", [CALL_FREEZE] = "Freeze",   [CALL_COMMIT] = "Commit",
        [CALL_ABORT] = "Abort",     [CALL_INSPECT] = "Inspect",
    };
    return names[call];
}

static int64_t timeout_of(const struct run *r, enum round_call call)
{
    switch (call) {
    case CALL_PREPARE:
        return r->draft->spec->prepare_timeout_ms;
    case CALL_FREEZE:
        return r->draft->spec->freeze_timeout_ms;
    case CALL_COMMIT:
        return CALL_COMMIT_MS;
    case CALL_ABORT:
        return CALL_ABORT_MS;
    default:
        return CALL_INSPECT_MS;
    }
}

/* What the reply says, converted; the arrays belong to the caller. */
struct reply {
    struct domain_epoch *epochs;
    struct proof *proofs;
    const Stillpoint__V1__Signer *signer; /* of the proofs; borrowed */
};

/* One partition's answer: what its pause is expected to be, or why it is refused, which
 * ends a strict round and is noted in a relaxed one. */
static struct err *read_part(struct run *r, size_t i,
                             const Stillpoint__V1__PartPrepared *m,
                             struct round_event *ev)
{
    Stillpoint__V1__Part *p = r->draft->parts[i];
    TRY_CTX(predict_check(m->predicted_pause_ms, m->flush_ms), "partition '%s'",
            p->partition);
    p->predicted_pause_ms = m->predicted_pause_ms;
    if (!m->error[0]) {
        ev->predicted_ms[r->parts[i].wave] += m->predicted_pause_ms;
        ev->refused_waves &= (uint16_t) ~(1u << r->parts[i].wave);
        return NULL; /* what is refused pauses nobody */
    }
    if (!r->round.conf.relaxed || run_is_required(r, p))
        return err_new(ERR_CONFLICT, "partition '%s': %s", p->partition, m->error);
    free(r->part_errors[i]);
    r->part_errors[i] = utf8_printable(m->error, CALL_ERROR_BYTES);
    return NULL;
}

static struct err *read_prepared(struct run *r, size_t node,
                                 const Stillpoint__V1__PrepareReply *m,
                                 struct round_event *ev)
{
    const struct run_node *n = &r->nodes[node];
    size_t planned = 0, answered = 0;
    int64_t sum_ms = 0;
    ev->refused_waves = UINT16_MAX; /* but for those of which a part is taken */
    for (size_t i = n->first; i < n->first + n->n; i++) {
        if (!run_is_planned(r->draft->parts[i]))
            continue;
        planned++;
        for (size_t k = 0; k < m->n_parts; k++) {
            if (strcmp(r->draft->parts[i]->partition, m->parts[k]->partition) != 0)
                continue;
            TRY(read_part(r, i, m->parts[k], ev));
            answered++;
            break;
        }
    }
    if (answered != planned || m->n_parts != planned)
        return err_new(ERR_CORRUPT, "%zu partitions prepared instead of %zu", m->n_parts,
                       planned);
    if (ev->refused_waves == UINT16_MAX)
        return err_new(ERR_CONFLICT, "it refuses every partition");
    /* The guardian has judged each by itself; here they add up. Over several waves the
     * round judges. */
    for (size_t i = 0; i < ROUND_MAX_WAVES; i++)
        sum_ms += ev->predicted_ms[i];
    return predict_judge(sum_ms, r->draft->spec->hold_limit_ms);
}

/* Nothing is decided by it, so what makes no sense is passed over. */
static void read_pauses(struct run *r, size_t node, const Stillpoint__V1__AbortReply *m)
{
    for (size_t i = 0; i < m->n_pauses; i++) {
        const Stillpoint__V1__PartPause *p = m->pauses[i];
        if (p->frozen_at_ns < 0 || p->thawed_at_ns < p->frozen_at_ns)
            continue;
        int64_t us = (p->thawed_at_ns - p->frozen_at_ns) / 1000;
        for (size_t k = r->nodes[node].first; k < r->nodes[node].first + r->nodes[node].n;
             k++)
            if (strcmp(r->draft->parts[k]->partition, p->partition) == 0) {
                r->parts[k].pause_us = us > 0 ? us : 1;
                r->parts[k].at_most = p->at_most;
            }
    }
}

/* An agent speaks for its own node only, whatever it writes into a proof. */
static struct err *check_speaker(const char *node, const struct reply *reply,
                                 const struct round_event *ev)
{
    for (size_t i = 0; i < ev->n_proofs; i++)
        if (strcmp(reply->proofs[i].node.text, node) != 0)
            return err_new(ERR_CORRUPT, "it proves a part of node '%s'",
                           reply->proofs[i].node.text);
    size_t n = strlen(node);
    bool own = true;
    for (size_t i = 0; ev->call == CALL_FREEZE && i < ev->n_epochs && own; i++)
        own = strncmp(reply->epochs[i].domain.text, node, n) == 0 &&
              reply->epochs[i].domain.text[n] == '/';
    return own ? NULL : err_new(ERR_CORRUPT, "it names a domain of another node");
}

/* The core knows nodes; what is required are partitions. */
static struct err *check_required(const struct run *r, const struct run_node *node,
                                  const struct proof *proofs, size_t n)
{
    for (size_t i = node->first; i < node->first + node->n; i++) {
        const Stillpoint__V1__Part *p = r->draft->parts[i];
        bool proved = !run_is_required(r, p);
        for (size_t k = 0; k < n && !proved; k++)
            proved = strcmp(proofs[k].part.text, p->partition) == 0;
        if (!proved)
            return err_new(ERR_CORRUPT, "it does not prove '%s', which is required",
                           p->partition);
    }
    return NULL;
}

/* PROTOCOL.md step 4.1: proofs that anybody can check later are checked before they
 * count. */
static struct err *read_proofs(const struct run *r, const struct call *k,
                               Stillpoint__V1__Proof **proofs, size_t n,
                               const Stillpoint__V1__Signer *signer,
                               struct round_event *ev, struct reply *out)
{
    TRY(witness_check_proofs(r->coord->trust, signer, r->nodes[k->node].name, proofs, n,
                             wall_ms()));
    TRY(proofs_from_pb(proofs, n, &out->proofs));
    if (n > 0)
        TRY(check_required(r, &r->nodes[k->node], out->proofs, n));
    out->signer = n > 0 ? signer : NULL;
    ev->n_proofs = n;
    return NULL;
}

static bool names_domain(const struct domain_epoch *epochs, size_t n,
                         const struct domain_id *domain)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(epochs[i].domain.text, domain->text) == 0)
            return true;
    return false;
}

/* One node's fault must not spoil the digest that all others are going to name. */
static struct err *check_epochs(const struct round *r, const struct domain_epoch *epochs,
                                size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (names_domain(epochs, i, &epochs[i].domain) ||
            names_domain(r->epochs, r->n_epochs, &epochs[i].domain))
            return err_new(ERR_CORRUPT, "it names domain '%s' twice",
                           epochs[i].domain.text);
    return n > 0 ? NULL : err_new(ERR_CORRUPT, "it answers without an epoch");
}

static struct err *read_reply(struct run *r, const struct call *k,
                              const ProtobufCMessage *m, struct round_event *ev,
                              struct reply *out)
{
    const Stillpoint__V1__FreezeReply *f = (const void *)m;
    const Stillpoint__V1__CommitReply *c = (const void *)m;
    const Stillpoint__V1__InspectReply *i = (const void *)m;
    switch (k->call) {
    case CALL_PREPARE:
        return read_prepared(r, k->node, (const void *)m, ev);
    case CALL_FREEZE:
        TRY(epochs_from_pb(f->epochs, f->n_epochs, &out->epochs));
        TRY(check_epochs(&r->round, out->epochs, f->n_epochs));
        ev->n_epochs = f->n_epochs;
        break;
    case CALL_COMMIT:
        TRY(read_proofs(r, k, c->proofs, c->n_proofs, c->signer, ev, out));
        break;
    case CALL_INSPECT:
        TRY(epochs_from_pb(i->epochs, i->n_epochs, &out->epochs));
        ev->n_epochs = i->n_epochs;
        TRY(read_proofs(r, k, i->proofs, i->n_proofs, i->signer, ev, out));
        if (i->state > STILLPOINT__V1__SESSION_STATE__SESSION_ABORTED)
            return err_new(ERR_CORRUPT, "it answers with state %d", (int)i->state);
        ev->view = (enum session_view)i->state;
        break;
    case CALL_ABORT:
        read_pauses(r, k->node, (const void *)m);
        break;
    default:
        break;
    }
    ev->epochs = out->epochs;
    ev->proofs = out->proofs;
    return check_speaker(r->nodes[k->node].name, out, ev);
}

/* For the record: what was seen of this node, and when. */
static void note(struct run *r, const struct call *k, const struct reply *reply)
{
    struct run_node *n = &r->nodes[k->node];
    if (k->call == CALL_FREEZE)
        n->frozen_at_ns = loop_now_ns();
    if (k->call == CALL_COMMIT)
        n->captured_at_ns = loop_now_ns();
    if (!reply->signer)
        return;
    if (n->signer)
        wire_free(&n->signer->base);
    n->signer = (Stillpoint__V1__Signer *)pb_copy(&reply->signer->base);
}

static void on_done(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct call *k = arg;
    AUTO(err) struct err *owned = e;
    struct run *r = k->coord->term == k->term ? run_find(k->coord, k->serial) : NULL;
    if (!r) {
        free(k);
        return;
    }
    struct round_event ev = {
        .kind = ROUND_EV_REPLY, .node = k->node, .call = k->call, .wave = k->wave};
    struct reply reply = {0};
    if (!owned)
        owned = read_reply(r, k, m, &ev, &reply);
    if (owned) {
        owned = err_wrap(owned, "%s on node '%s'", method_of(k->call),
                         r->nodes[k->node].name);
        AUTO(str) char *text = err_text(owned);
        log_warn("round", "call_failed", "set=%s error=\"%s\"", r->set.text, text);
    } else {
        note(r, k, &reply);
    }
    ev.err = owned;
    run_feed(r, &ev);
    free(reply.epochs);
    free(reply.proofs);
    free(k);
}

/* No channel: fed on the next turn, since the round is in the middle of a step. */
static void fail_later(void *arg)
{
    on_done(arg, err_new(ERR_UNAVAILABLE, "the node has not registered"), NULL);
}

void run_call(struct run *r, const struct round_act *a)
{
    struct call *k = mem_zalloc(sizeof *k);
    *k = (struct call){r->coord, r->coord->term, r->serial, a->node, a->wave, a->call};
    struct rpc_channel *ch = NULL;
    AUTO(err) struct err *e = node_channel(r->coord, r->nodes[a->node].name, &ch);
    if (e) {
        loop_post(r->coord->loop, fail_later, k);
        return;
    }
    struct rpc_opts opts = {.timeout_ms = timeout_of(r, a->call)};
    if (a->call == CALL_COMMIT) {
        if (!r->commit)
            r->commit = pack_commit(r);
        if (r->commit_at_ns == 0)
            r->commit_at_ns = loop_now_ns();
        rpc_call_start_packed(ch, &stillpoint__v1__agent_service__descriptor, "Commit",
                              r->commit, &opts, on_done, k);
        return;
    }
    ProtobufCMessage *req = request_of(r, a);
    rpc_call_start(ch, &stillpoint__v1__agent_service__descriptor, method_of(a->call),
                   req, &opts, on_done, k);
    wire_free(req);
}
