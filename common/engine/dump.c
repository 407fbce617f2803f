#include "common/engine/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/base/buf.h"
#include "common/engine/find.h"
#include "common/repo/tree_stream.h"

enum { DEPTH_MAX = 10000, BLOCK = 512, OCTAL_7 = 07777777 };
/* Largest size in eleven octal digits. */
static const uint64_t octal_11 = UINT64_C(077777777777);

struct dump {
    struct repo_io *io;
    dump_write *write;
    void *ctx;
    const atomic_bool *cancel;
    struct buf path; /* of the entry, below the dumped directory */
    struct buf blob;
};

/* The classic header; numbers are octal text. */
struct ustar {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char sum[8];
    char type;
    char linkname[100];
    char magic[6];
    char version[2];
    char uname[32];
    char gname[32];
    char major[8];
    char minor[8];
    char prefix[155];
    char pad[12];
};

static struct err *write_content(struct dump *d, const struct node *nd, const char *path)
{
    for (size_t i = 0; i < nd->content_n; i++) {
        if (d->cancel && atomic_load(d->cancel))
            return err_new(ERR_CANCELLED, "cancelled");
        buf_clear(&d->blob);
        TRY_CTX(repo_load_blob(d->io, BLOB_DATA, &nd->content[i], &d->blob), "'%s'",
                path);
        TRY(d->write(d->ctx, buf_text(&d->blob), d->blob.len));
    }
    return NULL;
}

/* ---- tar ---- */

static struct err *pad_block(struct dump *d, uint64_t n)
{
    static const char zeros[BLOCK];
    return n % BLOCK ? d->write(d->ctx, zeros, BLOCK - n % BLOCK) : NULL;
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void pax_add(struct buf *b, const char *key, const void *value, size_t n)
{
    size_t rest = strlen(key) + n + 3, total = rest + 1, digits = 0;
    do {
        total = rest + ++digits;
    } while ((size_t)snprintf(NULL, 0, "%zu", total) != digits);
    buf_printf(b, "%zu %s=", total, key);
    buf_add(b, value, n);
    buf_char(b, '\n');
}

static void pax_number(struct buf *b, const char *key, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, v);
    pax_add(b, key, text, strlen(text));
}

static void pax_time(struct buf *b, struct go_time t)
{
    char text[40];
    int64_t sec = t.sec;
    uint32_t nsec = t.nsec;
    bool negative = sec < 0;
    if (negative && nsec) { /* -1.5 s is kept as -2 s and half a second */
        sec++;
        nsec = 1000000000 - nsec;
    }
    snprintf(text, sizeof text, "%s%" PRId64 ".%09u", negative ? "-" : "",
             negative ? -sec : sec, nsec);
    pax_add(b, "mtime", text, strlen(text));
}

static void octal(char *field, size_t bytes, uint64_t v)
{
    field[bytes - 1] = '\0';
    for (size_t i = bytes - 1; i > 0; i--, v /= 8)
        field[i - 1] = (char)('0' + v % 8);
}

static struct err *write_header(struct dump *d, struct ustar *h)
{
    unsigned sum = 0;
    memcpy(h->magic, "ustar", 6);
    memcpy(h->version, "00", 2);
    memset(h->sum, ' ', sizeof h->sum);
    for (size_t i = 0; i < sizeof *h; i++)
        sum += ((const unsigned char *)h)[i];
    snprintf(h->sum, 7, "%06o", sum);
    return d->write(d->ctx, h, sizeof *h);
}

/* What the classic header cannot say goes into a record before it. */
static void pax_of(const struct node *nd, const char *path, struct buf *pax)
{
    size_t length = strlen(path);
    if (length > sizeof((struct ustar *)0)->name - 2)
        pax_add(pax, "path", path, length);
    if (nd->target && strlen(nd->target) > sizeof((struct ustar *)0)->linkname - 1)
        pax_add(pax, "linkpath", nd->target, strlen(nd->target));
    if (nd->size > octal_11)
        pax_number(pax, "size", nd->size);
    if (nd->uid > OCTAL_7)
        pax_number(pax, "uid", nd->uid);
    if (nd->gid > OCTAL_7)
        pax_number(pax, "gid", nd->gid);
    if (nd->mtime.nsec || nd->mtime.sec < 0 || (uint64_t)nd->mtime.sec > octal_11)
        pax_time(pax, nd->mtime);
    for (size_t i = 0; i < nd->xattrs_n; i++) {
        AUTO_BUF struct buf key = {0};
        buf_printf(&key, "SCHILY.xattr.%s", nd->xattrs[i].name);
        pax_add(pax, buf_text(&key), nd->xattrs[i].value, nd->xattrs[i].n);
    }
}

static struct err *write_pax(struct dump *d, const struct buf *pax)
{
    struct ustar h = {.type = 'x'};
    if (!pax->len)
        return NULL;
    snprintf(h.name, sizeof h.name, "PaxHeaders/entry");
    octal(h.mode, sizeof h.mode, 0600);
    octal(h.size, sizeof h.size, pax->len);
    octal(h.mtime, sizeof h.mtime, 0);
    TRY(write_header(d, &h));
    TRY(d->write(d->ctx, pax->data, pax->len));
    return pad_block(d, pax->len);
}

