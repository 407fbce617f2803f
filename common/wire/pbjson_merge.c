#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/wire/pbfield.h"
#include "common/wire/pbjson.h"
#include "common/wire/pbjson_tree.h"

static void keep_unknown(json_t *old, const ProtobufCMessageDescriptor *md, json_t *now);

/* What tells list items apart: those of their members that name things; "" if none. */
static char *item_name(json_t *item)
{
    static const char *const members[] = {"name", "id",     "key",
                                          "node", "domain", "partition"};
    AUTO_BUF struct buf out;
    buf_init(&out);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const char *s = json_string_value(json_object_get(item, members[i]));
        if (s)
            buf_printf(&out, "%s=%s\n", members[i], s);
    }
    return buf_steal(&out);
}

static json_t *old_item(json_t *old, json_t *now, size_t index)
{
    AUTO(str) char *name = item_name(json_array_get(now, index));
    if (!*name)
        return json_array_size(old) <= json_array_size(now) ? json_array_get(old, index)
                                                            : NULL;
    size_t i;
    json_t *item;
    json_array_foreach(old, i, item)
    {
        AUTO(str) char *candidate = item_name(item);
        if (strcmp(candidate, name) == 0)
            return item;
    }
    return NULL;
}

static void keep_in_member(json_t *old, const ProtobufCFieldDescriptor *fd, json_t *now)
{
    if (fd->type != PROTOBUF_C_TYPE_MESSAGE)
        return;
    if (fd->label != PROTOBUF_C_LABEL_REPEATED) {
        keep_unknown(old, fd->descriptor, now);
        return;
    }
    for (size_t i = 0; i < json_array_size(now); i++)
        keep_unknown(old_item(old, now, i), fd->descriptor, json_array_get(now, i));
}

/* Adds to `now` what only `old` has. NULL or another type on either side adds nothing. */
static void keep_unknown(json_t *old, const ProtobufCMessageDescriptor *md, json_t *now)
{
    if (!json_is_object(old) || !json_is_object(now))
        return;
    const char *key;
    json_t *value;
    json_object_foreach(old, key, value)
    {
        const ProtobufCFieldDescriptor *fd = pbfield_find(md, key);
        if (!fd) {
            json_object_set_nocheck(now, key, value);
            continue;
        }
        AUTO(str) char *name = pbfield_json_name(fd);
        keep_in_member(value, fd, json_object_get(now, name));
    }
}

struct err *pbjson_merge(const char *old_json, size_t len, const ProtobufCMessage *msg,
                         char **out)
{
    AUTO(json) json_t *now = pbjson_tree(msg, 0);
    if (len > 0) {
        AUTO(json) json_t *old = NULL;
        TRY_CTX(pbjson_parse(old_json, len, &old), "stored record");
        if (!json_is_object(old))
            return err_new(ERR_INVALID, "stored record is no object");
        keep_unknown(old, msg->descriptor, now);
    }
    *out = json_dumps(now, JSON_COMPACT);
    return NULL;
}
