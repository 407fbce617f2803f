/* Remembers what scrypt derived, so that a daemon that opens one repository for every
 * task pays the half second once. What is kept is no secret beyond the keys that an open
 * repository holds anyway; the password itself is not kept. Any thread. */
#ifndef COMMON_REPO_KDFMEMO_H
#define COMMON_REPO_KDFMEMO_H

#include "common/repo/crypt.h"

enum { KDFMEMO_ENTRIES = 16 }; /* the oldest makes room */

/* As crypt_kdf. */
struct err *kdfmemo_derive(const void *password, size_t password_n,
                           const uint8_t salt[CRYPT_SALT], const struct crypt_cost *cost,
                           struct crypt_key *out) MUST_USE;

#endif
