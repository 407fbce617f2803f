#include "coordinator/flow/round.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "coordinator/flow/recover.h"
#include "coordinator/flow/waves.h"

/*  PLANNED ─START→ OPENING → PREPARING → FREEZING → CAPTURING → RECORDING → CAPTURED
 *     │               │           └─────────┴───────────┴──→ ABORTING → ABORTED
 *     └─RECOVER→ INSPECTING ─all captured→ RECORDING
 *                     └──────────otherwise→ ABORTING
 *  LOST is reached from every state that is not final. In a relaxed round a node's
 * failure leaves that node out (ABORTING only when none is left), and INSPECTING goes on
 * with those that have captured. */
#define ANY_FAILURE (SM_TO(ROUND_ABORTING) | SM_TO(ROUND_LOST))
static const struct sm_state states[] = {
    [ROUND_PLANNED] = {"PLANNED", SM_INITIAL,
                       SM_TO(ROUND_OPENING) | SM_TO(ROUND_INSPECTING) |
                           SM_TO(ROUND_LOST)},
    [ROUND_OPENING] = {"OPENING", 0, SM_TO(ROUND_PREPARING) | ANY_FAILURE},
    [ROUND_INSPECTING] = {"INSPECTING", 0, SM_TO(ROUND_RECORDING) | ANY_FAILURE},
    [ROUND_PREPARING] = {"PREPARING", 0, SM_TO(ROUND_FREEZING) | ANY_FAILURE},
    [ROUND_FREEZING] = {"FREEZING", 0, SM_TO(ROUND_CAPTURING) | ANY_FAILURE},
    [ROUND_CAPTURING] = {"CAPTURING", 0, SM_TO(ROUND_RECORDING) | ANY_FAILURE},
    [ROUND_RECORDING] = {"RECORDING", 0, SM_TO(ROUND_CAPTURED) | SM_TO(ROUND_LOST)},
    [ROUND_ABORTING] = {"ABORTING", 0, SM_TO(ROUND_ABORTED) | SM_TO(ROUND_LOST)},
    [ROUND_CAPTURED] = {"CAPTURED", SM_FINAL, 0},
    [ROUND_ABORTED] = {"ABORTED", SM_FINAL, 0},
    [ROUND_LOST] = {"LOST", SM_FINAL, 0},
};

static void act(struct round_acts *out, struct round_act a)
{
    mem_reserve((void **)&out->items, &out->cap, out->n, sizeof *out->items);
    out->items[out->n++] = a;
}

void round_init(struct round *r, const struct round_conf *conf)
{
    assert(conf->n_nodes > 0);
    assert(conf->n_parts > 0 && conf->n_parts <= CUT_MAX_PARTS);
    assert(conf->n_waves <= ROUND_MAX_WAVES);
    *r = (struct round){.conf = *conf};
    r->nodes = mem_array(conf->n_nodes, sizeof *r->nodes);
    r->frozen = mem_array(conf->n_nodes, sizeof *r->frozen);
    for (size_t i = 0; i < conf->n_nodes; i++)
        r->nodes[i].waves = conf->waves ? conf->waves[i] : 1;
    for (size_t i = 0; conf->required && i < conf->n_nodes; i++)
        r->nodes[i].required = conf->required[i];
    r->conf.waves = NULL;
    r->conf.required = NULL;
    r->conf.n_waves = conf->n_waves ? conf->n_waves : 1;
    sm_init(&r->sm, "round", states, ROUND_PLANNED);
}

void round_fini(struct round *r)
{
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        free(r->nodes[i].error);
    free(r->nodes);
    free(r->frozen);
    free(r->epochs);
    free(r->proofs);
    *r = (struct round){0};
}

bool round_is_final(const struct round *r)
{
    return sm_is_final(&r->sm);
}

/* A strict cut is all of it, a relaxed one whatever was captured. */
static struct err *verify(const struct round *r)
{
    if (r->conf.relaxed)
        return cut_verify_parts(&r->conf.set, r->epochs, r->n_epochs, r->proofs,
                                r->n_proofs);
    if (r->n_proofs != r->conf.n_parts)
        return err_new(ERR_CORRUPT, "%zu proofs for %zu partitions", r->n_proofs,
                       r->conf.n_parts);
    return cut_verify(&r->conf.set, r->epochs, r->n_epochs, r->proofs, r->n_proofs);
}

