#include "common/repo/tree.h"

#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"

/* Bits of Go's fs.FileMode. */
enum {
    GO_STICKY = 1 << 20,
    GO_CHAR = 1 << 21,
    GO_SETGID = 1 << 22,
    GO_SETUID = 1 << 23,
    GO_SOCKET = 1 << 24,
    GO_FIFO = 1 << 25,
    GO_DEVICE = 1 << 26,
    GO_SYMLINK = 1 << 27,
};
#define GO_DIR (UINT32_C(1) << 31)

static const char *const type_names[] = {
    [NODE_NONE] = "none",       [NODE_FILE] = "file",     [NODE_DIR] = "dir",
    [NODE_SYMLINK] = "symlink", [NODE_DEV] = "dev",       [NODE_CHARDEV] = "chardev",
    [NODE_FIFO] = "fifo",       [NODE_SOCKET] = "socket",
};

const char *node_type_name(enum node_type t)
{
    return type_names[t];
}

void node_fini(struct node *nd)
{
    free(nd->name);
    free(nd->user);
    free(nd->group);
    free(nd->target);
    for (size_t i = 0; i < nd->xattrs_n; i++) {
        free(nd->xattrs[i].name);
        free(nd->xattrs[i].value);
    }
    free(nd->xattrs);
    free(nd->content);
    *nd = (struct node){0};
}

void node_add_xattr(struct node *nd, const char *name, const void *value, size_t n)
{
    mem_reserve((void **)&nd->xattrs, &nd->xattrs_cap, nd->xattrs_n, sizeof *nd->xattrs);
    nd->xattrs[nd->xattrs_n++] =
        (struct node_xattr){mem_strdup(name), mem_dup(value, n), n};
}

void node_add_content(struct node *nd, const struct digest *id)
{
    mem_reserve((void **)&nd->content, &nd->content_cap, nd->content_n,
                sizeof *nd->content);
    nd->content[nd->content_n++] = *id;
}

static char *copy_text(const char *s)
{
    return s ? mem_strdup(s) : NULL;
}

void node_copy(struct node *to, const struct node *from)
{
    *to = *from;
    to->name = copy_text(from->name);
    to->user = copy_text(from->user);
    to->group = copy_text(from->group);
    to->target = copy_text(from->target);
    to->xattrs = NULL;
    to->xattrs_n = to->xattrs_cap = 0;
    for (size_t i = 0; i < from->xattrs_n; i++)
        node_add_xattr(to, from->xattrs[i].name, from->xattrs[i].value,
                       from->xattrs[i].n);
    to->content = from->content_n
                      ? mem_dup(from->content, from->content_n * sizeof *from->content)
                      : NULL;
    to->content_cap = from->content_n;
}

enum node_type node_type_of(uint32_t st_mode)
{
    switch (st_mode & S_IFMT) {
    case S_IFREG:
        return NODE_FILE;
    case S_IFDIR:
        return NODE_DIR;
    case S_IFLNK:
        return NODE_SYMLINK;
    case S_IFBLK:
        return NODE_DEV;
    case S_IFCHR:
        return NODE_CHARDEV;
    case S_IFIFO:
        return NODE_FIFO;
    case S_IFSOCK:
        return NODE_SOCKET;
    default:
        return NODE_NONE;
    }
}

uint32_t node_mode(uint32_t st_mode)
{
    static const uint32_t kind[] = {
        [NODE_DIR] = GO_DIR,    [NODE_SYMLINK] = GO_SYMLINK,
        [NODE_DEV] = GO_DEVICE, [NODE_CHARDEV] = GO_DEVICE | GO_CHAR,
        [NODE_FIFO] = GO_FIFO,  [NODE_SOCKET] = GO_SOCKET,
    };
    uint32_t mode = (st_mode & 0777) | kind[node_type_of(st_mode)];
    mode |= st_mode & S_ISUID ? GO_SETUID : 0;
    mode |= st_mode & S_ISGID ? GO_SETGID : 0;
    mode |= st_mode & S_ISVTX ? GO_STICKY : 0;
    return mode;
}

uint32_t node_permissions(uint32_t mode)
{
    return (mode & 0777) | (mode & GO_SETUID ? S_ISUID : 0) |
           (mode & GO_SETGID ? S_ISGID : 0) | (mode & GO_STICKY ? S_ISVTX : 0);
}

void tree_fini(struct tree *t)
{
    for (size_t i = 0; i < t->n; i++)
        node_fini(&t->nodes[i]);
    free(t->nodes);
    *t = (struct tree){0};
}

