/* The workers of a restore: reading runs of packs, writing pieces of files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/meta.h"
#include "common/engine/restore_own.h"
#include "common/engine/scan.h"

enum { COMPARE_STEP = 256 << 10 };

struct open_dir {
    uint64_t serial; /* 0: none */
    int fd;
};

struct restore_worker {
    struct restore *restore;
    struct repo_io *io;
    struct buf run;      /* stored bytes of a run */
    struct buf blobs[2]; /* two blobs' content */
    struct open_dir dirs[RESTORE_OPEN_DIRS];
    unsigned next_dir;
};

struct restore_worker *restore_worker_new(struct restore *r)
{
    struct restore_worker *w = mem_zalloc(sizeof *w);
    w->restore = r;
    w->io = repo_io_new(r->repo);
    return w;
}

void restore_worker_free(struct restore_worker *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < RESTORE_OPEN_DIRS; i++)
        if (w->dirs[i].serial)
            close(w->dirs[i].fd);
    repo_io_free(w->io);
    buf_fini(&w->run);
    buf_fini(&w->blobs[0]);
    buf_fini(&w->blobs[1]);
    free(w);
}

/* A descriptor of the directory, borrowed until the next call. */
static struct err *dir_fd_of(struct restore_worker *w, const struct restore_dir *d,
                             int *out)
{
    for (size_t i = 0; i < RESTORE_OPEN_DIRS; i++)
        if (w->dirs[i].serial == d->serial) {
            *out = w->dirs[i].fd;
            return NULL;
        }
    int fd = -1;
    TRY(restore_dir_open(w->restore, d, &fd));
    struct open_dir *slot = &w->dirs[w->next_dir++ % RESTORE_OPEN_DIRS];
    if (slot->serial)
        close(slot->fd);
    *slot = (struct open_dir){d->serial, fd};
    *out = fd;
    return NULL;
}

void restore_file_fail(struct restore *r, struct restore_file *f, struct err *e)
{
    if (!e)
        return;
    if (atomic_exchange(&f->failed, true)) {
        err_free(e);
        return;
    }
    if (f->source)
        atomic_store(&f->source->state, LINK_FAILED);
    restore_problem(r, f->dir, f->node.name, e);
}

/* ---- opening ---- */

static struct err *create(struct restore_file *f, int dir_fd, int *out)
{
    if (atomic_load(&f->replace) && unlinkat(dir_fd, f->node.name, 0) && errno != ENOENT)
        return err_os(errno, "remove what exists");
    int fd = openat(dir_fd, f->node.name,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, RESTORE_MARK);
    if (fd < 0)
        return err_os(errno, "create");
    f->created = true;
    *out = fd;
    return NULL;
}

/* Lets the owner write; root need not ask. */
static struct err *allow_writing(int dir_fd, const char *name)
{
    char path[64];
    AUTO(fd) int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
        return err_new(ERR_CONFLICT, "it was replaced while being restored");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (chmod(path, 0600))
        return err_os(errno, "change mode");
    return NULL;
}

/* Opens a file that exists: before the restore, or made by it and closed meanwhile. Only
 * that very file, and only if it has no name elsewhere. */
static struct err *open_again(const struct restore_file *f, int dir_fd, int *out)
{
    enum { FLAGS = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC };
    struct stat st;
    AUTO(fd) int fd = openat(dir_fd, f->node.name, FLAGS);
    if (fd < 0 && errno == EACCES) {
        TRY(allow_writing(dir_fd, f->node.name));
        fd = openat(dir_fd, f->node.name, FLAGS);
    }
    if (fd < 0)
        return err_os(errno, "open");
    if (fstat(fd, &st))
        return err_os(errno, "look at");
    bool known = f->ino == 0 || (st.st_dev == f->dev && st.st_ino == f->ino);
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || !known)
        return err_new(ERR_CONFLICT, "it was replaced while being restored");
    *out = fd_steal(&fd);
    return NULL;
}

