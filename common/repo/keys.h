/* The keys of an open repository: each seals the same master key under a password. */
#ifndef COMMON_REPO_KEYS_H
#define COMMON_REPO_KEYS_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/keyfile.h"
#include "common/repo/repo.h"

struct repo_key {
    struct digest id;
    bool current;             /* the one that opened this repository */
    struct keyfile_info info; /* all NULL when the file is damaged */
};

/* All keys, by id. *out is for keys_free. */
struct err *keys_list(struct repo *r, struct repo_key **out, size_t *n) MUST_USE;
void keys_free(struct repo_key *list, size_t n);
/* Adds a password. INVALID: it is empty. LIMIT: more keys than readers would try. */
struct err *keys_add(struct repo *r, const void *password, size_t password_n,
                     const struct crypt_cost *cost, struct digest *id) MUST_USE;
/* Removes a key by a unique prefix of its id (4 digits or more). CONFLICT: it is the key
 * in use, so that the last one cannot go. Needs: exclusive lock, STORE_RECLAIM. */
struct err *keys_remove(struct repo *r, const char *prefix) MUST_USE;
/* Replaces the key in use by one with another password, which is then in use. Needs: as
 * keys_remove. */
struct err *keys_change(struct repo *r, const void *password, size_t password_n,
                        const struct crypt_cost *cost, struct digest *id) MUST_USE;

#endif
