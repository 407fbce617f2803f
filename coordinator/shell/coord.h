/* One coordinator process: what its files share. Loop thread only, but for jobs, which
 * own what they are given.
 *
 *   main.c start and stop · leader.c leadership · load.c what a new leader reads · runs.c
 * rounds · sets.c sets and their tasks · worker.c agents · ../admin operators · meta.c
 * etcd */
#ifndef COORDINATOR_SHELL_COORD_H
#define COORDINATOR_SHELL_COORD_H

#include "common/file/file.h"
#include "common/loop/loop.h"
#include "common/loop/pool.h"
#include "common/rpc/client.h"
#include "common/rpc/server.h"
#include "common/sign/witness.h"
#include "common/wire/convert.h"
#include "coordinator/flow/lead.h"
#include "coordinator/flow/plan.h"
#include "coordinator/flow/registry.h"
#include "coordinator/flow/round.h"
#include "coordinator/flow/tasks.h"
#include "coordinator/flow/waves.h"
#include "coordinator/shell/config.h"
#include "coordinator/shell/meta.h"

enum {
    COORD_MAX_SETS = 10000,
    COORD_MAX_RUNS = 64,
    COORD_MAX_WATCHERS = 256,
    COORD_MAX_GROUPS = 1000,
    COORD_MAX_TASKS = 50000,
    COORD_NODE_STORE_MS = 2000, /* a node's record is written no more often */
    COORD_SWEEP_MS = 2000,      /* between looks for work that nobody reported */
    COORD_LOCK_SWEEP = 5,       /* every so many sweeps, orphaned locks too */
    COORD_LOCK_RETRY_MS = 500,  /* a lock held by a dead leader's lease */
    COORD_LOCK_WAIT_MS = 30000,
};

/* One set as last read or written. */
struct set_entry {
    Stillpoint__V1__SetRecord *record; /* owned */
    char *json; /* as stored: members we don't know survive; owned */
    int64_t mod_revision;
    bool writing;    /* a transaction about it is under way */
    bool again;      /* look again when it is over */
    struct run *run; /* the round that decides it, or NULL */
};

/* One node: the record its agent registered, and the way to its AgentService. */
struct node_entry {
    Stillpoint__V1__NodeRecord *record; /* owned */
    struct rpc_channel *channel;        /* owned; NULL until it is called */
    char *stored;      /* what the store holds as far as is known; owned; NULL: nothing */
    int64_t stored_ms; /* when it was last written */
};

struct task_entry {
    Stillpoint__V1__TaskRecord *record; /* owned */
    int64_t mod_revision;
    int64_t claimed_ms; /* when its agent last spoke of it */
    bool writing;
    bool unstored; /* being created: not yet to be claimed */
};

struct group_entry {
    Stillpoint__V1__GroupSpec *spec; /* owned */
    int64_t mod_revision;
};

/* One stream of AdminService.WatchSet. */
struct watcher {
    struct rpc_call *call;
    struct coord *coord;
    char set[NAME_BYTES];
    bool slow;   /* its queue is full: nothing is sent until it is empty */
    bool behind; /* something changed meanwhile */
    struct watcher *next;
};

struct coord {
    struct loop *loop;
    struct config_coordinator *conf;
    struct node_id self;
    struct etcd *etcd;
    struct etcd_embedded *embedded; /* NULL: the user's cluster */
    struct meta *meta;
    struct pool *meta_pool;  /* one thread: writes stay in order */
    struct pool *lease_pool; /* one thread: keep-alives never wait behind writes */
    struct rpc_server *server;
    struct rpc_client *client;
    struct signer *signer;
    struct trust *trust; /* whom agents' proofs must be signed by */
    char boot_id[FILE_BOOT_ID_BYTES];
    int64_t started_ms;
    bool stopping;

    struct lead lead;
    struct loop_timer lead_timer;
    struct loop_timer sweep_timer;
    struct loop_timer load_timer;
    unsigned sweeps;
    unsigned term; /* counts terms, so that results of an earlier one are dropped */
    bool loaded;   /* this term's records are in memory: requests are served */
    uint8_t incarnation[16];

    struct registry registry;
    struct node_entry
        *nodes; /* ascending by name: what the registry's core has no use for */
    size_t n_nodes, cap_nodes;
    struct set_entry **sets; /* ascending by id */
    size_t n_sets, cap_sets;
    struct task_entry **tasks; /* ascending by id */
    size_t n_tasks, cap_tasks;
    struct group_entry **groups;
    size_t n_groups, cap_groups;
    bool applying; /* a group is being written: one at a time */
    struct run *runs;
    struct watcher *watchers;
};

/* ---- leader.c ---- */
void leader_start(struct coord *c);
void leader_stop(struct coord *c);
/* CONFLICT naming the leader unless this coordinator leads and has loaded. */
struct err *leader_check(const struct coord *c) MUST_USE;
int64_t wall_ms(void);

/* ---- load.c ---- */
/* Reads everything; then c->loaded, rounds to take over are begun, sets advanced. */
void load_begin(struct coord *c);
/* Memory may be behind the store: drop it, and the rounds, and read everything again. */
void load_again(struct coord *c);
void load_forget(struct coord *c);
/* CORRUPT, INVALID: a set's record that nothing can be done with, whoever wrote it. */
struct err *load_check_set(const Stillpoint__V1__SetRecord *s) MUST_USE;

