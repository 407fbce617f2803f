#include "common/wire/scan.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { VARINT = 0, FIXED64 = 1, DELIMITED = 2, FIXED32 = 5 };
enum { SCAN_DEPTH = 32 };

struct reader {
    const uint8_t *at, *end;
};

/* One member that has been read: its tag and, if DELIMITED, its bytes. */
struct member {
    uint32_t id;
    int type;
    struct reader body;
};

static bool read_varint(struct reader *r, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 70 && r->at < r->end; shift += 7) {
        uint8_t b = *r->at++;
        if (shift < 64)
            *out |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return true;
    }
    return false;
}

static bool skip(struct reader *r, uint64_t n)
{
    if (n > (uint64_t)(r->end - r->at))
        return false;
    r->at += n;
    return true;
}

static bool read_member(struct reader *r, struct member *out)
{
    uint64_t tag, n;
    if (!read_varint(r, &tag) || tag >> 3 == 0 || tag >> 32)
        return false;
    out->id = (uint32_t)(tag >> 3);
    out->type = (int)(tag & 7);
    switch (out->type) {
    case VARINT:
        return read_varint(r, &n);
    case FIXED64:
        return skip(r, 8);
    case FIXED32:
        return skip(r, 4);
    case DELIMITED:
        if (!read_varint(r, &n))
            return false;
        out->body.at = r->at;
        if (!skip(r, n))
            return false;
        out->body.end = r->at;
        return true;
    default:
        return false;
    }
}

static int wire_type(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return DELIMITED;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return FIXED32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return FIXED64;
    default:
        return VARINT;
    }
}

static struct err *scan(const ProtobufCMessageDescriptor *md, struct reader r, int depth);

static struct err *check_member(const ProtobufCFieldDescriptor *fd,
                                const struct member *m, int depth)
{
    bool packed =
        fd->label == PROTOBUF_C_LABEL_REPEATED && wire_type(fd->type) != DELIMITED;
    if (m->type != wire_type(fd->type) && !(packed && m->type == DELIMITED))
        return err_new(ERR_INVALID, "field '%s': the wire type is %d instead of %d",
                       fd->name, m->type, wire_type(fd->type));
    if (fd->type == PROTOBUF_C_TYPE_STRING &&
        memchr(m->body.at, 0, (size_t)(m->body.end - m->body.at)))
        return err_new(ERR_INVALID, "field '%s': a NUL in text", fd->name);
    if (fd->type == PROTOBUF_C_TYPE_MESSAGE)
        TRY_CTX(scan(fd->descriptor, m->body, depth + 1), "field '%s'", fd->name);
    return NULL;
}

static struct err *scan(const ProtobufCMessageDescriptor *md, struct reader r, int depth)
{
    if (depth > SCAN_DEPTH)
        return err_new(ERR_LIMIT, "messages nested deeper than %d", SCAN_DEPTH);
    while (r.at < r.end) {
        struct member m;
        if (!read_member(&r, &m))
            return err_new(ERR_INVALID, "malformed %s", md->name);
        const ProtobufCFieldDescriptor *fd =
            protobuf_c_message_descriptor_get_field(md, m.id);
        if (fd)
            TRY(check_member(fd, &m, depth));
    }
    return NULL;
}

struct err *scan_message(const ProtobufCMessageDescriptor *md, const void *bytes,
                         size_t len)
{
    const uint8_t *at = bytes;
    return scan(md, (struct reader){at, at + len}, 0);
}
