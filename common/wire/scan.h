/* A look at a message's bytes before they are unpacked: what the unpacker would refuse
 * without saying where, or accept and lose. Pure; any thread. */
#ifndef COMMON_WIRE_SCAN_H
#define COMMON_WIRE_SCAN_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* INVALID naming the member ("field 'spec.group': a NUL in text"): it does not end within
 * its message, has the wire type of another kind, or is text with a NUL, which a C string
 * would silently end at. Unknown members are passed over. */
struct err *scan_message(const ProtobufCMessageDescriptor *md, const void *bytes,
                         size_t len) MUST_USE;

#endif
