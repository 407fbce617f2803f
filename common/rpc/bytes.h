/* Messages ⇄ gRPC's byte buffers. Any thread. */
#ifndef COMMON_RPC_BYTES_H
#define COMMON_RPC_BYTES_H

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>

#include "common/base/err.h"

/* The caller's: grpc_byte_buffer_destroy. */
grpc_byte_buffer *rpc_bytes_pack(const ProtobufCMessage *msg);
/* Errors as wire_unpack; the buffer stays the caller's. */
struct err *rpc_bytes_unpack(const ProtobufCMessageDescriptor *md,
                             grpc_byte_buffer *bytes, ProtobufCMessage **out) MUST_USE;

#endif
