/* One hold: the partitions of one set on this node that are frozen, captured and thawed
 * together. Pure: no I/O, no clock, no memory from the heap in any step. The guardian's
 * keeper feeds events and performs the actions; the simulator does the same.
 *
 * Two parties act. The *doer* performs one request at a time (ARM, FREEZE, CAPTURE,
 * RECHECK, PUBLISH, REMOVE), may block, and may die. The *keeper* thaws and answers. A
 * freeze outlives the process that made it, therefore whatever the doer was asked to
 * freeze is thawed by the keeper unless the doer said that there is nothing to undo. (The
 * keeper's own death is the doer's business: it thaws all it was asked to freeze, in
 * reverse order, and exits.)
 *
 * Time: `now_ms` of CLOCK_BOOTTIME comes with each event and never goes backwards. The
 * hold's clock starts with the FREEZE event, before the first freeze call. A step first
 * looks at the clock: what arrives at the deadline or later finds the hold expired.
 *
 * Domains may freeze in several FREEZE requests, each once all of the one before stand:
 * the hold's clock starts with the first, and COMMIT needs all. */
#ifndef AGENT_FLOW_HOLD_H
#define AGENT_FLOW_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/sm.h"
#include "common/model/cut.h"

#define HOLD_MAX_DOMAINS 64
#define HOLD_MAX_MEMBERS 256
#define HOLD_THAW_RETRY_MS 100 /* between two tries of a thaw that failed */
#define HOLD_NO_TIMER INT64_MAX

/* How a domain is paused. The order is the order of freezing: a task that is blocked on a
 * frozen filesystem never becomes frozen itself, so filesystems come last. */
enum hold_kind { HOLD_NONE, HOLD_HOOK, HOLD_CGROUP, HOLD_FSFREEZE };

/* What befell a domain's epoch; anything but UNBROKEN makes its captures worthless. */
enum hold_breach {
    HOLD_UNBROKEN,
    HOLD_EXPIRED,     /* the deadline came first */
    HOLD_ABORTED,     /* ABORT */
    HOLD_CLOSED,      /* the agent's connection ended */
    HOLD_DOER_DIED,   /* its freeze may be complete or not */
    HOLD_NOT_FROZEN,  /* freezing failed: nothing of it is frozen by us */
    HOLD_FREEZE_LATE, /* not frozen within freeze_timeout */
    HOLD_DISTURBED,   /* the check after the capture, or the thaw, found it not frozen */
};

/*   IDLE --DO_FREEZE--> FREEZING --frozen--> FROZEN --THAW--> THAWING --thawed--> THAWED
 *    |                     | |                                 ^
 *    |                     | +---- may be frozen --------------+
 *    +--never tried--------+------ nothing to undo ---------------------> UNFROZEN
 */
enum hold_domain_state {
    HOLD_D_IDLE,
    HOLD_D_FREEZING,
    HOLD_D_FROZEN,
    HOLD_D_THAWING,
    HOLD_D_THAWED,
    HOLD_D_UNFROZEN,
};

/*   IDLE --DO_CAPTURE--> CAPTURING --> CAPTURED --domain thawed--> VERIFIED
 *    |                      |             |                           |DO_PUBLISH
 *    v                      v             v                           v
 *   LOST <---- failed, or the epoch broke; what exists is removed -- PUBLISHING --> KEPT
 */
enum hold_member_state {
    HOLD_M_IDLE,
    HOLD_M_CAPTURING,
    HOLD_M_CAPTURED,
    HOLD_M_VERIFIED,
    HOLD_M_PUBLISHING,
    HOLD_M_KEPT,
    HOLD_M_LOST,
};

/*                                  +---FREEZE---+
 *                                  v            |
 *   ARMING --> ARMED --FREEZE--> FREEZING --> FROZEN --COMMIT--> CAPTURING --> DONE
 *     |          |                  |           |                    |          |ABORT
 *     +----------+------------------+-----------+--------------------+----------+
 *     |  ABORT, connection closed; before COMMIT also: expiry, doer died, none frozen
 *     v
 *   ENDING --everything thawed and removed--> ENDED
 */