static bool in_wave(const struct round_node *n, size_t wave)
{
    return n->waves >> wave & 1;
}

static void check_node(const struct round *r, const struct round_node *n)
{
    bool recorded = r->sm.state == ROUND_RECORDING || r->sm.state == ROUND_CAPTURED;
    assert(!(recorded && n->call == CALL_ABORT && !n->out));
    assert(!n->out || r->conf.relaxed);
    assert(!n->out || !n->required || !(recorded || r->sm.state == ROUND_CAPTURING));
    assert(!n->out || n->call == CALL_ABORT || round_is_final(r));
    bool asked = r->sm.state == ROUND_FREEZING && n->call == CALL_FREEZE;
    assert(!asked || (n->wave <= r->wave && in_wave(n, n->wave)));
    assert(r->sm.state != ROUND_CAPTURING || r->n_epochs > 0);
    assert(!r->conf.rehearsal || n->call != CALL_COMMIT);
}

void round_check(const struct round *r)
{
    if (r->sm.state == ROUND_RECORDING || r->sm.state == ROUND_CAPTURED) {
        AUTO(err) struct err *e = verify(r);
        assert(!e);
    }
    assert(!r->conf.rehearsal || !r->storing);
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        check_node(r, &r->nodes[i]);
}

static void act_call(const struct round_node *n, size_t i, struct round_acts *out)
{
    act(out, (struct round_act){
                 .kind = ROUND_ACT_CALL, .call = n->call, .node = i, .wave = n->wave});
}

static void call_node(struct round *r, size_t i, enum round_call call,
                      struct round_acts *out)
{
    struct round_node *n = &r->nodes[i];
    n->call = call;
    n->waiting = true;
    n->done = false;
    n->retry_at_ms = 0;
    n->wave = r->wave;
    act_call(n, i, out);
}

static void call_nobody(struct round_node *n)
{
    n->call = CALL_NONE;
    n->waiting = n->done = false;
    n->retry_at_ms = 0;
}

/* Gives every node the same call and a fresh start; one that is out hears of aborts only.
 */
static void send_all(struct round *r, enum round_call call, struct round_acts *out)
{
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (call == CALL_ABORT || !r->nodes[i].out)
            call_node(r, i, call, out);
}

static bool all_done(const struct round *r)
{
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (!r->nodes[i].done)
            return false;
    return true;
}

/* Whether the phase, or the wave of it, has nothing to wait for. */
static bool members_done(const struct round *r)
{
    for (size_t i = 0; i < r->conf.n_nodes; i++) {
        const struct round_node *n = &r->nodes[i];
        bool other = r->sm.state == ROUND_FREEZING && !in_wave(n, r->wave);
        if (!n->out && !n->done && !other)
            return false;
    }
    return true;
}

static size_t count_members(const struct round *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        n += !r->nodes[i].out;
    return n;
}

static void store(struct round *r, enum round_act_kind kind, struct round_acts *out)
{
    assert(!r->storing);
    r->storing = true;
    r->store_retry_at_ms = 0;
    act(out, (struct round_act){.kind = kind});
}

static void finish(struct round *r, int state, struct round_acts *out)
{
    sm_move(&r->sm, state);
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        call_nobody(&r->nodes[i]);
    act(out, (struct round_act){.kind = ROUND_ACT_FINISHED});
}

/* PROTOCOL.md step 5.2: one failure of a strict set aborts it, or the last one of a
 * relaxed set. Agents are told at once,
 * so that nothing stays frozen while etcd is slow; the record follows. */
static void begin_abort(struct round *r, int64_t now_ms, const char *why,
                        struct round_acts *out)
{
    snprintf(r->error, sizeof r->error, "%s", why);
    sm_move(&r->sm, ROUND_ABORTING);
    r->deadline_ms = now_ms + ROUND_ABORT_TIMEOUT_MS;
    send_all(r, CALL_ABORT, out);
    if (r->conf.rehearsal)
        r->stored = true;
    else
        store(r, ROUND_ACT_STORE_ABORTED, out);
}

