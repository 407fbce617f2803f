/* The workers of a backup, what they take from the stack, and how directories finish. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/backup_own.h"

enum { REPORT_MS = 200, WORKER_BUFFER = GEAR_MAX + BACKUP_READ_STEP };

bool backup_is_over(struct backup *b)
{
    pthread_mutex_lock(&b->mu);
    bool over = b->fatal != NULL;
    pthread_mutex_unlock(&b->mu);
    return over;
}

void backup_problem(struct backup *b, const struct backup_dir *d, const char *name,
                    struct err *e)
{
    if (!e)
        return;
    AUTO(str) char *path = mem_printf("%s%s%s", d->path, *name ? "/" : "", name);
    problems_add(b->problems, *path ? path : "/", e);
}

void backup_push(struct backup *b, const struct backup_unit *units, size_t n)
{
    if (!n)
        return;
    pthread_mutex_lock(&b->mu);
    for (size_t i = 0; i < n; i++) {
        mem_reserve((void **)&b->units, &b->units_cap, b->units_n, sizeof *b->units);
        b->units[b->units_n++] = units[i];
        units[i].dir->pending++;
        units[i].dir->openers++;
    }
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

void backup_dir_close(struct backup *b, struct backup_dir *d)
{
    int fd = -1;
    pthread_mutex_lock(&b->mu);
    if (--d->openers == 0) {
        fd = d->fd;
        d->fd = -1;
    }
    pthread_mutex_unlock(&b->mu);
    if (fd >= 0)
        close(fd);
}

static void dir_free(struct backup_dir *d)
{
    for (size_t i = 0; i < d->entries_n; i++) {
        struct backup_entry *e = &d->entries[i];
        free(e->list);
        if (e->extra)
            node_fini(e->extra);
        free(e->extra);
    }
    free(d->entries);
    free(d->todo);
    free(d->path);
    buf_fini(&d->names);
    free(d);
}

/* ---- a directory's list ---- */

void backup_view(struct backup_worker *w, const struct backup_dir *d,
                 const struct backup_entry *e, struct node *nd)
{
    if (e->extra)
        *nd = *e->extra;
    nd->type = node_type_of(e->mode);
    nd->name = (char *)(uintptr_t)backup_name(d, e);
    nd->mode = node_mode(e->mode);
    nd->mtime = (struct go_time){e->mtime, e->mtime_nsec};
    nd->atime = nd->mtime; /* the real one would make every tree new */
    nd->ctime = (struct go_time){e->ctime, e->ctime_nsec};
    nd->uid = e->uid;
    nd->gid = e->gid;
    nd->user = (char *)(uintptr_t)scan_user(w->names, e->uid);
    nd->group = (char *)(uintptr_t)scan_group(w->names, e->gid);
    nd->inode = e->inode;
    nd->device_id = e->device_id;
    nd->links = nd->type == NODE_DIR || nd->type == NODE_FIFO ? 0 : e->links;
    nd->device = nd->type == NODE_DEV || nd->type == NODE_CHARDEV ? e->device : 0;
    nd->content = NULL;
    nd->content_n = 0;
    if (nd->type == NODE_FILE) {
        nd->size = e->size;
        nd->content_n = e->content_n;
        nd->content = e->content_n == 1 ? (struct digest *)(uintptr_t)&e->one : e->list;
    } else if (nd->type == NODE_DIR) {
        nd->has_subtree = true;
        nd->subtree = e->one;
    }
}

static void count_dir(struct backup *b, const struct backup_dir *d,
                      const struct digest *id)
{
    pthread_mutex_lock(&b->mu);
    if (!d->had_old)
        b->summary.dirs_new++;
    else if (digest_equal(&d->old, id))
        b->summary.dirs_unmodified++;
    else
        b->summary.dirs_changed++;
    pthread_mutex_unlock(&b->mu);
}

struct list_source {
    struct backup_worker *w;
    const struct backup_dir *d;
};

static struct err *give_list(void *ctx, zst_sink *sink, void *sink_ctx)
{
    const struct list_source *from = ctx;
    const struct backup_dir *d = from->d;
    AUTO_TREE_WRITER struct tree_writer tree;
    tree_writer_init(&tree, sink, sink_ctx);
    for (size_t i = 0; i < d->entries_n; i++) {
        struct node nd = {0};
        if (!d->entries[i].mode)
            continue;
        backup_view(from->w, d, &d->entries[i], &nd);
        TRY(tree_writer_add(&tree, &nd));
    }
    return tree_writer_end(&tree);
}

