/* What one agent owes the coordinators: which token it obeys (I3), what it has promised
 * for each set, and the recorded answers that make every request repeatable (I7). No I/O,
 * no clock. Loop thread only. PROTOCOL.md has the numbered steps that the code quotes.
 *
 * Flow of one request: token check → journal → guardian → journal → answer; between the
 * Freeze and the thaw nothing is journaled. An answer that relies on a journal entry
 * leaves with the event that says the entry is durable. */
#ifndef AGENT_FLOW_SESSION_H
#define AGENT_FLOW_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/flow/fence.h"
#include "common/base/sm.h"
#include "common/model/cut.h"

enum {
    SESSION_MAX_SETS = 64,   /* sets with something captured or under way on one node */
    SESSION_MAX_PARTS = 256, /* partitions of one set on one node */
};

/* Of one set on this node. */
enum session_state {
    SESSION_NEW,    /* journaling the token */
    SESSION_ARMING, /* the guardian checks, flushes and opens what it will need */
    SESSION_PREPARED,
    SESSION_FREEZING, /* no entry of its own: a restart undoes what Prepare journaled */
    SESSION_FROZEN,   /* all that it was asked to: of several waves, those so far */
    SESSION_COMMITTING,
    SESSION_JOURNALING, /* captured; the proofs are not durable yet */
    SESSION_CAPTURED,
    SESSION_ABORTING, /* thawing, removing captures */
    SESSION_ABORTED,
};

/* One partition of a set on this node. */
struct session_part {
    struct part_id part;
    struct domain_id domain;
    size_t wave;                /* in which its domain freezes, from 0 */
    int64_t predicted_pause_ms; /* by the guardian, on arming */
    int64_t flush_ms;           /* of it: until it is frozen */
    int64_t frozen_at_ns;       /* CLOCK_BOOTTIME; 0: it was not, or nobody knows */
    int64_t thawed_at_ns;       /* of an aborted set */
    bool thawed_by_then;        /* the guardian forgot when; not later than that */
    char error[256];            /* why it cannot be armed; empty if it can */
};

/* One set on this node: everything the journal keeps of it. */
struct session {
    struct sm sm;
    struct set_id set;
    struct token token; /* the highest that spoke of this set */
    int64_t hold_limit_ms;
    int64_t freeze_timeout_ms;
    bool rehearsal; /* it has no record, and is never captured */
    bool relaxed;   /* partitions that cannot be armed are refused, the others go on */
    struct session_part *parts; /* owned */
    size_t n_parts;
    struct session_part *refused; /* owned: with their errors; not journaled, since what
                                     is only prepared is undone by a restart */
    size_t n_refused;
    struct domain_epoch *epochs; /* owned: of this node, of what is frozen */
    size_t n_epochs;
    size_t wave; /* from FREEZING on: the last that the guardian was asked to freeze */
    struct domain_epoch *all_epochs; /* owned: of the whole set, as Commit named them */
    size_t n_all_epochs;
    struct proof *proofs; /* owned */
    size_t n_proofs;
    int64_t cut_unix_ms;
    char error[512];     /* why it aborted; empty if it did not */
    uint64_t call;       /* the request waiting for an answer; 0: none */
    int call_kind;       /* enum session_event_kind of it */
    int64_t journal_seq; /* of its newest JOURNAL act that is not durable; 0: none */
    bool undo_asked;     /* the promise was withdrawn durably and the guardian asked */
};

/* All of one agent. */
struct sessions {
    struct session *sets[SESSION_MAX_SETS]; /* owned, in order of arrival */
    size_t n_sets;
    struct fence fence;
    struct node_id node;   /* of this agent; named in proofs */
    int64_t journal_seq;   /* of the newest JOURNAL act */
    sm_observer *observer; /* given to every set's machine */
    void *observer_ctx;
};

enum session_event_kind {
    SESSION_EV_PREPARE,
    SESSION_EV_FREEZE,
    SESSION_EV_COMMIT,
    SESSION_EV_ABORT,
    SESSION_EV_INSPECT,
    SESSION_EV_JOURNALED,  /* all JOURNAL acts up to `seq` are durable */
    SESSION_EV_ARMED,      /* guardian: `parts` with their errors */
    SESSION_EV_FROZEN,     /* guardian: the wave's `epochs`, `parts` with times, or err */
    SESSION_EV_COMMITTED,  /* guardian: `proofs`, or err */
    SESSION_EV_UNDONE,     /* guardian: thawed, captures removed, or err; `parts` with the
                              times that it still knows */
    SESSION_EV_GUARD_LOST, /* the guardian is gone: nothing held can be trusted */
    SESSION_EV_VERDICT,    /* the record of `set` says ABORTED. No token: the verdict is
                              final    (I4), and a newer run may have raised the domain's
                              since
                            */
    SESSION_EV_RELEASE, /* the captures were removed after the upload: forget the set */
};

