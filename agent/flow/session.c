#include "agent/flow/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow/session_waves.h"
#include "common/base/mem.h"

/*                             ┌─next wave─┐
 *  NEW → ARMING → PREPARED → FREEZING → FROZEN → COMMITTING → JOURNALING → CAPTURED
 *   └───────┴─────────┴─────────┴─────────┴──────────┴────────────┴───────────┘
 *                                ABORTING → ABORTED
 *  Only after JOURNALING has the agent promised a capture; only from FREEZING on may a
 * domain be frozen, and the journal says so before it is. */
#define UNDO SM_TO(SESSION_ABORTING)
static const struct sm_state states[] = {
    [SESSION_NEW] = {"NEW", SM_INITIAL, SM_TO(SESSION_ARMING) | UNDO},
    [SESSION_ARMING] = {"ARMING", 0, SM_TO(SESSION_PREPARED) | UNDO},
    [SESSION_PREPARED] = {"PREPARED", 0, SM_TO(SESSION_FREEZING) | UNDO},
    [SESSION_FREEZING] = {"FREEZING", 0, SM_TO(SESSION_FROZEN) | UNDO},
    [SESSION_FROZEN] = {"FROZEN", 0,
                        SM_TO(SESSION_COMMITTING) | SM_TO(SESSION_FREEZING) | UNDO},
    [SESSION_COMMITTING] = {"COMMITTING", 0, SM_TO(SESSION_JOURNALING) | UNDO},
    [SESSION_JOURNALING] = {"JOURNALING", 0, SM_TO(SESSION_CAPTURED) | UNDO},
    [SESSION_CAPTURED] = {"CAPTURED", 0, UNDO},
    [SESSION_ABORTING] = {"ABORTING", 0, SM_TO(SESSION_ABORTED)},
    [SESSION_ABORTED] = {"ABORTED", SM_INITIAL | SM_FINAL, 0},
};

void session_acts_init(struct session_acts *a)
{
    *a = (struct session_acts){0};
}

static void clear_acts(struct session_acts *a)
{
    for (size_t i = 0; i < a->n; i++)
        err_free(a->items[i].err);
    a->n = 0;
}

void session_acts_fini(struct session_acts *a)
{
    clear_acts(a);
    free(a->items);
    *a = (struct session_acts){0};
}

static void act(struct session_acts *out, struct session_act a)
{
    mem_reserve((void **)&out->items, &out->cap, out->n, sizeof *out->items);
    out->items[out->n++] = a;
}

static void ask_guard(struct session *set, enum session_act_kind kind,
                      struct session_acts *out)
{
    act(out, (struct session_act){.kind = kind, .set = set});
}

static void journal(struct sessions *s, struct session *set, struct session_acts *out)
{
    set->journal_seq = ++s->journal_seq;
    act(out, (struct session_act){.kind = SESSION_ACT_JOURNAL, .seq = s->journal_seq});
}

/* ---- life of the table ---- */

struct session *session_new(const struct set_id *set)
{
    struct session *s = mem_zalloc(sizeof *s);
    s->set = *set;
    sm_init(&s->sm, "session", states, SESSION_NEW);
    return s;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    free(s->parts);
    free(s->refused);
    free(s->epochs);
    free(s->all_epochs);
    free(s->proofs);
    free(s);
}

void session_restore(struct session *s, enum session_state state)
{
    sm_restore(&s->sm, "session", states,
               state == SESSION_JOURNALING ? SESSION_CAPTURED : (int)state);
}

void sessions_init(struct sessions *s, const struct node_id *node)
{
    *s = (struct sessions){.node = *node};
}

void sessions_fini(struct sessions *s)
{
    for (size_t i = 0; i < s->n_sets; i++)
        session_free(s->sets[i]);
    *s = (struct sessions){0};
}

static size_t position(const struct sessions *s, const struct set_id *set)
{
    size_t i = 0;
    while (i < s->n_sets && strcmp(s->sets[i]->set.text, set->text) != 0)
        i++;
    return i;
}

