/* The keeper: the guardian's one thread that answers the agent, keeps the time of every
 * hold, and thaws. It makes no call that may block for long; those are the doers'. */
#ifndef AGENT_GUARDIAN_KEEPER_H
#define AGENT_GUARDIAN_KEEPER_H

#include "agent/guardian/slot.h"
#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

#define KEEPER_SLOTS 4 /* holds at a time */
#define KEEPER_CONNS 8 /* agents connected at a time */

/* Starts the doers and allocates everything. `dir` holds the freeze journal, `listen_fd`
 * the socket of agents (root's alone), `life_lock` a file that each doer keeps locked.
 * All borrowed for ever. SIGTERM and SIGINT must be blocked. */
struct err *keeper_init(const struct config *config, const char *dir, int listen_fd,
                        int life_lock) MUST_USE;
/* Serves until SIGTERM or SIGINT; then everything is thawed. */
void keeper_run(void);

#endif
