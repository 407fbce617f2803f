/* Stage 3 of a set's life: decides one two-phase round, from the first stored record to
 * the one verdict (I1, I4), and the take-over of a round that another coordinator began.
 * No I/O, no clock. Loop thread only. PROTOCOL.md has the numbered steps that the code
 * quotes.
 *
 * A strict round ends with all nodes captured or none. In a relaxed one a node that fails
 * or is silent at the end of a phase is left out, once and for all: it is told to abort,
 * nothing it says later counts, and the others make the cut. With waves, Freeze goes to
 * the nodes of a wave when all of the one before have answered (or are left out); a node
 * with partitions in several waves is asked once for each. */
#ifndef COORDINATOR_FLOW_ROUND_H
#define COORDINATOR_FLOW_ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/sm.h"
#include "common/model/cut.h"

enum {
    ROUND_RETRY_MS = 250,       /* between attempts at a call that may be repeated */
    ROUND_STORE_RETRY_MS = 500, /* between attempts at a write that was not done */
    ROUND_INSPECT_TIMEOUT_MS = 15000, /* take-over gives agents this long to answer */
    ROUND_ABORT_TIMEOUT_MS = 30000,   /* then reconciliation delivers the abort */
    ROUND_COMMIT_SLACK_MS = 2000, /* for the answers to Commit to arrive after the hold */
    ROUND_ERROR_BYTES = 512,
    ROUND_MAX_WAVES = 16,
};

enum round_state {
    ROUND_PLANNED,
    ROUND_OPENING,    /* storing PREPARING: nothing has been sent yet */
    ROUND_INSPECTING, /* take-over: asking every agent what it has */
    ROUND_PREPARING,
    ROUND_FREEZING,
    ROUND_CAPTURING,
    ROUND_RECORDING, /* all captured: storing the commit point */
    ROUND_ABORTING,  /* telling every agent, storing ABORTED */
    ROUND_CAPTURED,
    ROUND_ABORTED,
    ROUND_LOST, /* another coordinator holds the lock: it decides, not we */
};

enum round_call {
    CALL_NONE,
    CALL_PREPARE,
    CALL_FREEZE,
    CALL_COMMIT,
    CALL_ABORT,
    CALL_INSPECT,
};

/* What one agent says on Inspect; numbers as in agent.proto. */
enum session_view {
    VIEW_UNKNOWN,
    VIEW_PREPARED,
    VIEW_FROZEN,
    VIEW_CAPTURED,
    VIEW_ABORTED,
};

enum round_event_kind {
    ROUND_EV_START,   /* the lock is held: begin a new set */
    ROUND_EV_RECOVER, /* the lock is held: carry on a set stored as PREPARING */
    ROUND_EV_REPLY,   /* `node` answered `call` */
    ROUND_EV_STORED,  /* the outcome of the last STORE act */
    ROUND_EV_READ,    /* the outcome of READ_BACK */
    ROUND_EV_TIMER,   /* now_ms reached what the last step asked for; early is harmless */
    ROUND_EV_CANCEL,  /* an operator's wish; too late once RECORDING has begun */
    ROUND_EV_LOCK_LOST, /* the lease is gone or may be */
};

enum round_stored {
    STORED_OK,
    STORED_CONFLICT, /* a compare failed: somebody else holds the lock or wrote the set */
    STORED_UNKNOWN,  /* it may have been done: read back */
    STORED_NOT_DONE, /* certainly not done: may be tried again */
};

enum round_found {
    FOUND_NOTHING,
    FOUND_PREPARING, /* with our lock still held */
    FOUND_CAPTURED,
    FOUND_ABORTED,
    FOUND_LOST,   /* our lock is gone */
    FOUND_NO_IDEA /* the read failed: ask again */
};

/* Borrowed by round_step for the call only. */
struct round_event {
    enum round_event_kind kind;
    int64_t now_ms;  /* CLOCK_BOOTTIME; never goes backwards */
    int64_t unix_ms; /* wall clock, for records only */
    size_t node;     /* REPLY: index into the round's nodes */
    enum round_call call;
    size_t wave;                       /* reply to FREEZE: the one asked for */
    const struct err *err;             /* REPLY: NULL when the agent said yes */
    const struct domain_epoch *epochs; /* reply to FREEZE: its domains; INSPECT: all */
    size_t n_epochs;
    const struct proof *proofs; /* reply to COMMIT and INSPECT */
    size_t n_proofs;
    /* Reply to PREPARE: the pause that the node expects of its parts in each wave, and
     * as bits the waves of which it refuses all parts (but not of all its waves). */
    int64_t predicted_ms[ROUND_MAX_WAVES];
    uint16_t refused_waves;
    enum session_view view; /* reply to INSPECT */
    enum round_stored stored;
    enum round_found found;
    const char *reason; /* CANCEL, LOCK_LOST */
};

