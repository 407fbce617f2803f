/* A set whose partitions on this node freeze in several waves (PROTOCOL.md step 2.6):
 * which one's turn it is. Part of session; no I/O, no clock. */
#ifndef AGENT_FLOW_SESSION_WAVES_H
#define AGENT_FLOW_SESSION_WAVES_H

#include "agent/flow/session.h"

/* Whether no part is in a later wave than the guardian was asked for. */
bool session_all_asked(const struct session *set);
/* Whether all of that wave stands here, or did until it was captured. */
bool session_wave_stands(const struct session *set, size_t wave);
/* CONFLICT unless the wave asked for stands, is being frozen, or is the next to be. */
struct err *session_check_turn(const struct session *set, size_t wave) MUST_USE;
/* INVALID when these parts cannot freeze in the order of their waves. */
struct err *session_check_order(const struct node_id *node,
                                const struct session_part *parts, size_t n) MUST_USE;
/* CONFLICT unless all of the set stands here and these epochs of all members name its own
 * exactly (step 3.2); of a rehearsal always. */
struct err *session_check_commit(const struct session *set,
                                 const struct domain_epoch *epochs, size_t n) MUST_USE;

#endif