struct session *sessions_find(const struct sessions *s, const struct set_id *set)
{
    size_t i = position(s, set);
    return i < s->n_sets ? s->sets[i] : NULL;
}

static void forget(struct sessions *s, size_t i)
{
    session_free(s->sets[i]);
    memmove(&s->sets[i], &s->sets[i + 1], (s->n_sets - i - 1) * sizeof s->sets[0]);
    s->n_sets--;
}

/* An aborted set is remembered only to refuse late requests; the tokens of its domains
 * refuse them too, so the oldest may make room. */
static bool make_room(struct sessions *s)
{
    if (s->n_sets < SESSION_MAX_SETS)
        return true;
    for (size_t i = 0; i < s->n_sets; i++) {
        if (s->sets[i]->sm.state == SESSION_ABORTED && !s->sets[i]->journal_seq) {
            forget(s, i);
            return true;
        }
    }
    return false;
}

struct err *sessions_load(struct sessions *s, struct session *entry)
{
    AUTO(session) struct session *owned = entry;
    if (!make_room(s))
        return err_new(ERR_LIMIT, "the journal holds more than %d open sets",
                       SESSION_MAX_SETS);
    owned->sm.observer = s->observer;
    owned->sm.observer_ctx = s->observer_ctx;
    s->sets[s->n_sets++] = STEAL(owned);
    return NULL;
}

/* NULL when the table is full of sets that are not over. */
static struct session *add(struct sessions *s, const struct session_event *ev, int state)
{
    if (!make_room(s))
        return NULL;
    struct session *set = session_new(&ev->set);
    session_restore(set, state);
    set->sm.observer = s->observer;
    set->sm.observer_ctx = s->observer_ctx;
    set->token = ev->token;
    s->sets[s->n_sets++] = set;
    fence_pin(&s->fence, &ev->token);
    return set;
}

/* ---- answers ---- */

static void refuse(const struct session_event *ev, struct err *e,
                   struct session_acts *out)
{
    act(out, (struct session_act){.kind = SESSION_ACT_REPLY,
                                  .call = ev->call,
                                  .call_kind = ev->kind,
                                  .err = e});
}

static void answer(struct session *set, struct err *e, struct session_acts *out)
{
    if (!set->call) {
        err_free(e);
        return;
    }
    act(out, (struct session_act){.kind = SESSION_ACT_REPLY,
                                  .set = set,
                                  .call = set->call,
                                  .call_kind = set->call_kind,
                                  .wave = set->wave,
                                  .err = e});
    set->call = 0;
}

/* One request of a set waits at a time; a repetition takes the place of the first, whose
 * caller has given up. */
static void wait_for(struct session *set, const struct session_event *ev,
                     struct session_acts *out)
{
    answer(set, err_new(ERR_UNAVAILABLE, "superseded by a later request"), out);
    set->call = ev->call;
    set->call_kind = ev->kind;
}

static struct err *over(const struct session *set)
{
    return err_new(ERR_CONFLICT, "set '%s' is aborted on this node: %s", set->set.text,
                   set->error[0] ? set->error : "no reason recorded");
}

static bool is_undone_state(const struct session *set)
{
    return set->sm.state == SESSION_ABORTING || set->sm.state == SESSION_ABORTED;
}

/* ---- undoing ---- */

/* Nothing may stay frozen while a disk is slow, so the guardian is asked at once, except
 * where the journal promises a capture: there the promise is withdrawn durably first,
 * lest a restart in between offers a capture that is gone. PROTOCOL.md step 5.3. */
static void undo(struct sessions *s, struct session *set, const char *why,
                 struct session_acts *out)
{
    bool promised =
        set->sm.state == SESSION_CAPTURED || set->sm.state == SESSION_JOURNALING;
    snprintf(set->error, sizeof set->error, "%s", why);
    sm_move(&set->sm, SESSION_ABORTING);
    journal(s, set, out);
    set->undo_asked = !promised;
    if (!promised)
        ask_guard(set, SESSION_ACT_UNDO, out);
}

