/* What need not be read: a file's chunks that lie on the same blocks in the base capture
 * (base.h) keep the ids that they have in the parent snapshot. */
#include <string.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/backup_own.h"
#include "common/engine/beneath.h"

struct backup_known {
    uint64_t size; /* of the file now */
    size_t n;      /* chunks of the older file */
    struct digest *content;
    uint64_t *starts; /* of each, and the end of the last */
    size_t at;        /* first chunk that may still be taken */
    struct extents changed;
    size_t hint; /* in changed */
};

void backup_known_free(struct backup_known *k)
{
    if (!k)
        return;
    extents_fini(&k->changed);
    free(k->content);
    free(k->starts);
    free(k);
}

bool backup_may_know(const struct backup *b, const struct backup_entry *e,
                     const struct node *old)
{
    return b->opts->base && old && old->type == NODE_FILE && old->inode == e->inode &&
           old->content_n && old->size >= BACKUP_KNOWN_MIN && e->size >= BACKUP_KNOWN_MIN;
}

/* Where the older file's chunks begin; false if one is not in the index any more. */
static bool measure(struct backup *b, struct backup_known *k)
{
    uint64_t bytes = 0;
    k->starts = mem_array(k->n + 1, sizeof *k->starts);
    for (size_t i = 0; i < k->n; i++) {
        if (!repo_has_blob(b->repo, BLOB_DATA, &k->content[i], &bytes))
            return false;
        k->starts[i + 1] = k->starts[i] + bytes;
    }
    return true;
}

/* The same file in the base, if it and the new one are sealed. */
static struct err *open_older(struct backup *b, const struct backup_file *f,
                              uint64_t size, int *out)
{
    struct stat old_st, new_st;
    AUTO(fd) int dir = -1;
    AUTO(fd) int fd = -1;
    const struct base *base = b->opts->base;
    const char *name = NULL;
    AUTO(str)
    char *path = mem_printf("%s/%s", f->dir->path, backup_name(f->dir, f->entry));
    TRY(beneath_open_parent(base->dir_fd, path + 1, &dir, &name));
    TRY(scan_open_file(dir, name, &fd, &old_st));
    if (fstat(f->fd, &new_st))
        return err_new(ERR_IO, "look at the newer file");
    if ((uint64_t)old_st.st_size != size || !base_is_sealed(&base->look, fd, &old_st) ||
        !base_is_sealed(&b->look, f->fd, &new_st))
        return err_new(ERR_CONFLICT, "a capture's file is not sealed");
    *out = fd_steal(&fd);
    return NULL;
}

static struct err *compare(struct backup *b, const struct backup_file *f,
                           struct backup_known *k)
{
    AUTO(fd) int older = -1;
    TRY(open_older(b, f, k->starts[k->n], &older));
    return extents_changed(b->look.kind, older, f->fd,
                           f->dir->chunk_bytes ? f->dir->chunk_bytes : GEAR_MIN,
                           &k->changed);
}

struct backup_known *backup_know(struct backup *b, const struct backup_file *f)
{
    struct backup_entry *e = f->entry;
    if (!e->content_n)
        return NULL;
    struct backup_known *k = mem_zalloc(sizeof *k);
    k->size = e->size;
    k->n = e->content_n;
    k->content = e->content_n > 1 ? STEAL(e->list) : mem_dup(&e->one, sizeof e->one);
    e->content_n = 0;
    /* Else it is read as a whole; that it was, shows in the counts. */
    AUTO(err) struct err *why = NULL;
    bool measured = measure(b, k);
    if (measured)
        why = compare(b, f, k);
    if (measured && !why)
        return k;
    backup_known_free(k);
    return NULL;
}

/* A chunk as the file would be cut today. The last one ends only because the file does.
 */
static bool fits(const struct backup_known *k, size_t chunk_bytes)
{
    uint64_t start = k->starts[k->at], end = k->starts[k->at + 1];
    if (k->at + 1 == k->n)
        return end == k->size;
    if (end > k->size)
        return false;
    return chunk_bytes ? end - start == chunk_bytes : end - start >= GEAR_MIN;
}

bool backup_knows(struct backup_known *k, uint64_t at, size_t chunk_bytes,
                  struct digest *id, uint64_t *bytes)
{
    if (!k)
        return false;
    while (k->at < k->n && k->starts[k->at] < at)
        k->at++;
    if (k->at == k->n || k->starts[k->at] != at || !fits(k, chunk_bytes) ||
        !extents_miss(&k->changed, at, k->starts[k->at + 1], &k->hint))
        return false;
    *id = k->content[k->at];
    *bytes = k->starts[k->at + 1] - at;
    return true;
}