/* ---- store.c: work on the store's thread ---- */
/* `work` runs there; then, if the term in which it was asked for still lasts, `done` on
 * the loop; in any case `drop` frees arg at the end. */
typedef void store_work_fn(struct meta *m, void *arg);
typedef void store_job_fn(struct coord *c, void *arg);
void store_job(struct coord *c, store_work_fn *work, store_job_fn *done, loop_fn *drop,
               void *arg);
/* Runs a transaction, which is taken over; done(c, t, arg) as above; `drop` may be NULL.
 */
typedef void store_done_fn(struct coord *c, struct meta_txn *t, void *arg);
void store_submit(struct coord *c, struct meta_txn *t, store_done_fn *done, loop_fn *drop,
                  void *arg);

/* ---- sets.c ---- */
struct set_entry *set_find(const struct coord *c, const char *id);
/* Takes the record over. */
struct set_entry *set_insert(struct coord *c, Stillpoint__V1__SetRecord *r,
                             const char *json, int64_t mod_revision);
/* Replaces the record by a changed copy that was stored. */
void set_replace(struct coord *c, struct set_entry *e, Stillpoint__V1__SetRecord *r,
                 int64_t mod_revision);
/* Text to store for `r`, merged into what the entry holds (NULL: a new one). */
char *set_json(const struct set_entry *e, const Stillpoint__V1__SetRecord *r);
void set_move(struct coord *c, Stillpoint__V1__SetRecord *r, Stillpoint__V1__SetState to);
/* Does whatever the record says is next; harmless at any time. */
void set_advance(struct coord *c, struct set_entry *e);
struct task_entry *task_find(const struct coord *c, const char *id);
struct task_entry *task_insert(struct coord *c, Stillpoint__V1__TaskRecord *r,
                               int64_t mod);
/* An agent's word on a task. */
struct err *task_report(struct coord *c, const char *node,
                        const Stillpoint__V1__TaskRecord *r) MUST_USE;
void task_create(struct coord *c, Stillpoint__V1__TaskRecord *r, const char *actor);
/* Stores a changed copy, which is taken over, unless another change is under way. */
void set_store(struct coord *c, struct set_entry *e, Stillpoint__V1__SetRecord *changed,
               const char *action);
void sets_sweep(struct coord *c);
void sets_free(struct coord *c);

/* ---- run_lock.c ---- */
/* Deletes locks under our own lease that no round of ours holds: a grant that came so
 * late that nobody expected it any more. */
void locks_sweep(struct coord *c);

/* ---- runs.c ---- */
/* Begins a set of the group; done on the loop with its record once it is stored as
 * PREPARING, or an error. `drill`: of what to cause meanwhile, or NULL. */
typedef void run_begun_fn(void *arg, struct err *e, const Stillpoint__V1__SetRecord *r);
void run_create(struct coord *c, const struct group_entry *g, const char *set_id,
                const char *actor, const Stillpoint__V1__Drill *drill,
                run_begun_fn *begun, void *arg);
/* Freezes and thaws the group under its locks, without a record. Done on the loop when it
 * is over, with a record that is nowhere stored: its parts' pauses, and in `error` why
 * not all were frozen; or an error when it did not begin, or its end is not known. */
void run_rehearse(struct coord *c, const struct group_entry *g, const char *id,
                  const char *actor, run_begun_fn *over, void *arg);
/* The spec's waves as the core has them: borrowed names in an array to be freed. */
struct wave *run_waves(const Stillpoint__V1__GroupSpec *spec) MUST_USE;
/* Takes over a set stored as PREPARING. */
void run_recover(struct coord *c, struct set_entry *e);
/* The live state, which may be FREEZING or CAPTURING. */
Stillpoint__V1__SetState run_phase(const struct run *r);
/* Is a round of this set under way, its record perhaps not stored yet? */
bool run_exists(const struct coord *c, const char *set);
/* Ends the round of this set, which `actor` wishes: its verdict is on its way then.
 * CONFLICT when it may be CAPTURED already, UNAVAILABLE while it is not known which. */
struct err *run_cancel(struct coord *c, const char *set, const char *actor) MUST_USE;
void runs_stop(struct coord *c);
size_t runs_count(const struct coord *c);

/* ---- nodes.c ---- */
/* Takes the record over; seen_ms as the registry wants it. */
struct err *node_put(struct coord *c, Stillpoint__V1__NodeRecord *r,
                     int64_t seen_ms) MUST_USE;
struct node_entry *node_find(const struct coord *c, const char *name);
/* CONFLICT unless the node's agent knows the repository by this name. */
struct err *node_check_repository(const struct coord *c, const char *name,
                                  const char *repository) MUST_USE;
/* The channel to the node's agent; UNAVAILABLE when its address is not known. Borrowed.
 */
struct err *node_channel(struct coord *c, const char *name,
                         struct rpc_channel **out) MUST_USE;
void nodes_free(struct coord *c);

/* ---- worker.c, ../admin ---- */
struct err *worker_serve(struct coord *c) MUST_USE;
struct err *admin_serve(struct coord *c) MUST_USE;
void watch_notify(struct coord *c, struct set_entry *e);
void watchers_end(struct coord *c);

#endif
