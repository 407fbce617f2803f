#include "common/mount/inode.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static uint64_t mix_text(uint64_t h, const char *s)
{
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return mix(h, 7);
}

/* 0 is no number, and 1 the root's. */
static uint64_t usable(uint64_t h)
{
    return h > 1 ? h : h + 2;
}

uint64_t inode_number(const struct inode *dir, const struct node *nd)
{
    if (nd->links > 1 && nd->type != NODE_DIR)
        return usable(mix(mix(mix(dir->dir->salt, nd->inode), nd->device_id), 3));
    return usable(mix_text(mix(dir->dir->salt, dir->number), nd->name));
}

uint64_t inode_view_number(const struct inode *dir, const char *name)
{
    return usable(mix_text(mix(5, dir->number), name));
}

mode_t inode_kind(enum node_type t)
{
    static const mode_t kinds[] = {
        [NODE_FILE] = S_IFREG,    [NODE_DIR] = S_IFDIR,     [NODE_SYMLINK] = S_IFLNK,
        [NODE_DEV] = S_IFBLK,     [NODE_CHARDEV] = S_IFCHR, [NODE_FIFO] = S_IFIFO,
        [NODE_SOCKET] = S_IFSOCK,
    };
    return kinds[t];
}

static void stat_of_view(const struct view *v, struct stat *st)
{
    bool link = v->kind == VIEW_LINK;
    st->st_mode = link ? S_IFLNK | 0777 : S_IFDIR | 0755;
    st->st_nlink = 1;
    st->st_size = link ? (off_t)strlen(v->target) : 0;
    st->st_mtim.tv_sec = v->time.sec;
    st->st_mtim.tv_nsec = v->time.nsec;
    st->st_ctim = st->st_atim = st->st_mtim;
}

static void stat_of_node(const struct node *nd, struct stat *st)
{
    st->st_mode = inode_kind(nd->type) | node_permissions(nd->mode);
    st->st_nlink = nd->links ? (nlink_t)nd->links : 1;
    st->st_uid = nd->uid;
    st->st_gid = nd->gid;
    st->st_rdev = (dev_t)nd->device;
    st->st_size = (off_t)nd->size;
    if (nd->type == NODE_SYMLINK)
        st->st_size = nd->target ? (off_t)strlen(nd->target) : 0;
    st->st_blksize = 1 << 20;
    st->st_blocks = (blkcnt_t)((nd->size + 511) / 512);
    st->st_mtim = (struct timespec){nd->mtime.sec, nd->mtime.nsec};
    st->st_atim = (struct timespec){nd->atime.sec, nd->atime.nsec};
    st->st_ctim = (struct timespec){nd->ctime.sec, nd->ctime.nsec};
}

void inodes_init(struct inodes *t, struct browse *b, const struct view *root)
{
    *t = (struct inodes){.browse = b};
    pthread_mutex_init(&t->mu, NULL);
    t->root.view = root;
    t->root.name = mem_strdup("");
    t->root.number = 1;
    t->root.mode = S_IFDIR | 0755;
}

static void inode_free(struct inode *in)
{
    free(in->name);
    free(in->dir);
    free(in);
}

void inodes_fini(struct inodes *t)
{
    for (size_t i = 0; i < INODE_BUCKETS; i++)
        while (t->buckets[i]) {
            struct inode *in = t->buckets[i];
            t->buckets[i] = in->next;
            inode_free(in);
        }
    free(t->root.name);
    pthread_mutex_destroy(&t->mu);
}

static struct inode **bucket_of(struct inodes *t, const struct inode *parent,
                                const char *name)
{
    return &t->buckets[mix_text(mix(11, (uintptr_t)parent), name) % INODE_BUCKETS];
}

/* Needs the lock. */
static struct inode *find(struct inodes *t, const struct inode *parent, const char *name)
{
    struct inode *in = *bucket_of(t, parent, name);
    while (in && (in->parent != parent || strcmp(in->name, name) != 0))
        in = in->next;
    return in;
}

/* Goes down from a snapshot's root to the directory that is shown. `st` becomes that of
 * the last one. */