static struct err *open_file(struct restore_worker *w, struct restore_file *f)
{
    struct stat st;
    int dir_fd = -1, fd = -1;
    TRY(dir_fd_of(w, f->dir, &dir_fd));
    if (f->created || f->existed)
        TRY(open_again(f, dir_fd, &fd));
    else
        TRY(create(f, dir_fd, &fd));
    if (f->refs_n > 1 && !f->ino) {
        if (fstat(fd, &st)) {
            close(fd);
            return err_os(errno, "look at");
        }
        f->dev = st.st_dev;
        f->ino = st.st_ino;
    }
    f->fd = fd;
    restore_direct_open(w->restore, f);
    atomic_fetch_add(&w->restore->open_files, 1);
    return NULL;
}

static pthread_mutex_t *lock_of(struct restore *r, const struct restore_file *f)
{
    return &r->locks[((uintptr_t)f / sizeof *f) % RESTORE_LOCKS];
}

static struct err *use_file(struct restore_worker *w, struct restore_file *f)
{
    pthread_mutex_t *mu = lock_of(w->restore, f);
    struct err *e = NULL;
    pthread_mutex_lock(mu);
    if (f->fd < 0)
        e = open_file(w, f);
    f->users += e == NULL;
    pthread_mutex_unlock(mu);
    return e;
}

static struct err *close_file(struct restore *r, struct restore_file *f)
{
    int fd = f->fd, direct_fd = f->direct_fd;
    f->fd = f->direct_fd = -1;
    atomic_fetch_sub(&r->open_files, 1);
    int bad = direct_fd >= 0 && close(direct_fd) ? errno : 0;
    if (close(fd))
        bad = errno;
    return bad ? err_os(bad, "close") : NULL;
}

/* Keeps it open for its next piece, unless too many are. */
static void unuse_file(struct restore *r, struct restore_file *f)
{
    pthread_mutex_t *mu = lock_of(r, f);
    struct err *e = NULL;
    pthread_mutex_lock(mu);
    if (--f->users == 0 && atomic_load(&r->open_files) > RESTORE_OPEN_FILES &&
        atomic_load(&f->left) > 1)
        e = close_file(r, f);
    pthread_mutex_unlock(mu);
    restore_file_fail(r, f, e);
}

/* ---- finishing ---- */

/* A new file with other content than the snapshot's is worse than none; one that existed
 * was told of and stays. */
static void give_up(struct restore_worker *w, struct restore_file *f)
{
    int dir_fd = -1;
    if (f->fd >= 0)
        err_free(close_file(w->restore, f));
    if (!f->created)
        return;
    struct err *e = dir_fd_of(w, f->dir, &dir_fd);
    if (!e)
        unlinkat(dir_fd, f->node.name, 0);
    err_free(e);
}

static struct err *set_size(struct restore_worker *w, struct restore_file *f)
{
    if (f->fd < 0)
        TRY(open_file(w, f));
    if ((f->hole_at_end || f->existed) && ftruncate(f->fd, (off_t)f->bytes))
        return err_os(errno, "set size");
    return NULL;
}

/* Everything is written: size, metadata. */
static void finish_file(struct restore_worker *w, struct restore_file *f)
{
    struct restore *r = w->restore;
    bool was_there = f->existed || atomic_load(&f->replace);
    struct err *meta = NULL, *e = NULL;
    if (!atomic_load(&f->failed)) {
        e = set_size(w, f);
        if (!e)
            meta = meta_apply(f->fd, &f->node, f->created && !f->dir->inherits);
        if (!e)
            e = close_file(r, f);
        restore_file_fail(r, f, e);
    }
    if (atomic_load(&f->failed)) {
        err_free(meta);
        give_up(w, f);
        return;
    }
    atomic_fetch_add(&r->files, 1);
    if (f->source)
        atomic_store(&f->source->state, LINK_DONE);
    restore_tell(r, was_there ? RESTORE_UPDATE : RESTORE_CREATE, f->dir, f->node.name);
    /* Its content is right: it stays, whatever became of its metadata. */
    restore_problem(r, f->dir, f->node.name, meta);
}

/* Content is there already. */
static void keep_file(struct restore_worker *w, struct restore_file *f)
{
    struct restore *r = w->restore;
    int dir_fd = -1;
    struct err *e = dir_fd_of(w, f->dir, &dir_fd);
    if (!e)
        e = meta_apply_at(dir_fd, f->node.name, &f->node);
    atomic_fetch_add(&r->kept, 1);
    if (f->source)
        atomic_store(&f->source->state, LINK_DONE);
    restore_tell(r, RESTORE_KEEP, f->dir, f->node.name);
    restore_problem(r, f->dir, f->node.name, e);
}

