/* Reading trees: the other half of tree.h. Everything here may be hostile. */
#include "common/repo/tree.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/repo/jscan.h"

/* Keys of a node that matter; others are skipped. */
#define FIELDS(X)                                                                        \
    X(NAME, "name")                                                                      \
    X(TYPE, "type")                                                                      \
    X(MODE, "mode")                                                                      \
    X(MTIME, "mtime")                                                                    \
    X(ATIME, "atime")                                                                    \
    X(CTIME, "ctime")                                                                    \
    X(UID, "uid")                                                                        \
    X(GID, "gid")                                                                        \
    X(USER, "user")                                                                      \
    X(GROUP, "group")                                                                    \
    X(INODE, "inode")                                                                    \
    X(DEVICE_ID, "device_id")                                                            \
    X(SIZE, "size")                                                                      \
    X(LINKS, "links")                                                                    \
    X(TARGET, "linktarget")                                                              \
    X(TARGET_RAW, "linktarget_raw")                                                      \
    X(XATTRS, "extended_attributes")                                                     \
    X(DEVICE, "device")                                                                  \
    X(CONTENT, "content")                                                                \
    X(SUBTREE, "subtree")

enum field {
    FIELD_OTHER,
#define X(name, text) FIELD_##name,
    FIELDS(X)
#undef X
};

/* Depths of the document {"nodes":[{…,"content":[…],"extended_attributes":[{…}]}]}. */
enum { IN_TOP = 1, IN_NODES, IN_NODE, IN_LIST, IN_XATTR };

struct tree_reader {
    struct tree tree; /* nodes not given out yet; the last may be half read */
    size_t given;
    bool half;       /* the last one is */
    struct buf last; /* name of the last whole node */
    struct jscan_stream *json;
    struct node *node; /* the half read one */
    bool in_nodes;
    bool saw_nodes;
    enum field field;
    char xattr_key; /* 'n'ame, 'v'alue or 0 */
    char *xattr_name;
    struct buf xattr_value;
    bool raw_target; /* linktarget_raw was read and wins */
};

static enum field field_of(const struct jscan_event *ev)
{
#define X(name, text)                                                                    \
    if (jscan_is(ev, text))                                                              \
        return FIELD_##name;
    FIELDS(X)
#undef X
    return FIELD_OTHER;
}

static struct err *text_of(const struct jscan_event *ev, char **out)
{
    if (ev->what != JSCAN_STRING || memchr(ev->text, 0, ev->len))
        return err_new(ERR_CORRUPT, "a text of a node is not one");
    free(*out);
    *out = mem_strndup(ev->text, ev->len);
    return NULL;
}

static struct err *id_of(const struct jscan_event *ev, struct digest *out)
{
    char hex[65] = {0};
    if (ev->what == JSCAN_STRING && ev->len == 64)
        memcpy(hex, ev->text, 64);
    if (!digest_parse(hex, out))
        return err_new(ERR_CORRUPT, "a blob id of a node is not one");
    return NULL;
}

static struct err *time_of(const struct jscan_event *ev, struct go_time *out)
{
    if (ev->what != JSCAN_STRING || !go_time_parse(ev->text, ev->len, out))
        return err_new(ERR_CORRUPT, "a time of a node is not one");
    return NULL;
}

/* Names decide where a restore writes: anything that is not one plain component of a path
 * is refused here, once for all readers. */
static struct err *name_of(const struct jscan_event *ev, char **out)
{
    AUTO_BUF struct buf raw = {0};
    bool ok = ev->what == JSCAN_STRING && go_unquote(&raw, ev->text, ev->len);
    const char *s = buf_text(&raw);
    ok = ok && raw.len > 0 && strlen(s) == raw.len && !strchr(s, '/') &&
         strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
    if (!ok)
        return err_new(ERR_CORRUPT, "a node has the unusable name '%.*s'",
                       (int)(ev->len < 100 ? ev->len : 100), ev->text);
    free(*out);
    *out = buf_steal(&raw);
    return NULL;
}

static struct err *type_of(const struct jscan_event *ev, enum node_type *out)
{
    for (enum node_type t = NODE_FILE; t <= NODE_SOCKET; t++)
        if (ev->what == JSCAN_STRING && jscan_is(ev, node_type_name(t))) {
            *out = t;
            return NULL;
        }
    return err_new(ERR_CORRUPT, "a node has the unknown type '%.*s'",
                   (int)(ev->len < 40 ? ev->len : 40), ev->text);
}

