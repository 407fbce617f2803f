/* Rounds: takes the locks, performs what the round core asks for, stores what it decides.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/failpoint.h"
#include "common/obs/log.h"
#include "common/wire/pbjson.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "coordinator/shell/run.h"

static void finish(struct run *r);

Stillpoint__V1__SetState run_phase(const struct run *r)
{
    if (!r->started)
        return STILLPOINT__V1__SET_STATE__SET_PLANNED;
    switch (r->round.sm.state) {
    case ROUND_FREEZING:
        return STILLPOINT__V1__SET_STATE__SET_FREEZING;
    case ROUND_CAPTURING:
    case ROUND_RECORDING:
        return STILLPOINT__V1__SET_STATE__SET_CAPTURING;
    case ROUND_CAPTURED:
        return STILLPOINT__V1__SET_STATE__SET_CAPTURED;
    case ROUND_ABORTING:
    case ROUND_ABORTED:
        return STILLPOINT__V1__SET_STATE__SET_ABORTED;
    default:
        return STILLPOINT__V1__SET_STATE__SET_PREPARING;
    }
}

struct run *run_find(const struct coord *c, uint64_t serial)
{
    struct run *r = c->runs;
    while (r && r->serial != serial)
        r = r->next;
    return r;
}

struct run *run_of(const struct coord *c, const char *set)
{
    struct run *r = c->runs;
    while (r && strcmp(r->set.text, set) != 0)
        r = r->next;
    return r;
}

bool run_exists(const struct coord *c, const char *set)
{
    return run_of(c, set) != NULL;
}

size_t runs_count(const struct coord *c)
{
    size_t n = 0;
    for (const struct run *r = c->runs; r; r = r->next)
        n++;
    return n;
}

/* Tells whoever waits for the beginning, once. */
static void begun(struct run *r, struct err *e)
{
    if (r->begun)
        r->begun(r->begun_arg, e, e ? NULL : r->draft);
    else
        err_free(e);
    r->begun = NULL;
}

