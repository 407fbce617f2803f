#include "common/repo/keys.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/repo/repo_own.h"

void keys_free(struct repo_key *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        keyfile_info_fini(&list[i].info);
    free(list);
}

struct err *keys_list(struct repo *r, struct repo_key **out, size_t *n)
{
    struct repo_file *files = NULL;
    size_t count = 0;
    TRY(repo_list(r, REPO_KEY, &files, &count));
    struct repo_key *list = mem_array(count, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        AUTO_BUF struct buf json = {0};
        list[i].id = files[i].id;
        list[i].current = digest_equal(&files[i].id, &r->key_id);
        struct err *e = repo_get_raw(r, REPO_KEY, &files[i].id, &json);
        if (!e)
            e = keyfile_info(json.data, json.len, &list[i].info);
        err_free(e); /* a damaged key is shown without its words */
    }
    free(files);
    *out = list;
    *n = count;
    return NULL;
}

struct err *keys_add(struct repo *r, const void *password, size_t password_n,
                     const struct crypt_cost *cost, struct digest *id)
{
    struct repo_file *files = NULL;
    size_t count = 0;
    AUTO_BUF struct buf json = {0};
    if (!password_n)
        return err_new(ERR_INVALID, "the new password is empty");
    TRY(repo_list(r, REPO_KEY, &files, &count));
    free(files);
    if (count >= REPO_KEYS_MAX)
        return err_new(ERR_LIMIT,
                       "the repository has %zu keys; no more than %d are tried", count,
                       REPO_KEYS_MAX);
    TRY(keyfile_write(password, password_n, cost, &r->key, &json));
    hash_bytes(json.data, json.len, id);
    return repo_put_file(r, REPO_KEY, id, json.data, json.len);
}

static struct err *find_key(const struct repo_file *files, size_t n, const char *prefix,
                            struct digest *out)
{
    size_t matches = 0, length = strlen(prefix);
    if (length < 4 || strspn(prefix, "0123456789abcdef") != length)
        return err_new(ERR_INVALID, "'%s' is not a key's id", prefix);
    for (size_t i = 0; i < n; i++) {
        char hex[65];
        digest_hex(&files[i].id, hex);
        if (strncmp(hex, prefix, length) != 0)
            continue;
        *out = files[i].id;
        matches++;
    }
    if (!matches)
        return err_new(ERR_NOT_FOUND, "there is no key '%s'", prefix);
    if (matches > 1)
        return err_new(ERR_INVALID, "%zu keys begin with '%s'", matches, prefix);
    return NULL;
}

struct err *keys_remove(struct repo *r, const char *prefix)
{
    struct repo_file *files = NULL;
    struct digest id;
    size_t n = 0;
    TRY(repo_list(r, REPO_KEY, &files, &n));
    struct err *e = find_key(files, n, prefix, &id);
    free(files);
    TRY(e);
    if (digest_equal(&id, &r->key_id))
        return err_new(ERR_CONFLICT,
                       "key '%s' opened the repository just now: it cannot "
                       "be removed",
                       prefix);
    return repo_remove_file(r, REPO_KEY, &id);
}

/* The new key must open the repository before the old one goes: a key file that cannot
 * be read back would lock everybody out. */
static struct err *try_back(struct repo *r, const struct digest *id, const void *password,
                            size_t password_n)
{
    AUTO_BUF struct buf json = {0};
    struct crypt_key master;
    TRY(repo_get_raw(r, REPO_KEY, id, &json));
    TRY(keyfile_read(json.data, json.len, password, password_n, &master));
    bool same = memcmp(&master, &r->key, sizeof master) == 0;
    crypt_wipe(&master, sizeof master);
    if (!same)
        return err_new(ERR_CORRUPT, "the new key does not open the repository");
    return NULL;
}

struct err *keys_change(struct repo *r, const void *password, size_t password_n,
                        const struct crypt_cost *cost, struct digest *id)
{
    const struct digest old = r->key_id;
    TRY(keys_add(r, password, password_n, cost, id));
    TRY_CTX(try_back(r, id, password, password_n), "read the new key back");
    r->key_id = *id;
    return repo_remove_file(r, REPO_KEY, &old);
}