/* Stores a complete list. After a failure nothing is stored: the snapshot cannot come. */
static void save_dir(struct backup_worker *w, struct backup_dir *d, struct digest *id)
{
    struct backup *b = w->b;
    struct list_source from = {w, d};
    struct repo_saved saved;
    if (backup_is_over(b) || problems_total(b->problems))
        return;
    if (d->same) { /* it would read the same */
        *id = d->old;
        count_dir(b, d, id);
        return;
    }
    struct err *e = repo_save_source(w->io, BLOB_TREE, give_list, &from, id, &saved);
    if (e) {
        backup_fail(b, e);
        return;
    }
    backup_count(b, BLOB_TREE, &saved);
    count_dir(b, d, id);
}

/* The last part's end stores the list and is itself a part of the directory above. */
void backup_dir_release(struct backup_worker *w, struct backup_dir *d)
{
    struct backup *b = w->b;
    while (d) {
        struct backup_dir *parent = d->parent;
        struct digest id = {0};
        pthread_mutex_lock(&b->mu);
        bool last = --d->pending == 0;
        pthread_mutex_unlock(&b->mu);
        if (!last)
            return;
        save_dir(w, d, &id);
        pthread_mutex_lock(&b->mu);
        if (parent) {
            parent->entries[d->parent_entry].one = id;
            parent->same = parent->same && d->had_old && digest_equal(&d->old, &id);
        } else {
            b->tree = id;
        }
        pthread_mutex_unlock(&b->mu);
        dir_free(d);
        d = parent;
    }
}

/* ---- workers ---- */

/* Opens a directory that was found as entry `at` of d. */
static struct err *open_found(struct backup *b, struct backup_dir *d, size_t at,
                              struct backup_dir *sub)
{
    struct stat st;
    struct node extra = {0};
    struct backup_entry *entry = &d->entries[at];
    const char *name = backup_name(d, entry);
    if (sub->depth > BACKUP_DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", BACKUP_DEPTH_MAX);
    TRY(scan_open_dir(d->fd, name, &sub->fd));
    if (fstat(sub->fd, &st))
        return err_os(errno, "look at");
    const struct backup_entry before = *entry;
    backup_fill_entry(b, d, &st, entry);
    sub->dev = st.st_dev;
    sub->device_id = entry->device_id;
    struct err *e = scan_extras(d->fd, name, sub->fd, st.st_mode, &extra);
    /* Changed since it was listed; or it has attributes, which it was compared without.
     */
    if (memcmp(&before, entry, sizeof before) != 0 || extra.xattrs_n) {
        pthread_mutex_lock(&b->mu);
        d->same = false;
        pthread_mutex_unlock(&b->mu);
    }
    if (extra.xattrs_n)
        entry->extra = mem_dup(&extra, sizeof extra);
    return e;
}

static void do_dir(struct backup_worker *w, const struct backup_unit *u)
{
    struct backup *b = w->b;
    struct backup_dir *d = u->dir;
    struct backup_entry *entry = &d->entries[u->from];
    const char *name = backup_name(d, entry);
    struct backup_dir *sub = mem_zalloc(sizeof *sub);
    sub->parent = d;
    sub->parent_entry = u->from;
    sub->depth = d->depth + 1;
    sub->path = mem_printf("%s/%s", d->path, name);
    sub->fd = -1;
    sub->pending = sub->openers = 1;
    sub->had_old = entry->had_old;
    sub->old = entry->one;
    struct err *e = open_found(b, d, u->from, sub);
    backup_dir_close(b, d);
    backup_problem(b, d, name, e);
    if (!e)
        backup_scan(w, sub);
    backup_dir_close(b, sub);
    backup_dir_release(w, sub); /* and with it the part of d that it is */
}

static void skip_unit(struct backup_worker *w, const struct backup_unit *u)
{
    backup_dir_close(w->b, u->dir);
    backup_dir_release(w, u->dir);
}

static void do_unit(struct backup_worker *w, const struct backup_unit *u)
{
    if (backup_is_over(w->b))
        skip_unit(w, u);
    else if (u->kind == UNIT_DIR)
        do_dir(w, u);
    else if (u->kind == UNIT_FILES)
        backup_read_files(w, u);
    else
        backup_read_large(w, u);
}

/* A large file that somebody reads. Needs the lock. */
static struct backup_file *find_shared(struct backup *b)
{
    for (unsigned i = 0; i < BACKUP_WORKERS_MAX; i++)
        if (b->shared[i] && !b->shared[i]->done)
            return b->shared[i];
    return NULL;
}

/* Work of one's own first: who shares a file also waits for turns. */
static bool take_work(struct backup *b, struct backup_unit *u, struct backup_file **file)
{
    bool got = true;
    *file = NULL;
    pthread_mutex_lock(&b->mu);
    while (!b->units_n && b->busy && !(*file = find_shared(b)))
        pthread_cond_wait(&b->changed, &b->mu);
    if (b->units_n) {
        *u = b->units[--b->units_n];
        *file = NULL;
    } else if (*file) {
        (*file)->users++;
    } else {
        got = false;
        if (--b->running == 0)
            pthread_cond_signal(&b->left);
        pthread_cond_broadcast(&b->changed);
    }
    b->busy += got;
    pthread_mutex_unlock(&b->mu);
    return got;
}

static void run_worker(void *ctx, unsigned number, void *job)
{
    struct backup *b = ctx;
    struct backup_worker *w = job;
    struct backup_unit u;
    struct backup_file *file;
    (void)number;
    while (take_work(b, &u, &file)) {
        if (file)
            backup_join_file(w, file);
        else
            do_unit(w, &u);
        pthread_mutex_lock(&b->mu);
        b->busy--;
        if (!b->busy)
            pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->mu);
    }
}

