#include "common/engine/dirlist.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"

/* What some entries have behind their names, in this order. */
enum {
    HAS_ATIME = 1,     /* differs from mtime */
    HAS_DEVICE_ID = 2, /* differs from most */
    HAS_LINKS = 4,     /* is not one */
    HAS_DEVICE = 8,
    HAS_SUBTREE = 16,
    HAS_TARGET = 32,
    HAS_ATTRS = 64,
};

/* What each entry begins with; then come its name, the above, and the content's ids.
 * Nothing is aligned. */
struct __attribute__((packed)) head {
    int64_t mtime_s;
    int64_t ctime_s;
    uint64_t size;
    uint64_t inode;
    uint32_t mtime_ns;
    uint32_t ctime_ns;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t content_n;
    uint8_t type;
    uint8_t has;
};

void dirlist_fini(struct dirlist *l)
{
    buf_fini(&l->bytes);
    free(l->at);
    *l = (struct dirlist){0};
}

size_t dirlist_bytes(const struct dirlist *l)
{
    return l->bytes.cap + l->cap * sizeof *l->at;
}

/* ---- writing ---- */

static uint8_t parts_of(const struct dirlist *l, const struct node *nd)
{
    bool same = nd->atime.sec == nd->mtime.sec && nd->atime.nsec == nd->mtime.nsec;
    return (uint8_t)((same ? 0 : HAS_ATIME) |
                     (nd->device_id == l->device_id ? 0 : HAS_DEVICE_ID) |
                     (nd->links == 1 ? 0 : HAS_LINKS) | (nd->device ? HAS_DEVICE : 0) |
                     (nd->has_subtree ? HAS_SUBTREE : 0) | (nd->target ? HAS_TARGET : 0) |
                     (nd->xattrs_n ? HAS_ATTRS : 0));
}

static void add_text(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s) + 1);
}

/* Each has its name and length; an empty name ends them. */
static void add_attrs(struct buf *b, const struct node *nd)
{
    for (size_t i = 0; i < nd->xattrs_n; i++) {
        const struct node_xattr *x = &nd->xattrs[i];
        if (!*x->name)
            continue;
        add_text(b, x->name);
        buf_add(b, &x->n, sizeof x->n);
        buf_add(b, x->value, x->n);
    }
    buf_char(b, '\0');
}

void dirlist_add(struct dirlist *l, const struct node *nd)
{
    struct buf *b = &l->bytes;
    if (!l->n)
        l->device_id = nd->device_id;
    const struct head h = {
        nd->mtime.sec,  nd->ctime.sec,           nd->size, nd->inode,
        nd->mtime.nsec, nd->ctime.nsec,          nd->mode, nd->uid,
        nd->gid,        (uint32_t)nd->content_n, nd->type, parts_of(l, nd)};
    /* A list's text is shorter than REPO_BLOB_MAX, and this hardly longer. */
    assert(b->len <= UINT32_MAX);
    mem_reserve((void **)&l->at, &l->cap, l->n, sizeof *l->at);
    l->at[l->n++] = (uint32_t)b->len;
    buf_add(b, &h, sizeof h);
    add_text(b, nd->name);
    if (h.has & HAS_ATIME) {
        buf_add(b, &nd->atime.sec, sizeof nd->atime.sec);
        buf_add(b, &nd->atime.nsec, sizeof nd->atime.nsec);
    }
    if (h.has & HAS_DEVICE_ID)
        buf_add(b, &nd->device_id, sizeof nd->device_id);
    if (h.has & HAS_LINKS)
        buf_add(b, &nd->links, sizeof nd->links);
    if (h.has & HAS_DEVICE)
        buf_add(b, &nd->device, sizeof nd->device);
    if (h.has & HAS_SUBTREE)
        buf_add(b, &nd->subtree, sizeof nd->subtree);
    if (h.has & HAS_TARGET)
        add_text(b, nd->target);
    if (h.has & HAS_ATTRS)
        add_attrs(b, nd);
    if (nd->content_n)
        buf_add(b, nd->content, nd->content_n * sizeof *nd->content);
}

void dirlist_trim(struct dirlist *l)
{
    if (!l->n)
        return;
    l->bytes.cap = l->bytes.len + 1;
    l->bytes.data = mem_resize(l->bytes.data, l->bytes.cap, 1);
    l->cap = l->n;
    l->at = mem_resize(l->at, l->cap, sizeof *l->at);
}

/* ---- reading ---- */

static void take(const char **at, void *out, size_t n)
{
    memcpy(out, *at, n);
    *at += n;
}

static const char *take_text(const char **at)
{
    const char *s = *at;
    *at += strlen(s) + 1;
    return s;
}

bool dirlist_next_attr(const char **at, struct dirlist_attr *out)
{
    if (!*at || !**at)
        return false;
    out->name = take_text(at);
    take(at, &out->n, sizeof out->n);
    out->value = *at;
    *at += out->n;
    return true;
}

const char *dirlist_name(const struct dirlist *l, size_t at)
{
    return l->bytes.data + l->at[at] + sizeof(struct head);
}

void dirlist_get(const struct dirlist *l, size_t i, struct dirlist_entry *out)
{
    const char *at = l->bytes.data + l->at[i];
    struct head h;
    struct node *nd = &out->node;
    struct dirlist_attr unused;
    take(&at, &h, sizeof h);
    *out =
        (struct dirlist_entry){.node = {.type = h.type,
                                        .name = (char *)(uintptr_t)take_text(&at),
                                        .mode = h.mode,
                                        .mtime = {.sec = h.mtime_s, .nsec = h.mtime_ns},
                                        .ctime = {.sec = h.ctime_s, .nsec = h.ctime_ns},
                                        .uid = h.uid,
                                        .gid = h.gid,
                                        .inode = h.inode,
                                        .device_id = l->device_id,
                                        .size = h.size,
                                        .links = 1,
                                        .content_n = h.content_n}};
    nd->atime = nd->mtime;
    if (h.has & HAS_ATIME) {
        take(&at, &nd->atime.sec, sizeof nd->atime.sec);
        take(&at, &nd->atime.nsec, sizeof nd->atime.nsec);
    }
    if (h.has & HAS_DEVICE_ID)
        take(&at, &nd->device_id, sizeof nd->device_id);
    if (h.has & HAS_LINKS)
        take(&at, &nd->links, sizeof nd->links);
    if (h.has & HAS_DEVICE)
        take(&at, &nd->device, sizeof nd->device);
    nd->has_subtree = h.has & HAS_SUBTREE;
    if (nd->has_subtree)
        take(&at, &nd->subtree, sizeof nd->subtree);
    if (h.has & HAS_TARGET)
        nd->target = (char *)(uintptr_t)take_text(&at);
    if (h.has & HAS_ATTRS) {
        out->attrs = at;
        while (dirlist_next_attr(&at, &unused))
            continue;
        at++;
    }
    nd->content = (struct digest *)(uintptr_t)at;
}

bool dirlist_find(const struct dirlist *l, const char *name, struct dirlist_entry *out)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(dirlist_name(l, middle), name);
        if (order == 0) {
            dirlist_get(l, middle, out);
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}
