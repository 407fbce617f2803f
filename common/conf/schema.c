#include "common/conf/schema.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/conf/units.h"

#define SCHEMA_MAX_ITEMS 10000

/* A place in the document while binding: the path text is grown and cut back. */
struct binder {
    const struct conf *conf;
    struct buf path;
};

static struct err *bind_map(struct binder *b, const struct conf_node *map,
                            const struct schema *schema, void *out);

static void *member(void *obj, size_t offset)
{
    return (char *)obj + offset;
}

/* ---- Where we are ---- */

/* Appends ".key"; returns the length to hand to leave(). */
static size_t enter_key(struct binder *b, const char *key)
{
    size_t was = b->path.len;
    if (was)
        buf_char(&b->path, '.');
    buf_str(&b->path, key);
    return was;
}

static size_t enter_index(struct binder *b, size_t i)
{
    size_t was = b->path.len;
    buf_printf(&b->path, "[%zu]", i);
    return was;
}

static void leave(struct binder *b, size_t was)
{
    b->path.len = was;
    if (b->path.data)
        b->path.data[was] = 0;
}

static struct err *refuse(const struct binder *b, const char *fmt, ...)
    PRINTF_LIKE(2, 3) MUST_USE;
static struct err *refuse(const struct binder *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    AUTO(str) char *msg = mem_vprintf(fmt, ap);
    va_end(ap);
    return conf_refuse(b->conf, buf_text(&b->path), "%s", msg);
}

/* Puts file, line, column and key in front of an error that knows none of them. */
static struct err *locate(const struct binder *b, struct err *e)
{
    if (!e)
        return NULL;
    AUTO(str) char *text = err_text(e);
    err_free(e);
    return refuse(b, "%s", text);
}

/* ---- Did you mean ---- */

/* Levenshtein distance of two words of less than 64 bytes; more is "far away". */
static size_t word_distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), row[64];
    if (la >= ARRAY_LEN(row) || lb >= ARRAY_LEN(row))
        return SIZE_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

/* Keeps `name` in *best when it is nearer to `word` than what is there; far-fetched
 * guesses (more than a third of the word wrong) are worse than none. */
static void consider(const char *word, const char *name, const char **best,
                     size_t *distance)
{
    size_t d = word_distance(word, name);
    if (d < *distance && d <= 1 + strlen(word) / 3) {
        *best = name;
        *distance = d;
    }
}

static struct err *refuse_key(struct binder *b, const struct schema *schema,
                              const char *key)
{
    const char *best = NULL;
    size_t distance = SIZE_MAX;
    for (size_t i = 0; i < schema->n; i++)
        consider(key, schema->fields[i].key, &best, &distance);
    size_t was = enter_key(b, key);
    struct err *e = NULL;
    if (best) {
        e = refuse(b, "unknown key; did you mean '%s'?", best);
    } else {
        AUTO_BUF struct buf known;
        buf_init(&known);
        for (size_t i = 0; i < schema->n; i++)
            buf_printf(&known, "%s%s", i ? ", " : "", schema->fields[i].key);
        e = refuse(b, "unknown key; known here: %s", buf_text(&known));
    }
    leave(b, was);
    return e;
}

/* ---- Scalars ---- */

static struct err *check_name(const char *text)
{
    size_t bytes = strlen(text);
    size_t good = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    if (bytes > SCHEMA_MAX_NAME)
        return err_new(ERR_INVALID, "'%s' is longer than %d bytes", text,
                       SCHEMA_MAX_NAME);
    if (good != bytes || strchr("._-", text[0]))
        return err_new(ERR_INVALID,
                       "'%s' is not a name; use a-z, 0-9, '.', '_' and '-', beginning "
                       "with a letter or digit",
                       text);
    return NULL;
}