static struct err *go_down(struct inodes *t, const struct view *v, struct digest *tree,
                           struct stat *st)
{
    AUTO(str) char *copy = mem_strdup(v->path);
    char *rest = copy, *part;
    *tree = v->tree;
    stat_of_view(v, st);
    while ((part = strsep(&rest, "/"))) {
        const struct dirlist *list = NULL;
        struct dirlist_entry e;
        if (!*part)
            continue;
        TRY(browse_list_get(t->browse, tree, &list));
        bool ok = dirlist_find(list, part, &e) && e.node.type == NODE_DIR;
        struct digest below = ok ? e.node.subtree : *tree;
        if (ok)
            stat_of_node(&e.node, st);
        browse_list_put(t->browse, list);
        if (!ok)
            return err_new(ERR_NOT_FOUND, "'%s' is not in the snapshot", v->path);
        *tree = below;
    }
    return NULL;
}

static void make_dir(struct inode *in, const struct digest *tree, uint64_t salt)
{
    in->dir = mem_zalloc(sizeof *in->dir);
    in->dir->tree = *tree;
    in->dir->salt = salt;
}

/* Finds out what `in`, of which only name and parent are set, is. */
static struct err *fill(struct inodes *t, struct inode *in, struct stat *st)
{
    const struct inode *dir = in->parent;
    const struct dirlist *list = NULL;
    struct dirlist_entry found;
    struct digest tree;
    uint64_t salt;
    if (!dir->dir) {
        const struct view *v = dir->view ? view_find(dir->view, in->name) : NULL;
        if (!v)
            return err_new(ERR_NOT_FOUND, "no such entry");
        in->view = v;
        in->number = inode_view_number(dir, in->name);
        stat_of_view(v, st);
        if (v->kind == VIEW_SNAPSHOT) {
            TRY(go_down(t, v, &tree, st));
            memcpy(&salt, v->id.b, sizeof salt);
            make_dir(in, &tree, salt);
        }
        in->mode = st->st_mode;
        return NULL;
    }
    TRY(browse_list_get(t->browse, &dir->dir->tree, &list));
    const struct node *nd = dirlist_find(list, in->name, &found) ? &found.node : NULL;
    if (nd) {
        stat_of_node(nd, st);
        in->number = inode_number(dir, nd);
        in->mode = st->st_mode;
        if (nd->type == NODE_DIR)
            make_dir(in, &nd->subtree, dir->dir->salt);
    }
    browse_list_put(t->browse, list);
    return nd ? NULL : err_new(ERR_NOT_FOUND, "no such entry");
}

struct err *inodes_stat(struct inodes *t, const struct inode *in, struct stat *out)
{
    struct inode again = {.parent = in->parent, .name = in->name};
    *out = (struct stat){0};
    if (in->parent)
        TRY(fill(t, &again, out));
    else
        stat_of_view(in->view, out);
    free(again.dir);
    out->st_ino = in->number;
    return NULL;
}

struct err *inodes_look_up(struct inodes *t, struct inode *dir, const char *name,
                           struct stat *st, struct inode **out)
{
    struct inode *fresh = mem_zalloc(sizeof *fresh);
    fresh->parent = dir;
    fresh->name = mem_strdup(name);
    *st = (struct stat){0};
    struct err *e = fill(t, fresh, st);
    if (e) {
        inode_free(fresh);
        return e;
    }
    st->st_ino = fresh->number;
    pthread_mutex_lock(&t->mu);
    struct inode *in = find(t, dir, name);
    if (!in) {
        struct inode **bucket = bucket_of(t, dir, name);
        in = STEAL(fresh);
        in->next = *bucket;
        *bucket = in;
        dir->children++;
    }
    in->known++;
    pthread_mutex_unlock(&t->mu);
    if (fresh)
        inode_free(fresh);
    *out = in;
    return NULL;
}

void inodes_forget(struct inodes *t, struct inode *in, uint64_t times)
{
    pthread_mutex_lock(&t->mu);
    in->known -= times < in->known ? times : in->known;
    while (in != &t->root && !in->known && !in->children) {
        struct inode *parent = in->parent;
        struct inode **at = bucket_of(t, parent, in->name);
        while (*at != in)
            at = &(*at)->next;
        *at = in->next;
        inode_free(in);
        parent->children--;
        in = parent;
    }
    pthread_mutex_unlock(&t->mu);
}
