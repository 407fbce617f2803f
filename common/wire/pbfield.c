#include "common/wire/pbfield.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "common/base/mem.h"

char *pbfield_json_name(const ProtobufCFieldDescriptor *fd)
{
    char *name = mem_alloc(strlen(fd->name) + 1);
    char *to = name;
    for (const char *s = fd->name; *s; s++) {
        if (*s == '_' && s[1])
            *to++ = (char)toupper((unsigned char)*++s);
        else if (*s != '_')
            *to++ = *s;
    }
    *to = '\0';
    return name;
}

static bool is_called(const ProtobufCFieldDescriptor *fd, const char *key)
{
    AUTO(str) char *name = pbfield_json_name(fd);
    return strcmp(name, key) == 0 || strcmp(fd->name, key) == 0;
}

const ProtobufCFieldDescriptor *pbfield_find(const ProtobufCMessageDescriptor *md,
                                             const char *key)
{
    for (unsigned i = 0; i < md->n_fields; i++)
        if (is_called(&md->fields[i], key))
            return &md->fields[i];
    return NULL;
}

size_t pbfield_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    }
    assert(!"a field type that protobuf-c does not have");
    return 0;
}
