/* The simulated world: one virtual clock, one event at a time, faults drawn from a seed.
 * The cores (lead, round, session, hold) are the product's own; only what surrounds them
 * is a model: processes that crash, stall and pause, a network that loses, doubles,
 * delays and cuts one way, an etcd with revisions, leases, compaction and unknown
 * outcomes, journals that are torn, kernels that stay frozen.
 *
 *   main.c the suite, seeds · script*.c scripted scenarios · swarm.c random faults ·
 *   world.c clock, processes · trace.c what happened last · etcd.c · coord.c run.c the
 *   coordinator's shell · node.c the agent's · guard.c keeper and doers · kernel.c what
 *   really happens on a node · check.c invariants */
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
    SIM_DOMAINS = 2, /* at most, of a node */
    SIM_PARTS = 3,   /* at most, of a node */
    SIM_GROUPS = 2,
    SIM_WAVES = 4, /* at most, of a set */
    SIM_SETS = 16,
    SIM_HOLD_MS = 10000,
    SIM_FREEZE_TIMEOUT_MS = 5000,
    SIM_PREPARE_TIMEOUT_MS = 60000,
    SIM_CALL_TIMEOUT_MS = 2000, /* of one attempt at a call */
    SIM_ETCD_TIMEOUT_MS = 2000,
    SIM_RESTART_MS = 500, /* until a supervisor starts a dead process again */
    SIM_REBOOT_MS = 4000,
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

/* A clock that may stand still for a while; it never goes backwards. */
struct sim_clock {
    int64_t lag_ms;
    int64_t stall_from_ms, stall_until_ms;
};

struct event {
    int64_t at_ms;
    uint64_t seq;
    struct proc *proc; /* NULL: of the world itself */
    unsigned generation;
    event_fn *fn;
    const char *what; /* name of fn, for the trace */
    void *owner;
    void *data; /* heap, freed by the world; may be NULL */
    uint64_t n;
    void (*drop)(void *data); /* frees what hangs on data when the world ends; or NULL */
};

/* What happened, for whoever reads a failure. */
struct sim_note {
    int64_t at_ms;
    const char *text; /* with up to three %d */
    int a, b, c;
};
enum { SIM_NOTES = 60 };

/* ---- what is backed up ---- */

/* Domains and partitions of a node, the same in every world: two domains on the first
 * node, two partitions in one domain of the first and of the last, whose domain is a
 * hook's: nobody but the application knows whether it is paused. */
struct sim_layout {
    unsigned n_domains;
    enum hold_kind kinds[SIM_DOMAINS];
    unsigned n_parts;
    unsigned domain_of[SIM_PARTS];
};
extern const struct sim_layout sim_layout[SIM_NODES];