static void do_finish(struct restore_worker *w, const struct restore_job *job)
{
    for (uint32_t i = 0; i < job->n; i++) {
        struct restore_file *f = &job->window->files[job->first + i];
        if (atomic_load(&f->failed))
            continue;
        if (f->existed && (f->same || f->had_bytes == f->bytes))
            keep_file(w, f);
        else
            finish_file(w, f);
    }
}

/* ---- writing ---- */

static struct err *write_piece(struct restore_worker *w, struct restore_file *f,
                               const struct restore_ref *ref, const char *data, size_t n)
{
    struct restore *r = w->restore;
    TRY(use_file(w, f));
    struct err *e = restore_write(r, f, data, n, ref->at);
    unuse_file(r, f);
    atomic_fetch_add(&r->bytes, n);
    return e;
}

/* A blob on its way, and all places in the window where it belongs. */
struct piece {
    const struct restore_ref *refs;
    size_t n;
    const struct digest *id;
    struct buf *data; /* its content, behind `pad` bytes; none with an error */
    size_t pad;
    struct err *e;
    struct hash *hash; /* NULL: there is no blob */
    size_t hashed;     /* bytes of the content */
};

static const char *piece_text(const struct piece *p)
{
    return p->data->data + p->pad;
}

static size_t piece_bytes(const struct piece *p)
{
    return p->data->len - p->pad;
}

/* In memory the content lies to the blocks of memory as it will lie in its first file to
 * those of the disk: else it could not be written from where it is. */
static void make_room(struct piece *p, const struct blob_entry *entry)
{
    buf_clear(p->data);
    uintptr_t room =
        (uintptr_t)buf_room(p->data, blob_entry_bytes(entry) + RESTORE_ALIGN);
    p->pad = (size_t)((p->refs->at - room) % RESTORE_ALIGN);
    p->data->len = p->pad;
}

static void unseal(struct restore_worker *w, const struct restore_job *job,
                   struct piece *p, const uint8_t *run)
{
    const struct restore_ref *ref = p->refs;
    p->id = &job->window->files[ref->file].node.content[ref->number];
    const struct blob_entry entry = {.id = *p->id,
                                     .pack = ref->pack,
                                     .offset = ref->offset,
                                     .length = ref->length,
                                     .plain = ref->plain,
                                     .type = BLOB_DATA};
    size_t at = ref->offset - job->window->refs[job->first].offset;
    make_room(p, &entry);
    p->e = run ? repo_unseal_blob(w->io, &entry, run + at, p->data)
               : err_new(ERR_IO, "the pack cannot be read");
}

static size_t left_of(const struct piece *p)
{
    return p->hash ? piece_bytes(p) - p->hashed : 0;
}

/* Two streams at once cost little more than one. */
static void hash_together(struct piece *a, struct piece *b)
{
    size_t n = left_of(a) < left_of(b) ? left_of(a) : left_of(b);
    if (!n)
        return;
    hash_add_two(a->hash, piece_text(a) + a->hashed, n, b->hash,
                 piece_text(b) + b->hashed, n);
    a->hashed += n;
    b->hashed += n;
}

static void verify(struct piece *p)
{
    struct digest real;
    const struct blob_entry entry = {.id = *p->id};
    hash_add(p->hash, piece_text(p) + p->hashed, left_of(p));
    hash_end(STEAL(p->hash), &real);
    if (!p->e)
        p->e = repo_verify_blob(&entry, &real);
}

static void end_piece(struct restore_worker *w, const struct restore_job *job,
                      struct piece *p)
{
    struct restore *r = w->restore;
    verify(p);
    if (p->e) {
        /* There may be another copy; if not, this says what is wrong, and where. */
        err_free(p->e);
        buf_clear(p->data);
        p->pad = 0;
        p->e = repo_load_blob(w->io, BLOB_DATA, p->id, p->data);
    }
    AUTO(str) char *text = p->e ? err_text(p->e) : NULL;
    for (size_t i = 0; i < p->n; i++) {
        struct restore_file *f = &job->window->files[p->refs[i].file];
        if (p->e)
            restore_file_fail(r, f, err_new(p->e->kind, "%s", text));
        else if (!atomic_load(&f->failed))
            restore_file_fail(
                r, f, write_piece(w, f, &p->refs[i], piece_text(p), piece_bytes(p)));
        if (atomic_fetch_sub(&f->left, 1) == 1)
            finish_file(w, f);
    }
    err_free(STEAL(p->e));
}

