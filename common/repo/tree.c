#include "common/repo/tree.h"

#include <assert.h>
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

static void write_key(struct buf *b, const char *key)
{
    buf_add(b, ",\"", 2);
    buf_str(b, key);
    buf_add(b, "\":", 2);
}

static void write_u64(struct buf *b, uint64_t v)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
    } while (v /= 10);
    buf_add(b, text + at, sizeof text - at);
}

static void key_text(struct buf *b, const char *key, const char *s)
{
    write_key(b, key);
    go_json_string(b, s, strlen(s));
}

static void key_time(struct buf *b, const char *key, struct go_time t)
{
    write_key(b, key);
    buf_char(b, '"');
    go_time_format(b, t);
    buf_char(b, '"');
}

/* "omitempty": a zero is not written. */
static void key_number(struct buf *b, const char *key, uint64_t v)
{
    if (!v)
        return;
    write_key(b, key);
    write_u64(b, v);
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

/* Most names have nothing that either form escapes. */
static void write_name(struct buf *b, const char *name)
{
    size_t n = strlen(name), i = 0;
    while (i < n && name[i] > ' ' && name[i] < 0x7f && !strchr("\"\\<>&", name[i]))
        i++;
    if (i == n) {
        buf_char(b, '"');
        buf_add(b, name, n);
        buf_char(b, '"');
        return;
    }
    AUTO_BUF struct buf quoted = {0};
    go_quote(&quoted, name, n);
    go_json_string(b, buf_text(&quoted), quoted.len);
}

/* The keys' order is that of restic's Go struct; the hash depends on it. */
void tree_write_head(struct buf *b, const struct node *nd)
{
    buf_str(b, "{\"name\":");
    write_name(b, nd->name);
    key_text(b, "type", type_names[nd->type]);
    key_number(b, "mode", nd->mode);
    key_time(b, "mtime", nd->mtime);
    key_time(b, "atime", nd->atime);
    key_time(b, "ctime", nd->ctime);
    write_key(b, "uid");
    write_u64(b, nd->uid);
    write_key(b, "gid");
    write_u64(b, nd->gid);
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
}

/* ---- whole lists ---- */

enum { PIECE = 64 << 10 };

static struct err *spill(struct tree_writer *w, size_t from)
{
    if (!w->sink || w->text.len < from)
        return NULL;
    struct err *e = w->sink(w->ctx, buf_text(&w->text), w->text.len);
    buf_clear(&w->text);
    return e;
}

static struct err *write_ids(struct tree_writer *w, const struct node *nd)
{
    char hex[65];
    buf_str(&w->text, ",\"content\":[");
    for (size_t i = 0; i < nd->content_n; i++) {
        digest_hex(&nd->content[i], hex);
        buf_str(&w->text, i ? ",\"" : "\"");
        buf_add(&w->text, hex, 64);
        buf_char(&w->text, '"');
        TRY(spill(w, PIECE));
    }
    buf_char(&w->text, ']');
    return NULL;
}

void tree_writer_init(struct tree_writer *w, tree_sink *sink, void *ctx)
{
    *w = (struct tree_writer){.sink = sink, .ctx = ctx};
    buf_str(&w->text, "{\"nodes\":[");
}

void tree_writer_fini(struct tree_writer *w)
{
    buf_fini(&w->text);
}

struct err *tree_writer_add(struct tree_writer *w, const struct node *nd)
{
    if (w->any)
        buf_char(&w->text, ',');
    w->any = true;
    tree_write_head(&w->text, nd);
    if (nd->type == NODE_FILE)
        TRY(write_ids(w, nd));
    else
        buf_str(&w->text, ",\"content\":null");
    if (nd->has_subtree) {
        char hex[65];
        digest_hex(&nd->subtree, hex);
        key_text(&w->text, "subtree", hex);
    }
    buf_char(&w->text, '}');
    return spill(w, PIECE);
}

struct err *tree_writer_end(struct tree_writer *w)
{
    buf_str(&w->text, "]}\n");
    return spill(w, 0);
}

static struct err *collect(void *ctx, const void *data, size_t n)
{
    buf_add(ctx, data, n);
    return NULL;
}

void tree_write(const struct tree *t, struct buf *out)
{
    AUTO_TREE_WRITER struct tree_writer w;
    struct err *e = NULL;
    tree_writer_init(&w, collect, out);
    for (size_t i = 0; i < t->n && !e; i++)
        if (t->nodes[i].type != NODE_NONE)
            e = tree_writer_add(&w, &t->nodes[i]);
    if (!e)
        e = tree_writer_end(&w);
    assert(!e); /* collecting cannot fail */
}
