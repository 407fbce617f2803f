#include "common/etcd/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/base64.h"
#include "common/base/mem.h"

void etcd_set_bytes(json_t *o, const char *name, const void *bytes, size_t len)
{
    AUTO_BUF struct buf text;
    buf_init(&text);
    base64_encode(bytes, len, &text);
    json_object_set_new(o, name, json_string_nocheck(buf_text(&text)));
}

void etcd_set_number(json_t *o, const char *name, int64_t n)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%" PRId64, n);
    json_object_set_new(o, name, json_string(digits));
}

/* The first key behind all that begin with the prefix; "\0" stands for no end. */
void etcd_set_prefix(json_t *o, const char *prefix)
{
    size_t n = strlen(prefix);
    if (n == 0) {
        etcd_set_bytes(o, "key", "", 1);
        etcd_set_bytes(o, "range_end", "", 1);
        return;
    }
    AUTO(str) char *end = mem_strdup(prefix);
    etcd_set_bytes(o, "key", prefix, n);
    while (n > 0 && (unsigned char)end[n - 1] == 0xff)
        n--;
    if (n > 0)
        end[n - 1]++;
    etcd_set_bytes(o, "range_end", n > 0 ? end : "", n > 0 ? n : 1);
}

struct err *etcd_get_number(const json_t *o, const char *name, int64_t *out)
{
    *out = 0;
    const json_t *v = json_object_get(o, name);
    if (!v)
        return NULL;
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return NULL;
    }
    const char *s = json_string_value(v);
    char *end = NULL;
    errno = 0;
    if (s && *s)
        *out = strtoll(s, &end, 10);
    if (!end || *end || errno)
        return err_new(ERR_CORRUPT, "member \"%s\" is no number", name);
    return NULL;
}

static struct err *get_bytes(const json_t *o, const char *name, char **out, size_t *len)
{
    const json_t *v = json_object_get(o, name);
    AUTO_BUF struct buf bytes;
    buf_init(&bytes);
    if (v && (!json_is_string(v) ||
              !base64_decode(json_string_value(v), json_string_length(v), &bytes)))
        return err_new(ERR_CORRUPT, "member \"%s\" is no base64", name);
    *len = bytes.len;
    *out = buf_steal(&bytes);
    return NULL;
}

struct err *etcd_read_kv(const json_t *o, struct etcd_kv *out)
{
    *out = (struct etcd_kv){0};
    if (!json_is_object(o))
        return err_new(ERR_CORRUPT, "a key is no object");
    size_t key_len;
    TRY(get_bytes(o, "key", &out->key, &key_len));
    if (strlen(out->key) != key_len)
        return err_new(ERR_CORRUPT, "a key below ours is no text");
    TRY(get_bytes(o, "value", &out->value, &out->value_len));
    TRY(etcd_get_number(o, "create_revision", &out->create_revision));
    TRY(etcd_get_number(o, "mod_revision", &out->mod_revision));
    TRY(etcd_get_number(o, "version", &out->version));
    return etcd_get_number(o, "lease", &out->lease);
}

void etcd_kv_fini(struct etcd_kv *kv)
{
    free(kv->key);
    free(kv->value);
    *kv = (struct etcd_kv){0};
}

void etcd_range_fini(struct etcd_range *r)
{
    for (size_t i = 0; i < r->n; i++)
        etcd_kv_fini(&r->kvs[i]);
    free(r->kvs);
    *r = (struct etcd_range){0};
}

struct err *etcd_read_range(const json_t *o, struct etcd_range *out, size_t *cap)
{
    if (!json_is_object(o))
        return err_new(ERR_CORRUPT, "a range is no object");
    const json_t *kvs = json_object_get(o, "kvs");
    if (kvs && !json_is_array(kvs))
        return err_new(ERR_CORRUPT, "member \"kvs\" is no list");
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        mem_reserve((void **)&out->kvs, cap, out->n, sizeof *out->kvs);
        TRY(etcd_read_kv(json_array_get(kvs, i), &out->kvs[out->n++]));
    }
    out->more = json_is_true(json_object_get(o, "more"));
    return etcd_get_number(json_object_get(o, "header"), "revision", &out->revision);
}
