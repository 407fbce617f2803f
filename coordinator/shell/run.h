/* One round in the coordinator's shell: shared by runs.c (the round), run_lock.c (locks)
 * and run_calls.c (agents). Loop thread only. */
#ifndef COORDINATOR_SHELL_RUN_H
#define COORDINATOR_SHELL_RUN_H

#include "coordinator/flow/drill.h"
#include "coordinator/shell/coord.h"

struct run_node {
    char name[NAME_BYTES];
    size_t first, n; /* its parts are among these of the draft: see run_is_planned */
    bool told;       /* logged that it is out */
    /* What this coordinator has seen of it, for the record's order; CLOCK_BOOTTIME. */
    int64_t frozen_at_ns, captured_at_ns;
    Stillpoint__V1__Signer *signer; /* of its proofs; owned; NULL: none yet */
};

/* What is known of a part beside its draft. */
struct run_part {
    int64_t pause_us; /* by a round that ended by Abort; 0: none, or nobody knows */
    bool at_most;     /* it was no longer than that */
    size_t wave;      /* in which it freezes */
};

struct run {
    struct coord *coord;
    struct run *next;
    uint64_t serial; /* never used twice: answers find their run by it */
    struct set_id set;
    Stillpoint__V1__SetRecord *draft; /* owned: the record as last stored, or to be */
    char *actor;                      /* who caused it; owned */
    struct run_node *nodes;           /* owned */
    size_t n_nodes;
    struct run_part *parts; /* owned, one a part of the draft */
    size_t n_parts;         /* of the draft */
    char **part_errors; /* owned, as are its texts: of each part of the draft, what its
                           agent refused it for; NULL: nothing */
    struct domain_id *domains; /* owned: those locked besides the group */
    size_t n_domains;
    size_t n_locked;           /* of the domains, so far */
    int64_t commit_at_ns;      /* the first Commit was sent; 0: not by this coordinator */
    struct rpc_packed *commit; /* owned: what it says; NULL until then */
    bool recovering;
    const struct drill *drill; /* NULL: none, or it was caused */
    bool withheld;             /* Commits wait for drill_timer */
    struct loop_timer drill_timer;
    bool rehearsal; /* no record: the draft lives and ends with the run */
    int64_t lock_revision;
    int64_t lock_until_ms; /* give up then */
    bool started;          /* round and acts are initialised */
    struct round round;
    struct round_acts acts;
    struct loop_timer timer;
    run_begun_fn *begun; /* NULL once told; of a rehearsal: at its end */
    void *begun_arg;
};

struct run *run_find(const struct coord *c, uint64_t serial);
/* The round of this set, or NULL. */
struct run *run_of(const struct coord *c, const char *set);
/* Whether the part takes part in the round: missing ones were left out of the plan. */
bool run_is_planned(const Stillpoint__V1__Part *p);
/* Whether there is no set, even a relaxed one, without this part. */
bool run_is_required(const struct run *r, const Stillpoint__V1__Part *p);
void run_feed(struct run *r, struct round_event *ev);
/* Ends a run that has not started: tells `e`, which is taken over, to whoever waits. */
void run_refuse(struct run *r, struct err *e);

/* run_begin.c: what a run of the group would begin with now; the errors of plan_make, and
 * CONFLICT when another group's run is in the way. *out is the caller's, also behind an
 * error. */
struct err *run_plan(const struct coord *c, const Stillpoint__V1__GroupSpec *s,
                     struct plan **out) MUST_USE;

/* run_lock.c: PROTOCOL.md step 0.2; ends in run_locked or run_refuse. */
void run_lock(struct run *r);
void run_locked(struct run *r);
void run_unlock(struct coord *c, const char *group, int64_t revision,
                const struct domain_id *domains, size_t n);

/* run_calls.c: one call to one agent; its answer is fed to the round. */
void run_call(struct run *r, const struct round_act *a);

/* run_drill.c: true when the round's drill has taken the act over: it is performed later.
 */
bool run_drill(struct run *r, const struct round_act *a);

#endif
