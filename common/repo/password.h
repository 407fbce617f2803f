/* Passwords of repositories come from files only: never from arguments or environment,
 * which other processes can read. */
#ifndef COMMON_REPO_PASSWORD_H
#define COMMON_REPO_PASSWORD_H

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"

/* Reads the password in a file, without white space around it, as restic does. INVALID:
 * it cannot be opened or is empty; LIMIT: it is too large to be one. */
struct err *password_read(const char *path, struct buf *out) MUST_USE;
/* Overwrites and empties the buffer. */
void password_fini(struct buf *b);
#define AUTO_PASSWORD CLEANUP(password_fini)

#endif