/* ---- the calling thread ---- */

static void report(struct backup *b)
{
    struct backup_progress p = {.problems = problems_total(b->problems)};
    if (!b->opts->progress)
        return;
    pthread_mutex_lock(&b->mu);
    p.files = b->summary.total_files_processed + b->others;
    p.bytes_read = b->summary.total_bytes_processed;
    p.bytes_stored = b->summary.data_added_packed;
    pthread_mutex_unlock(&b->mu);
    b->opts->progress(b->opts->progress_ctx, &p);
}

/* Looks after the workers until all have left. */
static void attend(struct backup *b)
{
    bool running = true;
    while (running) {
        struct err *e = backup_check(b);
        if (e)
            backup_fail(b, e);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += REPORT_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        int rc = 0;
        pthread_mutex_lock(&b->mu);
        while (b->running && rc != ETIMEDOUT)
            rc = pthread_cond_timedwait(&b->left, &b->mu, &until);
        running = b->running > 0;
        pthread_mutex_unlock(&b->mu);
        if (running)
            report(b);
    }
}

static struct err *worker_init(struct backup *b, struct backup_worker *w)
{
    w->b = b;
    w->data = mmap(NULL, WORKER_BUFFER, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (w->data == MAP_FAILED) {
        w->data = NULL;
        return err_os(errno, "get memory for a worker");
    }
    w->io = repo_io_new(b->repo);
    w->names = scan_names_new();
    return NULL;
}

static void worker_fini(struct backup_worker *w)
{
    if (w->data)
        munmap(w->data, WORKER_BUFFER);
    repo_io_free(w->io);
    scan_names_free(w->names);
    buf_fini(&w->old);
    buf_fini(&w->head);
}

static struct err *run_workers(struct backup *b)
{
    AUTO(workq) struct workq *q = NULL;
    TRY(workq_new(b->workers_n, b->workers_n, run_worker, b, &q));
    for (unsigned i = 0; i < b->workers_n; i++)
        workq_push(q, &b->workers[i]);
    attend(b);
    workq_free(STEAL(q));
    return NULL;
}

static struct backup_dir *make_top(struct backup *b, int dir_fd, const struct stat *st,
                                   const struct digest *old_tree)
{
    struct backup_dir *top = mem_zalloc(sizeof *top);
    top->path = mem_strdup("");
    top->fd = dir_fd;
    top->pending = top->openers = 1;
    top->dev = st->st_dev;
    top->device_id = b->device_base;
    if (old_tree) {
        top->had_old = true;
        top->old = *old_tree;
    }
    return top;
}

struct err *backup_walk(struct backup *b, int dir_fd, const struct digest *old_tree)
{
    struct stat st;
    if (fstat(dir_fd, &st))
        return err_os(errno, "look at '%s'", b->opts->source);
    /* Two more than processors: some always wait for the disk. */
    unsigned n = b->opts->workers ? b->opts->workers : workq_workers() + 2;
    b->workers_n = b->running = n < BACKUP_WORKERS_MAX ? n : BACKUP_WORKERS_MAX;
    struct err *e = NULL;
    for (unsigned i = 0; i < b->workers_n && !e; i++)
        e = worker_init(b, &b->workers[i]);
    int fd = e ? -1 : openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!e && fd < 0)
        e = err_os(errno, "open '%s'", b->opts->source);
    if (!e) {
        struct backup_dir *top = make_top(b, fd, &st, old_tree);
        backup_scan(&b->workers[0], top);
        backup_dir_close(b, top);
        backup_dir_release(&b->workers[0], top);
        e = run_workers(b);
    }
    for (unsigned i = 0; i < b->workers_n; i++)
        worker_fini(&b->workers[i]);
    return e;
}
