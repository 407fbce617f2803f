/* Performs what the sessions ask for: journal, guardian, answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shell/agent.h"
#include "agent/shell/journal.h"
#include "common/base/mem.h"
#include "common/file/file.h"
#include "common/obs/log.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"

enum {
    PERFORM_RETRY_MS = 500,   /* a journal write or an undo that failed is tried again */
    PERFORM_ARM_MS = 3600000, /* prepare_timeout is the coordinator's business */
    PERFORM_SLACK_MS = 5000,  /* beyond what the guardian itself allows a request */
    PERFORM_UNDO_MS = 60000,
};

/* ---- calls that wait ---- */

uint64_t agent_pend(struct agent *a, struct rpc_call *call)
{
    struct pending *p = mem_zalloc(sizeof *p);
    *p = (struct pending){++a->next_call, call, a->pending};
    a->pending = p;
    return p->id;
}

struct rpc_call *agent_take(struct agent *a, uint64_t id)
{
    for (struct pending **at = &a->pending; *at; at = &(*at)->next) {
        if ((*at)->id != id)
            continue;
        struct pending *p = *at;
        struct rpc_call *call = p->call;
        *at = p->next;
        free(p);
        return call;
    }
    return NULL;
}

/* ---- the journal ---- */

struct journal_job {
    struct agent *agent;
    char *text;
    int64_t seq;
    struct err *err;
    struct loop_timer timer;
};

static void write_journal(void *arg)
{
    struct journal_job *j = arg;
    j->err = file_replace(j->agent->journal_path, j->text, strlen(j->text), 0600);
}

static void journal(struct agent *a, int64_t seq);

static void journal_again(void *arg)
{
    struct journal_job *j = arg;
    struct agent *a = j->agent;
    free(j);
    journal(a, a->sessions.journal_seq);
}

static void journal_done(void *arg)
{
    struct journal_job *j = arg;
    struct agent *a = j->agent;
    free(j->text);
    if (j->err) { /* nothing that relies on it is promised until it is durable */
        log_err(LOG_LEVEL_ERROR, "journal", "write_failed", j->err);
        loop_timer_set(a->loop, &j->timer, PERFORM_RETRY_MS, journal_again, j);
        return;
    }
    int64_t seq = j->seq;
    free(j);
    agent_feed(a, &(struct session_event){.kind = SESSION_EV_JOURNALED, .seq = seq});
}

static void journal(struct agent *a, int64_t seq)
{
    struct journal_job *j = mem_zalloc(sizeof *j);
    j->agent = a;
    j->seq = seq;
    j->text = journal_encode(&a->sessions);
    pool_submit(a->journal_pool, write_journal, journal_done, j);
}

/* ---- the guardian ---- */

struct guard_job {
    struct agent *agent;
    enum session_act_kind what;
    struct set_id set;
    struct token token;
    int64_t hold_ms, freeze_timeout_ms;
    struct digest digest;
    struct guard_part *parts; /* owned */
    size_t n;
    struct domain_id *domains; /* owned: of each part */
    struct guard_reply *reply; /* owned copy */
    struct err *err;
    bool lost; /* the connection ended with it, and all that it held */
    struct loop_timer timer;
};

static void job_free(struct guard_job *j)
{
    free(j->parts);
    free(j->domains);
    free(j->reply);
    err_free(j->err);
    free(j);
}

static struct err *ask(struct guard_job *j, struct guard *g, const struct guard_reply **r)
{
    struct part_id *names = NULL;
    struct err *e = NULL;
    switch (j->what) {
    case SESSION_ACT_ARM:
        names = mem_array(j->n, sizeof *names);
        for (size_t i = 0; i < j->n; i++)
            names[i] = j->parts[i].part;
        e = guard_arm(g, &j->set, &j->token, false, j->hold_ms, names, j->n,
                      PERFORM_ARM_MS, r);
        free(names);
        return e;
    case SESSION_ACT_FREEZE:
        return guard_freeze(g, &j->set, &j->token, j->parts, j->n, j->hold_ms,
                            j->freeze_timeout_ms, j->freeze_timeout_ms + PERFORM_SLACK_MS,
                            r);
    case SESSION_ACT_COMMIT:
        return guard_commit(g, &j->set, &j->token, &j->digest, j->parts, j->n,
                            j->hold_ms + PERFORM_SLACK_MS, r);
    default:
        return guard_abort(g, &j->set, &j->token, PERFORM_UNDO_MS, r);
    }
}

