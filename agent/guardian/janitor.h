/* LIST and DROP: one at a time, by a doer that never freezes anything, so that neither a
 * long removal nor a slow disk keeps a hold waiting. Keeper thread only. */
#ifndef AGENT_GUARDIAN_JANITOR_H
#define AGENT_GUARDIAN_JANITOR_H

#include <stdbool.h>

#include "agent/guardian/doer.h"
#include "agent/guardian/slot.h"
#include "agent/guardian/wire.h"

struct janitor {
    const struct slot_env *env;
    struct doer doer;
    bool doer_silent; /* only its death is awaited */
    bool busy;
    int conn;                     /* who waits; may be gone */
    struct guard_request request; /* under way */
    unsigned done;                /* DROP: parts answered */
    unsigned seen;                /* LIST: captures seen */
    struct guard_reply reply;     /* as far as it is known */
};

void janitor_init(struct janitor *j, const struct slot_env *env);
/* Starts a LIST or DROP. While one is under way the answer is UNAVAILABLE at once. `note`
 * goes into a LIST's text. Needs: parts of a DROP exist, and their ids are valid. */
void janitor_request(struct janitor *j, int conn, const struct guard_request *r,
                     const char *note);
void janitor_closed(struct janitor *j, int conn);
void janitor_hear(struct janitor *j);
void janitor_doer_died(struct janitor *j);
void janitor_revive(struct janitor *j);

#endif