static struct err *raw_target(struct tree_reader *r, const struct jscan_event *ev)
{
    AUTO_BUF struct buf raw = {0};
    if (ev->what == JSCAN_NULL)
        return NULL;
    if (ev->what != JSCAN_STRING || !go_base64_decode(&raw, ev->text, ev->len) ||
        strlen(buf_text(&raw)) != raw.len)
        return err_new(ERR_CORRUPT, "a raw link target is malformed");
    free(r->node->target);
    r->node->target = buf_steal(&raw);
    r->raw_target = true;
    return NULL;
}

static struct err *u32_of(const struct jscan_event *ev, uint32_t *out)
{
    uint64_t v;
    TRY(jscan_u64(ev, UINT32_MAX, &v));
    *out = (uint32_t)v;
    return NULL;
}

static struct err *scalar(struct tree_reader *r, const struct jscan_event *ev)
{
    struct node *nd = r->node;
    switch (r->field) {
    case FIELD_NAME:
        return name_of(ev, &nd->name);
    case FIELD_TYPE:
        return type_of(ev, &nd->type);
    case FIELD_MODE:
        return u32_of(ev, &nd->mode);
    case FIELD_MTIME:
        return time_of(ev, &nd->mtime);
    case FIELD_ATIME:
        return time_of(ev, &nd->atime);
    case FIELD_CTIME:
        return time_of(ev, &nd->ctime);
    case FIELD_UID:
        return u32_of(ev, &nd->uid);
    case FIELD_GID:
        return u32_of(ev, &nd->gid);
    case FIELD_USER:
        return text_of(ev, &nd->user);
    case FIELD_GROUP:
        return text_of(ev, &nd->group);
    case FIELD_INODE:
        return jscan_u64(ev, UINT64_MAX, &nd->inode);
    case FIELD_DEVICE_ID:
        return jscan_u64(ev, UINT64_MAX, &nd->device_id);
    case FIELD_SIZE:
        return jscan_u64(ev, UINT64_MAX, &nd->size);
    case FIELD_LINKS:
        return jscan_u64(ev, UINT64_MAX, &nd->links);
    case FIELD_TARGET:
        return r->raw_target ? NULL : text_of(ev, &nd->target);
    case FIELD_TARGET_RAW:
        return raw_target(r, ev);
    case FIELD_DEVICE:
        return jscan_u64(ev, UINT64_MAX, &nd->device);
    case FIELD_SUBTREE:
        if (ev->what == JSCAN_NULL)
            return NULL;
        nd->has_subtree = true;
        return id_of(ev, &nd->subtree);
    case FIELD_CONTENT:
    case FIELD_XATTRS:
        if (ev->what != JSCAN_NULL)
            return err_new(ERR_CORRUPT, "a list of a node is not one");
        return NULL;
    case FIELD_OTHER:
        return NULL;
    }
    return NULL;
}

static struct err *xattr_event(struct tree_reader *r, const struct jscan_event *ev)
{
    if (ev->what == JSCAN_KEY) {
        r->xattr_key = jscan_is(ev, "name") ? 'n' : jscan_is(ev, "value") ? 'v' : 0;
        return NULL;
    }
    if (r->xattr_key == 'n')
        return text_of(ev, &r->xattr_name);
    if (r->xattr_key == 'v' && ev->what != JSCAN_NULL) {
        buf_clear(&r->xattr_value);
        if (ev->what != JSCAN_STRING ||
            !go_base64_decode(&r->xattr_value, ev->text, ev->len))
            return err_new(ERR_CORRUPT, "an extended attribute is malformed");
    }
    return NULL;
}

static struct err *list_event(struct tree_reader *r, const struct jscan_event *ev)
{
    if (r->field == FIELD_CONTENT) {
        struct digest id;
        TRY(id_of(ev, &id));
        node_add_content(r->node, &id);
        return NULL;
    }
    if (r->field != FIELD_XATTRS)
        return NULL;
    if (ev->what == JSCAN_MAP) {
        r->xattr_key = 0;
        buf_clear(&r->xattr_value);
        return NULL;
    }
    if (ev->what != JSCAN_MAP_END || !r->xattr_name)
        return err_new(ERR_CORRUPT, "an extended attribute is malformed");
    node_add_xattr(r->node, r->xattr_name, buf_text(&r->xattr_value), r->xattr_value.len);
    free(STEAL(r->xattr_name));
    return NULL;
}