/* The next blob of the run, from reference *at on. False: there is none. */
static bool next_piece(struct restore_worker *w, const struct restore_job *job,
                       const uint8_t *run, uint32_t *at, struct piece *p)
{
    const struct restore_ref *refs = job->window->refs + job->first;
    uint32_t first = *at;
    if (first == job->n || restore_is_cancelled(w->restore))
        return false;
    while (*at < job->n && refs[*at].offset == refs[first].offset)
        ++*at;
    p->refs = refs + first;
    p->n = *at - first;
    unseal(w, job, p, run);
    p->hash = hash_new();
    p->hashed = 0;
    return true;
}

static void do_run(struct restore_worker *w, const struct restore_job *job)
{
    const struct restore_ref *refs = job->window->refs + job->first;
    const struct restore_ref *last = &refs[job->n - 1];
    size_t bytes = (size_t)last->offset + last->length - refs->offset;
    struct piece a = {.data = &w->blobs[0]}, b = {.data = &w->blobs[1]};
    struct piece *waits = &a, *next = &b;
    uint32_t at = 0;
    buf_clear(&w->run);
    uint8_t *run = buf_room(&w->run, bytes);
    struct err *e =
        repo_read_pack(w->restore->repo, &job->pack, refs->offset, run, bytes);
    if (e)
        run = NULL;
    /* What is left of a blob when the other's bytes are used up waits for the next. */
    while (next_piece(w, job, run, &at, next)) {
        hash_together(waits, next);
        if (waits->hash && !left_of(waits))
            end_piece(w, job, waits);
        if (waits->hash) {
            end_piece(w, job, next);
            continue;
        }
        struct piece *freed = waits;
        waits = next;
        next = freed;
    }
    if (waits->hash)
        end_piece(w, job, waits);
    err_free(e);
}

/* ---- comparing ---- */

/* Does the file hold the piece? */
static bool has_piece(struct restore_worker *w, int fd, const struct digest *id,
                      uint64_t at, uint64_t n)
{
    struct digest real;
    struct hash *h = hash_new();
    buf_clear(&w->run);
    char *room = buf_room(&w->run, COMPARE_STEP);
    while (n) {
        ssize_t got = pread(fd, room, n < COMPARE_STEP ? n : COMPARE_STEP, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        hash_add(h, room, (size_t)got);
        at += (uint64_t)got;
        n -= (uint64_t)got;
    }
    hash_end(h, &real);
    return n == 0 && digest_equal(&real, id);
}

/* Whatever cannot be read is simply written again. */
static void do_compare(struct restore_worker *w, const struct restore_job *job)
{
    struct restore_ref *refs = job->window->refs + job->first;
    const struct restore_file *f = &job->window->files[refs->file];
    AUTO(fd) int fd = -1;
    int dir_fd = -1;
    struct stat st;
    struct err *e = dir_fd_of(w, f->dir, &dir_fd);
    if (!e)
        e = scan_open_file(dir_fd, f->node.name, &fd, &st);
    for (uint32_t i = 0; i < job->n && !e && !restore_is_cancelled(w->restore); i++) {
        const struct blob_entry b = {.plain = refs[i].plain, .length = refs[i].length};
        refs[i].have = has_piece(w, fd, &f->node.content[refs[i].number], refs[i].at,
                                 blob_entry_bytes(&b));
    }
    err_free(e);
}

void restore_work(void *ctx, unsigned worker, void *arg)
{
    struct restore *r = ctx;
    const struct restore_job *job = arg;
    struct restore_window *win = job->window;
    struct restore_worker *w = r->workers[worker];
    if (!restore_is_cancelled(r)) {
        if (job->kind == JOB_COMPARE)
            do_compare(w, job);
        else if (job->kind == JOB_RUN)
            do_run(w, job);
        else
            do_finish(w, job);
    }
    pthread_mutex_lock(&win->mu);
    if (--win->jobs_left == 0)
        pthread_cond_signal(&win->idle);
    pthread_mutex_unlock(&win->mu);
}
