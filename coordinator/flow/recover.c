#include "coordinator/flow/recover.h"

enum recover_verdict recover_decide(const struct round *r, enum session_view view)
{
    /* One agent without a capture is enough: a capture made from now on could not belong
     * to the cut, since the others have thawed. */
    if (view != VIEW_CAPTURED)
        return RECOVER_ABORT;
    for (size_t i = 0; i < r->conf.n_nodes; i++)
        if (!r->nodes[i].done)
            return RECOVER_WAIT;
    if (r->n_proofs != r->conf.n_parts)
        return RECOVER_ABORT;
    AUTO(err)
    struct err *e =
        cut_verify(&r->conf.set, r->epochs, r->n_epochs, r->proofs, r->n_proofs);
    return e ? RECOVER_ABORT : RECOVER_ROLL_FORWARD;
}
