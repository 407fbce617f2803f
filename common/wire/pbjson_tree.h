/* pbjson's own middle form, shared by its files: jansson trees. */
#ifndef COMMON_WIRE_PBJSON_TREE_H
#define COMMON_WIRE_PBJSON_TREE_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include "common/base/attr.h"
#include "common/base/err.h"

DEFINE_AUTO(json, json_t *, json_decref);

/* A new reference. */
json_t *pbjson_tree(const ProtobufCMessage *msg, unsigned flags);
/* Text to tree within the limits; duplicate members are INVALID. */
struct err *pbjson_parse(const char *json, size_t len, json_t **out) MUST_USE;

#endif
