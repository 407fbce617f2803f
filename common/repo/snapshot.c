#include "common/repo/snapshot.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

void strings_add(struct strings *s, const char *text)
{
    mem_reserve((void **)&s->items, &s->cap, s->n, sizeof *s->items);
    s->items[s->n++] = mem_strdup(text);
}

void strings_fini(struct strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->items[i]);
    free(s->items);
    *s = (struct strings){0};
}

bool strings_has(const struct strings *s, const char *text)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->items[i], text) == 0)
            return true;
    return false;
}

void snapshot_fini(struct snapshot *s)
{
    strings_fini(&s->paths);
    strings_fini(&s->tags);
    strings_fini(&s->excludes);
    free(s->hostname);
    free(s->username);
    free(s->program_version);
    *s = (struct snapshot){0};
}

static json_t *time_json(struct go_time t)
{
    AUTO_BUF struct buf b = {0};
    go_time_format(&b, t);
    return json_string(buf_text(&b));
}

static json_t *id_json(const struct digest *id)
{
    char hex[65];
    digest_hex(id, hex);
    return json_string(hex);
}

static json_t *strings_json(const struct strings *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++)
        if (json_array_append_new(list, json_string(s->items[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* The counts, by name and place: one table for writing and reading. */
static const struct {
    const char *key;
    size_t at;
} counts[] = {
#define COUNT(name)                                                                      \
    {                                                                                    \
#name, offsetof(struct snapshot_summary, name)                                   \
    }
    COUNT(files_new),
    COUNT(files_changed),
    COUNT(files_unmodified),
    COUNT(dirs_new),
    COUNT(dirs_changed),
    COUNT(dirs_unmodified),
    COUNT(data_blobs),
    COUNT(tree_blobs),
    COUNT(data_added),
    COUNT(data_added_packed),
    COUNT(total_files_processed),
    COUNT(total_bytes_processed),
#undef COUNT
};

static json_t *summary_json(const struct snapshot_summary *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "backup_start", time_json(s->backup_start));
    json_object_set_new(o, "backup_end", time_json(s->backup_end));
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        uint64_t v;
        memcpy(&v, (const char *)s + counts[i].at, sizeof v);
        json_object_set_new(o, counts[i].key, json_integer((json_int_t)v));
    }
    return o;
}

/* Setting a NULL value fails: that is how text that is not UTF-8 shows. */
struct err *snapshot_write(const struct snapshot *s, struct buf *out)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "time", time_json(s->time));
    if (s->has_parent)
        bad |= json_object_set_new(o, "parent", id_json(&s->parent));
    bad |= json_object_set_new(o, "tree", id_json(&s->tree));
    bad |= json_object_set_new(o, "paths", strings_json(&s->paths));
    bad |=
        json_object_set_new(o, "hostname", json_string(s->hostname ? s->hostname : ""));
    bad |=
        json_object_set_new(o, "username", json_string(s->username ? s->username : ""));
    if (s->uid)
        bad |= json_object_set_new(o, "uid", json_integer(s->uid));
    if (s->gid)
        bad |= json_object_set_new(o, "gid", json_integer(s->gid));
    if (s->excludes.n)
        bad |= json_object_set_new(o, "excludes", strings_json(&s->excludes));
    if (s->tags.n)
        bad |= json_object_set_new(o, "tags", strings_json(&s->tags));
    if (s->has_original)
        bad |= json_object_set_new(o, "original", id_json(&s->original));
    if (s->program_version)
        bad |= json_object_set_new(o, "program_version", json_string(s->program_version));
    if (s->summary.valid)
        bad |= json_object_set_new(o, "summary", summary_json(&s->summary));
    char *text = bad ? NULL : json_dumps(o, JSON_COMPACT);
    json_decref(o);
    if (!text)
        return err_new(ERR_INVALID,
                       "a path, tag or host name of the snapshot is not UTF-8");
    buf_str(out, text);
    free(text);
    return NULL;
}

static bool read_time(const json_t *o, const char *key, struct go_time *out)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s && go_time_parse(s, strlen(s), out);
}