static void undo_with(struct sessions *s, struct session *set, const struct err *e,
                      struct session_acts *out)
{
    AUTO(str) char *text = err_text(e);
    undo(s, set, text, out);
}

/* ---- tokens ---- */

static struct err *check_token(const struct sessions *s, const struct session *set,
                               const struct token *token)
{
    TRY(fence_check_incarnation(&s->fence, token));
    if (token_compare(token, &set->token) == TOKEN_OLDER)
        return err_new(ERR_STALE_TOKEN, "set '%s' has obeyed token %lld, newer than %lld",
                       set->set.text, (long long)set->token.revision,
                       (long long)token->revision);
    for (size_t i = 0; i < set->n_parts; i++)
        TRY(fence_check(&s->fence, &set->parts[i].domain, token));
    return NULL;
}

static void raise_token(struct sessions *s, struct session *set,
                        const struct token *token)
{
    set->token = *token;
    for (size_t i = 0; i < set->n_parts; i++)
        fence_raise(&s->fence, &set->parts[i].domain, token);
}

/* Prepare, Freeze and Commit are for the coordinator that began the set; a later one may
 * only inspect and abort. */
static struct err *check_owner(const struct sessions *s, const struct session *set,
                               const struct token *token)
{
    TRY(check_token(s, set, token));
    if (token_compare(token, &set->token) != TOKEN_SAME)
        return err_new(ERR_CONFLICT, "set '%s' was prepared with another token",
                       set->set.text);
    return NULL;
}

struct err *sessions_check_frozen(const struct sessions *s, const struct set_id *id,
                                  const struct token *token)
{
    const struct session *set = sessions_find(s, id);
    if (!set)
        return err_new(ERR_CONFLICT, "set '%s' was never prepared on this node",
                       id->text);
    TRY(check_owner(s, set, token));
    if (set->sm.state != SESSION_FROZEN || !session_all_asked(set))
        return err_new(ERR_CONFLICT, "set '%s' is not frozen on this node", id->text);
    return NULL;
}

/* ---- step 1: prepare ---- */

static bool holds_domain(const struct session *set, const struct domain_id *domain)
{
    if (set->sm.state >= SESSION_JOURNALING && set->sm.state != SESSION_ABORTING)
        return false;
    for (size_t i = 0; i < set->n_parts; i++)
        if (strcmp(set->parts[i].domain.text, domain->text) == 0)
            return true;
    return false;
}

static struct err *check_free(const struct sessions *s, const struct session_event *ev)
{
    for (size_t i = 0; i < ev->n_parts; i++) {
        const struct domain_id *domain = &ev->parts[i].domain;
        TRY(fence_check(&s->fence, domain, &ev->token));
        for (size_t k = 0; k < s->n_sets; k++)
            if (holds_domain(s->sets[k], domain))
                return err_new(
                    ERR_CONFLICT,
                    "domain '%s' is in use by set '%s': try again when that run "
                    "is over",
                    domain->text, s->sets[k]->set.text);
    }
    return NULL;
}

static void prepare_new(struct sessions *s, const struct session_event *ev,
                        struct session_acts *out)
{
    struct err *e = fence_check_incarnation(&s->fence, &ev->token);
    if (!e)
        e = check_free(s, ev);
    if (!e)
        e = session_check_order(&s->node, ev->parts, ev->n_parts);
    struct session *set = e ? NULL : add(s, ev, SESSION_NEW);
    if (!e && !set)
        e = err_new(ERR_LIMIT, "%d sets are open on this node", SESSION_MAX_SETS);
    if (e) {
        refuse(ev, e, out);
        return;
    }
    set->hold_limit_ms = ev->hold_limit_ms;
    set->freeze_timeout_ms = ev->freeze_timeout_ms;
    set->rehearsal = ev->rehearsal;
    set->relaxed = ev->relaxed;
    set->parts = mem_dup(ev->parts, ev->n_parts * sizeof *ev->parts);
    set->n_parts = ev->n_parts;
    raise_token(s, set, &ev->token);
    wait_for(set, ev, out);
    journal(s, set, out);
}

