/* Where a field of a protobuf-c message lies and what it is called in JSON: shared by
 * the two directions of pbjson. Pure. */
#ifndef COMMON_WIRE_PBFIELD_H
#define COMMON_WIRE_PBFIELD_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "hold_limit_ms" → "holdLimitMs"; malloc'd. */
char *pbfield_json_name(const ProtobufCFieldDescriptor *fd);
/* The field called `key` in JSON or in the .proto file, or NULL. */
const ProtobufCFieldDescriptor *pbfield_find(const ProtobufCMessageDescriptor *md,
                                             const char *key);
/* Size of one value: an element of a repeated field, or the member itself. */
size_t pbfield_size(ProtobufCType type);

static inline void *pbfield_at(const ProtobufCMessage *msg,
                               const ProtobufCFieldDescriptor *fd)
{
    return (char *)(uintptr_t)msg + fd->offset;
}

/* The count, has-flag or oneof case beside the member. */
static inline void *pbfield_quantifier(const ProtobufCMessage *msg,
                                       const ProtobufCFieldDescriptor *fd)
{
    return (char *)(uintptr_t)msg + fd->quantifier_offset;
}

static inline bool pbfield_is_oneof(const ProtobufCFieldDescriptor *fd)
{
    return fd->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
}

/* Is it held by pointer, so that NULL says absent? */
static inline bool pbfield_is_pointer(const ProtobufCFieldDescriptor *fd)
{
    return fd->type == PROTOBUF_C_TYPE_MESSAGE || fd->type == PROTOBUF_C_TYPE_STRING;
}

#endif
