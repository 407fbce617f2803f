/* The guardian's replies, made from what a slot knows. Keeper thread only. */
#ifndef AGENT_GUARDIAN_ANSWER_H
#define AGENT_GUARDIAN_ANSWER_H

#include "agent/guardian/slot.h"

/* A reply without items: GUARD_OK, or a kind with a text. Rewrites *out. */
void answer_plain(struct guard_reply *out, enum guard_type type, uint32_t seq,
                  int32_t kind, const char *text);
/* The reply to `request` as the core decided it. Rewrites *out. */
void answer_hold(const struct slot *s, enum hold_request request,
                 enum hold_verdict verdict, uint32_t seq, struct guard_reply *out);

#endif
