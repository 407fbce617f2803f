#include <assert.h>
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/base64.h"
#include "common/base/mem.h"
#include "common/base/suggest.h"
#include "common/wire/pbfield.h"
#include "common/wire/pbjson.h"
#include "common/wire/pbjson_tree.h"
#include "common/wire/wire.h"

/* Where we are in the text, for messages; lives on the stack of the recursion. */
struct place {
    const struct place *up;
    const char *name; /* NULL for a list's item */
    size_t index;
    int depth;
};

static void add_place(const struct place *p, struct buf *out)
{
    if (p->up)
        add_place(p->up, out);
    if (p->name)
        buf_printf(out, "%s%s", out->len ? "." : "", p->name);
    else if (p->up)
        buf_printf(out, "[%zu]", p->index);
}

/* INVALID "a.b[2]: what". */
static struct err *refuse(const struct place *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static struct err *refuse(const struct place *p, const char *fmt, ...)
{
    AUTO_BUF struct buf at;
    buf_init(&at);
    add_place(p, &at);
    va_list ap;
    va_start(ap, fmt);
    AUTO(str) char *what = mem_vprintf(fmt, ap);
    va_end(ap);
    return err_new(ERR_INVALID, "%s%s%s", buf_text(&at), at.len ? ": " : "", what);
}

/* An integer from a JSON integer, an integral real (1e3) or text, within [min, max]. */
static bool read_signed(json_t *v, int64_t min, int64_t max, int64_t *out)
{
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
    } else if (json_is_real(v)) {
        double d = json_real_value(v);
        if (d != floor(d) || fabs(d) > 9007199254740992.0)
            return false;
        *out = (int64_t)d;
    } else {
        const char *s = json_string_value(v);
        char *end = NULL;
        if (!s || !*s || !strchr("-0123456789", *s))
            return false;
        errno = 0;
        *out = strtoll(s, &end, 10);
        if (errno || *end)
            return false;
    }
    return *out >= min && *out <= max;
}

static bool read_unsigned(json_t *v, uint64_t *out)
{
    const char *s = json_string_value(v);
    if (!s) {
        int64_t n;
        bool ok = read_signed(v, 0, INT64_MAX, &n);
        *out = (uint64_t)n;
        return ok;
    }
    char *end = NULL;
    if (!*s || !strchr("0123456789", *s))
        return false;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return !errno && !*end;
}

static bool read_real(json_t *v, double *out)
{
    const char *s = json_string_value(v);
    if (!s) {
        *out = json_number_value(v);
        return json_is_number(v);
    }
    if (strcmp(s, "NaN") == 0 || strcmp(s, "Infinity") == 0 ||
        strcmp(s, "-Infinity") == 0) {
        *out = strtod(s, NULL);
        return true;
    }
    char *end = NULL;
    /* strtod also reads hexadecimal and names, JSON does not. */
    if (!*s || s[strspn(s, "-+.eE0123456789")])
        return false;
    *out = strtod(s, &end);
    return !*end && isfinite(*out);
}

static struct err *read_enum(const struct place *p, const ProtobufCEnumDescriptor *ed,
                             json_t *v, int *out)
{
    int64_t number;
    if (json_is_integer(v) && read_signed(v, INT32_MIN, INT32_MAX, &number)) {
        *out = (int)number;
        return NULL;
    }
    const char *name = json_string_value(v);
    if (!name)
        return refuse(p, "must be a name of %s", ed->short_name);
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value_by_name(ed, name);
    if (value) {
        *out = value->value;
        return NULL;
    }
    const char **known = mem_array(ed->n_value_names, sizeof *known);
    for (unsigned i = 0; i < ed->n_value_names; i++)
        known[i] = ed->values_by_name[i].name;
    const char *near = suggest_nearest(name, known, ed->n_value_names);
    free(known);
    return near ? refuse(p, "unknown value \"%s\", did you mean \"%s\"?", name, near)
                : refuse(p, "unknown value \"%s\"", name);
}

static struct err *read_text(const struct place *p, json_t *v, char **out)
{
    if (!json_is_string(v))
        return refuse(p, "must be text");
    *out = mem_strdup(json_string_value(v));
    return NULL;
}

static struct err *read_bytes(const struct place *p, json_t *v, ProtobufCBinaryData *out)
{
    AUTO_BUF struct buf b;
    buf_init(&b);
    if (!json_is_string(v) ||
        !base64_decode(json_string_value(v), json_string_length(v), &b))
        return refuse(p, "must be base64");
    out->len = b.len;
    out->data = b.len ? (uint8_t *)buf_steal(&b) : NULL;
    return NULL;
}

static struct err *read_message(const struct place *p,
                                const ProtobufCMessageDescriptor *md, json_t *v,
                                unsigned flags, ProtobufCMessage **out);

static struct err *read_number(const struct place *p, const ProtobufCFieldDescriptor *fd,
                               json_t *v, void *at)
{
    int64_t n = 0;
    switch (fd->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        if (!read_signed(v, INT32_MIN, INT32_MAX, &n))
            return refuse(p, "must be an integer of 32 bits");
        *(int32_t *)at = (int32_t)n;
        return NULL;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        if (!read_signed(v, 0, UINT32_MAX, &n))
            return refuse(p, "must be an integer of 32 bits, not negative");
        *(uint32_t *)at = (uint32_t)n;
        return NULL;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_signed(v, INT64_MIN, INT64_MAX, at) ? NULL
                                                        : refuse(p, "must be an integer");
    default:
        return read_unsigned(v, at) ? NULL
                                    : refuse(p, "must be an integer, not negative");
    }
}