static void begin_record(struct round *r, struct round_acts *out)
{
    sm_move(&r->sm, ROUND_RECORDING);
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (!r->nodes[i].out) /* those that are go on hearing of it */
            call_nobody(&r->nodes[i]);
    store(r, ROUND_ACT_STORE_CAPTURED, out);
}

static void add_epochs(struct round *r, const struct domain_epoch *epochs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mem_reserve((void **)&r->epochs, &r->cap_epochs, r->n_epochs, sizeof *r->epochs);
        r->epochs[r->n_epochs++] = epochs[i];
    }
}

static void add_proofs(struct round *r, const struct proof *proofs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mem_reserve((void **)&r->proofs, &r->cap_proofs, r->n_proofs, sizeof *r->proofs);
        r->proofs[r->n_proofs++] = proofs[i];
    }
}

/* PROTOCOL.md step 1: the record exists, or a rehearsal needs none. */
static void begin_prepare(struct round *r, const struct round_event *ev,
                          struct round_acts *out)
{
    sm_move(&r->sm, ROUND_PREPARING);
    r->deadline_ms = ev->now_ms + r->conf.prepare_timeout_ms;
    send_all(r, CALL_PREPARE, out);
}

/* PROTOCOL.md step 5.6: told at once, so that it thaws; it stays out. Its epochs stay if
 * Commit has named them: the others' proofs speak of them. */
static void leave_out(struct round *r, size_t i, const char *why, struct round_acts *out)
{
    assert(r->conf.relaxed && !r->nodes[i].out);
    r->nodes[i].out = true;
    r->nodes[i].error = mem_printf("%.*s", ROUND_ERROR_BYTES - 1, why);
    call_node(r, i, CALL_ABORT, out);
}

/* The last error that left a node out tells why nothing is left. */
static void abort_without_members(struct round *r, int64_t now_ms, struct round_acts *out)
{
    const char *why = "nobody is left";
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        why = r->nodes[i].error ? r->nodes[i].error : why;
    AUTO(str) char *text = mem_printf("no partition of the group can be taken: %s", why);
    begin_abort(r, now_ms, text, out);
}

/* ---- phases ---- */

static void advance(struct round *r, const struct round_event *ev,
                    struct round_acts *out);

static void freeze_wave(struct round *r, int64_t now_ms, struct round_acts *out)
{
    r->deadline_ms = waves_deadline_ms(r, now_ms);
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (in_wave(&r->nodes[i], r->wave) && !r->nodes[i].out)
            call_node(r, i, CALL_FREEZE, out);
}

/* PROTOCOL.md step 2: every agent is prepared. */
static void begin_freeze(struct round *r, const struct round_event *ev,
                         struct round_acts *out)
{
    int64_t pause_ms = waves_predict_ms(r);
    if (r->conf.n_waves > 1 && pause_ms > r->conf.hold_limit_ms / 2) {
        AUTO(str)
        char *why = mem_printf(
            "the pause over %zu waves is expected to take %lld ms, more than half of the "
            "hold limit (%lld ms); raise hold_limit or make fewer waves",
            r->conf.n_waves, (long long)pause_ms, (long long)r->conf.hold_limit_ms);
        begin_abort(r, ev->now_ms, why, out);
        return;
    }
    sm_move(&r->sm, ROUND_FREEZING);
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (!r->nodes[i].out)
            call_nobody(&r->nodes[i]);
    r->freeze_from_ms = ev->now_ms;
    r->wave = 0;
    freeze_wave(r, ev->now_ms, out);
    advance(r, ev, out);
}

/* Who stood still first is told first, so that all stand about equally long. */
static void send_commits(struct round *r, struct round_acts *out)
{
    for (size_t k = 0; k < r->n_frozen; k++)
        if (!r->nodes[r->frozen[k]].out)
            call_node(r, r->frozen[k], CALL_COMMIT, out);
}

