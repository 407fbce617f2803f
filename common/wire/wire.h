/* Messages as bytes: bounded, checked, described. Pure; any thread. */
#ifndef COMMON_WIRE_WIRE_H
#define COMMON_WIRE_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* Heap that one received message may take: crafted bytes (empty submessages) could
 * otherwise take 60 times their size. */
enum { WIRE_HEAP_BYTES = 64 << 20 };

/* The packed message, malloc'd; never NULL. */
void *wire_pack(const ProtobufCMessage *msg, size_t *len) MUST_USE;
/* INVALID, naming message and member: malformed bytes, or text that is not UTF-8 or has a
 * NUL. LIMIT: it would take more than WIRE_HEAP_BYTES. The result is the caller's:
 * wire_free. */
struct err *wire_unpack(const ProtobufCMessageDescriptor *md, const void *bytes,
                        size_t len, ProtobufCMessage **out) MUST_USE;
void wire_free(ProtobufCMessage *msg);
DEFINE_AUTO(wire, ProtobufCMessage *, wire_free);

#endif