/* Seconds that the zone at the end of an RFC 3339 time is ahead of UTC. */
static int read_zone(const json_t *o)
{
    const char *s = json_string_value(json_object_get(o, "time"));
    size_t n = s ? strlen(s) : 0;
    int h = 0, m = 0;
    if (n < 6 || sscanf(s + n - 5, "%2d:%2d", &h, &m) != 2)
        return 0;
    char sign = s[n - 6];
    return sign == '+' || sign == '-' ? (sign == '-' ? -60 : 60) * (h * 60 + m) : 0;
}

static bool read_id(const json_t *o, const char *key, struct digest *out)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s && digest_parse(s, out);
}

static void read_strings(const json_t *o, const char *key, struct strings *out)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(o, key), i, item)
    {
        if (json_is_string(item))
            strings_add(out, json_string_value(item));
    }
}

static char *read_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return mem_strdup(s ? s : "");
}

static void read_summary(const json_t *o, struct snapshot_summary *out)
{
    if (!json_is_object(o))
        return;
    out->valid = read_time(o, "backup_start", &out->backup_start) &&
                 read_time(o, "backup_end", &out->backup_end);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        json_int_t v = json_integer_value(json_object_get(o, counts[i].key));
        uint64_t count = v > 0 ? (uint64_t)v : 0;
        memcpy((char *)out + counts[i].at, &count, sizeof count);
    }
}

struct err *snapshot_read(const void *json, size_t n, struct snapshot *out)
{
    json_error_t why;
    json_t *o = json_loadb(json, n, JSON_ALLOW_NUL, &why);
    if (!o)
        return err_new(ERR_CORRUPT, "snapshot: %s", why.text);
    bool ok = read_time(o, "time", &out->time) && read_id(o, "tree", &out->tree);
    out->zone_s = read_zone(o);
    out->has_parent = read_id(o, "parent", &out->parent);
    out->has_original = read_id(o, "original", &out->original);
    read_strings(o, "paths", &out->paths);
    read_strings(o, "tags", &out->tags);
    read_strings(o, "excludes", &out->excludes);
    out->hostname = read_text(o, "hostname");
    out->username = read_text(o, "username");
    out->program_version = read_text(o, "program_version");
    out->uid = (uint32_t)json_integer_value(json_object_get(o, "uid"));
    out->gid = (uint32_t)json_integer_value(json_object_get(o, "gid"));
    read_summary(json_object_get(o, "summary"), &out->summary);
    json_decref(o);
    if (!ok)
        return err_new(ERR_CORRUPT, "snapshot: it lacks a time or a tree");
    return NULL;
}

static struct err *load_object(const void *json, size_t n, json_t **out)
{
    json_t *o = json_loadb(json, n, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(o)) {
        json_decref(o);
        return err_new(ERR_CORRUPT, "snapshot: it is no JSON object");
    }
    *out = o;
    return NULL;
}

/* Frees the object. */
static void write_derived(json_t *o, const struct digest *id, struct buf *out)
{
    if (!json_is_string(json_object_get(o, "original")))
        json_object_set_new(o, "original", id_json(id));
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    buf_str(out, text);
    free(text);
}

struct err *snapshot_copy(const void *json, size_t n, const struct digest *id,
                          struct buf *out)
{
    json_t *o = NULL;
    TRY(load_object(json, n, &o));
    json_object_del(o, "parent");
    write_derived(o, id, out);
    return NULL;
}

struct err *snapshot_retag(const void *json, size_t n, const struct digest *id,
                           const struct strings *tags, struct buf *out)
{
    json_t *o = NULL, *list = json_array();
    struct err *e = NULL;
    for (size_t i = 0; i < tags->n && !e; i++)
        if (json_array_append_new(list, json_string(tags->items[i])))
            e = err_new(ERR_INVALID, "a tag is not UTF-8");
    if (!e)
        e = load_object(json, n, &o);
    if (e) {
        json_decref(list);
        return e;
    }
    json_object_set_new(o, "tags", list);
    if (!tags->n) /* restic leaves an empty list out */
        json_object_del(o, "tags");
    write_derived(o, id, out);
    return NULL;
}
