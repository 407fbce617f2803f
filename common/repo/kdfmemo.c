#include "common/repo/kdfmemo.h"

#include <pthread.h>
#include <stdbool.h>

#include "common/base/hash.h"

struct entry {
    struct digest name; /* of password, salt and cost */
    struct crypt_key key;
    bool used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next two */
static struct entry entries[KDFMEMO_ENTRIES];
static unsigned next;

static void name_of(const void *password, size_t n, const uint8_t salt[CRYPT_SALT],
                    const struct crypt_cost *cost, struct digest *out)
{
    struct hash *h = hash_new();
    hash_add(h, salt,
             CRYPT_SALT); /* of fixed length, so that nothing else means the same */
    hash_add(h, cost, sizeof *cost);
    hash_add(h, password, n);
    hash_end(h, out);
}

static bool recall(const struct digest *name, struct crypt_key *out)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < KDFMEMO_ENTRIES && !found; i++) {
        found = entries[i].used && digest_equal(&entries[i].name, name);
        if (found)
            *out = entries[i].key;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static void remember(const struct digest *name, const struct crypt_key *key)
{
    pthread_mutex_lock(&lock);
    entries[next++ % KDFMEMO_ENTRIES] = (struct entry){*name, *key, true};
    pthread_mutex_unlock(&lock);
}

struct err *kdfmemo_derive(const void *password, size_t password_n,
                           const uint8_t salt[CRYPT_SALT], const struct crypt_cost *cost,
                           struct crypt_key *out)
{
    struct digest name;
    name_of(password, password_n, salt, cost, &name);
    if (recall(&name, out))
        return NULL;
    TRY(crypt_kdf(password, password_n, salt, cost, out));
    remember(&name, out);
    return NULL;
}