struct err *agent_guard_side(struct agent *a)
{
    if (a->guard_side)
        return NULL;
    return guard_open(a->conf->guardian_socket, PERFORM_SLACK_MS, &a->guard_side);
}

void agent_guard_side_check(struct agent *a)
{
    if (a->guard_side && guard_is_broken(a->guard_side))
        guard_close(STEAL(a->guard_side));
}

/* A connection that failed is closed: the guardian then thaws what it held through it. */
static void run_job(void *arg)
{
    struct guard_job *j = arg;
    struct agent *a = j->agent;
    struct guard **g = j->what == SESSION_ACT_UNDO ? &a->guard_side : &a->guard;
    if (!*g)
        j->err = guard_open(a->conf->guardian_socket, PERFORM_SLACK_MS, g);
    if (j->err)
        return;
    const struct guard_reply *r = NULL;
    j->err = ask(j, *g, &r);
    if (r && !j->err)
        j->reply = mem_dup(r, GUARD_REPLY_BYTES(r->n));
    j->lost = guard_is_broken(*g);
    if (j->lost)
        guard_close(STEAL(*g));
}

/* The guardian answers for all it armed; the session has gone on without those that it
 * refused. What is left are the answers to what was asked, in its order. */
static void keep_asked(struct guard_job *j)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < j->reply->n; i++)
        for (size_t k = 0; k < j->n; k++)
            if (strcmp(j->reply->items[i].part.text, j->parts[k].part.text) == 0)
                j->reply->items[kept++] = j->reply->items[i];
    j->reply->n = kept;
}

/* The first part that failed, as one error; NULL if none did. */
static struct err *first_failure(struct guard_job *j)
{
    keep_asked(j);
    for (uint32_t i = 0; i < j->reply->n; i++) {
        const struct guard_item *it = &j->reply->items[i];
        if (it->kind != GUARD_OK)
            return err_new((enum err_kind)it->kind, "partition '%s': %s", it->part.text,
                           it->text);
    }
    if (j->reply->n != j->n)
        return err_new(ERR_CORRUPT, "the guardian answered %u of %zu partitions",
                       j->reply->n, j->n);
    return NULL;
}

static void armed(struct guard_job *j, struct session_event *ev)
{
    struct session_part *parts = mem_array(j->n, sizeof *parts);
    ev->kind = SESSION_EV_ARMED;
    ev->err = j->err;
    for (size_t i = 0; !j->err && i < j->n && i < j->reply->n; i++) {
        const struct guard_item *it = &j->reply->items[i];
        parts[i].part = it->part;
        parts[i].predicted_pause_ms = it->pause_ms;
        parts[i].flush_ms = it->flush_ms;
        if (it->kind != GUARD_OK)
            snprintf(parts[i].error, sizeof parts[i].error, "%.255s", it->text);
    }
    ev->parts = parts;
    ev->n_parts = j->n;
    agent_feed(j->agent, ev);
    free(parts);
}

/* When each part was frozen and thawed, as far as the guardian tells; the caller's. */
static struct session_part *timed_parts(const struct guard_job *j,
                                        struct session_event *ev)
{
    struct session_part *parts = mem_array(j->reply->n, sizeof *parts);
    for (uint32_t i = 0; i < j->reply->n; i++)
        parts[i] = (struct session_part){.part = j->reply->items[i].part,
                                         .frozen_at_ns = j->reply->items[i].frozen_at_ns,
                                         .thawed_at_ns = j->reply->items[i].thawed_at_ns};
    ev->parts = parts;
    ev->n_parts = j->reply->n;
    return parts;
}