static void unlink_run(struct run *r)
{
    struct run **at = &r->coord->runs;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

static void run_free(struct run *r)
{
    loop_timer_cancel(r->coord->loop, &r->timer);
    loop_timer_cancel(r->coord->loop, &r->drill_timer);
    begun(r, err_new(ERR_UNAVAILABLE, "the coordinator stopped leading; %s",
                     r->rehearsal ? "what was frozen thaws by itself"
                                  : "another one takes over: see `stillpoint set list`"));
    struct set_entry *e = set_find(r->coord, r->set.text);
    if (e && e->run == r)
        e->run = NULL;
    unlink_run(r);
    if (r->started) {
        round_fini(&r->round);
        round_acts_fini(&r->acts);
    }
    wire_free(&r->draft->base);
    rpc_packed_free(r->commit);
    for (size_t i = 0; i < r->n_nodes; i++)
        if (r->nodes[i].signer)
            wire_free(&r->nodes[i].signer->base);
    for (size_t i = 0; i < r->n_parts; i++)
        free(r->part_errors[i]);
    free(r->part_errors);
    free(r->nodes);
    free(r->parts);
    free(r->domains);
    free(r->actor);
    free(r);
}

void run_refuse(struct run *r, struct err *e)
{
    struct coord *c = r->coord;
    begun(r, e);
    AUTO(str) char *id = mem_strdup(r->set.text);
    run_free(r);
    struct set_entry *entry = set_find(c, id);
    if (entry)
        watch_notify(c, entry);
}

struct err *run_cancel(struct coord *c, const char *set, const char *actor)
{
    struct run *r = run_of(c, set);
    if (!r)
        return err_new(ERR_CONFLICT, "set '%s' is captured: it cannot be cancelled", set);
    if (!r->started)
        return err_new(ERR_UNAVAILABLE, "set '%s' is being taken over: ask again", set);
    if (!round_can_cancel(&r->round))
        return err_new(ERR_CONFLICT, "set '%s' is being recorded: it cannot be cancelled",
                       set);
    AUTO(str) char *reason = mem_printf("cancelled by %s", actor);
    log_info("round", "cancelled", "set=%s actor=%s", set, actor);
    run_feed(r, &(struct round_event){.kind = ROUND_EV_CANCEL, .reason = reason});
    return NULL;
}

void runs_stop(struct coord *c)
{
    while (c->runs)
        run_free(c->runs);
}

/* ---- storing ---- */

/* What an asynchronous answer needs to find its run again, if it still exists. */
struct answer {
    uint64_t serial;
    Stillpoint__V1__SetRecord *draft; /* what was stored; owned */
    struct meta_list set, lock;       /* read back */
    struct err *err;
    struct meta_key set_key, lock_key;
};

static void drop_answer(void *arg)
{
    struct answer *a = arg;
    if (a->draft)
        wire_free(&a->draft->base);
    meta_list_fini(&a->set);
    meta_list_fini(&a->lock);
    err_free(a->err);
    free(a);
}

static struct answer *answer_new(struct run *r)
{
    struct answer *a = mem_zalloc(sizeof *a);
    a->serial = r->serial;
    meta_key(&a->set_key, "sets/%s", r->set.text);
    meta_key(&a->lock_key, "locks/groups/%s", r->draft->group);
    return a;
}

static enum round_stored stored_of(const struct meta_txn *t)
{
    switch (meta_txn_outcome(t)) {
    case META_DONE:
        return STORED_OK;
    case META_CONFLICT:
        return STORED_CONFLICT;
    case META_UNKNOWN:
        return STORED_UNKNOWN;
    default:
        return STORED_NOT_DONE;
    }
}

/* The stored draft becomes what memory says of the set. */
static void adopt(struct coord *c, struct run *r, struct answer *a, int64_t mod_revision)
{
    struct set_entry *e = set_find(c, r->set.text);
    Stillpoint__V1__SetRecord *copy =
        (Stillpoint__V1__SetRecord *)pb_copy(&a->draft->base);
    if (!e) {
        AUTO(str) char *json = pbjson_encode(&a->draft->base, 0);
        e = set_insert(c, copy, json, mod_revision);
        e->run = r;
    } else {
        set_replace(c, e, copy, mod_revision);
    }
    wire_free(&r->draft->base);
    r->draft = (Stillpoint__V1__SetRecord *)&STEAL(a->draft)->base;
    watch_notify(c, e);
}

static void on_stored(struct coord *c, struct meta_txn *t, void *arg)
{
    struct answer *a = arg;
    struct run *r = run_find(c, a->serial);
    if (!r)
        return;
    if (meta_txn_error(t)) {
        AUTO(str) char *text = err_text(meta_txn_error(t));
        log_warn("round", "store_failed", "set=%s error=\"%s\"", r->set.text, text);
    }
    struct round_event ev = {.kind = ROUND_EV_STORED, .stored = stored_of(t)};
    if (ev.stored == STORED_OK) {
        adopt(c, r, a, meta_txn_revision(t));
        begun(r, NULL);
    }
    run_feed(r, &ev);
}

bool run_is_planned(const Stillpoint__V1__Part *p)
{
    return p->state != STILLPOINT__V1__PART_STATE__PART_MISSING;
}

static const struct proof *proof_of(const struct round *round,
                                    const Stillpoint__V1__Part *p)
{
    for (size_t k = 0; k < round->n_proofs; k++)
        if (strcmp(round->proofs[k].node.text, p->node) == 0 &&
            strcmp(round->proofs[k].part.text, p->partition) == 0)
            return &round->proofs[k];
    return NULL;
}

/* Why a part has no proof, as far as it has become known: its own error or its node's. */
static void fill_error(const struct run *r, size_t i, Stillpoint__V1__Part *p)
{
    const char *why = i < r->n_parts ? r->part_errors[i] : NULL;
    for (size_t k = 0; !why && k < r->n_nodes; k++)
        if (strcmp(r->nodes[k].name, p->node) == 0)
            why = r->round.nodes[k].error;
    if (!why)
        return;
    AUTO(str) char *text = utf8_printable(why, ROUND_ERROR_BYTES); /* an agent's word */
    pb_set(&p->error, text);
}

/* PROTOCOL.md step 4.2: what is not proved is not in the cut. */
static void fill_parts(const struct run *r, Stillpoint__V1__SetRecord *draft)
{
    for (size_t i = 0; i < draft->n_parts; i++) {
        Stillpoint__V1__Part *p = draft->parts[i];
        const struct proof *proof = proof_of(&r->round, p);
        if (!run_is_planned(p))
            continue;
        if (!proof) {
            p->state = STILLPOINT__V1__PART_STATE__PART_MISSING;
            pb_set(&p->error, "its node did not capture it");
            fill_error(r, i, p);
            continue;
        }
        if (p->proof)
            wire_free(&p->proof->base);
        p->proof = proof_to_pb(&r->round.conf.set, proof);
        pb_set(&p->capture, proof->capture.text);
        p->state = STILLPOINT__V1__PART_STATE__PART_CAPTURED;
    }
}

/* What this coordinator itself has seen, signed, with the certificates of everybody who
 * signed something. */
static void fill_order(const struct run *r, Stillpoint__V1__SetRecord *draft)
{
    Stillpoint__V1__CutOrder *o = mem_alloc(sizeof *o);
    stillpoint__v1__cut_order__init(o);
    pb_set(&o->coordinator, r->coord->conf->name);
    pb_set(&o->boot_id, r->coord->boot_id);
    o->commit_at_ns = r->commit_at_ns;
    for (size_t i = 0; i < r->n_nodes; i++) {
        const struct run_node *n = &r->nodes[i];
        if (r->round.nodes[i].out)
            continue; /* it may have answered, but too late to matter */
        Stillpoint__V1__CutAnswer *a = mem_alloc(sizeof *a);
        stillpoint__v1__cut_answer__init(a);
        pb_set(&a->node, n->name);
        a->frozen_at_ns = n->frozen_at_ns;
        a->captured_at_ns = n->captured_at_ns;
        *PB_APPEND(o, answers) = a;
        if (n->signer)
            *PB_APPEND(draft, signers) =
                (Stillpoint__V1__Signer *)pb_copy(&n->signer->base);
    }
    draft->order = o;
    AUTO(err) struct err *e = witness_sign_order(r->coord->signer, draft);
    if (e) /* the key has signed before: proofs stay, and `set prove` will name this */
        log_err(LOG_LEVEL_ERROR, "round", "not_signed", e);
}

static Stillpoint__V1__SetRecord *draft_for(struct run *r, enum round_act_kind kind)
{
    Stillpoint__V1__SetRecord *d = (Stillpoint__V1__SetRecord *)pb_copy(&r->draft->base);
    if (d->token)
        wire_free(&d->token->base);
    d->token = token_to_pb(&r->round.conf.token);
    pb_set(&d->coordinator, r->coord->conf->name);
    if (kind == ROUND_ACT_STORE_OPEN) {
        set_move(r->coord, d, STILLPOINT__V1__SET_STATE__SET_PREPARING);
    } else if (kind == ROUND_ACT_STORE_ABORTED) {
        pb_set(&d->error, r->round.error);
        for (size_t i = 0; i < d->n_parts; i++)
            fill_error(r, i, d->parts[i]);
        set_move(r->coord, d, STILLPOINT__V1__SET_STATE__SET_ABORTED);
    } else {
        d->cut_unix_ms = r->round.cut_unix_ms;
        d->epochs = epochs_to_pb(r->round.epochs, r->round.n_epochs);
        d->n_epochs = r->round.n_epochs;
        fill_parts(r, d);
        fill_order(r, d);
        set_move(r->coord, d, STILLPOINT__V1__SET_STATE__SET_CAPTURED);
    }
    return d;
}

/* PROTOCOL.md steps 0.3, 4.2, 5.2: one transaction comparing the lock and the record. */
static void send_store(struct run *r, enum round_act_kind kind)
{
    struct answer *a = answer_new(r);
    a->draft = draft_for(r, kind);
    struct set_entry *e = set_find(r->coord, r->set.text);
    AUTO(str) char *json = set_json(e, a->draft);
    struct meta_txn *t = meta_txn_new();
    meta_txn_if_create(t, &a->lock_key, r->round.conf.token.revision);
    meta_txn_if_mod(t, &a->set_key, e ? e->mod_revision : 0);
    meta_txn_put(t, &a->set_key, json, 0);
    meta_txn_audit(t, r->actor, kind == ROUND_ACT_STORE_OPEN ? "set.create" : "set.move",
                   r->set.text, e ? set_state_text(e->record->state) : "",
                   set_state_text(a->draft->state));
    store_submit(r->coord, t, on_stored, drop_answer, a);
}

static void work_read(struct meta *m, void *arg)
{
    struct answer *a = arg;
    a->err = meta_get(m, &a->set_key, &a->set);
    if (!a->err)
        a->err = meta_get(m, &a->lock_key, &a->lock);
}

static enum round_found found_of(struct run *r, struct answer *a)
{
    if (a->err)
        return FOUND_NO_IDEA;
    bool locked = a->lock.n == 1 &&
                  a->lock.items[0].create_revision == r->round.conf.token.revision;
    if (a->set.n == 0)
        return locked ? FOUND_NOTHING : FOUND_LOST;
    ProtobufCMessage *m = NULL;
    struct err *bad = pbjson_decode(&stillpoint__v1__set_record__descriptor,
                                    a->set.items[0].value, a->set.items[0].n, 0, &m);
    if (!bad)
        bad = load_check_set((const void *)m);
    if (bad) {
        if (m)
            wire_free(m);
        log_err(LOG_LEVEL_ERROR, "round", "bad_record", bad);
        return FOUND_NO_IDEA;
    }
    a->draft = (Stillpoint__V1__SetRecord *)m;
    adopt(r->coord, r, a, a->set.items[0].mod_revision);
    switch (r->draft->state) {
    case STILLPOINT__V1__SET_STATE__SET_PREPARING:
        return locked ? FOUND_PREPARING : FOUND_LOST;
    case STILLPOINT__V1__SET_STATE__SET_ABORTED:
        return FOUND_ABORTED;
    default:
        return FOUND_CAPTURED;
    }
}

static void done_read(struct coord *c, void *arg)
{
    struct answer *a = arg;
    struct run *r = run_find(c, a->serial);
    if (!r)
        return;
    struct round_event ev = {.kind = ROUND_EV_READ, .found = found_of(r, a)};
    if (ev.found == FOUND_PREPARING)
        begun(r, NULL);
    run_feed(r, &ev);
}

/* ---- performing ---- */

static void on_timer(void *arg)
{
    run_feed(arg, &(struct round_event){.kind = ROUND_EV_TIMER});
}

static void perform(struct run *r, const struct round_act *a)
{
    int64_t wait = a->at_ms - loop_now_ms();
    if (run_drill(r, a))
        return;
    switch (a->kind) {
    case ROUND_ACT_CALL:
        run_call(r, a);
        return;
    case ROUND_ACT_STORE_OPEN:
    case ROUND_ACT_STORE_CAPTURED:
    case ROUND_ACT_STORE_ABORTED:
        send_store(r, a->kind);
        return;
    case ROUND_ACT_READ_BACK:
        store_job(r->coord, work_read, done_read, drop_answer, answer_new(r));
        return;
    case ROUND_ACT_TIMER:
        loop_timer_set(r->coord->loop, &r->timer, wait > 0 ? wait : 0, on_timer, r);
        return;
    case ROUND_ACT_FINISHED:
        finish(r);
        return;
    }
}

static void tell_left_out(struct run *r)
{
    for (size_t i = 0; i < r->n_nodes; i++) {
        struct run_node *n = &r->nodes[i];
        if (!r->round.nodes[i].out || n->told)
            continue;
        n->told = true;
        log_warn("round", "left_out", "set=%s node=%s error=\"%s\"", r->set.text, n->name,
                 r->round.nodes[i].error);
    }
}

void run_feed(struct run *r, struct round_event *ev)
{
    struct coord *c = r->coord;
    int was = r->round.sm.state;
    ev->now_ms = loop_now_ms();
    ev->unix_ms = wall_ms();
    round_step(&r->round, ev, &r->acts);
    tell_left_out(r);
    struct set_entry *e = set_find(c, r->set.text);
    if (e && r->round.sm.state != was)
        watch_notify(c, e);
    /* FINISHED is the last act of a step and frees the run. */
    for (size_t i = 0, n = r->acts.n; i < n; i++)
        perform(r, &r->acts.items[i]);
}

static void after_unlock(struct coord *c, struct meta_txn *t, void *arg)
{
    (void)c;
    (void)arg;
    if (meta_txn_outcome(t) != META_DONE && meta_txn_outcome(t) != META_CONFLICT)
        log_warn("round", "unlock_failed", "the sweep will find the lock");
}

/* In as many transactions as locking took, the group's lock in the last. */
void run_unlock(struct coord *c, const char *group, int64_t revision,
                const struct domain_id *domains, size_t n)
{
    size_t i = 0;
    do {
        struct meta_txn *t = meta_txn_new();
        struct meta_key k, group_key;
        meta_key(&group_key, "locks/groups/%s", group);
        meta_txn_if_create(t, &group_key, revision);
        for (int room = META_TXN_OPS - 1; room > 0 && i < n; room--, i++) {
            meta_key(&k, "locks/domains/%s", domains[i].text);
            meta_txn_delete(t, &k);
        }
        if (i == n)
            meta_txn_delete(t, &group_key);
        store_submit(c, t, after_unlock, NULL, NULL);
    } while (i < n);
}

/* True when there is one. */
static bool fill_pauses(const struct run *r, Stillpoint__V1__SetRecord *d)
{
    bool any = false;
    for (size_t i = 0; i < d->n_parts; i++) {
        d->parts[i]->pause_us = r->parts[i].pause_us;
        d->parts[i]->pause_at_most = r->parts[i].at_most;
        any |= r->parts[i].pause_us != 0;
    }
    return any;
}

static void rehearsed(struct run *r)
{
    fill_pauses(r, r->draft);
    if (!r->round.rehearsed)
        pb_set(&r->draft->error, r->round.error);
    begun(r, NULL);
}

static void finish(struct run *r)
{
    struct coord *c = r->coord;
    bool lost = r->round.sm.state == ROUND_LOST;
    log_info("round", "finished", "set=%s state=%s%s%s%s", r->set.text,
             sm_name(&r->round.sm), r->round.error[0] ? " error=\"" : "", r->round.error,
             r->round.error[0] ? "\"" : "");
    if (r->rehearsal && !lost)
        rehearsed(r);
    if (!lost)
        run_unlock(c, r->draft->group, r->lock_revision, r->domains, r->n_domains);
    AUTO(str) char *id = mem_strdup(r->set.text);
    struct set_entry *e = set_find(c, id);
    AUTO(wire) ProtobufCMessage *noted = e ? pb_copy(&e->record->base) : NULL;
    bool paused = r->round.sm.state == ROUND_ABORTED && e &&
                  fill_pauses(r, (Stillpoint__V1__SetRecord *)noted);
    run_free(r);
    if (paused) /* the verdict went first: it must not wait for agents that are away */
        set_store(c, e, (Stillpoint__V1__SetRecord *)STEAL(noted), "set.pauses");
    if (e && !lost)
        set_advance(c, e);
    if (e)
        watch_notify(c, e);
}

static void log_move(void *ctx, const struct sm *m, const char *from, const char *to)
{
    const struct run *r = ctx;
    log_info(m->name, "moved", "set=%s from=%s to=%s", r->set.text, from, to);
    failpoint(m->name, to);
}

/* The waves of each node of the round, as bits; the caller frees them. */
static uint16_t *node_waves(const struct run *r)
{
    uint16_t *waves = mem_array(r->n_nodes, sizeof *waves);
    for (size_t i = 0; i < r->n_nodes; i++)
        for (size_t k = r->nodes[i].first; k < r->nodes[i].first + r->nodes[i].n; k++)
            if (run_is_planned(r->draft->parts[k]))
                waves[i] |= (uint16_t)(1u << r->parts[k].wave);
    return waves;
}

bool run_is_required(const struct run *r, const Stillpoint__V1__Part *p)
{
    AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
    for (size_t i = 0; i < r->draft->spec->n_required; i++)
        if (strcmp(r->draft->spec->required[i], name) == 0)
            return true;
    return false;
}

/* A node is required if one of its partitions is; the caller frees it. */
static bool *required_nodes(const struct run *r)
{
    bool *required = mem_array(r->n_nodes, sizeof *required);
    for (size_t i = 0; i < r->n_nodes; i++)
        for (size_t k = 0; k < r->nodes[i].n && !required[i]; k++)
            required[i] = run_is_required(r, r->draft->parts[r->nodes[i].first + k]);
    return required;
}

/* The locks are held: PROTOCOL.md step 0.3 or 6.1. */
void run_locked(struct run *r)
{
    uint16_t *waves = node_waves(r);
    bool *required = required_nodes(r);
    struct round_conf conf = {
        .set = r->set,
        .prepare_timeout_ms = r->draft->spec->prepare_timeout_ms,
        .freeze_timeout_ms = r->draft->spec->freeze_timeout_ms,
        .hold_limit_ms = r->draft->spec->hold_limit_ms,
        .n_parts = r->draft->n_parts,
        .n_nodes = r->n_nodes,
        .rehearsal = r->rehearsal,
        .relaxed = r->draft->spec->consistency ==
                   STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED,
        .n_waves = r->draft->spec->n_waves,
        .waves = waves,
        .required = required,
    };
    memcpy(conf.token.incarnation, r->coord->incarnation, sizeof conf.token.incarnation);
    conf.token.revision = r->lock_revision;
    round_init(&r->round, &conf);
    free(waves);
    free(required);
    round_acts_init(&r->acts);
    r->round.sm.observer = log_move;
    r->round.sm.observer_ctx = r;
    r->started = true;
    run_feed(r, &(struct round_event){.kind = r->recovering ? ROUND_EV_RECOVER
                                                            : ROUND_EV_START});
}