enum hold_state {
    HOLD_ARMING,
    HOLD_ARMED,
    HOLD_FREEZING,
    HOLD_FROZEN,
    HOLD_CAPTURING,
    HOLD_DONE, /* every wanted member is KEPT or LOST; leftovers may still be removed */
    HOLD_ENDING,
    HOLD_ENDED,
};

struct hold_domain {
    enum hold_kind kind;
    struct sm sm;            /* enum hold_domain_state */
    enum hold_breach breach; /* set before the thaw that ends an unfinished hold */
    bool asked;              /* a FREEZE named it */
    bool has_epoch;          /* it was frozen in time */
    struct epoch epoch;      /* drawn after it was frozen */
    bool rechecked;          /* still frozen after the last capture */
    bool thaw_due;           /* THAWING: a try failed, the next is at retry_ms */
    int64_t retry_ms;
    int64_t frozen_at_ns;
    int64_t thawed_at_ns; /* 0 until THAWED */
};

struct hold_member {
    uint16_t domain;
    struct sm sm; /* enum hold_member_state */
    bool wanted;  /* named by the COMMIT */
    bool exists;  /* there is or may be something that REMOVE must remove */
    bool named;   /* it may have its final name: REMOVE takes that too */
    bool leaked;  /* REMOVE failed: only LIST and DROP know of it */
    bool late;    /* it was finished or under way when its epoch broke */
    int64_t captured_at_ns;
};

/* The doer's one outstanding request. */
enum hold_doer { HOLD_DOER_IDLE, HOLD_DOER_BUSY, HOLD_DOER_DYING, HOLD_DOER_DEAD };

/* Invariants, checked by hold_check():
 * 1. A domain that is FREEZING or FROZEN with an unbroken epoch belongs to a hold that is
 *    FREEZING, FROZEN or CAPTURING.
 * 2. While a domain is FREEZING in a FREEZING hold, none of an earlier kind is asked for
 *    and IDLE; while a filesystem is frozen or may be, nothing but filesystems is.
 * 3. A KEPT member's domain is THAWED, unbroken, rechecked, and it was captured between
 *    frozen_at_ns and thawed_at_ns.
 * 4. In ENDED nothing is frozen or may be, and nothing is left that is not `leaked`.
 * 5. An epoch exists only for a domain that was frozen. */
struct hold {
    struct sm sm; /* enum hold_state */
    unsigned n_domains, n_members;
    struct hold_domain domains[HOLD_MAX_DOMAINS];
    struct hold_member members[HOLD_MAX_MEMBERS];
    uint8_t order[HOLD_MAX_DOMAINS]; /* domain indices in the order of freezing */
    enum hold_doer doer;
    enum hold_breach breach; /* why it is ENDING or ENDED */
    bool asked_arm, asked_freeze, asked_commit, asked_abort; /* an answer is owed */
    bool checked;         /* ARM came to a result for every member */
    bool freeze_answered; /* all that FREEZE was asked for has its recorded answer */
    struct digest digest; /* of all epochs, from the COMMIT */
    int64_t freeze_deadline_ms; /* of the FREEZE under way */
    int64_t deadline_ms;        /* from the first FREEZE on: the end of hold_limit */
};

/* One member of a COMMIT. */
struct hold_want {
    uint16_t member;
    struct epoch epoch; /* as the FREEZE answer gave it */
};

enum hold_event_kind {
    HOLD_EV_ARMED,     /* doer: the checks are done; member_ok */
    HOLD_EV_FREEZE,    /* request: domains, hold_ms, freeze_timeout_ms */
    HOLD_EV_FROZEN,    /* doer: index = domain, ok; ok: at_ns, epoch; not ok: undo */
    HOLD_EV_COMMIT,    /* request: digest, wants, n_wants */
    HOLD_EV_CAPTURED,  /* doer: index = member, ok, at_ns; not ok: undo */
    HOLD_EV_RECHECKED, /* doer: index = domain, ok = still frozen, and by us alone */
    HOLD_EV_THAWED,    /* keeper: index = domain, ok; ok: at_ns, was_frozen */
    HOLD_EV_PUBLISHED, /* doer: index = member, ok */
    HOLD_EV_REMOVED,   /* doer: index = member, ok */
    HOLD_EV_ABORT,     /* request */
    HOLD_EV_TIMER,  /* the time hold_timer_ms() asked for has come; early is harmless */
    HOLD_EV_CLOSED, /* the agent's connection ended */
    HOLD_EV_DOER_DIED,  /* after the last of its results was fed */
    HOLD_EV_DOER_READY, /* a new doer waits for requests */
};

