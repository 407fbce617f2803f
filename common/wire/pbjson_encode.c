#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/base64.h"
#include "common/base/mem.h"
#include "common/wire/pbfield.h"
#include "common/wire/pbjson.h"
#include "common/wire/pbjson_tree.h"
#include "common/wire/utf8.h"

static json_t *text(const char *s)
{
    if (utf8_valid(s ? s : ""))
        return json_string_nocheck(s ? s : "");
    AUTO(str) char *repaired = utf8_repair(s);
    return json_string_nocheck(repaired);
}

static json_t *real(double d)
{
    if (isnan(d))
        return json_string("NaN");
    if (isinf(d))
        return json_string(d > 0 ? "Infinity" : "-Infinity");
    return json_real(d);
}

static json_t *base64(const ProtobufCBinaryData *b)
{
    AUTO_BUF struct buf out;
    buf_init(&out);
    base64_encode(b->data, b->len, &out);
    return json_string_nocheck(buf_text(&out));
}

static json_t *enumeration(const ProtobufCEnumDescriptor *ed, int number)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(ed, number);
    return v ? json_string(v->name) : json_integer(number);
}

static json_t *one_value(const ProtobufCFieldDescriptor *fd, const void *at,
                         unsigned flags)
{
    char digits[32];
    switch (fd->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        snprintf(digits, sizeof digits, "%" PRId64, *(const int64_t *)at);
        return json_string(digits);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        snprintf(digits, sizeof digits, "%" PRIu64, *(const uint64_t *)at);
        return json_string(digits);
    case PROTOBUF_C_TYPE_FLOAT:
        return real((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return real(*(const double *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_ENUM:
        return enumeration(fd->descriptor, *(const int *)at);
    case PROTOBUF_C_TYPE_STRING:
        return text(*(char *const *)at);
    case PROTOBUF_C_TYPE_BYTES:
        return base64(at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return pbjson_tree(*(ProtobufCMessage *const *)at, flags);
    }
    assert(!"a field type that protobuf-c does not have");
    return NULL;
}

static json_t *list(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *fd,
                    unsigned flags)
{
    size_t n = *(const size_t *)pbfield_quantifier(msg, fd);
    const char *items = *(char *const *)pbfield_at(msg, fd);
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array,
                              one_value(fd, items + i * pbfield_size(fd->type), flags));
    return array;
}

static bool is_default(const ProtobufCFieldDescriptor *fd, const void *at)
{
    static const char zeros[sizeof(ProtobufCBinaryData)];
    if (fd->type == PROTOBUF_C_TYPE_STRING) {
        const char *s = *(char *const *)at;
        return !s || !*s;
    }
    if (fd->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)at)->len == 0;
    return memcmp(at, zeros, pbfield_size(fd->type)) == 0; /* -0.0 is no default */
}

static bool is_shown(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *fd,
                     unsigned flags)
{
    const void *at = pbfield_at(msg, fd);
    if (fd->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)pbfield_quantifier(msg, fd) || (flags & PBJSON_DEFAULTS);
    if (pbfield_is_oneof(fd) && *(const uint32_t *)pbfield_quantifier(msg, fd) != fd->id)
        return false;
    if (fd->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(ProtobufCMessage *const *)at;
    if (pbfield_is_oneof(fd) || fd->label == PROTOBUF_C_LABEL_REQUIRED)
        return true;
    if (fd->label == PROTOBUF_C_LABEL_OPTIONAL)
        return fd->type == PROTOBUF_C_TYPE_STRING
                   ? *(char *const *)at && *(char *const *)at != fd->default_value
                   : *(const protobuf_c_boolean *)pbfield_quantifier(msg, fd);
    return (flags & PBJSON_DEFAULTS) || !is_default(fd, at);
}

json_t *pbjson_tree(const ProtobufCMessage *msg, unsigned flags)
{
    const ProtobufCMessageDescriptor *md = msg->descriptor;
    json_t *object = json_object();
    for (unsigned i = 0; i < md->n_fields; i++) {
        const ProtobufCFieldDescriptor *fd = &md->fields[i];
        if (!is_shown(msg, fd, flags))
            continue;
        AUTO(str) char *name = pbfield_json_name(fd);
        json_t *value = fd->label == PROTOBUF_C_LABEL_REPEATED
                            ? list(msg, fd, flags)
                            : one_value(fd, pbfield_at(msg, fd), flags);
        json_object_set_new_nocheck(object, name, value);
    }
    return object;
}

char *pbjson_encode(const ProtobufCMessage *msg, unsigned flags)
{
    AUTO(json) json_t *tree = pbjson_tree(msg, flags);
    char *s = json_dumps(tree, flags & PBJSON_PRETTY ? JSON_INDENT(2) : JSON_COMPACT);
    assert(s); /* all text was made UTF-8 */
    return s;
}
