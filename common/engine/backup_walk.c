/* The walk of a backup: directories in, pieces of files to the workers, trees out. */
#include "common/engine/backup_own.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"

enum { READ_STEP = 256 << 10, BUFFER_FULL = GEAR_MAX + READ_STEP, REPORT_MS = 200 };

/* A piece of a file on its way to a worker. */
struct piece {
    struct backup_dir *dir;
    size_t node;
    size_t slot; /* in the node's content */
    uint8_t *data;
    size_t n;
};

static void dir_free(struct backup_dir *d)
{
    tree_fini(&d->tree);
    free(d);
}

static bool is_over(struct backup *b)
{
    pthread_mutex_lock(&b->mu);
    bool over = b->fatal != NULL;
    pthread_mutex_unlock(&b->mu);
    return over || problems_total(b->problems) > 0;
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

/* Stores a complete list. After a failure nothing is stored: the snapshot cannot come. */
static void save_dir(struct backup *b, struct repo_io *io, struct backup_dir *d,
                     struct digest *id)
{
    AUTO_BUF struct buf json = {0};
    struct repo_saved saved;
    if (is_over(b))
        return;
    tree_write(&d->tree, &json);
    struct err *e = repo_save_blob(io, BLOB_TREE, json.data, json.len, id, &saved);
    if (e) {
        backup_fail(b, e);
        return;
    }
    backup_count(b, BLOB_TREE, json.len, &saved);
    count_dir(b, d, id);
}

/* One pending part of d is done. The last one stores the list and is itself a part of the
 * directory above. */
static void dir_release(struct backup *b, struct repo_io *io, struct backup_dir *d)
{
    while (d) {
        struct backup_dir *parent = d->parent;
        struct digest id = {0};
        pthread_mutex_lock(&b->mu);
        bool last = --d->pending == 0;
        pthread_mutex_unlock(&b->mu);
        if (!last)
            return;
        save_dir(b, io, d, &id);
        pthread_mutex_lock(&b->mu);
        if (parent)
            parent->tree.nodes[d->parent_node].subtree = id;
        else
            b->tree = id;
        pthread_mutex_unlock(&b->mu);
        dir_free(d);
        d = parent;
    }
}

static void dir_hold(struct backup *b, struct backup_dir *d)
{
    pthread_mutex_lock(&b->mu);
    d->pending++;
    pthread_mutex_unlock(&b->mu);
}

/* Worker: one piece. */
static void do_piece(void *ctx, unsigned worker, void *job)
{
    struct backup *b = ctx;
    struct piece *p = job;
    struct digest id = {0};
    struct repo_saved saved;
    pthread_mutex_lock(&b->mu);
    bool over = b->fatal != NULL;
    pthread_mutex_unlock(&b->mu);
    if (!over) {
        struct err *e =
            repo_save_blob(b->ios[worker], BLOB_DATA, p->data, p->n, &id, &saved);
        if (e)
            backup_fail(b, e);
        else
            backup_count(b, BLOB_DATA, p->n, &saved);
    }
    pthread_mutex_lock(&b->mu);
    p->dir->tree.nodes[p->node].content[p->slot] = id;
    pthread_mutex_unlock(&b->mu);
    dir_release(b, b->ios[worker], p->dir);
    free(p->data);
    free(p);
}

/* Takes `data` over. */
static void push_piece(struct backup *b, struct backup_dir *d, size_t node, uint8_t *data,
                       size_t n)
{
    struct piece *p = mem_alloc(sizeof *p);
    const struct digest unknown = {0};
    pthread_mutex_lock(&b->mu);
    struct node *nd = &d->tree.nodes[node];
    *p = (struct piece){d, node, nd->content_n, data, n};
    node_add_content(nd, &unknown);
    nd->size += n;
    d->pending++;
    b->summary.total_bytes_processed += n;
    pthread_mutex_unlock(&b->mu);
    workq_push(b->queue, p);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Between any two steps of the walk. */
static struct err *step(struct backup *b)
{
    int64_t now = now_ms();
    if (now - b->reported_ms >= REPORT_MS && b->opts->progress) {
        struct backup_progress p = {.problems = problems_total(b->problems)};
        pthread_mutex_lock(&b->mu);
        p.files = b->summary.total_files_processed + b->others;
        p.bytes_read = b->summary.total_bytes_processed;
        p.bytes_stored = b->summary.data_added_packed;
        pthread_mutex_unlock(&b->mu);
        b->reported_ms = now;
        b->opts->progress(b->opts->progress_ctx, &p);
    }
    return backup_check(b);
}

/* A file being cut into pieces. */
struct cutting {
    uint8_t *data;
    size_t n;
    size_t cap;
    bool eof;
    struct gear_state gear;
};

static struct err *read_more(struct cutting *c, int fd)
{
    if (c->n == c->cap) {
        c->cap = BUFFER_FULL;
        c->data = mem_resize(c->data, c->cap, 1);
    }
    size_t room = c->cap - c->n;
    ssize_t got = read(fd, c->data + c->n, room < READ_STEP ? room : READ_STEP);
    if (got < 0 && errno != EINTR)
        return err_os(errno, "read");
    if (got == 0)
        c->eof = true;
    if (got > 0)
        c->n += (size_t)got;
    return NULL;
}

/* Hands the first `cut` bytes over and goes on behind them. */
static void cut_off(struct backup *b, struct backup_dir *d, size_t node,
                    struct cutting *c, size_t cut)
{
    size_t rest = c->n - cut;
    uint8_t *next = NULL;
    if (rest || !c->eof) {
        next = mem_alloc(BUFFER_FULL);
        memcpy(next, c->data + cut, rest);
    }
    push_piece(b, d, node, c->data, cut);
    *c = (struct cutting){.data = next, .n = rest, .cap = BUFFER_FULL, .eof = c->eof};
}

static struct err *read_pieces(struct backup *b, struct backup_dir *d, size_t node,
                               int fd, struct cutting *c)
{
    for (;;) {
        size_t cut = gear_cut(&b->gear, &c->gear, c->data, c->n);
        if (!cut && !c->eof) {
            TRY(read_more(c, fd));
            continue;
        }
        if (!cut)
            cut = c->n;
        if (!cut)
            return NULL;
        TRY(step(b));
        cut_off(b, d, node, c, cut);
        if (!c->data)
            return NULL;
    }
}

static struct err *read_content(struct backup *b, struct backup_dir *d, size_t node,
                                int fd, uint64_t size)
{
    struct cutting c = {.cap = size < GEAR_MAX ? (size_t)size + 1 : BUFFER_FULL};
    c.data = mem_alloc(c.cap);
    struct err *e = read_pieces(b, d, node, fd, &c);
    free(c.data);
    return e;
}

static bool same_time(struct go_time a, struct go_time b)
{
    return a.sec == b.sec && a.nsec == b.nsec;
}

/* Takes the content list of the parent snapshot's file if nothing about it changed and
 * every blob still is in the index. */
static bool reuse(struct backup *b, struct backup_dir *d, size_t node,
                  const struct node *old, const struct stat *st)
{
    struct node *nd = &d->tree.nodes[node];
    if (!old || old->type != NODE_FILE || old->size != (uint64_t)st->st_size ||
        old->inode != nd->inode || !same_time(old->mtime, nd->mtime) ||
        !same_time(old->ctime, nd->ctime))
        return false;
    for (size_t i = 0; i < old->content_n; i++)
        if (!repo_has_blob(b->repo, BLOB_DATA, &old->content[i], NULL))
            return false;
    for (size_t i = 0; i < old->content_n; i++)
        node_add_content(nd, &old->content[i]);
    nd->size = old->size;
    pthread_mutex_lock(&b->mu);
    b->summary.total_bytes_processed += nd->size;
    b->summary.files_unmodified++;
    b->summary.total_files_processed++;
    pthread_mutex_unlock(&b->mu);
    return true;
}

static struct err *add_file(struct backup *b, struct backup_dir *d, size_t node,
                            int dir_fd, const char *name, const struct node *old)
{
    struct stat st;
    AUTO_FD int fd = -1;
    struct node *nd = &d->tree.nodes[node];
    TRY(scan_open_file(dir_fd, name, &fd, &st));
    TRY(scan_node(b->names, dir_fd, name, fd, &st, nd));
    if (reuse(b, d, node, old, &st))
        return NULL;
    TRY(read_content(b, d, node, fd, (uint64_t)st.st_size));
    pthread_mutex_lock(&b->mu);
    if (old && old->type == NODE_FILE)
        b->summary.files_changed++;
    else
        b->summary.files_new++;
    b->summary.total_files_processed++;
    pthread_mutex_unlock(&b->mu);
    return NULL;
}

static struct err *walk_dir(struct backup *b, struct backup_dir *d, int dir_fd,
                            const struct stat *dir_st, uint32_t device, unsigned depth);

static struct err *add_dir(struct backup *b, struct backup_dir *d, size_t node,
                           int dir_fd, const char *name, const struct node *old,
                           unsigned depth)
{
    struct stat st;
    AUTO_FD int fd = -1;
    struct node *nd = &d->tree.nodes[node];
    if (depth >= BACKUP_DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", BACKUP_DEPTH_MAX);
    TRY(scan_open_dir(dir_fd, name, &fd));
    if (fstat(fd, &st))
        return err_os(errno, "look at");
    TRY(scan_node(b->names, dir_fd, name, fd, &st, nd));
    nd->has_subtree = true;
    struct backup_dir *sub = mem_zalloc(sizeof *sub);
    sub->parent = d;
    sub->parent_node = node;
    sub->pending = 1;
    if (old && old->type == NODE_DIR) {
        sub->had_old = true;
        sub->old = old->subtree;
    }
    dir_hold(b, d);
    struct err *e = walk_dir(b, sub, fd, &st, (uint32_t)nd->device_id, depth + 1);
    dir_release(b, b->scan_io, sub);
    return e;
}

/* Where an entry is, for adding it. */
struct place {
    struct backup_dir *dir;
    size_t node;
    int dir_fd;
    dev_t dev;       /* st_dev of the directory */
    uint32_t device; /* device_id of its entries */
    const struct tree *old;
    unsigned depth;
};

static struct err *add_entry(struct backup *b, const struct place *at, const char *name)
{
    struct stat st;
    struct node *nd = &at->dir->tree.nodes[at->node];
    const struct node *old = tree_find(at->old, name);
    if (fstatat(at->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_os(errno, "look at");
    /* Links connect names by (inode, device_id): another filesystem needs another id. */
    nd->device_id =
        st.st_dev == at->dev ? at->device : backup_device(b, buf_text(&b->path));
    if (S_ISSOCK(st.st_mode))
        return NULL;
    if (S_ISREG(st.st_mode))
        return add_file(b, at->dir, at->node, at->dir_fd, name, old);
    if (S_ISDIR(st.st_mode))
        return add_dir(b, at->dir, at->node, at->dir_fd, name, old, at->depth);
    TRY(scan_node(b->names, at->dir_fd, name, -1, &st, nd));
    pthread_mutex_lock(&b->mu);
    b->others++;
    pthread_mutex_unlock(&b->mu);
    return NULL;
}

/* Errors that end the walk; those of single entries are collected. */
static bool ends_walk(struct backup *b)
{
    AUTO(err) struct err *e = backup_check(b);
    return e != NULL;
}

static struct err *walk_entries(struct backup *b, struct place *at,
                                const struct strings *entries)
{
    for (size_t i = 0; i < entries->n; i++) {
        size_t length = b->path.len;
        TRY(step(b));
        buf_char(&b->path, '/');
        buf_str(&b->path, entries->items[i]);
        at->node = i;
        if (!scan_is_excluded(b->opts->excludes, b->opts->excludes_n, b->opts->path,
                              buf_text(&b->path), entries->items[i])) {
            struct err *e = add_entry(b, at, entries->items[i]);
            if (e && ends_walk(b))
                return e;
            problems_add(b->problems, buf_text(&b->path), e);
        }
        b->path.len = length;
        b->path.data[length] = '\0';
    }
    return NULL;
}

static struct err *walk_dir(struct backup *b, struct backup_dir *d, int dir_fd,
                            const struct stat *dir_st, uint32_t device, unsigned depth)
{
    struct strings entries = {0};
    AUTO_TREE struct tree old = {0};
    struct err *e = scan_dir(dir_fd, &entries);
    if (e) {
        strings_fini(&entries);
        return e;
    }
    /* A damaged parent only costs its reuse. */
    if (d->had_old)
        err_free(repo_load_tree(b->scan_io, &d->old, &old));
    d->tree.nodes = mem_array(entries.n, sizeof *d->tree.nodes);
    d->tree.n = entries.n;
    struct place at = {d, 0, dir_fd, dir_st->st_dev, device, &old, depth};
    e = walk_entries(b, &at, &entries);
    strings_fini(&entries);
    return e;
}

uint32_t backup_device(const struct backup *b, const char *path)
{
    struct digest d;
    AUTO_BUF struct buf text = {0};
    buf_printf(&text, "%u%s", b->device_base, path);
    hash_bytes(text.data, text.len, &d);
    return (uint32_t)d.b[0] << 24 | (uint32_t)d.b[1] << 16 | (uint32_t)d.b[2] << 8 |
           d.b[3] | 1;
}

struct err *backup_walk(struct backup *b, int dir_fd, const struct digest *old_tree)
{
    struct stat st;
    if (fstat(dir_fd, &st))
        return err_os(errno, "look at '%s'", b->opts->source);
    unsigned workers = b->opts->workers ? b->opts->workers : workq_workers();
    workers = workers < BACKUP_WORKERS_MAX ? workers : BACKUP_WORKERS_MAX;
    for (unsigned i = 0; i < workers; i++)
        b->ios[i] = repo_io_new(b->repo);
    TRY(workq_new(workers, 2 * workers + 4, do_piece, b, &b->queue));
    struct backup_dir *top = mem_zalloc(sizeof *top);
    top->pending = 1;
    if (old_tree) {
        top->had_old = true;
        top->old = *old_tree;
    }
    struct err *e = walk_dir(b, top, dir_fd, &st, b->device_base, 0);
    if (e && ends_walk(b)) {
        backup_fail(b, e);
        e = NULL;
    }
    problems_add(b->problems, "/", e);
    dir_release(b, b->scan_io, top);
    workq_free(STEAL(b->queue));
    return NULL;
}
