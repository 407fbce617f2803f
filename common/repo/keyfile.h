/* Key files: the master key under a password. Pure but for randomness and its cost (about
 * a third of a second by intention). */
#ifndef COMMON_REPO_KEYFILE_H
#define COMMON_REPO_KEYFILE_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/repo/crypt.h"

/* Appends the JSON of a new key file that seals `master`. */
struct err *keyfile_write(const void *password, size_t password_n,
                          const struct crypt_cost *cost, const struct crypt_key *master,
                          struct buf *out) MUST_USE;
/* DENIED: the password does not open this key file; CORRUPT or INVALID: it is none. */
struct err *keyfile_read(const void *json, size_t n, const void *password,
                         size_t password_n, struct crypt_key *master) MUST_USE;

#endif