static void on_prepare(struct sessions *s, const struct session_event *ev,
                       struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    if (!set) {
        prepare_new(s, ev, out);
        return;
    }
    struct err *e = check_owner(s, set, &ev->token);
    if (!e && is_undone_state(set))
        e = over(set);
    if (e) {
        refuse(ev, e, out);
        return;
    }
    wait_for(set, ev, out);
    if (set->sm.state >= SESSION_PREPARED)
        answer(set, NULL, out);
}

/* The set goes on without what cannot take part: all that follows is about the others. */
static void refuse_part(struct session *set, size_t i)
{
    set->refused = mem_resize(set->refused, set->n_refused + 1, sizeof *set->refused);
    set->refused[set->n_refused++] = set->parts[i];
    memmove(&set->parts[i], &set->parts[i + 1],
            (set->n_parts - i - 1) * sizeof *set->parts);
    set->n_parts--;
}

static struct err *refuse_parts(struct session *set)
{
    for (size_t i = set->n_parts; i-- > 0;)
        if (set->parts[i].error[0] && set->relaxed && set->n_parts > 1)
            refuse_part(set, i);
    for (size_t i = 0; i < set->n_parts; i++)
        if (set->parts[i].error[0])
            return err_new(ERR_CONFLICT, "partition '%s': %s", set->parts[i].part.text,
                           set->parts[i].error);
    return NULL;
}

static void on_armed(struct sessions *s, const struct session_event *ev,
                     struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    if (!set || set->sm.state != SESSION_ARMING)
        return;
    AUTO(err) struct err *e = NULL;
    if (ev->err)
        e = err_new(ev->err->kind, "%s", ev->err->msg);
    for (size_t i = 0; !e && i < ev->n_parts && i < set->n_parts; i++) {
        set->parts[i].predicted_pause_ms = ev->parts[i].predicted_pause_ms;
        set->parts[i].flush_ms = ev->parts[i].flush_ms;
        memcpy(set->parts[i].error, ev->parts[i].error, sizeof set->parts[i].error);
    }
    if (!e)
        e = refuse_parts(set);
    if (!e) {
        sm_move(&set->sm, SESSION_PREPARED);
        answer(set, NULL, out);
        return;
    }
    undo_with(s, set, e, out);
    answer(set, STEAL(e), out);
}

/* ---- step 2: freeze ---- */

static void note_times(struct session *set, const struct session_event *ev)
{
    for (size_t i = 0; i < set->n_parts; i++) {
        struct session_part *mine = &set->parts[i];
        for (size_t k = 0; k < ev->n_parts; k++) {
            const struct session_part *said = &ev->parts[k];
            if (strcmp(mine->part.text, said->part.text) != 0)
                continue;
            mine->frozen_at_ns = said->frozen_at_ns;
            mine->thawed_at_ns = said->thawed_at_ns;
        }
    }
}

/* I7: the recorded answer, never a second freeze. Who waits for something else goes on
 * waiting. */
static void repeat_answer(struct session *set, const struct session_event *ev,
                          struct session_acts *out)
{
    act(out, (struct session_act){.kind = SESSION_ACT_REPLY,
                                  .set = set,
                                  .call = ev->call,
                                  .call_kind = ev->kind,
                                  .wave = ev->wave});
}

/* PROTOCOL.md step 2.2: the journal has named the set since Prepare, and a restart undoes
 * whatever it finds below CAPTURED. So no write to a disk lies between here and the thaw:
 * others may stand still already. */
