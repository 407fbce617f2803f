/* The doer: the guardian's child that makes the calls which may block (freezing, hooks,
 * captures) for one hold at a time. It talks to the keeper over a socket pair, one
 * request and then its results. It watches its keeper: when that dies, it thaws
 * everything that it was asked to freeze, and exits.
 *
 * A second kind of doer, for LIST and DROP, never freezes anything. */
#ifndef AGENT_GUARDIAN_DOER_H
#define AGENT_GUARDIAN_DOER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/flow/hold.h"
#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/model/ids.h"

#define DOER_TEXT_BYTES 512
#define DOER_TARGET_BYTES 1024

/* What it is asked beside the hold's own requests (HOLD_DO_…, whose values these follow).
 */
enum doer_op {
    DOER_RESOLVE = 100, /* parts: the domain of each, as DOER_MEMBER results */
    DOER_LIST,          /* every capture of every partition, as DOER_CAPTURE results */
    DOER_DROP,          /* part, id: remove one capture */
    DOER_RESET,         /* close what the last hold opened; no result */
    /* Only in results, before the one that ends the request. */
    DOER_MEMBER,  /* index = member; ok or kind and text; domain or cost */
    DOER_DOMAIN,  /* index = domain; ok, target, and the descriptor to thaw it with */
    DOER_CAPTURE, /* part, id, partial */
};

struct doer_request {
    int op; /* enum hold_act_kind or enum doer_op */
    unsigned index;
    uint16_t part;          /* of the configuration: for captures */
    char id[CAPTURE_BYTES]; /* capture */
    bool named;             /* REMOVE: under its final name too */
    int64_t until_ms;       /* FREEZE */
    int64_t hold_ms;        /* ARM */
    pid_t agent_pid;        /* ARM */
    unsigned n, n_domains;  /* RESOLVE, ARM */
    uint16_t parts[HOLD_MAX_MEMBERS];
    uint16_t domain_of[HOLD_MAX_MEMBERS]; /* ARM; >= n_domains: it takes no part */
};

struct doer_result {
    int op;
    unsigned index;
    bool ok, undo, partial;
    enum err_kind kind; /* not ok */
    uint16_t part;
    int64_t at_ns;
    int64_t flush_ms, capture_ms, dirty_bytes; /* ARM: struct prepare_cost */
    struct domain_id domain;
    enum hold_kind hold_kind;
    char id[CAPTURE_BYTES];
    char text[DOER_TEXT_BYTES];     /* not ok: why */
    char target[DOER_TARGET_BYTES]; /* DOMAIN: what to name in the journal */
};

/* Memory that keeper and doer share. Written by the keeper alone. */
struct doer_shared {
    _Atomic bool may_be_frozen[HOLD_MAX_DOMAINS]; /* thaw it when the keeper dies */
};

/* The keeper's handle of one doer. */
struct doer {
    pid_t pid;                  /* -1: none */
    int pidfd;                  /* readable when it is dead */
    int socket;                 /* not blocking */
    struct doer_shared *shared; /* for the life of the slot, across doers */
};

void doer_init(struct doer *d); /* aborts without memory */
/* Starts the process. It keeps `life_lock` open and no other descriptor of the keeper's:
 * as long as that file is locked, some doer of this or an earlier guardian lives. */
struct err *doer_start(struct doer *d, const struct config *config,
                       int life_lock) MUST_USE;
/* Reaps a dead one and closes its descriptors. */
void doer_bury(struct doer *d);
/* False when it cannot take it: then it is dead or dying. */
bool doer_ask(struct doer *d, const struct doer_request *r);
/* The next result: 1, 0 when there is none now, -1 when it is gone. *fd is a descriptor
 * that came with it, or -1. */
int doer_hear(struct doer *d, struct doer_result *out, int *fd);

#endif
