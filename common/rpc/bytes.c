#include "common/rpc/bytes.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>

#include "common/wire/wire.h"

grpc_byte_buffer *rpc_bytes_pack(const ProtobufCMessage *msg)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(msg));
    protobuf_c_message_pack(msg, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *bytes = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return bytes;
}

struct err *rpc_bytes_unpack(const ProtobufCMessageDescriptor *md,
                             grpc_byte_buffer *bytes, ProtobufCMessage **out)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, bytes))
        return err_new(ERR_INVALID, "malformed %s", md->name);
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    struct err *e =
        wire_unpack(md, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), out);
    grpc_slice_unref(all);
    return e;
}