static struct err *check_path(const char *text)
{
    if (text[0] != '/')
        return err_new(ERR_INVALID, "'%s' is a relative path; begin it with '/'", text);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            return err_new(ERR_INVALID, "a path with control characters is not accepted");
    if (strcmp(text, "/") == 0)
        return NULL;
    for (const char *p = text; *p;) {
        size_t bytes = strcspn(p + 1, "/");
        bool dots =
            (bytes == 1 && p[1] == '.') || (bytes == 2 && p[1] == '.' && p[2] == '.');
        if (bytes == 0 || dots)
            return err_new(ERR_INVALID,
                           "'%s' is not in normal form; write it without '//', '/./', "
                           "'/../' and without '/' at the end",
                           text);
        p += 1 + bytes;
    }
    return NULL;
}

static struct err *bind_text(const struct schema_field *f, const char *text, char **out)
{
    if (text[0] == 0)
        return err_new(ERR_INVALID, "has no value");
    if (strlen(text) > SCHEMA_MAX_TEXT)
        return err_new(ERR_INVALID, "longer than %d bytes", SCHEMA_MAX_TEXT);
    if (f->type == SCHEMA_NAME)
        TRY(check_name(text));
    if (f->type == SCHEMA_PATH)
        TRY(check_path(text));
    if (f->check)
        TRY(f->check(text));
    *out = mem_strdup(text);
    return NULL;
}

static struct err *bind_bool(const char *text, bool *out)
{
    *out = strcmp(text, "true") == 0;
    if (!*out && strcmp(text, "false") != 0)
        return err_new(ERR_INVALID, "'%s' is neither true nor false", text);
    return NULL;
}

static struct err *check_range(const struct schema_field *f, int64_t v, const char *text)
{
    bool unlimited = f->min == 0 && f->max == 0;
    if (v >= f->min && (unlimited || v <= f->max))
        return NULL;
    if (unlimited)
        return err_new(ERR_INVALID, "'%s' is below zero", text);
    const char *unit = f->type == SCHEMA_DURATION ? " ms"
                       : f->type == SCHEMA_SIZE   ? " bytes"
                                                  : "";
    return err_new(ERR_INVALID, "'%s' is out of range; allowed are %lld to %lld%s", text,
                   (long long)f->min, (long long)f->max, unit);
}

static struct err *bind_number(const struct schema_field *f, const char *text, void *out)
{
    int64_t v = 0;
    if (f->type == SCHEMA_INT) {
        TRY(units_int(text, &v));
    } else if (f->type == SCHEMA_DURATION) {
        TRY(units_duration(text, &v));
    } else {
        uint64_t bytes = 0;
        TRY(units_size(text, &bytes));
        v = (int64_t)bytes;
    }
    TRY(check_range(f, v, text));
    /* int64_t and uint64_t may alias; v is never negative for a size. */
    *(int64_t *)out = v;
    return NULL;
}

static struct err *bind_enum(const struct schema_field *f, const char *text, int *out)
{
    const char *best = NULL;
    size_t distance = SIZE_MAX;
    AUTO_BUF struct buf known;
    buf_init(&known);
    for (int i = 0; f->names[i]; i++) {
        if (strcmp(f->names[i], text) == 0) {
            *out = i;
            return NULL;
        }
        consider(text, f->names[i], &best, &distance);
        buf_printf(&known, "%s%s", i ? ", " : "", f->names[i]);
    }
    if (best)
        return err_new(ERR_INVALID, "'%s' is unknown; did you mean '%s'? (known: %s)",
                       text, best, buf_text(&known));
    return err_new(ERR_INVALID, "'%s' is unknown; choose one of %s", text,
                   buf_text(&known));
}

static struct err *bind_scalar(const struct schema_field *f, const char *text, void *out)
{
    switch (f->type) {
    case SCHEMA_BOOL:
        return bind_bool(text, out);
    case SCHEMA_INT:
    case SCHEMA_DURATION:
    case SCHEMA_SIZE:
        return bind_number(f, text, out);
    case SCHEMA_ENUM:
        return bind_enum(f, text, out);
    default:
        return bind_text(f, text, out);
    }
}

/* ---- Lists and maps ---- */

static struct err *expect_kind(const struct binder *b, const struct conf_node *n,
                               enum conf_kind want)
{
    static const char *const what[] = {
        [CONF_SCALAR] = "one value",
        [CONF_LIST] = "a list ('- item' lines or [a, b])",
        [CONF_MAP] = "'key: value' lines",
    };
    if (n->kind == want)
        return NULL;
    if (n->kind == CONF_SCALAR && n->plain && n->text[0] == 0)
        return refuse(b, "has no value; expected %s", what[want]);
    return refuse(b, "expected %s", what[want]);
}