/* PROTOCOL.md step 3: only after *every* member has answered is the first Commit sent. */
static void begin_commit(struct round *r, const struct round_event *ev,
                         struct round_acts *out)
{
    cut_sort(r->epochs, r->n_epochs);
    sm_move(&r->sm, ROUND_CAPTURING);
    r->cut_unix_ms = ev->unix_ms;
    r->deadline_ms = ev->now_ms + r->conf.hold_limit_ms + ROUND_COMMIT_SLACK_MS;
    send_commits(r, out);
}

/* PROTOCOL.md step 2.6: a wave begins when the one before stands still. */
static void end_wave(struct round *r, const struct round_event *ev,
                     struct round_acts *out)
{
    if (r->wave + 1 == r->conf.n_waves) {
        r->rehearsed = r->conf.rehearsal; /* that is all that was to be seen */
        if (r->rehearsed)
            begin_abort(r, ev->now_ms, "the rehearsal is over", out);
        else
            begin_commit(r, ev, out);
        return;
    }
    r->wave++;
    freeze_wave(r, ev->now_ms, out);
    advance(r, ev, out);
}

static void end_commit(struct round *r, int64_t now_ms, struct round_acts *out)
{
    AUTO(err) struct err *e = verify(r);
    if (!e) {
        begin_record(r, out);
        return;
    }
    AUTO(str) char *text = err_text(e);
    begin_abort(r, now_ms, text, out);
}

/* NULL: every required node is still in. */
static const struct round_node *lost_required(const struct round *r)
{
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (r->nodes[i].out && r->nodes[i].required)
            return &r->nodes[i];
    return NULL;
}

/* Goes on when nobody has to be waited for any more. */
static void advance(struct round *r, const struct round_event *ev, struct round_acts *out)
{
    const struct round_node *lost = lost_required(r);
    if (lost)
        begin_abort(r, ev->now_ms, lost->error, out);
    else if (count_members(r) == 0)
        abort_without_members(r, ev->now_ms, out);
    else if (!members_done(r))
        return;
    else if (r->sm.state == ROUND_PREPARING)
        begin_freeze(r, ev, out);
    else if (r->sm.state == ROUND_FREEZING)
        end_wave(r, ev, out);
    else if (r->sm.state == ROUND_CAPTURING || r->sm.state == ROUND_INSPECTING)
        end_commit(r, ev->now_ms, out);
}

/* Of a relaxed round, one node's proofs: they count only if they are of this cut. */
static void take_proofs(struct round *r, const struct round_event *ev,
                        struct round_acts *out)
{
    AUTO(err)
    struct err *e =
        cut_verify_parts(&r->conf.set, r->epochs, r->n_epochs, ev->proofs, ev->n_proofs);
    if (!e) {
        add_proofs(r, ev->proofs, ev->n_proofs);
        return;
    }
    AUTO(str) char *text = err_text(e);
    leave_out(r, ev->node, text, out);
}

/* PROTOCOL.md step 6.2, relaxed: what was captured makes the cut, as for a coordinator
 * that stayed. */
static void on_inspected_relaxed(struct round *r, const struct round_event *ev,
                                 struct round_acts *out)
{
    if (ev->view != VIEW_CAPTURED) {
        leave_out(r, ev->node,
                  "the coordinator was replaced before this node had captured", out);
    } else {
        if (r->n_epochs == 0) {
            add_epochs(r, ev->epochs, ev->n_epochs);
            cut_sort(r->epochs, r->n_epochs);
        }
        take_proofs(r, ev, out);
        if (r->n_proofs == 0)
            r->n_epochs = 0; /* of an answer that proves nothing */
        else
            r->cut_unix_ms = r->proofs[0].cut_unix_ms;
    }
    advance(r, ev, out);
}

static void on_inspected(struct round *r, const struct round_event *ev,
                         struct round_acts *out)
{
    if (r->conf.relaxed) {
        on_inspected_relaxed(r, ev, out);
        return;
    }
    if (ev->view == VIEW_CAPTURED) {
        if (r->n_epochs == 0) {
            add_epochs(r, ev->epochs, ev->n_epochs);
            cut_sort(r->epochs, r->n_epochs);
        }
        add_proofs(r, ev->proofs, ev->n_proofs);
        if (ev->n_proofs > 0)
            r->cut_unix_ms = ev->proofs[0].cut_unix_ms;
    }
    switch (recover_decide(r, ev->view)) {
    case RECOVER_WAIT:
        return;
    case RECOVER_ROLL_FORWARD:
        begin_record(r, out);
        return;
    case RECOVER_ABORT:
        begin_abort(
            r, ev->now_ms,
            "the coordinator was replaced during the round and not every partition "
            "had been captured; create the set again",
            out);
        return;
    }
}

