#include "common/repo/keyfile.h"

#include <jansson.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/repo/kdfmemo.h"
#include "common/repo/gotext.h"

static void add_base64(struct buf *out, const char *key, const void *data, size_t n)
{
    buf_printf(out, "\"%s\":\"", key);
    go_base64(out, data, n);
    buf_char(out, '"');
}

static void master_json(const struct crypt_key *master, struct buf *out)
{
    buf_str(out, "{\"mac\":{");
    add_base64(out, "k", master->mac_k, sizeof master->mac_k);
    buf_char(out, ',');
    add_base64(out, "r", master->mac_r, sizeof master->mac_r);
    buf_str(out, "},");
    add_base64(out, "encrypt", master->encrypt, sizeof master->encrypt);
    buf_char(out, '}');
}

struct err *keyfile_write(const void *password, size_t password_n,
                          const struct crypt_cost *cost, const struct crypt_key *master,
                          struct buf *out)
{
    uint8_t salt[CRYPT_SALT];
    struct crypt_key user;
    char host[256] = "";
    struct timespec now;
    crypt_random(salt, sizeof salt);
    TRY(crypt_kdf(password, password_n, salt, cost, &user));
    AUTO_BUF struct buf plain = {0};
    AUTO_BUF struct buf sealed = {0};
    master_json(master, &plain);
    AUTO(crypt) struct crypt *c = crypt_new(&user);
    crypt_seal(c, plain.data, plain.len, buf_room(&sealed, plain.len + CRYPT_OVERHEAD));
    sealed.len = plain.len + CRYPT_OVERHEAD;
    crypt_wipe(plain.data, plain.len);
    crypt_wipe(&user, sizeof user);
    clock_gettime(CLOCK_REALTIME, &now);
    gethostname(host, sizeof host - 1);
    buf_str(out, "{\"created\":\"");
    go_time_format(out, (struct go_time){now.tv_sec, (uint32_t)now.tv_nsec});
    buf_str(out, "\",\"username\":\"stillpoint\",\"hostname\":");
    go_json_string(out, host, strlen(host));
    buf_printf(out, ",\"kdf\":\"scrypt\",\"N\":%u,\"r\":%u,\"p\":%u,", cost->n, cost->r,
               cost->p);
    add_base64(out, "salt", salt, sizeof salt);
    buf_char(out, ',');
    add_base64(out, "data", sealed.data, sealed.len);
    buf_str(out, "}\n");
    return NULL;
}

/* Decodes base64 text of exactly n bytes. */
static bool fixed_base64(const json_t *o, const char *key, void *out, size_t n)
{
    AUTO_BUF struct buf b = {0};
    const char *s = json_string_value(json_object_get(o, key));
    bool ok = s && go_base64_decode(&b, s, strlen(s)) && b.len == n;
    if (ok)
        memcpy(out, b.data, n);
    if (b.data)
        crypt_wipe(b.data, b.len);
    return ok;
}

static struct err *parse_master(const void *json, size_t n, struct crypt_key *master)
{
    json_t *o = json_loadb(json, n, 0, NULL);
    const json_t *mac = json_object_get(o, "mac");
    bool ok = fixed_base64(o, "encrypt", master->encrypt, sizeof master->encrypt) &&
              fixed_base64(mac, "k", master->mac_k, sizeof master->mac_k) &&
              fixed_base64(mac, "r", master->mac_r, sizeof master->mac_r);
    json_decref(o);
    if (!ok)
        return err_new(ERR_CORRUPT, "key file: the master key is malformed");
    return NULL;
}

static bool read_cost(const json_t *o, const char *key, uint32_t *out)
{
    json_int_t v = json_integer_value(json_object_get(o, key));
    *out = (uint32_t)v;
    return v > 0 && v <= UINT32_MAX;
}

static struct err *open_sealed(const struct buf *sealed, const struct crypt_key *user,
                               struct crypt_key *master)
{
    AUTO(crypt) struct crypt *c = crypt_new(user);
    AUTO_BUF struct buf plain = {0};
    char *room = buf_room(&plain, sealed->len);
    struct err *e = crypt_open(c, (const uint8_t *)sealed->data, sealed->len, room);
    if (e) {
        err_free(e);
        return err_new(ERR_DENIED, "wrong password");
    }
    plain.len = sealed->len - CRYPT_OVERHEAD;
    e = parse_master(plain.data, plain.len, master);
    crypt_wipe(plain.data, plain.len);
    return e;
}

struct err *keyfile_read(const void *json, size_t n, const void *password,
                         size_t password_n, struct crypt_key *master)
{
    uint8_t salt[CRYPT_SALT];
    struct crypt_cost cost;
    struct crypt_key user;
    AUTO_BUF struct buf sealed = {0};
    json_t *o = json_loadb(json, n, 0, NULL);
    const char *kdf = json_string_value(json_object_get(o, "kdf"));
    const char *data = json_string_value(json_object_get(o, "data"));
    bool ok = kdf && strcmp(kdf, "scrypt") == 0 && data && read_cost(o, "N", &cost.n) &&
              read_cost(o, "r", &cost.r) && read_cost(o, "p", &cost.p) &&
              fixed_base64(o, "salt", salt, sizeof salt) &&
              go_base64_decode(&sealed, data, strlen(data));
    json_decref(o);
    if (!ok)
        return err_new(ERR_CORRUPT, "key file: it is malformed");
    TRY_CTX(kdfmemo_derive(password, password_n, salt, &cost, &user), "key file");
    struct err *e = open_sealed(&sealed, &user, master);
    crypt_wipe(&user, sizeof user);
    return e;
}

static char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return mem_strdup(s ? s : "");
}

struct err *keyfile_info(const void *json, size_t n, struct keyfile_info *out)
{
    json_t *o = json_loadb(json, n, 0, NULL);
    bool ok = json_is_string(json_object_get(o, "kdf"));
    if (ok)
        *out = (struct keyfile_info){text_of(o, "created"), text_of(o, "username"),
                                     text_of(o, "hostname")};
    json_decref(o);
    if (!ok)
        return err_new(ERR_CORRUPT, "key file: it is malformed");
    return NULL;
}

void keyfile_info_fini(struct keyfile_info *info)
{
    free(info->created);
    free(info->username);
    free(info->hostname);
    *info = (struct keyfile_info){0};
}