static char type_flag(enum node_type t)
{
    switch (t) {
    case NODE_FILE:
        return '0';
    case NODE_SYMLINK:
        return '2';
    case NODE_CHARDEV:
        return '3';
    case NODE_DEV:
        return '4';
    case NODE_DIR:
        return '5';
    case NODE_FIFO:
        return '6';
    default:
        return 0; /* a socket cannot be archived */
    }
}

static void copy_text(char *field, size_t bytes, const char *text)
{
    snprintf(field, bytes, "%s", text);
}

static struct err *write_entry(struct dump *d, const struct node *nd, const char *path)
{
    AUTO_BUF struct buf pax = {0};
    struct ustar h = {.type = type_flag(nd->type)};
    int64_t sec = nd->mtime.sec;
    if (!h.type)
        return NULL;
    pax_of(nd, path, &pax);
    TRY(write_pax(d, &pax));
    copy_text(h.name, sizeof h.name - 1, path);
    if (nd->type == NODE_DIR)
        strncat(h.name, "/", sizeof h.name - 1 - strlen(h.name));
    copy_text(h.linkname, sizeof h.linkname, nd->target ? nd->target : "");
    octal(h.mode, sizeof h.mode, node_permissions(nd->mode));
    octal(h.uid, sizeof h.uid, nd->uid > OCTAL_7 ? 0 : nd->uid);
    octal(h.gid, sizeof h.gid, nd->gid > OCTAL_7 ? 0 : nd->gid);
    uint64_t bytes = nd->type == NODE_FILE ? nd->size : 0;
    octal(h.size, sizeof h.size, bytes > octal_11 ? 0 : bytes);
    octal(h.mtime, sizeof h.mtime,
          sec < 0 || (uint64_t)sec > octal_11 ? 0 : (uint64_t)sec);
    copy_text(h.uname, sizeof h.uname, nd->user ? nd->user : "");
    copy_text(h.gname, sizeof h.gname, nd->group ? nd->group : "");
    octal(h.major, sizeof h.major, major(nd->device) & OCTAL_7);
    octal(h.minor, sizeof h.minor, minor(nd->device) & OCTAL_7);
    TRY(write_header(d, &h));
    if (nd->type != NODE_FILE)
        return NULL;
    TRY(write_content(d, nd, path));
    return pad_block(d, nd->size);
}

/* A wrong size would shift everything behind it. */
static struct err *check_size(struct dump *d, const struct node *nd, const char *path)
{
    uint64_t bytes = 0, one = 0;
    if (nd->type != NODE_FILE)
        return NULL;
    for (size_t i = 0; i < nd->content_n; i++) {
        one = 0;
        repo_has_blob(repo_io_repo(d->io), BLOB_DATA, &nd->content[i], &one);
        bytes += one;
    }
    if (bytes != nd->size)
        return err_new(ERR_CORRUPT, "'%s' has %" PRIu64 " bytes instead of %" PRIu64,
                       path, bytes, nd->size);
    return NULL;
}

static struct err *write_tree(struct dump *d, const struct digest *id, unsigned depth)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", DEPTH_MAX);
    TRY(tree_stream_open(d->io, id, &s));
    for (;;) {
        TRY(tree_stream_next(s, &nd));
        if (!nd)
            return NULL;
        size_t length = d->path.len;
        if (length)
            buf_char(&d->path, '/');
        buf_str(&d->path, nd->name);
        TRY(check_size(d, nd, buf_text(&d->path)));
        TRY(write_entry(d, nd, buf_text(&d->path)));
        if (nd->type == NODE_DIR)
            TRY(write_tree(d, &nd->subtree, depth + 1));
        d->path.len = length;
        d->path.data[length] = '\0';
    }
}

static struct err *write_tar(struct dump *d, const struct digest *id)
{
    static const char end[2 * BLOCK];
    TRY(write_tree(d, id, 0));
    return d->write(d->ctx, end, sizeof end);
}

static struct err *dump_node(struct dump *d, const struct node *nd, const char *path)
{
    if (nd->type == NODE_FILE)
        return write_content(d, nd, path);
    if (nd->type == NODE_DIR)
        return write_tar(d, &nd->subtree);
    return err_new(ERR_INVALID, "'%s' is neither a file nor a directory", path);
}

struct err *dump_path(struct repo_io *io, const struct digest *tree, const char *path,
                      dump_write *write, void *ctx, const atomic_bool *cancel)
{
    struct dump d = {.io = io, .write = write, .ctx = ctx, .cancel = cancel};
    struct node nd = {0};
    TRY(find_node(io, tree, path, &nd));
    struct err *e = dump_node(&d, &nd, path);
    node_fini(&nd);
    buf_fini(&d.path);
    buf_fini(&d.blob);
    return e;
}
