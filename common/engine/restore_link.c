/* Hard links of a restore: the first name of a file is written, the others are linked to
 * it afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/beneath.h"
#include "common/engine/restore_own.h"
#include "common/engine/scan.h"

static size_t slot_of(const struct link_table *t, uint64_t inode, uint64_t device_id)
{
    uint64_t h =
        (inode ^ device_id * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
    size_t i = (h ^ h >> 31) & (t->cap - 1);
    while (t->slots[i] &&
           (t->slots[i]->inode != inode || t->slots[i]->device_id != device_id))
        i = (i + 1) & (t->cap - 1);
    return i;
}

static void grow(struct link_table *t)
{
    struct link_table bigger = {.cap = t->cap ? t->cap * 2 : 64, .count = t->count};
    bigger.slots = mem_array(bigger.cap, sizeof(struct link_source *));
    for (size_t i = 0; i < t->cap; i++)
        if (t->slots[i])
            bigger.slots[slot_of(&bigger, t->slots[i]->inode, t->slots[i]->device_id)] =
                t->slots[i];
    free(t->slots);
    *t = bigger;
}

struct link_source *restore_link_source(struct restore *r, const struct node *nd,
                                        const struct restore_dir *dir, bool *fresh)
{
    struct link_table *t = &r->links;
    if (t->count * 4 >= t->cap * 3)
        grow(t);
    size_t i = slot_of(t, nd->inode, nd->device_id);
    struct link_source *s = t->slots[i];
    *fresh = !s || atomic_load(&s->state) == LINK_OTHER;
    if (!s) {
        s = mem_zalloc(sizeof *s);
        s->inode = nd->inode;
        s->device_id = nd->device_id;
        t->slots[i] = s;
        t->count++;
    }
    if (*fresh) {
        AUTO_BUF struct buf path = {0};
        restore_dir_path(dir, nd->name, &path);
        free(s->path);
        s->path = buf_steal(&path);
        atomic_store(&s->state, LINK_WAITS);
    }
    return s;
}

void restore_link_later(struct restore *r, struct link_source *s, struct restore_dir *dir,
                        const char *name)
{
    mem_reserve((void **)&r->later, &r->later_cap, r->later_n, sizeof *r->later);
    r->later[r->later_n++] = (struct later_link){s, dir, mem_strdup(name)};
}

/* Something has the name already. *done: it is the same file. */
static struct err *make_way(struct restore *r, int dir_fd, const char *name,
                            const struct stat *from, bool *done)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? NULL : err_os(errno, "look at");
    *done = st.st_dev == from->st_dev && st.st_ino == from->st_ino;
    if (*done)
        return NULL;
    if (r->opts->existing < RESTORE_IF_NEWER)
        return err_new(ERR_CONFLICT, "it exists and is something else");
    return restore_remove(r, dir_fd, name);
}

static struct err *make_link(struct restore *r, const struct later_link *l, bool *made)
{
    AUTO(fd) int from_fd = -1;
    AUTO(fd) int to_fd = -1;
    const char *from = NULL;
    struct stat st;
    bool done = false;
    if (atomic_load(&l->source->state) != LINK_DONE)
        return err_new(ERR_IO, "the file it is linked to, '%s', was not restored",
                       l->source->path);
    TRY(beneath_open_parent(r->root_fd, l->source->path, &from_fd, &from));
    TRY(restore_dir_open(r, l->dir, &to_fd));
    if (fstatat(from_fd, from, &st, AT_SYMLINK_NOFOLLOW))
        return err_os(errno, "look at '%s'", l->source->path);
    if (!l->dir->fresh)
        TRY(make_way(r, to_fd, l->name, &st, &done));
    if (done)
        return NULL;
    if (linkat(from_fd, from, to_fd, l->name, 0))
        return err_os(errno, "link to '%s'", l->source->path);
    *made = true;
    return NULL;
}

static void make_or_tell(struct restore *r, const struct later_link *l)
{
    bool made = r->opts->dry_run;
    struct err *e = NULL;
    if (!r->opts->dry_run)
        e = make_link(r, l, &made);
    if (!e) {
        atomic_fetch_add(made ? &r->files : &r->kept, 1);
        restore_tell(r, made ? RESTORE_CREATE : RESTORE_KEEP, l->dir, l->name);
    }
    restore_problem(r, l->dir, l->name, e);
}

void restore_links_make(struct restore *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->later_n; i++) {
        struct later_link l = r->later[i];
        if (atomic_load(&l.source->state) == LINK_WAITS && !restore_is_cancelled(r)) {
            r->later[kept++] = l;
            continue;
        }
        if (!restore_is_cancelled(r))
            make_or_tell(r, &l);
        restore_dir_drop(r, l.dir);
        free(l.name);
    }
    r->later_n = kept;
}

void restore_links_fini(struct restore *r)
{
    struct link_table *t = &r->links;
    for (size_t i = 0; i < t->cap; i++) {
        if (!t->slots[i])
            continue;
        free(t->slots[i]->path);
        free(t->slots[i]);
    }
    free(t->slots);
    free(r->later);
    *t = (struct link_table){0};
    r->later = NULL;
}
