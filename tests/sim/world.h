/* The simulated world: one virtual clock, one event at a time, faults drawn from a seed.
 * The cores (lead, round, session, hold) are the product's own; only what surrounds them
 * is a model: processes that crash and pause, a network that loses, doubles and delays,
 * an etcd with revisions, leases, compaction and unknown outcomes, kernels that stay
 * frozen.
 *
 *   sim.c scripted scenarios, seeds · world.c clock, processes · etcd.c · coord.c the
 *   coordinator's shell · node.c the agent's · guard.c keeper, doer, kernel · check.c
 * invariants */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "agent/flow/hold.h"
#include "agent/flow/session.h"
#include "common/base/rng.h"
#include "coordinator/flow/lead.h"
#include "coordinator/flow/round.h"

enum {
    SIM_COORDS = 2,
    SIM_NODES = 3,
    SIM_SETS = 16,
    SIM_HOLD_MS = 10000,
    SIM_FREEZE_TIMEOUT_MS = 5000,
    SIM_PREPARE_TIMEOUT_MS = 60000,
    SIM_CALL_TIMEOUT_MS = 2000, /* of one attempt at a call */
    SIM_ETCD_TIMEOUT_MS = 2000,
    SIM_RESTART_MS = 500, /* until a supervisor starts a dead process again */
    SEC = 1000,
};

struct world;
struct event;
typedef void event_fn(struct world *w, struct event *ev);

/* A process: its events are dropped when it dies and held back while it is stopped. */
struct proc {
    const char *name;
    bool alive;
    bool paused;
    unsigned generation;
};

struct event {
    int64_t at_ms;
    uint64_t seq;
    struct proc *proc; /* NULL: of the world itself */
    unsigned generation;
    event_fn *fn;
    void *owner;
    void *data; /* heap, freed by the world; may be NULL */
    uint64_t n;
    void (*drop)(void *data); /* frees what hangs on data when the world ends; or NULL */
};

/* ---- etcd ---- */

enum sim_set_state { SIM_ABSENT, SIM_PREPARING, SIM_CAPTURED, SIM_ABORTED };

struct sim_key {
    bool exists;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t lease; /* 0: none */
    int owner;     /* who wrote it last, a coordinator */
};

/* The record of one set. `history` keeps each state it ever had, for I4. */
struct sim_record {
    struct sim_key key;
    enum sim_set_state state;
    struct digest proofs; /* of the recorded proofs */
    int64_t token;
    bool was_captured, was_aborted;
};

struct sim_lease {
    int64_t id;
    int64_t expires_ms;
};

struct sim_etcd {
    struct proc proc;
    int64_t revision;
    int64_t compacted; /* revisions below are gone: watches from there are refused */
    struct sim_key leader;
    struct sim_key group_lock;
    struct sim_key domain_locks[SIM_NODES];
    struct sim_record sets[SIM_SETS];
    struct sim_lease leases[64];
    size_t n_leases;
    int64_t leader_gone_at; /* revision at which the leader key last vanished */
};

enum etcd_op {
    ETCD_GRANT,
    ETCD_KEEPALIVE,
    ETCD_REVOKE,
    ETCD_CAMPAIGN,
    ETCD_LOCK, /* group and domains, comparing the leader key */
    ETCD_UNLOCK,
    ETCD_OPEN,    /* compare lock and absence, store PREPARING */
    ETCD_CAPTURE, /* compare lock and revision */
    ETCD_ABORT,
    ETCD_READ, /* set and lock */
    ETCD_WATCH_LEADER,
};
struct etcd_request {
    enum etcd_op op;
    int set;
    int64_t lease;
    int64_t lock;         /* create_revision compared */
    int64_t leader;       /* leader key's create_revision compared */
    int64_t mod_revision; /* of the set, compared */
    struct digest proofs;
    int64_t revision; /* WATCH: from here */
    /* the answer */
    bool ok;      /* false: no answer came, the outcome is unknown */
    bool success; /* the compare held */
    int64_t result;
    int leader_name;
    bool compacted;
    struct sim_record record;
    int64_t sent_ms;
};
/* Sends; exactly one `done` comes back to the process, with the request as its data. */
void etcd_send(struct world *w, struct proc *from, void *owner,
               const struct etcd_request *req, event_fn *done);
void etcd_compact(struct world *w);

/* ---- coordinators ---- */

struct sim_call {
    uint64_t id;
    enum round_call call;
    size_t node;
    bool answered;
};
enum { SIM_CALLS = 256 };

struct sim_run {
    int set;
    bool active, recovering;
    bool locked;
    int64_t lock;         /* create_revision of the group's lock */
    int64_t mod_revision; /* of the set's record */
    bool started;         /* round is initialised */
    struct round round;
    struct round_acts acts;
    struct sim_call calls[SIM_CALLS];
    size_t n_calls;
};

struct sim_coord {
    struct proc proc;
    int index;
    struct lead lead;
    struct sim_run runs[SIM_SETS];
    int64_t leader_revision;
    int64_t watch_revision;
    int wanted; /* sets asked for and not begun */
};

/* ---- nodes ---- */

struct sim_hold {
    bool used;
    struct set_id set;
    struct hold hold;
};
enum { SIM_HOLDS = 8, SIM_CAPTURES = 64 };