static void on_freeze(struct sessions *s, const struct session_event *ev,
                      struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    struct err *e = NULL;
    if (!set)
        e = err_new(ERR_CONFLICT, "set '%s' was never prepared on this node",
                    ev->set.text);
    else
        e = check_owner(s, set, &ev->token);
    if (!e && is_undone_state(set))
        e = over(set);
    if (!e && set->sm.state < SESSION_PREPARED)
        e = err_new(ERR_CONFLICT, "set '%s' is still being prepared", ev->set.text);
    if (!e)
        e = session_check_turn(set, ev->wave);
    if (e) {
        refuse(ev, e, out);
        return;
    }
    if (session_wave_stands(set, ev->wave)) {
        repeat_answer(set, ev, out);
        return;
    }
    wait_for(set, ev, out);
    if (set->sm.state == SESSION_FREEZING)
        return;
    set->wave = ev->wave;
    sm_move(&set->sm, SESSION_FREEZING);
    ask_guard(set, SESSION_ACT_FREEZE, out);
}

static void on_frozen(struct sessions *s, const struct session_event *ev,
                      struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    if (!set || set->sm.state != SESSION_FREEZING)
        return;
    if (ev->err) {
        undo_with(s, set, ev->err, out);
        answer(set, err_new(ev->err->kind, "%s", set->error), out);
        return;
    }
    size_t n = set->n_epochs + ev->n_epochs;
    set->epochs = mem_resize(set->epochs, n, sizeof *set->epochs);
    memcpy(&set->epochs[set->n_epochs], ev->epochs, ev->n_epochs * sizeof *ev->epochs);
    set->n_epochs = n;
    note_times(set, ev);
    sm_move(&set->sm, SESSION_FROZEN);
    answer(set, NULL, out);
}

/* ---- step 3: commit ---- */

static void begin_commit(struct session *set, const struct session_event *ev,
                         struct session_acts *out)
{
    set->all_epochs = mem_dup(ev->epochs, ev->n_epochs * sizeof *ev->epochs);
    set->n_all_epochs = ev->n_epochs;
    cut_sort(set->all_epochs, set->n_all_epochs);
    set->cut_unix_ms = ev->cut_unix_ms;
    sm_move(&set->sm, SESSION_COMMITTING);
    ask_guard(set, SESSION_ACT_COMMIT, out);
}

static void on_commit(struct sessions *s, const struct session_event *ev,
                      struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    struct err *e = NULL;
    if (!set)
        e = err_new(ERR_CONFLICT, "set '%s' was never frozen on this node", ev->set.text);
    else
        e = check_owner(s, set, &ev->token);
    if (!e && is_undone_state(set))
        e = over(set);
    if (!e)
        e = session_check_commit(set, ev->epochs, ev->n_epochs);
    if (e) {
        refuse(ev, e, out);
        return;
    }
    wait_for(set, ev, out);
    if (set->sm.state == SESSION_FROZEN)
        begin_commit(set, ev, out);
    else if (set->sm.state == SESSION_CAPTURED)
        answer(set, NULL, out);
}

static void on_committed(struct sessions *s, const struct session_event *ev,
                         struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    if (!set || set->sm.state != SESSION_COMMITTING)
        return;
    if (ev->err) {
        undo_with(s, set, ev->err, out);
        answer(set, err_new(ev->err->kind, "%s", set->error), out);
        return;
    }
    assert(ev->n_proofs == set->n_parts);
    set->proofs = mem_dup(ev->proofs, ev->n_proofs * sizeof *ev->proofs);
    set->n_proofs = ev->n_proofs;
    for (size_t i = 0; i < set->n_proofs; i++) {
        struct proof *p = &set->proofs[i];
        p->node = s->node;
        p->token = set->token;
        p->cut_unix_ms = set->cut_unix_ms;
        cut_digest(&set->set, set->all_epochs, set->n_all_epochs, &p->epochs);
    }
    sm_move(&set->sm, SESSION_JOURNALING);
    journal(s, set, out);
}