static struct err *node_event(struct tree_reader *r, const struct jscan_event *ev)
{
    switch (ev->what) {
    case JSCAN_KEY:
        r->field = field_of(ev);
        return NULL;
    case JSCAN_ARRAY:
        if (r->field == FIELD_CONTENT)
            r->node->has_content = true;
        else if (r->field != FIELD_XATTRS && r->field != FIELD_OTHER)
            return err_new(ERR_CORRUPT, "a node has a list where a value belongs");
        return NULL;
    case JSCAN_MAP:
        if (r->field != FIELD_OTHER)
            return err_new(ERR_CORRUPT, "a node has a map where a value belongs");
        return NULL;
    case JSCAN_ARRAY_END:
    case JSCAN_MAP_END:
        return NULL;
    default:
        return scalar(r, ev);
    }
}

/* A node is complete: what every reader relies on holds from here on. */
static struct err *node_done(struct tree_reader *r)
{
    const struct node *nd = r->node;
    r->half = false;
    if (!nd->name || nd->type == NODE_NONE)
        return err_new(ERR_CORRUPT, "a node lacks its name or type");
    if (r->last.len && strcmp(r->last.data, nd->name) >= 0)
        return err_new(ERR_CORRUPT, "nodes are not in order, or twice there: '%s'",
                       nd->name);
    if (nd->type == NODE_DIR && !nd->has_subtree)
        return err_new(ERR_CORRUPT, "directory '%s' has no subtree", nd->name);
    if (nd->type == NODE_FILE && !nd->has_content)
        return err_new(ERR_CORRUPT, "file '%s' has no content list", nd->name);
    buf_clear(&r->last);
    buf_str(&r->last, nd->name);
    return NULL;
}

static struct err *on_event(void *ctx, const struct jscan_event *ev)
{
    struct tree_reader *r = ctx;
    if (ev->depth == IN_TOP) {
        if (ev->what == JSCAN_KEY)
            r->in_nodes = jscan_is(ev, "nodes");
        r->saw_nodes |= r->in_nodes;
        return NULL;
    }
    if (ev->depth == 0)
        return ev->what == JSCAN_MAP || ev->what == JSCAN_MAP_END
                   ? NULL
                   : err_new(ERR_CORRUPT, "a tree is not a JSON object");
    if (!r->in_nodes)
        return NULL;
    if (ev->depth == IN_NODES) {
        if (ev->what == JSCAN_MAP_END)
            return node_done(r);
        if (ev->what != JSCAN_MAP)
            return err_new(ERR_CORRUPT, "a node is not a JSON object");
        r->node = tree_add(&r->tree);
        r->half = true;
        r->raw_target = false;
        return NULL;
    }
    if (ev->depth == IN_NODE)
        return node_event(r, ev);
    if (ev->depth == IN_LIST)
        return list_event(r, ev);
    if (ev->depth == IN_XATTR && r->field == FIELD_XATTRS)
        return xattr_event(r, ev);
    return NULL;
}

struct tree_reader *tree_reader_begin(void)
{
    struct tree_reader *r = mem_zalloc(sizeof *r);
    r->json = jscan_begin(on_event, r);
    return r;
}

/* Forgets the nodes that were given out. */
static void drop_given(struct tree_reader *r)
{
    struct tree *t = &r->tree;
    if (!r->given)
        return;
    for (size_t i = 0; i < r->given; i++)
        node_fini(&t->nodes[i]);
    t->n -= r->given;
    memmove(t->nodes, t->nodes + r->given, t->n * sizeof *t->nodes);
    r->given = 0;
    r->node = t->n ? &t->nodes[t->n - 1] : NULL;
}

struct err *tree_reader_feed(struct tree_reader *r, const void *json, size_t n)
{
    drop_given(r);
    return jscan_feed(r->json, json, n);
}

struct node *tree_reader_next(struct tree_reader *r)
{
    return r->given + r->half < r->tree.n ? &r->tree.nodes[r->given++] : NULL;
}

struct err *tree_reader_end(struct tree_reader *r, struct tree *rest)
{
    if (!r)
        return NULL;
    struct err *e = jscan_end(r->json);
    if (!e && !r->saw_nodes)
        e = err_new(ERR_CORRUPT, "a tree has no list of nodes");
    drop_given(r);
    if (rest)
        *rest = r->tree;
    else
        tree_fini(&r->tree);
    free(r->xattr_name);
    buf_fini(&r->xattr_value);
    buf_fini(&r->last);
    free(r);
    return e;
}

struct err *tree_read(const void *json, size_t n, struct tree *out)
{
    struct tree_reader *r = tree_reader_begin();
    AUTO(err) struct err *fed = tree_reader_feed(r, json, n);
    AUTO(err) struct err *end = tree_reader_end(r, out);
    return fed ? STEAL(fed) : STEAL(end);
}
