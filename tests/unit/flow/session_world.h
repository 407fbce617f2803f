/* What tests of the sessions share: one agent whose guardian and journal answer by hand.
 */
#ifndef TESTS_UNIT_FLOW_SESSION_WORLD_H
#define TESTS_UNIT_FLOW_SESSION_WORLD_H

#include <string.h>

#include "agent/flow/session.h"
#include "common/base/mem.h"
#include "tests/unit/cut.h"
#include "tests/unit/suite.h"

/* Node 0 of a sound cut. The guardian and the journal answer only when a test says so. */
struct world {
    struct sessions s;
    struct session_acts acts;
    struct cut cut;
    struct session_part part;
    uint64_t call;
};

static inline void begin(struct world *w)
{
    *w = (struct world){.call = 100};
    cut_make(&w->cut);
    w->part = (struct session_part){.domain = w->cut.epochs[0].domain, .part = {"db"}};
    session_acts_init(&w->acts);
    sessions_init(&w->s, &w->cut.proofs[0].node);
}

static inline void end(struct world *w)
{
    session_acts_fini(&w->acts);
    sessions_fini(&w->s);
}

static inline const struct session_act *find_act(const struct world *w,
                                                 enum session_act_kind kind)
{
    for (size_t i = 0; i < w->acts.n; i++)
        if (w->acts.items[i].kind == kind)
            return &w->acts.items[i];
    return NULL;
}

static inline bool asks(const struct world *w, enum session_act_kind kind)
{
    return find_act(w, kind) != NULL;
}

/* Feeds a request with everything that any of them needs; the token may be replaced. */
static inline void request_as(struct world *w, enum session_event_kind kind,
                              const char *set, const struct token *token)
{
    struct session_event ev = {.kind = kind,
                               .call = ++w->call,
                               .token = *token,
                               .parts = &w->part,
                               .n_parts = 1,
                               .hold_limit_ms = 10000,
                               .freeze_timeout_ms = 5000,
                               .epochs = w->cut.epochs,
                               .n_epochs = CUT_NODES,
                               .cut_unix_ms = 77,
                               .reason = "told to"};
    strcpy(ev.set.text, set);
    sessions_step(&w->s, &ev, &w->acts);
}

static inline void request(struct world *w, enum session_event_kind kind)
{
    request_as(w, kind, "s1", &w->cut.token);
}

/* All of the journal is durable. */
static inline void journaled(struct world *w)
{
    sessions_step(
        &w->s,
        &(struct session_event){.kind = SESSION_EV_JOURNALED, .seq = w->s.journal_seq},
        &w->acts);
}

static inline void armed(struct world *w, const char *error)
{
    struct session_part part = w->part;
    part.predicted_pause_ms = 12;
    strcpy(part.error, error);
    sessions_step(
        &w->s,
        &(struct session_event){
            .kind = SESSION_EV_ARMED, .set = w->cut.set, .parts = &part, .n_parts = 1},
        &w->acts);
}

static inline void frozen(struct world *w)
{
    sessions_step(&w->s,
                  &(struct session_event){.kind = SESSION_EV_FROZEN,
                                          .set = w->cut.set,
                                          .epochs = &w->cut.epochs[0],
                                          .n_epochs = 1},
                  &w->acts);
}

static inline void committed(struct world *w)
{
    struct proof raw = w->cut.proofs[0]; /* the guardian knows nothing of other nodes */
    memset(&raw.epochs, 0, sizeof raw.epochs);
    sessions_step(&w->s,
                  &(struct session_event){.kind = SESSION_EV_COMMITTED,
                                          .set = w->cut.set,
                                          .proofs = &raw,
                                          .n_proofs = 1},
                  &w->acts);
}

static inline void undone(struct world *w, const struct err *err)
{
    sessions_step(
        &w->s,
        &(struct session_event){.kind = SESSION_EV_UNDONE, .set = w->cut.set, .err = err},
        &w->acts);
}

static inline enum session_state state(const struct world *w)
{
    struct session *set = sessions_find(&w->s, &w->cut.set);
    ck_assert_ptr_nonnull(set);
    return (enum session_state)set->sm.state;
}

/* The newest call was answered with yes in the last step. */
static inline void said_yes(const struct world *w)
{
    for (size_t i = 0; i < w->acts.n; i++) {
        const struct session_act *a = &w->acts.items[i];
        if (a->kind == SESSION_ACT_REPLY && a->call == w->call) {
            ck_assert_msg(!a->err, "%s", a->err ? a->err->msg : "");
            return;
        }
    }
    ck_abort_msg("no answer");
}

/* …with an error of this kind whose text contains `says`. */
static inline void said_no(const struct world *w, enum err_kind kind, const char *says)
{
    for (size_t i = 0; i < w->acts.n; i++) {
        const struct session_act *a = &w->acts.items[i];
        if (a->kind != SESSION_ACT_REPLY || a->call != w->call)
            continue;
        ck_assert_ptr_nonnull(a->err);
        AUTO(str) char *text = err_text(a->err);
        ck_assert_str_eq(err_kind_name(a->err->kind), err_kind_name(kind));
        ck_assert_msg(strstr(text, says) != NULL, "'%s' is not in '%s'", says, text);
        return;
    }
    ck_abort_msg("no answer");
}

/* Brings the set to a state by the way every set goes. */
static inline void at(struct world *w, enum session_state want)
{
    begin(w);
    request(w, SESSION_EV_PREPARE);
    if (want >= SESSION_ARMING)
        journaled(w);
    if (want >= SESSION_PREPARED)
        armed(w, "");
    if (want >= SESSION_FREEZING) {
        request(w, SESSION_EV_FREEZE);
        journaled(w);
    }
    if (want >= SESSION_FROZEN)
        frozen(w);
    if (want >= SESSION_COMMITTING)
        request(w, SESSION_EV_COMMIT);
    if (want >= SESSION_JOURNALING)
        committed(w);
    if (want >= SESSION_CAPTURED)
        journaled(w);
    if (want >= SESSION_ABORTING)
        request(w, SESSION_EV_ABORT);
    if (want >= SESSION_ABORTED) {
        journaled(w);
        undone(w, NULL);
    }
    ck_assert_int_eq(state(w), want);
}

#endif