/* ---- steps 5 and 6: abort, inspect ---- */

/* A set this node never heard of gets an entry all the same: it refuses a Prepare of the
 * old coordinator that is still under way. */
static struct session *find_or_fence(struct sessions *s, const struct session_event *ev,
                                     struct err **e)
{
    struct session *set = sessions_find(s, &ev->set);
    if (set) {
        *e = check_token(s, set, &ev->token);
        return set;
    }
    *e = fence_check_incarnation(&s->fence, &ev->token);
    if (*e)
        return NULL;
    set = add(s, ev, SESSION_ABORTED);
    if (!set)
        *e = err_new(ERR_LIMIT, "%d sets are open on this node", SESSION_MAX_SETS);
    else
        snprintf(set->error, sizeof set->error, "it was not prepared on this node");
    return set;
}

static void on_abort(struct sessions *s, const struct session_event *ev,
                     struct session_acts *out)
{
    struct err *e = NULL;
    struct session *set = find_or_fence(s, ev, &e);
    if (e) {
        refuse(ev, e, out);
        return;
    }
    raise_token(s, set, &ev->token);
    wait_for(set, ev, out);
    if (is_undone_state(set))
        journal(s, set, out);
    else
        undo(s, set, ev->reason ? ev->reason : "", out);
}

static void on_inspect(struct sessions *s, const struct session_event *ev,
                       struct session_acts *out)
{
    struct err *e = NULL;
    struct session *set = find_or_fence(s, ev, &e);
    if (e) {
        refuse(ev, e, out);
        return;
    }
    /* A newer coordinator may use captures that are promised, nothing less: what the old
     * one began is ended now, lest its requests act under the new token. */
    bool newer = token_compare(&ev->token, &set->token) == TOKEN_NEWER;
    raise_token(s, set, &ev->token);
    wait_for(set, ev, out);
    if (newer && set->sm.state <= SESSION_COMMITTING)
        undo(s, set, "another coordinator took over before the capture", out);
    else
        journal(s, set, out);
}

/* ---- what the guardian and the journal say ---- */

static void on_undone(struct sessions *s, const struct session_event *ev,
                      struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    if (!set || set->sm.state != SESSION_ABORTING)
        return;
    if (ev->err) {
        ask_guard(set, SESSION_ACT_UNDO, out); /* the shell spaces repetitions */
        return;
    }
    note_times(set, ev);
    for (size_t i = 0; i < set->n_parts; i++) {
        struct session_part *p = &set->parts[i];
        /* Whoever answered as a guardian has thawed what an earlier one left. */
        p->thawed_by_then = p->frozen_at_ns != 0 && p->thawed_at_ns == 0;
        if (p->thawed_by_then)
            p->thawed_at_ns = ev->now_ns;
    }
    sm_move(&set->sm, SESSION_ABORTED);
    journal(s, set, out);
}

static void on_durable(struct session *set, struct session_acts *out)
{
    bool asked =
        set->call_kind == SESSION_EV_INSPECT || set->call_kind == SESSION_EV_ABORT;
    switch (set->sm.state) {
    case SESSION_NEW:
        sm_move(&set->sm, SESSION_ARMING);
        ask_guard(set, SESSION_ACT_ARM, out);
        break;
    case SESSION_JOURNALING:
        sm_move(&set->sm, SESSION_CAPTURED);
        answer(set, NULL, out);
        return;
    case SESSION_ABORTING:
        if (!set->undo_asked) {
            set->undo_asked = true;
            ask_guard(set, SESSION_ACT_UNDO, out);
        }
        if (set->call_kind == SESSION_EV_ABORT)
            return; /* answered when it is undone */
        break;
    default:
        break;
    }
    if (asked)
        answer(set, NULL, out);
}