struct node *tree_add(struct tree *t)
{
    mem_reserve((void **)&t->nodes, &t->cap, t->n, sizeof *t->nodes);
    struct node *nd = &t->nodes[t->n++];
    *nd = (struct node){0};
    return nd;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct node *)a)->name, ((const struct node *)b)->name);
}

void tree_sort(struct tree *t)
{
    if (t->n)
        qsort(t->nodes, t->n, sizeof *t->nodes, by_name);
}

const struct node *tree_find(const struct tree *t, const char *name)
{
    struct node key = {.name = (char *)(uintptr_t)name};
    return t->n ? bsearch(&key, t->nodes, t->n, sizeof *t->nodes, by_name) : NULL;
}

static void key_text(struct buf *b, const char *key, const char *s)
{
    buf_printf(b, ",\"%s\":", key);
    go_json_string(b, s, strlen(s));
}

static void key_time(struct buf *b, const char *key, struct go_time t)
{
    buf_printf(b, ",\"%s\":\"", key);
    go_time_format(b, t);
    buf_char(b, '"');
}

/* "omitempty": a zero is not written. */
static void key_number(struct buf *b, const char *key, uint64_t v)
{
    if (v)
        buf_printf(b, ",\"%s\":%llu", key, (unsigned long long)v);
}

static void write_target(struct buf *b, const char *target)
{
    size_t n = strlen(target);
    key_text(b, "linktarget", target);
    if (go_utf8_valid(target, n))
        return;
    buf_str(b, ",\"linktarget_raw\":\"");
    go_base64(b, target, n);
    buf_char(b, '"');
}

static void write_xattrs(struct buf *b, const struct node *nd)
{
    for (size_t i = 0; i < nd->xattrs_n; i++) {
        buf_str(b, i ? ",{\"name\":" : ",\"extended_attributes\":[{\"name\":");
        go_json_string(b, nd->xattrs[i].name, strlen(nd->xattrs[i].name));
        buf_str(b, ",\"value\":\"");
        go_base64(b, nd->xattrs[i].value, nd->xattrs[i].n);
        buf_str(b, "\"}");
    }
    if (nd->xattrs_n)
        buf_char(b, ']');
}

static void write_content(struct buf *b, const struct node *nd)
{
    char hex[65];
    if (nd->type != NODE_FILE) {
        buf_str(b, ",\"content\":null");
        return;
    }
    buf_str(b, ",\"content\":[");
    for (size_t i = 0; i < nd->content_n; i++) {
        digest_hex(&nd->content[i], hex);
        buf_str(b, i ? ",\"" : "\"");
        buf_add(b, hex, 64);
        buf_char(b, '"');
    }
    buf_char(b, ']');
}

/* The keys' order is that of restic's Go struct; the hash depends on it. */
static void write_node(struct buf *b, const struct node *nd)
{
    struct buf quoted;
    buf_init(&quoted);
    go_quote(&quoted, nd->name, strlen(nd->name));
    buf_str(b, "{\"name\":");
    go_json_string(b, buf_text(&quoted), quoted.len);
    buf_fini(&quoted);
    key_text(b, "type", type_names[nd->type]);
    key_number(b, "mode", nd->mode);
    key_time(b, "mtime", nd->mtime);
    key_time(b, "atime", nd->atime);
    key_time(b, "ctime", nd->ctime);
    buf_printf(b, ",\"uid\":%u,\"gid\":%u", nd->uid, nd->gid);
    if (nd->user && *nd->user)
        key_text(b, "user", nd->user);
    if (nd->group && *nd->group)
        key_text(b, "group", nd->group);
    key_number(b, "inode", nd->inode);
    key_number(b, "device_id", nd->device_id);
    key_number(b, "size", nd->size);
    key_number(b, "links", nd->links);
    if (nd->target && *nd->target)
        write_target(b, nd->target);
    write_xattrs(b, nd);
    key_number(b, "device", nd->device);
    write_content(b, nd);
    if (nd->has_subtree) {
        char hex[65];
        digest_hex(&nd->subtree, hex);
        key_text(b, "subtree", hex);
    }
    buf_char(b, '}');
}

void tree_write_begin(struct buf *out)
{
    buf_str(out, "{\"nodes\":[");
}

void tree_write_next(struct buf *out, const struct node *nd)
{
    if (out->data[out->len - 1] == '}')
        buf_char(out, ',');
    write_node(out, nd);
}

void tree_write_end(struct buf *out)
{
    buf_str(out, "]}\n");
}

void tree_write(const struct tree *t, struct buf *out)
{
    tree_write_begin(out);
    for (size_t i = 0; i < t->n; i++)
        if (t->nodes[i].type != NODE_NONE)
            tree_write_next(out, &t->nodes[i]);
    tree_write_end(out);
}
