/* What the doer's process does from its start to its end. */
#ifndef AGENT_GUARDIAN_DOER_WORK_H
#define AGENT_GUARDIAN_DOER_WORK_H

#include "agent/guardian/doer.h"
#include "agent/shell/config.h"

/* Serves the keeper behind `socket` until that one dies. Never returns while it lives. */
void doer_work(const struct config *config, struct doer_shared *shared, int socket,
               int keeper_pidfd);

#endif