static void on_journaled(struct sessions *s, const struct session_event *ev,
                         struct session_acts *out)
{
    for (size_t i = 0; i < s->n_sets; i++) {
        struct session *set = s->sets[i];
        if (set->journal_seq == 0 || set->journal_seq > ev->seq)
            continue;
        set->journal_seq = 0;
        on_durable(set, out);
    }
}

static void on_guard_lost(struct sessions *s, struct session_acts *out)
{
    for (size_t i = 0; i < s->n_sets; i++) {
        struct session *set = s->sets[i];
        if (set->sm.state == SESSION_ABORTING && set->undo_asked)
            ask_guard(set, SESSION_ACT_UNDO, out); /* its answer was lost with it */
        if (set->sm.state < SESSION_ARMING || set->sm.state > SESSION_COMMITTING)
            continue;
        undo(s, set, "the guardian went away and has thawed everything", out);
        answer(set, err_new(ERR_CONFLICT, "%s", set->error), out);
    }
}

void sessions_restarted(struct sessions *s, struct session_acts *out)
{
    clear_acts(out);
    for (size_t i = 0; i < s->n_sets; i++) {
        struct session *set = s->sets[i];
        if (set->sm.state == SESSION_ABORTING) {
            set->undo_asked = true;
            ask_guard(set, SESSION_ACT_UNDO, out);
        } else if (set->sm.state <= SESSION_COMMITTING) {
            undo(s, set, "the agent restarted during the round", out);
        }
    }
    sessions_check(s);
}

static void on_verdict(struct sessions *s, const struct session_event *ev,
                       struct session_acts *out)
{
    struct session *set = sessions_find(s, &ev->set);
    if (!set || is_undone_state(set))
        return;
    undo(s, set, "the record says ABORTED", out);
    answer(set, over(set), out);
}

static void on_release(struct sessions *s, const struct session_event *ev,
                       struct session_acts *out)
{
    size_t i = position(s, &ev->set);
    if (i == s->n_sets || s->sets[i]->sm.state != SESSION_CAPTURED)
        return;
    forget(s, i);
    act(out, (struct session_act){.kind = SESSION_ACT_JOURNAL, .seq = ++s->journal_seq});
}

void sessions_step(struct sessions *s, const struct session_event *ev,
                   struct session_acts *out)
{
    clear_acts(out);
    switch (ev->kind) {
    case SESSION_EV_PREPARE:
        on_prepare(s, ev, out);
        break;
    case SESSION_EV_FREEZE:
        on_freeze(s, ev, out);
        break;
    case SESSION_EV_COMMIT:
        on_commit(s, ev, out);
        break;
    case SESSION_EV_ABORT:
        on_abort(s, ev, out);
        break;
    case SESSION_EV_INSPECT:
        on_inspect(s, ev, out);
        break;
    case SESSION_EV_JOURNALED:
        on_journaled(s, ev, out);
        break;
    case SESSION_EV_ARMED:
        on_armed(s, ev, out);
        break;
    case SESSION_EV_FROZEN:
        on_frozen(s, ev, out);
        break;
    case SESSION_EV_COMMITTED:
        on_committed(s, ev, out);
        break;
    case SESSION_EV_UNDONE:
        on_undone(s, ev, out);
        break;
    case SESSION_EV_GUARD_LOST:
        on_guard_lost(s, out);
        break;
    case SESSION_EV_VERDICT:
        on_verdict(s, ev, out);
        break;
    case SESSION_EV_RELEASE:
        on_release(s, ev, out);
        break;
    }
    sessions_check(s);
}

void sessions_check(const struct sessions *s)
{
    for (size_t i = 0; i < s->n_sets; i++) {
        const struct session *set = s->sets[i];
        bool captured =
            set->sm.state == SESSION_CAPTURED || set->sm.state == SESSION_JOURNALING;
        assert(!captured || set->n_proofs == set->n_parts);
        assert(set->sm.state != SESSION_FROZEN || set->n_epochs > 0);
        assert(set->journal_seq <= s->journal_seq);
    }
}
