/* One agent process: what its files share. Loop thread only, but for jobs, which own what
 * they are given.
 *
 *   main.c start and stop · service.c AgentService · check.c drill.c its Check and Drill
 * · perform.c what sessions ask for · register.c the coordinators · tasks.c work after
 * the cut · link.c the guardian's presence and its captures · journal.c · config.c ·
 * guard.c */
#ifndef AGENT_SHELL_AGENT_H
#define AGENT_SHELL_AGENT_H

#include "agent/flow/session.h"
#include "agent/shell/config.h"
#include "agent/shell/guard.h"
#include "agent/work/work.h"
#include "common/file/file.h"
#include "common/loop/loop.h"
#include "common/loop/pool.h"
#include "common/obs/notify.h"
#include "common/rpc/client.h"
#include "common/rpc/server.h"
#include "common/sign/witness.h"
#include "stillpoint/v1/worker.pb-c.h"

enum {
    AGENT_MAX_TASKS = 4, /* taken at a time */
    AGENT_MAX_CHECKS = 8,
    AGENT_MAX_STREAMS = 32, /* of WatchWork: calls are few, and rounds need them */
    AGENT_WORKERS = 2,      /* threads that do them */
    AGENT_WORK_NICE = 5,    /* behind the node's writers, and what they stand still for */
    AGENT_MAX_ATTEMPTS = 5, /* of one task, before its failure is final, unless it is one
                               that is waited out */
    AGENT_RETRY_MS = 1000,  /* first pause between attempts; doubles */
    AGENT_RETRY_DOUBLINGS = 4, /* so often: 16 s at most */
    AGENT_CLAIM_MS = 1000,     /* between questions for tasks */
    AGENT_CALL_MS = 10000,     /* deadline of calls to a coordinator */
    AGENT_REGISTER_MS =
        1000, /* until the coordinator says otherwise, and after a failure */
};

/* A request of a coordinator whose answer is outstanding. */
struct pending {
    uint64_t id;
    struct rpc_call *call;
    struct pending *next;
};

/* One task taken from the coordinator, until its result has been reported. */
struct held_task {
    struct agent *agent;
    struct work work;
    struct held_task *next;
    int attempts;
    bool finished;  /* work.task has the result: report it until it is taken */
    bool reporting; /* a report is under way */
    struct loop_timer timer;
    int64_t begun_ms;
};

struct watch_stream {
    struct rpc_call *call;
    struct agent *agent;
    char set[NAME_BYTES];
    bool slow; /* its queue is full: nothing is sent until it is empty */
    struct watch_stream *next;
};

struct agent {
    struct loop *loop;
    struct config *conf;
    char *journal_path;
    char *work_dir; /* journaled snapshots and tasks */
    char boot_id[FILE_BOOT_ID_BYTES];
    struct node_id node;

    struct sessions sessions;
    struct guard *guard; /* the lifeline: what it armed is thawed when it ends */
    struct guard
        *guard_side; /* for undoing and dropping, which must not wait behind a freeze */
    struct guard *guard_watch; /* the loop's: asks nothing, ends with the guardian */
    struct pool *guard_pool, *guard_side_pool; /* one thread each: the connection's */
    struct pool *journal_pool;                 /* one thread: journal writes in order */
    struct pool *work_pool;
    struct pool *check_pool; /* one thread: flushes take their time */
    int checks;              /* under way or waiting */
    struct pending *pending;
    uint64_t next_call;

    struct rpc_server *server;
    struct rpc_client *client;
    struct signer *signer;         /* of the proofs: the key that TLS uses */
    struct rpc_channel **channels; /* one a coordinator, in the file's order */
    size_t current;                /* the one that answered last, or is asked next */
    bool registering, claiming;
    bool registered; /* at `current`, which leads */
    bool clock_told; /* logged that the certificate is not valid by this clock */
    struct loop_timer register_timer, claim_timer;

    struct held_task *tasks;
    struct watch_stream *streams;
    struct err *guard_error; /* why partitions can't be frozen now; NULL: fine */
    struct loop_timer link_timer, reconcile_timer;
    struct set_id complete[SESSION_MAX_SETS]; /* open here, COMPLETE by the record */
    size_t n_complete;
    bool no_journal; /* it began without one: it knows nothing of older captures */
    bool ready;      /* a guardian has answered once */
    bool stopping;
};

/* ---- main.c ---- */
/* The guardian answers, so nothing is left frozen from an earlier life: tells systemd,
 * once. */
void agent_ready(struct agent *a);

/* ---- link.c ---- */
/* Connects to the guardian, again and again until it is there, and notices its end. */
void link_start(struct agent *a);
/* Removes a capture behind the caller's back; what fails is found by the next comparison.
 */
void link_drop(struct agent *a, const char *partition, const char *capture);

/* ---- perform.c ---- */
/* Feeds one event to the sessions and performs what follows. */
void agent_feed(struct agent *a, struct session_event *ev);
/* Performs the acts of sessions_restarted. */
void agent_perform(struct agent *a, struct session_acts *acts);
/* Remembers a call; its id names it in session events. */
uint64_t agent_pend(struct agent *a, struct rpc_call *call);
struct rpc_call *agent_take(struct agent *a, uint64_t id);

/* For jobs of guard_side_pool: opens a->guard_side unless it is open; and, after a call,
 * closes it if the call has broken it. */
struct err *agent_guard_side(struct agent *a) MUST_USE;
void agent_guard_side_check(struct agent *a);

/* ---- service.c ---- */
struct err *service_add(struct agent *a) MUST_USE;
/* This node as coordinators know it; heap, wire_free. */
Stillpoint__V1__NodeRecord *service_describe(struct agent *a) MUST_USE;
/* The i-th partition that field 'partitions' of a request names; NOT_FOUND. */
struct err *service_partition(const struct agent *a, char *const *names, size_t i,
                              const struct config_partition **out) MUST_USE;
/* A task's state changed or moved on: tells the streams. */
void service_progress(struct agent *a, const struct held_task *t);
void service_end_streams(struct agent *a);

/* ---- check.c ---- */
/* AgentService.Check. */
void check_serve(struct rpc_call *call, const ProtobufCMessage *m, void *ctx);

/* LIMIT when too many checks wait already. */
struct err *check_room(const struct agent *a) MUST_USE;

/* ---- drill.c ---- */
/* AgentService.Drill and Remains. */
void drill_serve(struct rpc_call *call, const ProtobufCMessage *m, void *ctx);
void remains_serve(struct rpc_call *call, const ProtobufCMessage *m, void *ctx);

/* ---- register.c ---- */
void register_start(struct agent *a);
/* What this node says of itself has changed: tells the coordinator at once. */
void register_soon(struct agent *a);
/* The channel to the coordinator that leads as far as is known. */
struct rpc_channel *register_channel(struct agent *a);
/* It did not answer, or does not lead: try the next one. */
void register_failed(struct agent *a);

/* ---- tasks.c ---- */
/* Reads what an earlier run of this agent had taken, and goes on with it. */
struct err *tasks_resume(struct agent *a) MUST_USE;
/* Asks for work when there is room. */
void tasks_claim(struct agent *a);
void tasks_stop(struct agent *a);

#endif
