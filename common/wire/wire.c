#include "common/wire/wire.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/scan.h"
#include "common/wire/utf8.h"

void *wire_pack(const ProtobufCMessage *msg, size_t *len)
{
    size_t n = protobuf_c_message_get_packed_size(msg);
    void *bytes = mem_alloc(n);
    *len = protobuf_c_message_pack(msg, bytes);
    return bytes;
}

struct budget {
    size_t left;
    bool exceeded;
};

static void *spend(void *data, size_t bytes)
{
    struct budget *b = data;
    if (bytes > b->left) {
        b->exceeded = true;
        return NULL;
    }
    b->left -= bytes;
    return malloc(bytes);
}

static void give_back(void *data, void *p)
{
    (void)data; /* what was spent stays spent: this bounds time as well */
    free(p);
}

static struct err *check_text(const ProtobufCMessage *msg);

static struct err *check_value(const ProtobufCFieldDescriptor *fd, const void *at)
{
    if (fd->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *sub = *(ProtobufCMessage *const *)at;
        return sub ? check_text(sub) : NULL;
    }
    const char *s = *(char *const *)at;
    if (s && !utf8_valid(s))
        return err_new(ERR_INVALID, "member \"%s\" is not UTF-8", fd->name);
    return NULL;
}

static struct err *check_text(const ProtobufCMessage *msg)
{
    const ProtobufCMessageDescriptor *md = msg->descriptor;
    for (unsigned i = 0; i < md->n_fields; i++) {
        const ProtobufCFieldDescriptor *fd = &md->fields[i];
        if (fd->type != PROTOBUF_C_TYPE_MESSAGE && fd->type != PROTOBUF_C_TYPE_STRING)
            continue;
        const char *base = (const char *)msg;
        bool oneof = fd->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
        if (oneof && *(const uint32_t *)(base + fd->quantifier_offset) != fd->id)
            continue;
        if (fd->label != PROTOBUF_C_LABEL_REPEATED) {
            TRY(check_value(fd, base + fd->offset));
            continue;
        }
        size_t n = *(const size_t *)(base + fd->quantifier_offset);
        void *const *items = *(void *const *const *)(base + fd->offset);
        for (size_t k = 0; k < n; k++)
            TRY(check_value(fd, &items[k]));
    }
    return NULL;
}

struct err *wire_unpack(const ProtobufCMessageDescriptor *md, const void *bytes,
                        size_t len, ProtobufCMessage **out)
{
    TRY_CTX(scan_message(md, bytes, len), "%s", md->name);
    struct budget budget = {WIRE_HEAP_BYTES, false};
    ProtobufCAllocator allocator = {spend, give_back, &budget};
    AUTO(wire)
    ProtobufCMessage *msg = protobuf_c_message_unpack(md, &allocator, len, bytes);
    if (!msg && budget.exceeded)
        return err_new(ERR_LIMIT, "%s takes more than %d bytes", md->name,
                       WIRE_HEAP_BYTES);
    if (!msg)
        return err_new(ERR_INVALID, "malformed %s", md->name);
    TRY_CTX(check_text(msg), "%s", md->name);
    *out = STEAL(msg);
    return NULL;
}

void wire_free(ProtobufCMessage *msg)
{
    if (msg)
        protobuf_c_message_free_unpacked(msg, NULL);
}
