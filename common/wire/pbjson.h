/* Any protobuf-c message as proto3 JSON and back: the text form of RPCs, etcd records,
 * files and `--json`. Member names are lowerCamelCase (the .proto spelling is read too),
 * 64-bit integers are strings (numbers are read too), bytes are base64, enums are names,
 * default values are left out. Pure; any thread. */
#ifndef COMMON_WIRE_PBJSON_H
#define COMMON_WIRE_PBJSON_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum {
    /* decode: members that the message does not have are errors, not skipped. */
    PBJSON_STRICT = 1,
    /* encode: indented, for people. */
    PBJSON_PRETTY = 2,
    /* encode: also members with default values, as lists and scripts like them. */
    PBJSON_DEFAULTS = 4,
};

enum {
    PBJSON_DEPTH = 64,       /* levels of nesting */
    PBJSON_BYTES = 16 << 20, /* of one text */
};

/* One line unless PRETTY. Never NULL; bytes in text that are not UTF-8 become U+FFFD. */
char *pbjson_encode(const ProtobufCMessage *msg, unsigned flags) MUST_USE;

/* INVALID with the place ("spec.partitions[2].nmae: unknown member, did you mean
 * \"name\"?"); LIMIT for depth and size. The result is the caller's: wire_free. Text
 * members are never NULL. */
struct err *pbjson_decode(const ProtobufCMessageDescriptor *md, const char *json,
                          size_t len, unsigned flags, ProtobufCMessage **out) MUST_USE;

/* The text that replaces `old_json` when its record becomes `msg`: all of msg, and what
 * old_json has that this reader does not know, at each level of nesting. List items keep
 * theirs by their members name, id, key, node, domain and partition if they have any of
 * these, else by position unless the list became shorter. old_json "" stands for none.
 * INVALID: it is no object. */
struct err *pbjson_merge(const char *old_json, size_t len, const ProtobufCMessage *msg,
                         char **out) MUST_USE;

#endif