static void on_yes(struct round *r, const struct round_event *ev, struct round_acts *out)
{
    struct round_node *n = &r->nodes[ev->node];
    switch (r->sm.state) {
    case ROUND_PREPARING:
        memcpy(n->predicted_ms, ev->predicted_ms, sizeof n->predicted_ms);
        n->waves &= (uint16_t)~ev->refused_waves;
        assert(n->waves);
        advance(r, ev, out);
        return;
    case ROUND_FREEZING:
        add_epochs(r, ev->epochs, ev->n_epochs);
        waves_note_frozen(r, ev->node);
        advance(r, ev, out);
        return;
    case ROUND_CAPTURING:
        if (r->conf.relaxed)
            take_proofs(r, ev, out);
        else
            add_proofs(r, ev->proofs, ev->n_proofs);
        advance(r, ev, out);
        return;
    case ROUND_INSPECTING:
        on_inspected(r, ev, out);
        return;
    case ROUND_ABORTING:
        return; /* settle() looks whether all are done */
    default:
        assert(!"an answer is taken in the phases of calls only");
    }
}

/* TIMEOUT and UNAVAILABLE say nothing about the agent's state: every call is safe to
 * repeat (I7), so it is, until the phase's deadline. */
static bool may_repeat(enum err_kind kind)
{
    return kind == ERR_TIMEOUT || kind == ERR_UNAVAILABLE;
}

static bool in_call_phase(const struct round *r)
{
    return r->sm.state == ROUND_PREPARING || r->sm.state == ROUND_FREEZING ||
           r->sm.state == ROUND_CAPTURING || r->sm.state == ROUND_INSPECTING;
}

static void on_no(struct round *r, const struct round_event *ev, struct round_acts *out)
{
    struct round_node *n = &r->nodes[ev->node];
    if (ev->err->kind == ERR_STALE_TOKEN && !r->stored) {
        finish(r, ROUND_LOST, out);
        return;
    }
    if (may_repeat(ev->err->kind)) {
        n->retry_at_ms = ev->now_ms + ROUND_RETRY_MS;
        return;
    }
    if (r->sm.state == ROUND_ABORTING) {
        n->done = true; /* it has nothing to undo, or will say so when it registers */
        return;
    }
    AUTO(str) char *text = err_text(ev->err);
    if (!r->conf.relaxed) {
        begin_abort(r, ev->now_ms, text, out);
        return;
    }
    leave_out(r, ev->node, text, out);
    advance(r, ev, out);
}

/* The answer to the Abort of a node that is out. What refuses it has nothing to undo, or
 * obeys another coordinator: then the store tells. */
static void on_out_reply(struct round_node *n, const struct round_event *ev)
{
    if (ev->err && may_repeat(ev->err->kind))
        n->retry_at_ms = ev->now_ms + ROUND_RETRY_MS;
    else
        n->done = true;
}

static void on_reply(struct round *r, const struct round_event *ev,
                     struct round_acts *out)
{
    assert(ev->node < r->conf.n_nodes);
    struct round_node *n = &r->nodes[ev->node];
    if (!n->waiting || n->call != ev->call ||
        (n->call == CALL_FREEZE && n->wave != ev->wave))
        return; /* late: of a phase or wave that is over, or of a node that is out */
    n->waiting = false;
    if (n->out && r->sm.state != ROUND_ABORTING) {
        on_out_reply(n, ev);
        return;
    }
    if (ev->err) {
        on_no(r, ev, out);
        return;
    }
    n->done = true;
    on_yes(r, ev, out);
}

