/* The agent's journal: sessions and fence as one JSON file that is replaced durably.
 * Encoding is for the loop thread, reading and writing the file for any. */
#ifndef AGENT_SHELL_JOURNAL_H
#define AGENT_SHELL_JOURNAL_H

#include "agent/flow/session.h"

enum { JOURNAL_BYTES = 64 << 20 };

/* The text of the journal as it is now; the caller's (free). */
char *journal_encode(const struct sessions *s) MUST_USE;

/* Fills `s` (fresh from sessions_init) from the journal's text. INVALID when it is no
 * journal or a newer version's, CORRUPT when it contradicts itself or is another node's.
 */
struct err *journal_decode(const char *text, size_t n, struct sessions *s) MUST_USE;

#endif