static void undone(struct guard_job *j, struct session_event *ev)
{
    struct session_part *parts = timed_parts(j, ev);
    ev->kind = SESSION_EV_UNDONE;
    ev->now_ns = loop_now_ns();
    agent_feed(j->agent, ev);
    free(parts);
}

/* One epoch a domain, though several parts may share it. */
static void frozen(struct guard_job *j, struct session_event *ev)
{
    struct domain_epoch *epochs = mem_array(j->n, sizeof *epochs);
    ev->kind = SESSION_EV_FROZEN;
    if (!j->err)
        j->err = first_failure(j);
    ev->err = j->err;
    for (uint32_t i = 0; !j->err && i < j->reply->n; i++) {
        const struct guard_item *it = &j->reply->items[i];
        size_t k = 0;
        while (k < ev->n_epochs && strcmp(epochs[k].domain.text, it->domain.text) != 0)
            k++;
        if (k == ev->n_epochs)
            epochs[ev->n_epochs++] = (struct domain_epoch){it->domain, it->epoch};
    }
    ev->epochs = epochs;
    struct session_part *parts = j->err ? NULL : timed_parts(j, ev);
    agent_feed(j->agent, ev);
    free(parts);
    free(epochs);
}

static void committed(struct guard_job *j, struct session_event *ev)
{
    struct proof *proofs = mem_array(j->n, sizeof *proofs);
    ev->kind = SESSION_EV_COMMITTED;
    if (!j->err)
        j->err = first_failure(j);
    ev->err = j->err;
    for (size_t i = 0; !j->err && i < j->n; i++) {
        const struct guard_item *it = &j->reply->items[i];
        proofs[i] = (struct proof){.part = it->part,
                                   .domain = j->domains[i],
                                   .epoch = j->parts[i].epoch,
                                   .frozen_at_ns = it->frozen_at_ns,
                                   .captured_at_ns = it->captured_at_ns,
                                   .thawed_at_ns = it->thawed_at_ns,
                                   .unbroken = it->unbroken,
                                   .evidence = (enum evidence)it->evidence,
                                   .capture = it->capture};
        memcpy(proofs[i].boot_id, j->agent->boot_id, sizeof proofs[i].boot_id);
    }
    ev->proofs = proofs;
    ev->n_proofs = j->n;
    agent_feed(j->agent, ev);
    free(proofs);
}

static void undo_later(void *arg)
{
    struct guard_job *j = arg;
    struct session_event ev = {.kind = SESSION_EV_UNDONE, .set = j->set, .err = j->err};
    agent_feed(j->agent, &ev); /* asks again */
    job_free(j);
}

static void job_done(void *arg)
{
    struct guard_job *j = arg;
    struct agent *a = j->agent;
    if (a->stopping) {
        job_free(j);
        return;
    }
    if (j->err) {
        AUTO(str) char *text = err_text(j->err);
        log_warn("guard", "refused", "set=%s error=\"%s\"", j->set.text, text);
    }
    struct session_event ev = {.set = j->set};
    switch (j->what) {
    case SESSION_ACT_ARM:
        armed(j, &ev);
        break;
    case SESSION_ACT_FREEZE:
        frozen(j, &ev);
        break;
    case SESSION_ACT_COMMIT:
        committed(j, &ev);
        break;
    default:
        if (j->err) {
            loop_timer_set(a->loop, &j->timer, PERFORM_RETRY_MS, undo_later, j);
            return;
        }
        undone(j, &ev);
        break;
    }
    if (j->lost && j->what != SESSION_ACT_UNDO) /* the side connection holds nothing */
        agent_feed(a, &(struct session_event){.kind = SESSION_EV_GUARD_LOST});
    job_free(j);
}

static const struct domain_epoch *epoch_of(const struct session *s,
                                           const struct domain_id *domain)
{
    for (size_t i = 0; i < s->n_epochs; i++)
        if (strcmp(s->epochs[i].domain.text, domain->text) == 0)
            return &s->epochs[i];
    return NULL;
}

