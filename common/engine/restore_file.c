/* Writing the content of restored files, and the table of their hard links. */
#include "common/engine/restore_own.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/beneath.h"
#include "common/engine/meta.h"
#include "common/engine/scan.h"

enum { BLOCK = 4096 };

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

static void link_table_grow(struct link_table *t)
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

struct link_source *link_table_get(struct link_table *t, const struct node *nd,
                                   const char *path, bool *fresh)
{
    if (t->count * 4 >= t->cap * 3)
        link_table_grow(t);
    size_t i = slot_of(t, nd->inode, nd->device_id);
    *fresh = !t->slots[i];
    if (*fresh) {
        struct link_source *s = mem_zalloc(sizeof *s);
        s->inode = nd->inode;
        s->device_id = nd->device_id;
        s->path = mem_strdup(path);
        t->slots[i] = s;
        t->count++;
    }
    return t->slots[i];
}

void link_table_fini(struct link_table *t)
{
    for (size_t i = 0; i < t->cap; i++) {
        if (!t->slots[i])
            continue;
        free(t->slots[i]->path);
        free(t->slots[i]);
    }
    free(t->slots);
    *t = (struct link_table){0};
}

void file_job_free(struct file_job *job)
{
    free(job->path);
    node_fini(&job->node);
    free(job);
}

static bool is_zero(const char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static struct err *write_at(int fd, const char *data, size_t n, uint64_t offset)
{
    while (n) {
        ssize_t put = pwrite(fd, data, n, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_os(errno, "write");
        data += put;
        offset += (uint64_t)put;
        n -= (size_t)put;
    }
    return NULL;
}

/* Writes runs of blocks that are not zero; what is skipped stays a hole. */
static struct err *write_sparse(int fd, const char *data, size_t n, uint64_t offset)
{
    size_t start = 0, at = 0;
    while (at < n) {
        size_t block = BLOCK - (size_t)((offset + at) % BLOCK);
        block = block < n - at ? block : n - at;
        if (is_zero(data + at, block)) {
            TRY(write_at(fd, data + start, at - start, offset + start));
            start = at + block;
        }
        at += block;
    }
    return write_at(fd, data + start, n - start, offset + start);
}

static struct err *write_content(struct restore *r, struct repo_io *io, int fd,
                                 const struct node *nd)
{
    AUTO_BUF struct buf blob = {0};
    uint64_t offset = 0;
    for (size_t i = 0; i < nd->content_n; i++) {
        if (r->opts->cancel && atomic_load(r->opts->cancel))
            return err_new(ERR_CANCELLED, "cancelled");
        buf_clear(&blob);
        TRY(repo_load_blob(io, BLOB_DATA, &nd->content[i], &blob));
        TRY((r->opts->no_sparse ? write_at : write_sparse)(fd, buf_text(&blob), blob.len,
                                                           offset));
        offset += blob.len;
        atomic_fetch_add(&r->bytes, blob.len);
    }
    if (ftruncate(fd, (off_t)offset))
        return err_os(errno, "set size");
    return NULL;
}

static struct err *write_file(struct restore *r, struct repo_io *io,
                              const struct file_job *job)
{
    AUTO_FD int dir_fd = -1;
    const char *base = NULL;
    TRY(beneath_open_parent(r->root_fd, job->path, &dir_fd, &base));
    int fd =
        openat(dir_fd, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_os(errno, "create");
    struct err *e = write_content(r, io, fd, &job->node);
    bool whole = e == NULL;
    if (whole)
        e = meta_apply(fd, &job->node);
    if (close(fd) && !e) {
        e = err_os(errno, "close");
        whole = false;
    }
    /* A file with other content than the snapshot's is worse than none. */
    if (!whole)
        unlinkat(dir_fd, base, 0);
    else if (job->source)
        atomic_store(&job->source->done, true);
    if (whole)
        atomic_fetch_add(&r->files, 1);
    return e;
}

void restore_file(void *ctx, unsigned worker, void *job)
{
    struct restore *r = ctx;
    struct file_job *file = job;
    struct err *e = write_file(r, r->ios[worker], file);
    problems_add(r->problems, file->path, e);
    file_job_free(file);
}