static struct err *read_float(const struct place *p, json_t *v, float *out)
{
    double d;
    if (!read_real(v, &d) || (isfinite(d) && fabs(d) > (double)FLT_MAX))
        return refuse(p, "must be a number");
    *out = (float)d;
    return NULL;
}

static struct err *read_value(const struct place *p, const ProtobufCFieldDescriptor *fd,
                              json_t *v, unsigned flags, void *at)
{
    switch (fd->type) {
    case PROTOBUF_C_TYPE_FLOAT:
        return read_float(p, v, at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_real(v, at) ? NULL : refuse(p, "must be a number");
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(v))
            return refuse(p, "must be true or false");
        *(protobuf_c_boolean *)at = json_is_true(v);
        return NULL;
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(p, fd->descriptor, v, at);
    case PROTOBUF_C_TYPE_STRING:
        return read_text(p, v, at);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(p, v, at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return read_message(p, fd->descriptor, v, flags, at);
    default:
        return read_number(p, fd, v, at);
    }
}

static struct err *read_list(const struct place *p, const ProtobufCFieldDescriptor *fd,
                             json_t *v, unsigned flags, ProtobufCMessage *msg)
{
    if (!json_is_array(v))
        return refuse(p, "must be a list");
    if (json_array_size(v) == 0)
        return NULL;
    size_t item_bytes = pbfield_size(fd->type);
    size_t *n = pbfield_quantifier(msg, fd);
    char *items = mem_array(json_array_size(v), item_bytes);
    *(char **)pbfield_at(msg, fd) = items;
    for (size_t i = 0; i < json_array_size(v); i++) {
        struct place item = {p, NULL, i, p->depth};
        TRY(read_value(&item, fd, json_array_get(v, i), flags, items + i * item_bytes));
        ++*n; /* only what is whole is freed with the message */
    }
    return NULL;
}

static struct err *read_member(const struct place *p, const ProtobufCFieldDescriptor *fd,
                               json_t *v, unsigned flags, ProtobufCMessage *msg)
{
    if (json_is_null(v))
        return NULL;
    if (fd->label == PROTOBUF_C_LABEL_REPEATED)
        return read_list(p, fd, v, flags, msg);
    if (!pbfield_is_oneof(fd)) {
        TRY(read_value(p, fd, v, flags, pbfield_at(msg, fd)));
        if (fd->label == PROTOBUF_C_LABEL_OPTIONAL && !pbfield_is_pointer(fd))
            *(protobuf_c_boolean *)pbfield_quantifier(msg, fd) = 1;
        return NULL;
    }
    uint32_t *chosen = pbfield_quantifier(msg, fd);
    if (*chosen)
        return refuse(p, "only one member of this choice may be given");
    TRY(read_value(p, fd, v, flags, pbfield_at(msg, fd)));
    *chosen = fd->id;
    return NULL;
}

static struct err *unknown_member(const struct place *p,
                                  const ProtobufCMessageDescriptor *md)
{
    char **known = mem_array(md->n_fields, sizeof *known);
    for (unsigned i = 0; i < md->n_fields; i++)
        known[i] = pbfield_json_name(&md->fields[i]);
    const char *near = suggest_nearest(p->name, (const char *const *)known, md->n_fields);
    struct err *e = near ? refuse(p, "unknown member, did you mean \"%s\"?", near)
                         : refuse(p, "unknown member");
    for (unsigned i = 0; i < md->n_fields; i++)
        free(known[i]);
    free(known);
    return e;
}

static struct err *read_message(const struct place *p,
                                const ProtobufCMessageDescriptor *md, json_t *v,
                                unsigned flags, ProtobufCMessage **out)
{
    if (!json_is_object(v))
        return refuse(p, "must be an object");
    if (p->depth >= PBJSON_DEPTH)
        return err_new(ERR_LIMIT, "JSON is nested deeper than %d", PBJSON_DEPTH);
    AUTO(wire) ProtobufCMessage *msg = mem_zalloc(md->sizeof_message);
    protobuf_c_message_init(md, msg);
    const char **seen = mem_array(md->n_fields, sizeof *seen);
    struct err *e = NULL;
    const char *key;
    json_t *value;
    json_object_foreach(v, key, value)
    {
        struct place at = {p, key, 0, p->depth + 1};
        const ProtobufCFieldDescriptor *fd = pbfield_find(md, key);
        if (!fd && (flags & PBJSON_STRICT))
            e = unknown_member(&at, md);
        else if (fd && seen[fd - md->fields])
            e = refuse(&at, "given twice, also as \"%s\"", seen[fd - md->fields]);
        else if (fd)
            e = read_member(&at, fd, value, flags, msg);
        if (fd)
            seen[fd - md->fields] = key;
        if (e)
            break;
    }
    free(seen);
    TRY(e);
    *out = STEAL(msg);
    return NULL;
}

struct err *pbjson_parse(const char *json, size_t len, json_t **out)
{
    if (len > PBJSON_BYTES)
        return err_new(ERR_LIMIT, "JSON of %zu bytes is larger than %d", len,
                       PBJSON_BYTES);
    json_error_t why;
    *out = json_loadb(json, len, JSON_REJECT_DUPLICATES, &why);
    if (*out)
        return NULL;
    return err_new(ERR_INVALID, "line %d column %d: %s", why.line, why.column, why.text);
}

struct err *pbjson_decode(const ProtobufCMessageDescriptor *md, const char *json,
                          size_t len, unsigned flags, ProtobufCMessage **out)
{
    AUTO(json) json_t *tree = NULL;
    TRY(pbjson_parse(json, len, &tree));
    struct place root = {0};
    return read_message(&root, md, tree, flags, out);
}