static void ask_guard(struct agent *a, enum session_act_kind what,
                      const struct session *s)
{
    struct guard_job *j = mem_zalloc(sizeof *j);
    j->agent = a;
    j->what = what;
    j->set = s->set;
    j->token = s->token;
    j->hold_ms = s->hold_limit_ms;
    j->freeze_timeout_ms = s->freeze_timeout_ms;
    j->parts = mem_array(s->n_parts, sizeof *j->parts);
    j->domains = mem_array(s->n_parts, sizeof *j->domains);
    for (size_t i = 0; i < s->n_parts; i++) {
        if (what == SESSION_ACT_FREEZE && s->parts[i].wave != s->wave)
            continue;
        j->parts[j->n].part = s->parts[i].part;
        j->domains[j->n] = s->parts[i].domain;
        capture_id_make(&s->set, &s->parts[i].part, &j->parts[j->n].capture);
        const struct domain_epoch *e = epoch_of(s, &s->parts[i].domain);
        if (e)
            j->parts[j->n].epoch = e->epoch;
        j->n++;
    }
    if (what == SESSION_ACT_COMMIT)
        cut_digest(&s->set, s->all_epochs, s->n_all_epochs, &j->digest);
    pool_submit(what == SESSION_ACT_UNDO ? a->guard_side_pool : a->guard_pool, run_job,
                job_done, j);
}

/* ---- answers ---- */

static Stillpoint__V1__SessionState view_of(const struct session *s)
{
    if (s->sm.state == SESSION_CAPTURED)
        return STILLPOINT__V1__SESSION_STATE__SESSION_CAPTURED;
    if (s->sm.state == SESSION_ABORTING || s->sm.state == SESSION_ABORTED)
        return STILLPOINT__V1__SESSION_STATE__SESSION_ABORTED;
    return s->sm.state >= SESSION_FROZEN
               ? STILLPOINT__V1__SESSION_STATE__SESSION_FROZEN
               : STILLPOINT__V1__SESSION_STATE__SESSION_PREPARED;
}

static ProtobufCMessage *prepared(const struct session *s)
{
    Stillpoint__V1__PrepareReply *m = mem_alloc(sizeof *m);
    stillpoint__v1__prepare_reply__init(m);
    for (size_t i = 0; i < s->n_parts; i++) {
        Stillpoint__V1__PartPrepared *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_prepared__init(p);
        pb_set(&p->partition, s->parts[i].part.text);
        pb_set(&p->domain, s->parts[i].domain.text);
        p->predicted_pause_ms = s->parts[i].predicted_pause_ms;
        p->flush_ms = s->parts[i].flush_ms;
        *PB_APPEND(m, parts) = p;
    }
    for (size_t i = 0; i < s->n_refused; i++) {
        Stillpoint__V1__PartPrepared *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_prepared__init(p);
        pb_set(&p->partition, s->refused[i].part.text);
        pb_set(&p->domain, s->refused[i].domain.text);
        pb_set(&p->error, s->refused[i].error);
        *PB_APPEND(m, parts) = p;
    }
    return &m->base;
}

/* PROTOCOL.md step 3.4: what this agent says of its parts is signed as it is said. */
static struct err *signed_proofs(const struct agent *a, const struct session *s,
                                 Stillpoint__V1__Proof ***proofs, size_t *n,
                                 Stillpoint__V1__Signer **signer)
{
    *proofs = proofs_to_pb(&s->set, s->proofs, s->n_proofs);
    *n = s->n_proofs;
    *signer = signer_to_pb(a->signer);
    return witness_sign_proofs(a->signer, *proofs, *n);
}

static struct err *captured(const struct agent *a, const struct session *s,
                            ProtobufCMessage **out)
{
    Stillpoint__V1__CommitReply *m = mem_alloc(sizeof *m);
    stillpoint__v1__commit_reply__init(m);
    *out = &m->base;
    return signed_proofs(a, s, &m->proofs, &m->n_proofs, &m->signer);
}