/* A set as it was planned: group, and partitions of each node as bits. */
struct sim_plan {
    int group;
    unsigned parts[SIM_NODES];
    bool relaxed;
    bool rehearsal;
    size_t n_waves, waves[SIM_NODES][SIM_DOMAINS]; /* 0: all at once */
    bool required[SIM_NODES];                      /* relaxed: not without this node */
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

/* The record of one set. It remembers each verdict it ever had, for I4. */
struct sim_record {
    struct sim_key key;
    enum sim_set_state state;
    struct digest proofs;      /* of the recorded proofs */
    bool true_proofs;          /* they name what really was frozen */
    unsigned parts[SIM_NODES]; /* which of them are proved, as bits */
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
    struct sim_key group_locks[SIM_GROUPS];
    struct sim_key domain_locks[SIM_NODES][SIM_DOMAINS];
    struct sim_record sets[SIM_SETS];
    struct sim_lease leases[64];
    size_t n_leases;
    int64_t leader_gone_at; /* revision at which the leader key last vanished */
    int64_t away_until_ms;  /* nobody reaches it before */
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
    bool true_proofs;
    unsigned parts[SIM_NODES];
    int64_t revision; /* WATCH: from here */
    /* the answer */
    bool ok;      /* false: no answer came, the outcome is unknown */
    bool success; /* the compare held */
    int64_t result;
    int leader_name;
    bool compacted;
    struct sim_record record;
    int64_t sent_ms; /* by the sender's clock */
};
/* Sends; exactly one `done` comes back to the process, with the request as its data. */
struct sim_coord;
void etcd_send(struct world *w, struct sim_coord *c, const struct etcd_request *req,
               event_fn *done);
void etcd_compact(struct world *w);

/* ---- coordinators ---- */

struct sim_call {
    uint64_t id;
    enum round_call call;
    size_t node; /* of the round */
    size_t wave; /* of Freeze */
    bool answered;
};
enum { SIM_CALLS = 64 };

struct sim_run {
    int set;
    bool active, recovering;
    bool locked;
    int64_t lock;         /* create_revision of the group's lock */
    int64_t mod_revision; /* of the set's record */
    bool started;         /* round is initialised */
    struct round round;
    struct round_acts acts;
    int nodes[SIM_NODES]; /* of the round's nodes: which of the world's */
    unsigned left_out;    /* of them, as bits: those that ever were */
    unsigned told;        /* likewise: those that have answered Abort with yes */
    unsigned ended;       /* likewise: those that were sent one */
    struct sim_call calls[SIM_CALLS];
    size_t n_calls;
};

struct sim_coord {
    struct proc proc;
    struct sim_clock clock;
    int index;
    struct lead lead;
    struct sim_run runs[SIM_SETS];
    int64_t leader_revision;
    int64_t watch_revision;
};

/* ---- nodes ---- */

struct sim_hold {
    bool used;
    int set;
    struct hold hold;
    struct proc doer;
    bool busy;
    enum hold_act_kind doing; /* while busy */
    unsigned doing_index;
    unsigned n_domains, domains[SIM_DOMAINS]; /* which of the node's */
    unsigned n_parts, parts[SIM_PARTS];
    unsigned refused; /* of these parts, as bits: they could not be armed */
    size_t wave;      /* that the agent asked to freeze last */
};
enum { SIM_HOLDS = 8, SIM_CAPTURES = 64 };

/* The one pause of a domain for one set: what really happened. */
struct sim_pause {
    int freezes;
    int64_t from_ms;
    int64_t to_ms; /* 0: it lasts, or never began */
    struct epoch epoch;
};

/* What the kernel of the node knows of a domain: outlives every process. */
struct sim_domain {
    bool frozen;
    bool doomed; /* keeper and doer were both dead while it was frozen */
    bool named;  /* in the keeper's journal on tmpfs */
    int by;      /* the set */
    int64_t frozen_at_ms;
    struct sim_pause pauses[SIM_SETS];
};

struct sim_capture {
    bool exists;
    bool published;
    bool in_pause; /* made while its own set had frozen its domain */
    int set;
    unsigned part;
};

/* The first answer given to a request: a repetition must get the same (I7). */
struct sim_answer {
    int64_t token; /* 0: none given yet */
    struct digest digest;
};

/* Faults of one node: so many of the next tries fail; how long calls take. */
struct sim_trouble {
    int arms, first_arms, freezes, captures, thaws;
    int64_t freeze_ms, capture_ms;
};

struct sim_node {
    struct proc agent, keeper;
    struct sim_clock clock;
    int index;
    int boot;
    struct node_id name;
    struct domain_id domain_names[SIM_DOMAINS];
    struct sessions sessions;
    struct sessions durable; /* what a restart finds */
    int64_t journal_free_ms; /* when the disk has done all that was asked of it */
    struct sim_hold holds[SIM_HOLDS];
    struct sim_domain domains[SIM_DOMAINS];
    struct sim_capture captures[SIM_CAPTURES];
    struct sim_trouble trouble;
    struct sim_answer frozen_said[SIM_SETS][SIM_WAVES], captured_said[SIM_SETS];
    int64_t longest_pause_ms;
    int64_t steady_until_ms; /* no second stall before: I2 allows for one a hold */
};

/* ---- faults ---- */

struct sim_faults {
    unsigned lose_permille;      /* of messages, each way */
    unsigned double_permille;    /* requests delivered twice */
    unsigned late_permille;      /* …or seconds late */
    unsigned garble_permille;    /* a Commit that names other epochs */
    unsigned etcd_lost_permille; /* requests or answers of etcd that vanish */
    unsigned etcd_slow_permille; /* …or take most of a second */
    unsigned disk_slow_permille; /* journal writes that take a second */
    unsigned renamed_permille;   /* those that land although the agent died meanwhile */
};

struct world {
    struct rng rng;
    uint64_t seed;
    int64_t now_ms;
    uint64_t seq;
    struct event *queue; /* binary heap by (at_ms, seq) */
    size_t n_events, cap_events;
    struct event *held; /* of paused processes, in the order of arrival */
    size_t n_held, cap_held;
    struct sim_faults faults;
    struct sim_etcd etcd;
    struct sim_coord coords[SIM_COORDS];
    struct sim_node nodes[SIM_NODES];
    bool cut_to[SIM_COORDS][SIM_NODES];   /* requests */
    bool cut_from[SIM_COORDS][SIM_NODES]; /* answers, registrations */
    uint64_t next_call;
    struct sim_plan sets[SIM_SETS];
    int n_sets;
    bool rehearsed[SIM_SETS]; /* begun, once and for all: nobody takes it over */
    uint64_t trace;           /* digest of every event: the same seed gives the same */
    struct sim_note notes[SIM_NOTES]; /* the newest, as a ring */
    size_t n_notes;
    size_t checked_notes; /* how many there were at the last look at all records */
    /* Hook of a scenario: called before an agent gets a request; true: swallow it. */
    bool (*swallow)(struct world *w, int node, enum round_call call);
    /* Called when a round of a coordinator moves; may kill. */
    void (*on_round)(struct world *w, int coord, enum round_state to);
    /* Called when the doer of a node's hold has been given work; may kill. */
    void (*on_guard)(struct world *w, int node, enum hold_act_kind act);
    /* Called when an agent's journal is being written, for so long; may kill. */
    void (*on_journal)(struct world *w, int node, int64_t took_ms);
    int gone;             /* the node that is lost for ever; -1: none */
    unsigned fault_kinds; /* of a swarm: those that this seed draws from, as bits */
    int armed;            /* for the hooks' own use */
    int asking_set;       /* the set of the request being fed, for refusals */
};

struct world *world_new(uint64_t seed);
void world_free(struct world *w);
/* Makes one event happen, checks all invariants. False: nothing is left. */
bool world_step(struct world *w);
/* Until cond is true or `ms` have passed; returns whether it became true. */
typedef bool world_cond(const struct world *w);
bool world_run_until(struct world *w, world_cond *cond, int64_t ms);
void world_run(struct world *w, int64_t ms);

#define world_post(w, p, delay_ms, fn, owner, data, n)                                   \
    world_post_as(w, p, delay_ms, fn, #fn, owner, data, n, NULL)
/* `drop` frees what hangs on data when the event never happens; NULL: nothing does. */
void world_post_as(struct world *w, struct proc *p, int64_t delay_ms, event_fn *fn,
                   const char *what, void *owner, void *data, uint64_t n,
                   void (*drop)(void *));
void proc_kill(struct world *w, struct proc *p);
void proc_pause(struct world *w, struct proc *p, bool paused);
bool chance(struct world *w, unsigned permille);
int64_t below(struct world *w, int64_t n);
int64_t clock_now(const struct world *w, const struct sim_clock *c);
void clock_stall(struct world *w, struct sim_clock *c, int64_t ms);

/* Adds to what a failure prints, and to the trace. */
void note(struct world *w, const char *text, int a, int b, int c);
void trace_mix(struct world *w, uint64_t n);
void trace_text(struct world *w, const char *text);
/* Prints seed, how to replay it, and what happened last. */
void trace_print(const struct world *w);

/* Asks the leader (or the next one to lead) for a set of all partitions; its number. */
int sim_create_set(struct world *w);
int sim_create_planned(struct world *w, const struct sim_plan *plan);
unsigned sim_domain_mask(int node, unsigned parts);
void sim_set_name(int set, struct set_id *out);
int sim_set_number(const struct set_id *id);

void coord_start(struct world *w, struct sim_coord *c);
void coord_kill(struct world *w, int coord, bool restart);
void coord_pause(struct world *w, int coord, bool paused);
/* The operator's wish reaches whoever leads; it may be too late. */
void coord_cancel(struct world *w, int set);
/* What an agent's registration is told of a set; SIM_ABSENT when there is no leader to
 * ask. */
enum sim_set_state coord_verdict(struct world *w, int node, int set);
void coord_reply(struct world *w, int coord, uint64_t call, int set, const struct err *e,
                 const struct session *s);

/* The runs of a coordinator that leads. */
void run_try_lock(struct world *w, struct sim_coord *c, int set);
void run_end(struct sim_run *r);
void run_unlock(struct world *w, struct sim_coord *c, int64_t lock);
void run_feed(struct world *w, struct sim_coord *c, struct sim_run *run,
              struct round_event *ev);
/* NULL unless it is under way. */
struct sim_run *run_of(struct sim_coord *c, int set);

struct agent_request {
    enum round_call call;
    uint64_t id;
    int coord;
    int set;
    size_t wave;
    struct token token;
    struct domain_epoch epochs[SIM_NODES * SIM_DOMAINS];
    size_t n_epochs;
    int64_t cut_unix_ms;
};
void agent_start(struct world *w, struct sim_node *n);
void agent_kill(struct world *w, int node, bool restart);
void agent_request(struct world *w, struct event *ev);
void agent_guard_event(struct world *w, struct sim_node *n,
                       const struct session_event *said);

void guard_start(struct world *w, struct sim_node *n);
void guard_ask(struct world *w, struct sim_node *n, enum session_act_kind what,
               struct session *set);
void guard_agent_gone(struct world *w, struct sim_node *n);
void doers_kill(struct world *w, int node);
void keeper_kill(struct world *w, int node, bool restart);
/* All processes of a node at once; what is frozen stays frozen. */
void node_kill_all(struct world *w, int node);
/* …and the machine with them: nothing is frozen then, and tmpfs is empty. */
void node_reboot(struct world *w, int node);

void kernel_freeze(struct world *w, struct sim_node *n, unsigned domain, int set);
/* Whether it was frozen. */
bool kernel_thaw(struct world *w, struct sim_node *n, unsigned domain);
struct sim_capture *kernel_capture(struct sim_node *n, int set, unsigned part);
void kernel_snap(struct world *w, struct sim_node *n, int set, unsigned part);
void kernel_remove(struct world *w, struct sim_node *n, int set);

/* Says what is wrong, prints the trace, and aborts. */
void check_failed(const struct world *w, const char *what) __attribute__((noreturn));
/* Invariants I1 to I4, I7 after every step; I2 with the bound's reason. */
void check_world(struct world *w);
/* I1, step 3.1: a Commit is about to be sent. */
void check_may_commit(const struct world *w, const struct sim_run *run);
/* Step 5.6: what was left out once is told to abort, and never counts again. */
void check_left_out(const struct world *w, const struct sim_run *run,
                    const struct round_act *a);
/* Step 2.6: Freeze of this wave is about to be sent. */
void check_may_freeze(const struct world *w, const struct sim_run *run, size_t wave);
/* A rehearsal's round is over: whoever has answered its Abort stands still no more. */
void check_rehearsed(const struct world *w, const struct sim_run *run);
/* Whether the proofs name what really was frozen, each with the digest of all of it. */
bool check_proofs(const struct world *w, int set, const struct round *r);
/* Which partitions of each node they prove, as bits. */
void proved_parts(const struct round *r, unsigned parts[SIM_NODES]);
/* Step 6.1: this call's token is durable, so that what is late of an older one is
 * refused.
 */
void check_inspected(const struct world *w, const struct sim_node *n,
                     const struct session *s, uint64_t call);
/* I7: the same request, the same answer. */
void check_answer(struct world *w, struct sim_node *n, const struct session_act *a);
/* I11 and leaks, once faults have stopped and time has passed. */
void check_settled(const struct world *w);
/* That the set was captured with all that was planned, and nothing is left of it. */
void check_whole(const struct world *w, int set);
bool world_is_settled(const struct world *w);
bool all_recorded(const struct world *w);
bool nothing_frozen(const struct world *w);

/* What runs of random faults came to. */
struct swarm_sum {
    uint64_t trace; /* of all traces */
    unsigned long captured, aborted, in_part;
};
/* One run of random faults, added to *sum. */
void swarm_run(uint64_t seed, struct swarm_sum *sum);
/* Ends every fault, waits for the verdicts, and looks for leaks. */
void settle(struct world *w);
#endif