enum round_act_kind {
    ROUND_ACT_CALL,           /* send `call` to `node`; answer with REPLY exactly once */
    ROUND_ACT_STORE_OPEN,     /* create the record as PREPARING; answer with STORED */
    ROUND_ACT_STORE_CAPTURED, /* I4: one transaction comparing lock and record */
    ROUND_ACT_STORE_ABORTED,
    ROUND_ACT_READ_BACK, /* answer with READ */
    ROUND_ACT_TIMER,     /* call back with TIMER at at_ms (replaces the earlier one) */
    ROUND_ACT_FINISHED,  /* nothing further will be asked for */
};

struct round_act {
    enum round_act_kind kind;
    enum round_call call;
    size_t node;
    size_t wave; /* CALL of FREEZE */
    int64_t at_ms;
};

/* Rewritten by every step. Storage is the caller's: init once, fini at the end. */
struct round_acts {
    struct round_act *items;
    size_t n;
    size_t cap;
};
void round_acts_init(struct round_acts *a);
void round_acts_fini(struct round_acts *a);

struct round_conf {
    struct set_id set;
    struct token token;
    int64_t prepare_timeout_ms;
    int64_t freeze_timeout_ms;
    int64_t hold_limit_ms;
    size_t n_parts; /* strict: proofs needed, of every partition of the set */
    size_t n_nodes;
    bool rehearsal; /* ends by Abort once all are frozen, and stores nothing */
    bool relaxed;
    size_t n_waves;        /* 0 and 1: all freezes at once; at most ROUND_MAX_WAVES */
    const uint16_t *waves; /* of each node: bit i when it has parts in wave i; one at
                              least; borrowed for round_init; NULL: all are in 0 */
    const bool *required;  /* of each node: without it there is no relaxed set, either;
                              borrowed as well; NULL: none is */
};

/* One agent of the round. */
struct round_node {
    enum round_call call; /* outstanding, or to be repeated at retry_at_ms */
    bool waiting;         /* its answer is outstanding */
    bool done;            /* it answered this phase with yes */
    int64_t retry_at_ms;  /* 0: no repetition due */
    uint16_t waves;       /* bit i: it has something to freeze in wave i */
    size_t wave;          /* FREEZE: the last that it was asked for */
    int64_t predicted_ms[ROUND_MAX_WAVES];
    bool required;
    bool out;    /* relaxed: its parts are not in the cut, whatever it says from now on */
    char *error; /* why it is out; owned */
};

/* Invariants, checked by round_check:
 *  1 all done in PREPARING before FREEZING is entered, likewise FREEZING before CAPTURING
 *  2 proofs are complete and verified from RECORDING to CAPTURED
 *  3 no ABORT was sent in or after RECORDING (until the record says ABORTED), but to
 *    nodes that are out
 *  4 a node that is out is told to abort and nothing else; only a relaxed round has any,
 *    and of those it requires none in CAPTURING, RECORDING or CAPTURED
 *  5 while FREEZING, no node has been asked to freeze anything of a later wave, nor
 *    anything of a wave that it has no part in
 *  6 a rehearsal stores nothing, and never gets to CAPTURING */
struct round {
    struct sm sm;
    struct round_conf conf;
    struct round_node *nodes;    /* owned, conf.n_nodes */
    size_t *frozen;              /* owned: nodes by their first answer to FREEZE */
    size_t n_frozen;             /* at most conf.n_nodes */
    struct domain_epoch *epochs; /* owned, sorted once all are known */
    size_t n_epochs, cap_epochs;
    struct proof *proofs; /* owned */
    size_t n_proofs, cap_proofs;
    int64_t deadline_ms;    /* of the phase, or of the wave */
    int64_t freeze_from_ms; /* when the first Freeze was sent */
    size_t wave;            /* FREEZING: the one being frozen */
    int64_t cut_unix_ms;    /* when all were frozen */
    int64_t store_retry_at_ms;
    bool storing;    /* the outcome of a store or read back is outstanding */
    bool stored;     /* ABORTING: the record says ABORTED, or there is none */
    bool taken_over; /* began with RECOVER */
    bool rehearsed;  /* a rehearsal: all were frozen */
    char error[ROUND_ERROR_BYTES]; /* why it aborts, for the record; empty if it does not
                                    */
};

void round_init(struct round *r, const struct round_conf *conf);
void round_fini(struct round *r);
/* Feeds one event. Rewrites *out completely; the caller performs it in order. An event
 * that fits no outstanding call or store changes nothing. */
void round_step(struct round *r, const struct round_event *ev, struct round_acts *out);
bool round_is_final(const struct round *r);
/* Whether CANCEL ends in ABORTED, as the round stands now. */
bool round_can_cancel(const struct round *r);
/* Asserts the invariants. */
void round_check(const struct round *r);

#endif