static struct err *check_count(const struct binder *b, const struct schema_field *f,
                               size_t n)
{
    size_t max = f->max ? (size_t)f->max : SCHEMA_MAX_ITEMS;
    if (n > max)
        return refuse(b, "has %zu entries; at most %zu are allowed", n, max);
    if (n < (size_t)f->min)
        return refuse(b, "has %zu entries; at least %zu are needed", n, (size_t)f->min);
    return NULL;
}

static struct err *bind_strs(struct binder *b, const struct schema_field *f,
                             const struct conf_node *list, void *obj)
{
    char **items = mem_array(list->n, sizeof(*items));
    *(char ***)member(obj, f->offset) = items;
    *(size_t *)member(obj, f->count) = list->n;
    for (size_t i = 0; i < list->n; i++) {
        size_t was = enter_index(b, i);
        TRY(expect_kind(b, list->items[i], CONF_SCALAR));
        TRY(locate(b, bind_text(f, list->items[i]->text, &items[i])));
        leave(b, was);
    }
    return NULL;
}

static struct err *bind_pairs(struct binder *b, const struct schema_field *f,
                              const struct conf_node *map, void *obj)
{
    struct schema_pair *items = mem_array(map->n, sizeof(*items));
    *(struct schema_pair **)member(obj, f->offset) = items;
    *(size_t *)member(obj, f->count) = map->n;
    for (size_t i = 0; i < map->n; i++) {
        const char *key = map->keys[i]->text;
        size_t was = enter_key(b, key);
        TRY(expect_kind(b, map->items[i], CONF_SCALAR));
        const char *value = map->items[i]->text;
        if (strlen(key) > SCHEMA_MAX_NAME || strlen(value) > SCHEMA_MAX_TEXT)
            return refuse(b, "too long");
        items[i].key = mem_strdup(key);
        items[i].value = mem_strdup(value);
        leave(b, was);
    }
    return NULL;
}

static struct err *bind_objects(struct binder *b, const struct schema_field *f,
                                const struct conf_node *list, void *obj)
{
    char *items = mem_array(list->n, f->schema->bytes);
    *(void **)member(obj, f->offset) = items;
    *(size_t *)member(obj, f->count) = list->n;
    for (size_t i = 0; i < list->n; i++) {
        size_t was = enter_index(b, i);
        TRY(expect_kind(b, list->items[i], CONF_MAP));
        TRY(bind_map(b, list->items[i], f->schema, items + i * f->schema->bytes));
        leave(b, was);
    }
    return NULL;
}

static struct err *bind_value(struct binder *b, const struct schema_field *f,
                              const struct conf_node *n, void *obj)
{
    void *at = member(obj, f->offset);
    switch (f->type) {
    case SCHEMA_STRS:
        TRY(expect_kind(b, n, CONF_LIST));
        TRY(check_count(b, f, n->n));
        return bind_strs(b, f, n, obj);
    case SCHEMA_PAIRS:
        TRY(expect_kind(b, n, CONF_MAP));
        TRY(check_count(b, f, n->n));
        return bind_pairs(b, f, n, obj);
    case SCHEMA_OBJECTS:
        TRY(expect_kind(b, n, CONF_LIST));
        TRY(check_count(b, f, n->n));
        return bind_objects(b, f, n, obj);
    case SCHEMA_OBJECT:
        TRY(expect_kind(b, n, CONF_MAP));
        return bind_map(b, n, f->schema, at);
    case SCHEMA_OPTIONAL:
        TRY(expect_kind(b, n, CONF_MAP));
        *(void **)at = mem_zalloc(f->schema->bytes);
        return bind_map(b, n, f->schema, *(void **)at);
    default:
        TRY(expect_kind(b, n, CONF_SCALAR));
        return locate(b, bind_scalar(f, n->text, at));
    }
}