/* Borrowed for the call only. */
struct session_event {
    enum session_event_kind kind;
    uint64_t call; /* requests: not 0; its answer is a REPLY act naming it */
    struct set_id set;
    struct token token;
    const struct session_part *parts; /* PREPARE: names, domains, waves; ARMED: results */
    size_t n_parts;
    size_t wave;  /* FREEZE */
    bool relaxed; /* PREPARE */
    int64_t hold_limit_ms;
    int64_t freeze_timeout_ms;
    bool rehearsal;                    /* PREPARE */
    const struct domain_epoch *epochs; /* COMMIT: of all members; FROZEN: of this node */
    size_t n_epochs;
    int64_t cut_unix_ms;        /* COMMIT */
    const struct proof *proofs; /* COMMITTED */
    size_t n_proofs;
    const struct err *err;
    const char *reason; /* ABORT */
    int64_t now_ns;     /* UNDONE: CLOCK_BOOTTIME */
    int64_t seq;        /* JOURNALED */
};

enum session_act_kind {
    SESSION_ACT_JOURNAL, /* make all sets and the fence durable as they are now; answer
                            with JOURNALED and `seq` (or that of a later one) */
    SESSION_ACT_ARM,     /* guardian; answer with ARMED */
    SESSION_ACT_FREEZE,  /* guardian: the parts of set->wave; answer with FROZEN */
    SESSION_ACT_COMMIT,  /* guardian; answer with COMMITTED */
    SESSION_ACT_UNDO,    /* guardian: thaw, remove captures; answer with UNDONE */
    SESSION_ACT_REPLY,   /* to `call` of `call_kind`, from the fields of `set` or `err` */
};

struct session_act {
    enum session_act_kind kind;
    struct session
        *set;    /* borrowed until the next step; NULL with JOURNAL, some errors */
    int64_t seq; /* JOURNAL */
    uint64_t call;
    enum session_event_kind call_kind;
    size_t wave;     /* REPLY to FREEZE: the one whose epochs are asked for */
    struct err *err; /* REPLY: owned by the act list; NULL: yes */
};

struct session_acts {
    struct session_act *items;
    size_t n;
    size_t cap;
};
void session_acts_init(struct session_acts *a);
void session_acts_fini(struct session_acts *a);

void sessions_init(struct sessions *s, const struct node_id *node);
void sessions_fini(struct sessions *s);
/* After a restart: takes over one journal entry (made by session_new and session_restore)
 * as it was last durable; the fence is filled by fence_raise. When all are loaded,
 * sessions_restarted tells what follows: a set that was frozen or arming when the process
 * died is undone. LIMIT when there are too many. */
struct err *sessions_load(struct sessions *s, struct session *entry) MUST_USE;
void sessions_restarted(struct sessions *s, struct session_acts *out);

/* Feeds one event. Rewrites *out completely; the caller performs it in order. */
void sessions_step(struct sessions *s, const struct session_event *ev,
                   struct session_acts *out);

/* Whether the epoch is of a domain that freezes in this wave. */
bool session_is_in_wave(const struct session *s, const struct domain_epoch *epoch,
                        size_t wave);
/* NULL when all of the set is frozen here, under this very token. */
struct err *sessions_check_frozen(const struct sessions *s, const struct set_id *set,
                                  const struct token *token) MUST_USE;
/* The set on this node, or NULL. Borrowed until the next step. */
struct session *sessions_find(const struct sessions *s, const struct set_id *set);
/* Asserts: no set's token is above its domains' journaled ones; captured sets have a
 * proof for each part; a waiting call has somebody who will answer it. */
void sessions_check(const struct sessions *s);

struct session *session_new(const struct set_id *set);
void session_free(struct session *s);
DEFINE_AUTO(session, struct session *, session_free);
/* Sets the state a journal entry names; JOURNALING becomes CAPTURED, since the entry is
 * what was being made durable. */
void session_restore(struct session *s, enum session_state state);

#endif