static struct err *inspected(const struct agent *a, const struct session *s,
                             ProtobufCMessage **out)
{
    Stillpoint__V1__InspectReply *m = mem_alloc(sizeof *m);
    stillpoint__v1__inspect_reply__init(m);
    *out = &m->base;
    m->state = view_of(s);
    if (s->sm.state != SESSION_CAPTURED)
        return NULL;
    m->epochs = epochs_to_pb(s->all_epochs, s->n_all_epochs);
    m->n_epochs = s->n_all_epochs;
    return signed_proofs(a, s, &m->proofs, &m->n_proofs, &m->signer);
}

static ProtobufCMessage *froze(const struct session *s, size_t wave)
{
    Stillpoint__V1__FreezeReply *m = mem_alloc(sizeof *m);
    stillpoint__v1__freeze_reply__init(m);
    struct domain_epoch *epochs = mem_array(s->n_epochs, sizeof *epochs);
    for (size_t i = 0; i < s->n_epochs; i++)
        if (session_is_in_wave(s, &s->epochs[i], wave))
            epochs[m->n_epochs++] = s->epochs[i];
    m->epochs = epochs_to_pb(epochs, m->n_epochs);
    free(epochs);
    return &m->base;
}

static ProtobufCMessage *aborted(const struct session *s)
{
    Stillpoint__V1__AbortReply *m = mem_alloc(sizeof *m);
    stillpoint__v1__abort_reply__init(m);
    for (size_t i = 0; i < s->n_parts; i++) {
        if (s->parts[i].frozen_at_ns == 0 || s->parts[i].thawed_at_ns == 0)
            continue;
        Stillpoint__V1__PartPause *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_pause__init(p);
        pb_set(&p->partition, s->parts[i].part.text);
        p->frozen_at_ns = s->parts[i].frozen_at_ns;
        p->thawed_at_ns = s->parts[i].thawed_at_ns;
        p->at_most = s->parts[i].thawed_by_then;
        *PB_APPEND(m, pauses) = p;
    }
    return &m->base;
}

/* *out is the caller's, also behind an error. */
static struct err *reply_of(const struct agent *a, const struct session_act *act,
                            ProtobufCMessage **out)
{
    const struct session *s = act->set;
    switch (act->call_kind) {
    case SESSION_EV_PREPARE:
        *out = prepared(s);
        return NULL;
    case SESSION_EV_FREEZE:
        *out = froze(s, act->wave);
        return NULL;
    case SESSION_EV_COMMIT:
        return captured(a, s, out);
    case SESSION_EV_INSPECT:
        return inspected(a, s, out);
    default:
        *out = aborted(s);
        return NULL;
    }
}

/* I3: somebody who leads no more has been refused. Operators want to know how often. */
static void tell_stale(const struct err *e)
{
    AUTO(str) char *text = err_text(e);
    log_warn("session", "stale_token", "error=\"%s\"", text);
}

static void reply(struct agent *a, struct session_act *act)
{
    struct rpc_call *call = agent_take(a, act->call);
    if (!call)
        return;
    if (act->err) {
        if (act->err->kind == ERR_STALE_TOKEN)
            tell_stale(act->err);
        rpc_fail(call, STEAL(act->err));
        return;
    }
    AUTO(wire) ProtobufCMessage *m = NULL;
    struct err *e = reply_of(a, act, &m);
    if (e)
        rpc_fail(call, e);
    else
        rpc_reply(call, m);
}

void agent_perform(struct agent *a, struct session_acts *acts)
{
    for (size_t i = 0; i < acts->n; i++) {
        struct session_act *act = &acts->items[i];
        switch (act->kind) {
        case SESSION_ACT_JOURNAL:
            journal(a, act->seq);
            break;
        case SESSION_ACT_ARM:
        case SESSION_ACT_FREEZE:
        case SESSION_ACT_COMMIT:
        case SESSION_ACT_UNDO:
            ask_guard(a, act->kind, act->set);
            break;
        case SESSION_ACT_REPLY:
            reply(a, act);
            break;
        }
    }
}

void agent_feed(struct agent *a, struct session_event *ev)
{
    struct session_acts acts;
    session_acts_init(&acts);
    sessions_step(&a->sessions, ev, &acts);
    agent_perform(a, &acts);
    session_acts_fini(&acts);
}