/* What the kernel of the node knows: outlives every process. */
struct sim_kernel {
    bool frozen;
    int64_t frozen_at_ms;
    int64_t doomed_at_ms; /* when keeper and doer were both dead while frozen; 0: never */
};

struct sim_capture {
    bool exists;
    bool published;
    struct set_id set;
    int64_t frozen_from_ms; /* of the pause it was made in: ground truth; -1: none */
    int64_t thawed_ms;      /* end of that pause; 0: it lasts */
    int64_t at_ms;
};

struct sim_node {
    struct proc agent, keeper, doer;
    int index;
    struct node_id name;
    struct domain_id domain;
    struct sessions sessions;
    struct sessions durable; /* what a restart finds */
    struct sim_hold holds[SIM_HOLDS];
    struct sim_kernel kernel;
    bool journal_frozen; /* the keeper's journal on tmpfs names the domain */
    struct sim_capture captures[SIM_CAPTURES];
    enum hold_act_kind doing; /* the doer's newest work, and for which set */
    int doing_set;
    int64_t capture_ms;           /* how long a capture takes */
    int fail_captures;            /* so many captures fail */
    int freezes_of_set[SIM_SETS]; /* how often this set froze the kernel, for I7 */
    int64_t longest_pause_ms;
};

/* ---- faults ---- */

struct sim_faults {
    unsigned lose_permille;      /* of messages, each way */
    unsigned double_permille;    /* requests delivered twice */
    unsigned late_permille;      /* …or seconds late */
    unsigned etcd_lost_permille; /* requests or answers of etcd that vanish */
};

struct world {
    struct rng rng;
    uint64_t seed;
    int64_t now_ms;
    uint64_t seq;
    struct event *queue; /* binary heap by (at_ms, seq) */
    size_t n_events, cap_events;
    struct sim_faults faults;
    struct sim_etcd etcd;
    struct sim_coord coords[SIM_COORDS];
    struct sim_node nodes[SIM_NODES];
    bool cut[SIM_COORDS][SIM_NODES];
    uint64_t next_call;
    int n_sets;
    uint64_t trace; /* digest of every event: the same seed gives the same */
    /* Hook of a scenario: called before an agent gets a request; true: swallow it. */
    bool (*swallow)(struct world *w, int node, enum round_call call);
    /* Called when a round of a coordinator moves; may kill. */
    void (*on_round)(struct world *w, int coord, enum round_state to);
    void (*on_guard)(struct world *w, int node, enum hold_act_kind act);
    int armed;     /* for the hooks' own use */
    int armed_set; /* the set of the request being fed, for refusals */
};

struct world *world_new(uint64_t seed);
void world_free(struct world *w);
/* Makes one event happen, checks all invariants. False: nothing is left. */
bool world_step(struct world *w);
/* Until cond is true or `ms` have passed; returns whether it became true. */
typedef bool world_cond(const struct world *w);
bool world_run_until(struct world *w, world_cond *cond, int64_t ms);
void world_run(struct world *w, int64_t ms);

void world_post(struct world *w, struct proc *p, int64_t delay_ms, event_fn *fn,
                void *owner, void *data, uint64_t n);
void world_post_owner(struct world *w, int64_t delay_ms, event_fn *fn, void *owner,
                      void *data, uint64_t n, void (*drop)(void *));
void proc_kill(struct world *w, struct proc *p);
void proc_pause(struct world *w, struct proc *p, bool paused);
bool chance(struct world *w, unsigned permille);

/* Asks the leader (or the next one to lead) for a set; returns its number. */
int sim_create_set(struct world *w);
void sim_set_name(int set, struct set_id *out);
int sim_set_number(const struct set_id *id);

void coord_start(struct world *w, struct sim_coord *c);
void coord_kill(struct world *w, int coord, bool restart);
void coord_reply(struct world *w, int coord, uint64_t call, int set, const struct err *e,
                 const struct session *s);
/* What an agent's registration is told of a set; SIM_ABSENT when there is no leader to
 * ask. */
enum sim_set_state coord_verdict(struct world *w, int node, int set);

struct agent_request {
    enum round_call call;
    uint64_t id;
    int coord;
    int set;
    struct token token;
    struct domain_epoch epochs[SIM_NODES];
    size_t n_epochs;
    int64_t cut_unix_ms;
};
void agent_start(struct world *w, struct sim_node *n);
void agent_kill(struct world *w, int node, bool restart);
void agent_request(struct world *w, struct event *ev);
void agent_guard_event(struct world *w, struct sim_node *n, struct session_event *ev);

void guard_start(struct world *w, struct sim_node *n);
void guard_ask(struct world *w, struct sim_node *n, enum session_act_kind what,
               struct session *set);
void guard_agent_gone(struct world *w, struct sim_node *n);
void doer_kill(struct world *w, int node);
void keeper_kill(struct world *w, int node, bool restart);
void node_kill_all(struct world *w, int node);

/* Says seed, time and what is wrong, and aborts. */
void check_failed(const struct world *w, const char *what);
/* Invariants I1 to I4, I7 after every step; I2 with the bound's reason. */
void check_world(const struct world *w);
/* I11 and leaks, once faults have stopped and time has passed. */
void check_settled(const struct world *w);
bool all_recorded(const struct world *w);
bool nothing_frozen(const struct world *w);

#endif
