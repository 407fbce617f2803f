/* Running the operator's hook commands: own process group, nothing on stdin, no shell.
 * The doer runs them and waits; the keeper has a thaw run and goes on. */
#ifndef AGENT_GUARDIAN_COMMAND_H
#define AGENT_GUARDIAN_COMMAND_H

#include <stdint.h>
#include <sys/types.h>

#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

/* Of its output, kept for the error: the last words, and few enough that they survive the
 * shortest text on the way to whoever asks (GUARD_TEXT_BYTES). */
#define COMMAND_OUTPUT_BYTES 160

/* Ready for execve(2): made before anything is frozen, so that starting it allocates
 * nothing. Borrows the strings. */
struct command {
    char *argv[CONFIG_MAX_ARGS + 1];
};

void command_init(struct command *c, char **argv, size_t n);

/* Runs it to its end. TIMEOUT when the clock wins: the whole group is killed first. IO
 * with the end of its output when it does not exit with 0. */
struct err *command_run(const struct command *c, int64_t timeout_ms) MUST_USE;
/* Starts a process that does so, logs what went wrong, and exits with 0 or 1; both die
 * with the caller, who must have one thread. Returns its pid, which is also its process
 * group, or -1 with errno. Allocates nothing, and waits for nobody: not for whoever reads
 * what the command prints. */
pid_t command_start(const struct command *c, int64_t timeout_ms);

#endif