static const struct schema_field *field_of(const struct schema *schema, const char *key)
{
    for (size_t i = 0; i < schema->n; i++)
        if (strcmp(schema->fields[i].key, key) == 0)
            return &schema->fields[i];
    return NULL;
}

/* Defaults first; whatever the file says replaces them. */
static void set_fallbacks(const struct schema *schema, void *out)
{
    for (size_t i = 0; i < schema->n; i++) {
        const struct schema_field *f = &schema->fields[i];
        if (f->fallback) {
            struct err *e = bind_scalar(f, f->fallback, member(out, f->offset));
            assert(e == NULL); /* the table itself is wrong */
        } else if (f->type == SCHEMA_OBJECT) {
            set_fallbacks(f->schema, member(out, f->offset));
        }
    }
}

static bool type_is_text(enum schema_type t)
{
    return t == SCHEMA_STR || t == SCHEMA_NAME || t == SCHEMA_PATH;
}

/* A default text is replaced, not leaked. */
static void drop_fallback(const struct schema_field *f, void *out)
{
    if (f->fallback && type_is_text(f->type)) {
        char **text = member(out, f->offset);
        free(*text);
        *text = NULL;
    }
}

/* Fills *out, which is zeroed. On error the caller releases what is there. */
static struct err *bind_map(struct binder *b, const struct conf_node *map,
                            const struct schema *schema, void *out)
{
    /* An OBJECT's defaults were set with its parent's; those of list items were not. */
    schema_release(schema, out);
    set_fallbacks(schema, out);
    for (size_t i = 0; i < map->n; i++) {
        const struct schema_field *f = field_of(schema, map->keys[i]->text);
        if (!f)
            return refuse_key(b, schema, map->keys[i]->text);
        size_t was = enter_key(b, f->key);
        drop_fallback(f, out);
        TRY(bind_value(b, f, map->items[i], out));
        leave(b, was);
    }
    for (size_t i = 0; i < schema->n; i++) {
        const struct schema_field *f = &schema->fields[i];
        bool given = false;
        for (size_t k = 0; k < map->n && !given; k++)
            given = strcmp(map->keys[k]->text, f->key) == 0;
        if (f->required && !given) {
            size_t was = enter_key(b, f->key);
            struct err *e = refuse(b, "is required");
            leave(b, was);
            return e;
        }
    }
    return NULL;
}

struct err *schema_bind(const struct conf *c, const struct schema *schema, void *out)
{
    memset(out, 0, schema->bytes);
    struct binder b = {.conf = c};
    buf_init(&b.path);
    struct err *e = bind_map(&b, conf_root(c), schema, out);
    buf_fini(&b.path);
    if (e)
        schema_release(schema, out);
    return e;
}

/* ---- Release ---- */

static void release_field(const struct schema_field *f, void *obj)
{
    void **at = member(obj, f->offset);
    size_t n = f->count ? *(size_t *)member(obj, f->count) : 0;
    switch (f->type) {
    case SCHEMA_BOOL:
    case SCHEMA_INT:
    case SCHEMA_DURATION:
    case SCHEMA_SIZE:
    case SCHEMA_ENUM:
        return;
    case SCHEMA_OBJECT:
        schema_release(f->schema, at);
        return;
    case SCHEMA_STRS:
        for (size_t i = 0; i < n; i++)
            free(((char **)*at)[i]);
        break;
    case SCHEMA_PAIRS:
        for (size_t i = 0; i < n; i++) {
            free(((struct schema_pair *)*at)[i].key);
            free(((struct schema_pair *)*at)[i].value);
        }
        break;
    case SCHEMA_OBJECTS:
        for (size_t i = 0; i < n; i++)
            schema_release(f->schema, (char *)*at + i * f->schema->bytes);
        break;
    case SCHEMA_OPTIONAL:
        if (*at)
            schema_release(f->schema, *at);
        break;
    case SCHEMA_STR:
    case SCHEMA_NAME:
    case SCHEMA_PATH:
        break;
    }
    free(*at);
}

void schema_release(const struct schema *schema, void *obj)
{
    for (size_t i = 0; i < schema->n; i++)
        release_field(&schema->fields[i], obj);
    memset(obj, 0, schema->bytes);
}
