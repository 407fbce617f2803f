/* Take-over: what becomes of a strict set found before CAPTURED (X3). Pure. */
#ifndef COORDINATOR_FLOW_RECOVER_H
#define COORDINATOR_FLOW_RECOVER_H

#include "coordinator/flow/round.h"

enum recover_verdict {
    RECOVER_WAIT,         /* answers are missing that may yet allow rolling forward */
    RECOVER_ROLL_FORWARD, /* all captured in one cut: record it */
    RECOVER_ABORT,        /* at least one has no capture of this cut */
};

/* Decides from the answers to Inspect so far: the epochs, proofs and done marks in `r`.
 * `view` is the newest answer. PROTOCOL.md step 6.2. */
enum recover_verdict recover_decide(const struct round *r, enum session_view view);

#endif
