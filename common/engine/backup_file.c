/* Reading files, cutting them, and saving the pieces. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/backup_own.h"

/* So many bytes are read in one turn when pieces are smaller. */
enum { TURN_BYTES = 512 << 10 };

/* Reads what follows the `have` bytes behind the pieces so far. */
static struct err *read_step(struct backup_file *f, uint8_t *to, size_t n, size_t have,
                             size_t *got)
{
    ssize_t r;
    do {
        r = pread(f->fd, to, n, (off_t)(f->bytes + have));
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return err_os(errno, "read");
    f->eof = r == 0;
    *got = (size_t)r;
    return NULL;
}

/* Whole pieces of fixed length into data; only a file's end is shorter. Stops before one
 * that is known. */
static struct err *read_fixed(struct backup_file *f, size_t chunk, uint8_t *data,
                              size_t *n)
{
    size_t most = chunk < TURN_BYTES ? TURN_BYTES / chunk * chunk : chunk, want = chunk;
    struct digest id;
    uint64_t bytes;
    while (want < most && !backup_knows(f->known, f->bytes + want, chunk, &id, &bytes))
        want += chunk;
    while (*n < want && !f->eof) {
        size_t got = 0;
        TRY(read_step(f, data + *n, want - *n, *n, &got));
        *n += got;
    }
    return NULL;
}

/* One piece that ends where its content says; what was read behind it is carried over. */
static struct err *read_gear(const struct gear *g, struct backup_file *f, uint8_t *data,
                             size_t *n)
{
    struct gear_state st = {0};
    size_t have = f->carry_n, cut;
    memcpy(data, f->carry, have);
    while (!(cut = gear_cut(g, &st, data, have)) && !f->eof) {
        size_t got = 0;
        TRY(read_step(f, data + have, BACKUP_READ_STEP, have, &got));
        have += got;
    }
    *n = cut ? cut : have;
    f->carry_n = have - *n;
    memcpy(f->carry, data + *n, f->carry_n);
    return NULL;
}

/* Waits for this worker's turn. False: there is nothing left to read. Needs the lock. */
static bool wait_for_turn(struct backup *b, struct backup_file *f)
{
    while (f->busy && !f->done)
        pthread_cond_wait(&b->changed, &b->mu);
    if (f->done || b->fatal)
        return false;
    f->busy = true;
    return true;
}

/* Makes room for `count` more ids and returns the first's place. Needs the lock. */
static size_t reserve(struct backup_file *f, size_t count)
{
    size_t first = f->content_n;
    mem_reserve((void **)&f->content, &f->content_cap, first + count, sizeof *f->content);
    f->content_n += count;
    return first;
}

/* Takes over what is known to follow, in this worker's turn. */
static void take_known(struct backup *b, struct backup_file *f)
{
    struct digest id;
    uint64_t bytes;
    while (backup_knows(f->known, f->bytes, f->dir->chunk_bytes, &id, &bytes)) {
        pthread_mutex_lock(&b->mu);
        size_t slot = reserve(f, 1);
        f->content[slot] = id;
        f->bytes += bytes;
        b->summary.total_bytes_processed += bytes;
        b->bytes_known += bytes;
        pthread_mutex_unlock(&b->mu);
        f->carry_n = 0; /* what was read of it */
        f->eof = false;
    }
}

/* Reads the next bytes in this worker's turn; *slot is where their ids belong. */
static bool take_turn(struct backup_worker *w, struct backup_file *f, size_t *n,
                      size_t *slot)
{
    struct backup *b = w->b;
    size_t chunk = f->dir->chunk_bytes;
    *n = 0;
    pthread_mutex_lock(&b->mu);
    bool mine = wait_for_turn(b, f);
    pthread_mutex_unlock(&b->mu);
    if (!mine)
        return false;
    take_known(b, f);
    struct err *e =
        chunk ? read_fixed(f, chunk, w->data, n) : read_gear(&b->gear, f, w->data, n);
    pthread_mutex_lock(&b->mu);
    f->busy = false;
    f->done = e || (f->eof && !f->carry_n);
    f->e = e;
    if (!e && *n) {
        *slot = reserve(f, chunk ? (*n + chunk - 1) / chunk : 1);
        f->bytes += *n;
        b->summary.total_bytes_processed += *n;
    }
    if (f->users > 1)
        pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
    return !e && *n;
}

static struct err *save_pieces(struct backup_worker *w, struct backup_file *f, size_t n,
                               size_t slot)
{
    struct backup *b = w->b;
    size_t step = f->dir->chunk_bytes ? f->dir->chunk_bytes : n;
    for (size_t at = 0; at < n; at += step, slot++) {
        struct digest id;
        struct repo_saved saved;
        size_t bytes = n - at < step ? n - at : step;
        TRY(repo_save_blob(w->io, BLOB_DATA, w->data + at, bytes, &id, &saved));
        backup_count(b, BLOB_DATA, &saved);
        pthread_mutex_lock(&b->mu);
        f->content[slot] = id;
        pthread_mutex_unlock(&b->mu);
    }
    return NULL;
}

/* Reads and saves until the file ends. */
static void work_on(struct backup_worker *w, struct backup_file *f)
{
    size_t n, slot = 0;
    while (take_turn(w, f, &n, &slot)) {
        struct err *e = save_pieces(w, f, n, slot);
        if (e)
            backup_fail(w->b, e);
    }
}

/* All pieces are saved: the list goes to the entry. */
static void finish(struct backup_worker *w, struct backup_file *f)
{
    struct backup *b = w->b;
    struct backup_entry *entry = f->entry;
    struct err *e = STEAL(f->e);
    entry->size = f->bytes;
    entry->content_n = f->content_n;
    if (f->content_n == 1)
        entry->one = f->content[0];
    else if (f->content_n)
        entry->list = STEAL(f->content);
    free(f->content);
    f->content = NULL;
    backup_known_free(STEAL(f->known));
    close(f->fd);
    if (!e) {
        pthread_mutex_lock(&b->mu);
        if (entry->had_old)
            b->summary.files_changed++;
        else
            b->summary.files_new++;
        b->summary.total_files_processed++;
        pthread_mutex_unlock(&b->mu);
    }
    backup_problem(b, f->dir, backup_name(f->dir, entry), e);
}

static struct err *open_file(struct backup *b, struct backup_dir *d,
                             struct backup_entry *entry, int *out)
{
    struct stat st;
    struct node extra = {0};
    int fd = -1;
    const char *name = backup_name(d, entry);
    TRY(scan_open_file(d->fd, name, &fd, &st));
    backup_fill_entry(b, d, &st, entry);
    struct err *e = scan_extras(d->fd, name, fd, st.st_mode, &extra);
    if (extra.xattrs_n)
        entry->extra = mem_dup(&extra, sizeof extra);
    if (e) {
        close(fd);
        return e;
    }
    *out = fd;
    return NULL;
}

static bool begin(struct backup_worker *w, struct backup_dir *d, uint32_t at,
                  struct backup_file *f)
{
    struct backup_entry *entry = &d->entries[at];
    f->dir = d;
    f->entry = entry;
    f->fd = -1;
    f->eof = f->busy = f->done = false;
    f->carry_n = f->content_n = f->content_cap = 0;
    f->users = 1;
    f->e = NULL;
    f->bytes = 0;
    f->content = NULL;
    f->known = NULL;
    struct err *e = open_file(w->b, d, entry, &f->fd);
    if (!e)
        f->known = backup_know(w->b, f);
    backup_problem(w->b, d, backup_name(d, entry), e);
    return !e;
}

void backup_read_files(struct backup_worker *w, const struct backup_unit *u)
{
    struct backup_file f;
    for (uint32_t i = u->from; i < u->to && !backup_is_over(w->b); i++) {
        if (!begin(w, u->dir, u->dir->todo[i], &f))
            continue;
        work_on(w, &f);
        finish(w, &f);
    }
    backup_dir_close(w->b, u->dir);
    backup_dir_release(w, u->dir);
}

/* Shows a file to workers that have nothing else to do, or hides it again. */
static void show(struct backup *b, struct backup_file *from, struct backup_file *to)
{
    pthread_mutex_lock(&b->mu);
    for (unsigned i = 0; i < BACKUP_WORKERS_MAX; i++) {
        if (b->shared[i] != from)
            continue;
        b->shared[i] = to;
        break;
    }
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

static void leave(struct backup_worker *w, struct backup_file *f)
{
    struct backup *b = w->b;
    pthread_mutex_lock(&b->mu);
    bool last = --f->users == 0;
    pthread_mutex_unlock(&b->mu);
    if (!last)
        return;
    finish(w, f);
    backup_dir_release(w, f->dir);
    free(f);
}

void backup_join_file(struct backup_worker *w, struct backup_file *f)
{
    work_on(w, f);
    leave(w, f);
}

void backup_read_large(struct backup_worker *w, const struct backup_unit *u)
{
    struct backup_file *f = mem_alloc(sizeof *f);
    bool begun = begin(w, u->dir, u->dir->todo[u->from], f);
    backup_dir_close(w->b, u->dir);
    if (!begun) {
        free(f);
        backup_dir_release(w, u->dir);
        return;
    }
    show(w->b, NULL, f);
    work_on(w, f);
    show(w->b, f, NULL);
    leave(w, f);
}