static void on_stored_ok(struct round *r, const struct round_event *ev,
                         struct round_acts *out)
{
    if (r->sm.state == ROUND_OPENING && r->error[0]) {
        AUTO(str) char *why = mem_strdup(r->error);
        begin_abort(r, ev->now_ms, why, out);
    } else if (r->sm.state == ROUND_OPENING) {
        begin_prepare(r, ev, out);
    } else if (r->sm.state == ROUND_RECORDING) {
        finish(r, ROUND_CAPTURED, out);
    } else {
        r->stored = true;
    }
}

static void on_stored(struct round *r, const struct round_event *ev,
                      struct round_acts *out)
{
    if (!r->storing)
        return;
    r->storing = false;
    switch (ev->stored) {
    case STORED_OK:
        on_stored_ok(r, ev, out);
        return;
    case STORED_CONFLICT:
        finish(r, ROUND_LOST, out);
        return;
    case STORED_UNKNOWN:
        store(r, ROUND_ACT_READ_BACK, out);
        return;
    case STORED_NOT_DONE:
        r->store_retry_at_ms = ev->now_ms + ROUND_STORE_RETRY_MS;
        return;
    }
}

/* Repeating a write whose outcome was unknown is safe only because each one compares the
 * revision of the record it replaces: of two, the second fails its compare. */
static void on_read(struct round *r, const struct round_event *ev, struct round_acts *out)
{
    if (!r->storing)
        return;
    r->storing = false;
    bool recording = r->sm.state == ROUND_RECORDING;
    bool aborting = r->sm.state == ROUND_ABORTING;
    switch (ev->found) {
    case FOUND_NO_IDEA:
        r->storing = true;
        r->store_retry_at_ms = ev->now_ms + ROUND_STORE_RETRY_MS;
        return;
    case FOUND_NOTHING:
        r->store_retry_at_ms = ev->now_ms;
        return;
    case FOUND_PREPARING:
        if (recording || aborting)
            r->store_retry_at_ms = ev->now_ms;
        else
            on_stored_ok(r, ev, out);
        return;
    case FOUND_CAPTURED:
        if (recording)
            finish(r, ROUND_CAPTURED, out);
        else
            finish(r, ROUND_LOST, out);
        return;
    case FOUND_ABORTED:
        if (aborting)
            r->stored = true;
        else
            finish(r, ROUND_LOST, out);
        return;
    case FOUND_LOST:
        finish(r, ROUND_LOST, out);
        return;
    }
}

static const char *silent_phase(const struct round *r)
{
    switch (r->sm.state) {
    case ROUND_PREPARING:
        return "prepare_timeout passed before every agent was prepared";
    case ROUND_FREEZING:
        return "freeze_timeout passed before every domain was frozen";
    case ROUND_INSPECTING:
        return "the coordinator was replaced and an agent of the set did not answer; "
               "create the set again when all are back";
    default:
        return "hold_limit passed before every partition was captured";
    }
}

/* The same of one node of a relaxed set, with what to do about it. */
static const char *silent_node(const struct round *r)
{
    switch (r->sm.state) {
    case ROUND_PREPARING:
        return "it was not prepared within prepare_timeout: see whether its agent runs";
    case ROUND_FREEZING:
        return "it was not frozen within freeze_timeout: raise it, or see what its "
               "agent's log says";
    case ROUND_INSPECTING:
        return "the coordinator was replaced and this node did not answer the new one";
    default:
        return "its captures were not answered for within hold_limit";
    }
}

static void repeat_calls(struct round *r, int64_t now_ms, struct round_acts *out)
{
    for (size_t i = 0; i < r->conf.n_nodes; i++) {
        struct round_node *n = &r->nodes[i];
        if (n->retry_at_ms == 0 || n->retry_at_ms > now_ms)
            continue;
        n->retry_at_ms = 0;
        n->waiting = true;
        act_call(n, i, out);
    }
}

static enum round_act_kind store_kind(const struct round *r)
{
    switch (r->sm.state) {
    case ROUND_OPENING:
        return ROUND_ACT_STORE_OPEN;
    case ROUND_RECORDING:
        return ROUND_ACT_STORE_CAPTURED;
    default:
        return ROUND_ACT_STORE_ABORTED;
    }
}