struct hold_event {
    enum hold_event_kind kind;
    int64_t now_ms;
    unsigned index;
    bool ok;
    bool undo;                     /* not ok: something was frozen or made all the same */
    bool was_frozen;               /* THAWED: false when it had been thawed by others */
    int64_t at_ns;                 /* when it happened, CLOCK_BOOTTIME */
    struct epoch epoch;            /* FROZEN: 128 random bits drawn after it was frozen */
    const bool *member_ok;         /* ARMED: n_members of them; borrowed for the step */
    const bool *domains;           /* FREEZE: n_domains of them, those to be frozen;
                                      borrowed for the step; NULL: all */
    int64_t hold_ms;               /* FREEZE: at most so long frozen; the first counts */
    int64_t freeze_timeout_ms;     /* FREEZE: to have all frozen */
    struct digest digest;          /* COMMIT */
    const struct hold_want *wants; /* COMMIT; borrowed for the step */
    unsigned n_wants;
};

enum hold_act_kind {
    /* For the doer: one request until its result or DOER_DIED. */
    HOLD_DO_ARM,     /* check everything, open what a freeze and a thaw need */
    HOLD_DO_FREEZE,  /* index = domain; give up at until_ms. Journal it first. */
    HOLD_DO_CAPTURE, /* index = member, under a provisional name */
    HOLD_DO_RECHECK, /* index = domain */
    HOLD_DO_PUBLISH, /* index = member: give the capture its final name */
    HOLD_DO_REMOVE,  /* index = member: what has its provisional name and, if `named`, its
 final one; nothing there is a success */
    HOLD_KILL_DOER,  /* its work is worthless; feed DOER_DIED when it is gone */
    /* For the keeper. */
    HOLD_THAW,   /* index = domain; feed THAWED */
    HOLD_ANSWER, /* index = enum hold_request; verdict */
};

enum hold_request { HOLD_REQ_ARM, HOLD_REQ_FREEZE, HOLD_REQ_COMMIT, HOLD_REQ_ABORT };

enum hold_verdict {
    HOLD_OK,          /* look at the members and domains */
    HOLD_OUT_OF_TURN, /* the request does not fit the state; nothing changed */
    HOLD_BAD_EPOCH,   /* COMMIT names an epoch that is not ours, or one that is broken */
    HOLD_OVER,        /* the hold is ENDING or ENDED: see breach */
};

struct hold_act {
    enum hold_act_kind kind;
    unsigned index;
    enum hold_verdict verdict;
    int64_t until_ms;
};

#define HOLD_MAX_ACTS (HOLD_MAX_DOMAINS + 8)
struct hold_acts {
    unsigned n;
    struct hold_act items[HOLD_MAX_ACTS];
};

/* Starts a hold in ARMING: `kinds` of its domains, and for each member the index of its
 * domain. out holds DO_ARM. Needs: 1 to the maximum of each, each domain with a member.
 */
void hold_init(struct hold *h, const enum hold_kind *kinds, unsigned n_domains,
               const uint16_t *member_domains, unsigned n_members, struct hold_acts *out);

/* Feeds one event. Rewrites *out completely; the caller performs it in order, and feeds
 * the results in the order in which they happened. THAWs come in the reverse order of
 * freezing, and only when the breach that they follow is in *h. Repeated requests are
 * answered again and have no further effect. */
void hold_step(struct hold *h, const struct hold_event *ev, struct hold_acts *out);

/* When TIMER is due next, HOLD_NO_TIMER if never. Changes with every step. */
int64_t hold_timer_ms(const struct hold *h);
/* True when some domain is frozen or may be. */
bool hold_is_frozen(const struct hold *h);
/* True when nothing is left to do: the hold may be forgotten. */
bool hold_is_settled(const struct hold *h);
/* A member of a DONE hold that is captured, verified and published. */
bool hold_member_is_kept(const struct hold *h, unsigned member);
const char *hold_breach_text(enum hold_breach b);
/* Asserts the invariants. */
void hold_check(const struct hold *h);

#endif
