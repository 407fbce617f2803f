/* One hold in the keeper: the pure core, the doer that works for it, what thaws its
 * domains, and who waits for an answer. Everything here is allocated and opened before
 * something is frozen. Keeper thread only. */
#ifndef AGENT_GUARDIAN_SLOT_H
#define AGENT_GUARDIAN_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/flow/hold.h"
#include "agent/guardian/command.h"
#include "agent/guardian/doer.h"
#include "agent/guardian/freezelog.h"
#include "agent/guardian/quiesce.h"
#include "agent/guardian/wire.h"
#include "agent/shell/config.h"

#define SLOT_REQUESTS 4 /* enum hold_request */

/* What the slots share; fixed after the start. */
struct slot_env {
    const struct config *config;
    const char *dir; /* of the freeze journal */
    int life_lock;
    /* Sends a reply to a connection, which may be gone. */
    void (*reply)(void *ctx, int conn, const struct guard_reply *r);
    /* True when another slot holds this domain, and not only to look at it. */
    bool (*is_held)(void *ctx, unsigned slot, const struct domain_id *domain);
    void *ctx;
};

/* Why something cannot take part. */
struct slot_error {
    bool set;
    enum err_kind kind;
    char text[DOER_TEXT_BYTES];
};

struct slot_part {
    uint16_t part;   /* index in the configuration */
    uint16_t domain; /* index below */
    struct slot_error error;
    int64_t flush_ms, capture_ms, dirty_bytes;
    char capture[CAPTURE_BYTES]; /* from COMMIT on */
};

struct slot_domain {
    struct domain_id id;
    enum hold_kind kind;
    const struct quiesce_ops *ops;
    const struct config_partition *first; /* its first member */
    struct slot_error error;
    char target[DOER_TARGET_BYTES];
    int thaw_fd;
    struct command thaw; /* hooks */
    pid_t hook_pid;      /* of a thaw command under way, else -1 */
    int hook_pidfd;
    int64_t hook_until_ms; /* then it is killed */
};

struct slot_waiter {
    bool waiting;
    int conn;
    uint32_t seq;
};

enum slot_state {
    SLOT_FREE,
    SLOT_RESOLVING, /* the doer is finding out the domains */
    SLOT_HELD,      /* hold is valid */
};

struct slot {
    const struct slot_env *env;
    unsigned number;
    enum slot_state state;
    struct doer doer;
    bool doer_silent; /* its socket is at its end: only its death is awaited */
    struct set_id set;
    struct token token;
    int owner; /* the connection whose end ends the hold */
    int64_t hold_ms;
    pid_t agent_pid;
    bool probe; /* it is only looked whether it could be frozen */
    struct slot_waiter waiters[SLOT_REQUESTS];
    unsigned n_parts, n_domains;
    struct slot_part parts[HOLD_MAX_MEMBERS];
    struct slot_domain domains[HOLD_MAX_DOMAINS];
    struct freezelog log;
    bool released; /* the hold is settled and what was opened for it closed */
    struct hold hold;
    unsigned n_thawed; /* results to be fed, in order */
    struct hold_event thawed[HOLD_MAX_DOMAINS];
};

void slot_init(struct slot *s, const struct slot_env *env, unsigned number);
/* True when an ARM may take it: free, or a hold about which nothing is left to do. */
bool slot_is_idle(const struct slot *s);

/* Starts an ARM. `parts` are indices of the configuration. Needs: slot_is_idle(). */
void slot_arm(struct slot *s, int conn, pid_t agent_pid, const struct guard_request *r,
              const uint16_t *parts);
/* FREEZE, COMMIT, ABORT or a repeated ARM of this slot's set and token. */
void slot_request(struct slot *s, int conn, const struct guard_request *r);

/* The connection ended. */
void slot_closed(struct slot *s, int conn);
/* The guardian is asked to stop: thaws, whatever was promised. */
void slot_stop(struct slot *s);
/* Reads what the doer said. */
void slot_hear(struct slot *s);
/* The doer is dead. */
void slot_doer_died(struct slot *s);
/* Starts the doer if there is none. */
void slot_revive(struct slot *s);
/* The thaw command of a domain ended, or may have. */
void slot_hook(struct slot *s, unsigned domain);
/* Looks at the clock. */
void slot_tick(struct slot *s);
/* When slot_tick is due, HOLD_NO_TIMER if never. */
int64_t slot_timer_ms(const struct slot *s);

#endif