static void repeat_store(struct round *r, struct round_acts *out)
{
    bool was_read = r->storing; /* a read back without an answer */
    r->storing = false;
    store(r, was_read ? ROUND_ACT_READ_BACK : store_kind(r), out);
}

/* The phase is over: who has not answered fails a strict set, or is left out. */
static void on_deadline(struct round *r, const struct round_event *ev,
                        struct round_acts *out)
{
    if (!r->conf.relaxed) {
        begin_abort(r, ev->now_ms, silent_phase(r), out);
        return;
    }
    const char *why = silent_node(r);
    for (size_t i = 0; i < r->conf.n_nodes; i++) {
        const struct round_node *n = &r->nodes[i];
        if (!n->out && !n->done && n->call != CALL_NONE)
            leave_out(r, i, why, out);
    }
    advance(r, ev, out);
}

static void on_time(struct round *r, const struct round_event *ev, struct round_acts *out)
{
    if (in_call_phase(r) && ev->now_ms >= r->deadline_ms)
        on_deadline(r, ev, out);
    if (!round_is_final(r) && r->store_retry_at_ms && ev->now_ms >= r->store_retry_at_ms)
        repeat_store(r, out);
    repeat_calls(r, ev->now_ms, out);
}

bool round_can_cancel(const struct round *r)
{
    return in_call_phase(r) || r->sm.state == ROUND_OPENING ||
           r->sm.state == ROUND_ABORTING;
}

static void on_cancel(struct round *r, const struct round_event *ev,
                      struct round_acts *out)
{
    if (in_call_phase(r))
        begin_abort(r, ev->now_ms, ev->reason, out);
    else if (r->sm.state == ROUND_OPENING) /* once the record exists */
        snprintf(r->error, sizeof r->error, "%s", ev->reason);
}

/* ABORTING ends when the record is stored and every agent has been told or given up. */
static void settle(struct round *r, int64_t now_ms, struct round_acts *out)
{
    if (r->sm.state == ROUND_ABORTING && r->stored &&
        (all_done(r) || now_ms >= r->deadline_ms))
        finish(r, ROUND_ABORTED, out);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static void set_timer(const struct round *r, struct round_acts *out)
{
    int64_t at = r->store_retry_at_ms;
    if (in_call_phase(r) || (r->sm.state == ROUND_ABORTING && r->stored))
        at = sooner(at, r->deadline_ms);
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        at = sooner(at, r->nodes[i].retry_at_ms);
    if (at)
        act(out, (struct round_act){.kind = ROUND_ACT_TIMER, .at_ms = at});
}

static void dispatch(struct round *r, const struct round_event *ev,
                     struct round_acts *out)
{
    switch (ev->kind) {
    case ROUND_EV_START:
        sm_move(&r->sm, ROUND_OPENING);
        if (r->conf.rehearsal)
            begin_prepare(r, ev, out);
        else
            store(r, ROUND_ACT_STORE_OPEN, out);
        return;
    case ROUND_EV_RECOVER:
        r->taken_over = true;
        sm_move(&r->sm, ROUND_INSPECTING);
        r->deadline_ms = ev->now_ms + ROUND_INSPECT_TIMEOUT_MS;
        send_all(r, CALL_INSPECT, out);
        return;
    case ROUND_EV_REPLY:
        on_reply(r, ev, out);
        return;
    case ROUND_EV_STORED:
        on_stored(r, ev, out);
        return;
    case ROUND_EV_READ:
        on_read(r, ev, out);
        return;
    case ROUND_EV_TIMER:
        return; /* every step looks at the time */
    case ROUND_EV_CANCEL:
        on_cancel(r, ev, out);
        return;
    case ROUND_EV_LOCK_LOST:
        finish(r, r->stored ? ROUND_ABORTED : ROUND_LOST, out);
        return;
    }
}

void round_step(struct round *r, const struct round_event *ev, struct round_acts *out)
{
    out->n = 0;
    if (round_is_final(r))
        return;
    dispatch(r, ev, out);
    if (!round_is_final(r))
        on_time(r, ev, out);
    settle(r, ev->now_ms, out);
    if (!round_is_final(r))
        set_timer(r, out);
    round_check(r);
}
