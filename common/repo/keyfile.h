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
/* Who made a key file, for showing; nothing of it is protected against change. */
struct keyfile_info {
    char *created; /* owned, as all; "" when it says nothing */
    char *username;
    char *hostname;
};
/* CORRUPT: it is no key file. Fills a zeroed struct. */
struct err *keyfile_info(const void *json, size_t n, struct keyfile_info *out) MUST_USE;
void keyfile_info_fini(struct keyfile_info *info);

/* DENIED: the password does not open this key file; CORRUPT or INVALID: it is none. */
struct err *keyfile_read(const void *json, size_t n, const void *password,
                         size_t password_n, struct crypt_key *master) MUST_USE;

#endif
