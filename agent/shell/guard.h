/* The agent's side of the guardian's socket. Calls block: they are for a worker thread,
 * one thread at a time per connection. The connection that armed a set is its lifeline:
 * when it ends, the guardian thaws. An ABORT may come over another one, while a FREEZE or
 * COMMIT is still waited for on the first.
 *
 * Every call: TIMEOUT when no answer came in time (what was asked may still happen:
 * ABORT, or ask again, which repeats nothing), UNAVAILABLE when the guardian is gone,
 * otherwise the guardian's own kind and words. Single partitions that failed are in their
 * items. */
#ifndef AGENT_SHELL_GUARD_H
#define AGENT_SHELL_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/guardian/wire.h"
#include "common/base/attr.h"
#include "common/base/err.h"

struct guard;

/* Connects and says hello. */
struct err *guard_open(const char *socket_path, int64_t timeout_ms,
                       struct guard **out) MUST_USE;
void guard_close(struct guard *g);
DEFINE_AUTO(guard, struct guard *, guard_close);
/* For poll(2): readable outside of a call means that the guardian is gone. */
int guard_fd(const struct guard *g);

/* The guardian's process. CONFLICT unless it says itself that it is the one at the other
 * end: whoever made the socket for it would be taken for it otherwise. */
struct err *guard_process(const struct guard *g, pid_t *out) MUST_USE;

/* True once a call ended without its answer: close it, and what it armed is thawed. */
bool guard_is_broken(const struct guard *g);

/* In all of these *out is borrowed until the next call on `g`. */

/* Prepares (PROTOCOL.md 1.3). Items in the order of `parts`: GUARD_OK with domain and
 * pause_ms, or kind and text. Pauses above half of hold_ms are refused (0: none is).
 * `probe`: only to look; others may arm the same, and it can only be aborted. */
struct err *guard_arm(struct guard *g, const struct set_id *set,
                      const struct token *token, bool probe, int64_t hold_ms,
                      const struct part_id *parts, size_t n, int64_t timeout_ms,
                      const struct guard_reply **out) MUST_USE;
/* Freezes these of the armed parts, and all that shares a domain with them; 0: all. What
 * is frozen stays so, and hold_ms counts from the first time. Items, of all armed parts:
 * GUARD_OK with domain, epoch, frozen_at_ns, or kind and text. CONFLICT when nothing of
 * it is armed, the hold is over, or a filesystem stands already and others are to follow.
 */
struct err *guard_freeze(struct guard *g, const struct set_id *set,
                         const struct token *token, const struct guard_part *parts,
                         size_t n, int64_t hold_ms, int64_t freeze_timeout_ms,
                         int64_t timeout_ms, const struct guard_reply **out) MUST_USE;
/* Captures and thaws. `parts` name partition, capture id, and the epoch that FREEZE gave;
 * `digest` is that of all epochs of the set. Items: GUARD_OK with capture, path, times
 * and evidence: the capture stays until dropped; or kind and text: nothing stays. */
struct err *guard_commit(struct guard *g, const struct set_id *set,
                         const struct token *token, const struct digest *digest,
                         const struct guard_part *parts, size_t n, int64_t timeout_ms,
                         const struct guard_reply **out) MUST_USE;
/* Returns when everything is thawed and the set's captures are removed; a set that is not
 * known is a success without items. Items: frozen_at_ns and thawed_at_ns. */
struct err *guard_abort(struct guard *g, const struct set_id *set,
                        const struct token *token, int64_t timeout_ms,
                        const struct guard_reply **out) MUST_USE;
/* Removes captures; those that do not exist are a success. NULL only if all are gone. */
struct err *guard_drop(struct guard *g, const struct guard_part *parts, size_t n,
                       int64_t timeout_ms) MUST_USE;
/* The captures present, from number `from` on; out->total says how many there are. Its
 * text lists the holds. */
struct err *guard_list(struct guard *g, uint32_t from, int64_t timeout_ms,
                       const struct guard_reply **out) MUST_USE;

#endif
