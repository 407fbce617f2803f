#include "common/engine/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/beneath.h"
#include "common/engine/find.h"
#include "common/engine/meta.h"
#include "common/engine/pattern.h"
#include "common/engine/restore_own.h"
#include "common/engine/scan.h"
#include "common/repo/tree_stream.h"

enum { REPORT_MS = 200 };

void restore_result_fini(struct restore_result *r)
{
    problems_fini(&r->problems);
}

bool restore_is_cancelled(const struct restore *r)
{
    return r->opts->cancel && atomic_load(r->opts->cancel);
}

void restore_problem(struct restore *r, const struct restore_dir *dir, const char *name,
                     struct err *e)
{
    AUTO_BUF struct buf path = {0};
    if (!e)
        return;
    restore_dir_path(dir, name, &path);
    problems_add(r->problems, path.len ? buf_text(&path) : "/", e);
}

void restore_tell(struct restore *r, enum restore_action a, const struct restore_dir *dir,
                  const char *name)
{
    AUTO_BUF struct buf path = {0};
    if (!r->opts->item)
        return;
    restore_dir_path(dir, name, &path);
    pthread_mutex_lock(&r->item_mu);
    r->opts->item(r->opts->item_ctx, a, buf_text(&path));
    pthread_mutex_unlock(&r->item_mu);
}

enum restore_choice restore_choose(struct restore *r, bool taken)
{
    const struct restore_opts *o = r->opts;
    const char *path = buf_text(&r->path);
    enum restore_choice c = taken ? CHOICE_TAKE : CHOICE_SKIP;
    for (size_t i = 0; i < o->excludes_n; i++)
        if (pattern_match(o->excludes[i], path) == PATTERN_YES)
            return CHOICE_SKIP;
    for (size_t i = 0; i < o->includes_n; i++) {
        enum pattern_match m = pattern_match(o->includes[i], path);
        r->included[i] |= m == PATTERN_YES;
        if (m == PATTERN_YES)
            c = CHOICE_TAKE;
        else if (m == PATTERN_BELOW && c == CHOICE_SKIP)
            c = CHOICE_ENTER;
    }
    return c;
}

void restore_report(struct restore *r)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    if (!r->opts->progress || now - r->reported_ms < REPORT_MS)
        return;
    const struct restore_progress p = {atomic_load(&r->files), atomic_load(&r->bytes),
                                       atomic_load(&r->kept), atomic_load(&r->kept_bytes),
                                       problems_total(r->problems)};
    r->reported_ms = now;
    r->opts->progress(r->opts->progress_ctx, &p);
}

/* ---- one entry ---- */

static struct err *make_special(struct restore *r, int dir_fd, const struct node *nd,
                                bool meta_only)
{
    static const mode_t kind[] = {
        [NODE_DEV] = S_IFBLK,
        [NODE_CHARDEV] = S_IFCHR,
        [NODE_FIFO] = S_IFIFO,
        [NODE_SOCKET] = S_IFSOCK,
    };
    if (r->opts->dry_run)
        return NULL;
    if (meta_only)
        return meta_apply_at(dir_fd, nd->name, nd);
    if (nd->type == NODE_SYMLINK) {
        if (symlinkat(nd->target ? nd->target : "", dir_fd, nd->name))
            return err_os(errno, "make symbolic link");
    } else if (mknodat(dir_fd, nd->name, kind[nd->type] | 0600, (dev_t)nd->device)) {
        return err_os(errno, "make %s", node_type_name(nd->type));
    }
    return meta_apply_at(dir_fd, nd->name, nd);
}

static void add_special(struct restore *r, struct restore_dir *d, int dir_fd,
                        const struct node *nd, enum restore_verdict v,
                        struct link_source *source)
{
    bool meta = v == VERDICT_META;
    struct err *e = make_special(r, dir_fd, nd, meta);
    if (!e) {
        r->out->others++;
        restore_tell(r, meta ? RESTORE_KEEP : RESTORE_CREATE, d, nd->name);
    }
    if (source)
        atomic_store(&source->state, e ? LINK_FAILED : LINK_DONE);
    restore_problem(r, d, nd->name, e);
}

static struct restore_window *window_with_room(struct restore *r)
{
    struct restore_window *w = &r->windows[r->filling];
    if (!restore_window_is_full(w))
        return w;
    /* The other one first: the workers do not wait while the walk goes on. */
    struct restore_window *other = &r->windows[!r->filling];
    restore_window_start(w);
    restore_window_finish(other);
    restore_links_make(r);
    r->filling = !r->filling;
    return other;
}

static void add_file(struct restore *r, struct restore_dir *d, int dir_fd,
                     struct node *nd, enum restore_verdict v, const struct stat *st,
                     struct link_source *source)
{
    bool shared = v != VERDICT_CREATE && st->st_nlink > 1;
    bool other_meta = shared && !meta_is_same(dir_fd, nd, st);
    struct restore_window *w = window_with_room(r);
    struct restore_file *f = restore_window_add(w, restore_dir_hold(d), nd);
    f->source = source;
    f->existed = v == VERDICT_UPDATE || v == VERDICT_META;
    f->same = v == VERDICT_META;
    f->shared = shared;
    f->other_meta = other_meta;
    f->had_bytes = f->existed ? (uint64_t)st->st_size : 0;
    if (source && atomic_load(&f->failed)) /* a piece is not in the index */
        atomic_store(&source->state, LINK_FAILED);
}

static void keep_entry(struct restore *r, struct restore_dir *d, const struct node *nd,
                       enum restore_verdict v, struct link_source *source)
{
    if (nd->type == NODE_FILE) {
        atomic_fetch_add(&r->kept, 1);
        atomic_fetch_add(&r->kept_bytes, nd->size);
    }
    if (source)
        atomic_store(&source->state, v == VERDICT_SPARE ? LINK_OTHER : LINK_DONE);
    restore_tell(r, RESTORE_KEEP, d, nd->name);
}

/* Does what has a further name of a file keep it? What else may become of it is decided
 * when the link is made. */
static bool is_spared(struct restore *r, const struct restore_dir *d, int dir_fd,
                      const struct node *nd)
{
    struct stat st;
    enum restore_existing ex = r->opts->existing;
    if (d->fresh || (ex != RESTORE_NEVER && ex != RESTORE_IF_NEWER) ||
        fstatat(dir_fd, nd->name, &st, AT_SYMLINK_NOFOLLOW))
        return false;
    return ex == RESTORE_NEVER || !restore_is_newer(nd, &st);
}

/* Everything but directories. May take the node over. */
static void add_entry(struct restore *r, struct restore_dir *d, int dir_fd,
                      struct node *nd)
{
    struct stat st = {0};
    bool fresh = true;
    struct link_source *source = NULL;
    enum restore_verdict v = VERDICT_CREATE;
    struct err *e = NULL;
    if (nd->links > 1 && nd->type != NODE_DIR)
        source = restore_link_source(r, nd, d, &fresh);
    if (!fresh) {
        if (is_spared(r, d, dir_fd, nd))
            keep_entry(r, d, nd, VERDICT_KEEP, NULL);
        else
            restore_link_later(r, source, restore_dir_hold(d), nd->name);
        return;
    }
    if (!d->fresh)
        e = restore_judge(r, dir_fd, nd, &st, &v);
    if (!e && v == VERDICT_REPLACE) {
        if (!r->opts->dry_run)
            e = restore_remove(r, dir_fd, nd->name);
        v = VERDICT_CREATE;
    }
    if (e) {
        if (source)
            atomic_store(&source->state, LINK_FAILED);
        restore_problem(r, d, nd->name, e);
    } else if (v == VERDICT_KEEP || v == VERDICT_SPARE) {
        keep_entry(r, d, nd, v, source);
    } else if (nd->type == NODE_FILE) {
        add_file(r, d, dir_fd, nd, v, &st, source);
    } else {
        add_special(r, d, dir_fd, nd, v, source);
    }
}

/* ---- the walk ---- */

/* A directory being walked: its entries are dealt with, its subdirectories are not. */
struct level {
    struct restore_dir *dir; /* held */
    struct digest tree;
    bool inside;       /* the directory as a whole is asked for */
    struct node *subs; /* owned */
    bool *taken;       /* one for each of subs */
    size_t subs_n;
    size_t cap;
    size_t next;
    size_t path_n;            /* bytes of r->path before its own name */
    bool more;                /* there are others behind these */
    char *last;               /* name of the last before `rest` was begun */
    struct tree_stream *rest; /* where they come from; NULL: not begun */
};

struct walk {
    struct level *levels;
    size_t n;
    size_t cap;
};

static void push_path(struct restore *r, const char *name)
{
    buf_char(&r->path, '/');
    buf_str(&r->path, name);
}

static void cut_path(struct restore *r, size_t n)
{
    r->path.len = n;
    if (r->path.data)
        r->path.data[n] = '\0';
}

static enum restore_choice choose_entry(struct restore *r, const struct level *l,
                                        const struct node *nd)
{
    size_t length = r->path.len;
    push_path(r, nd->name);
    enum restore_choice c = restore_choose(r, l->inside);
    cut_path(r, length);
    return c == CHOICE_ENTER && nd->type != NODE_DIR ? CHOICE_SKIP : c;
}

/* Takes the node over; what a restore does not need of it goes. */
static void add_sub(struct level *l, struct node *nd, bool taken)
{
    if (l->subs_n == RESTORE_SUBS) {
        l->more = true;
        return;
    }
    if (l->subs_n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 8;
        l->subs = mem_resize(l->subs, l->cap, sizeof *l->subs);
        l->taken = mem_resize(l->taken, l->cap, sizeof *l->taken);
    }
    free(STEAL(nd->user));
    free(STEAL(nd->group));
    l->taken[l->subs_n] = taken;
    l->subs[l->subs_n++] = *nd;
    *nd = (struct node){0};
}

/* Deals with one entry of the directory at l; *dir_fd is opened when first needed. */
static void visit_entry(struct restore *r, struct level *l, struct node *nd, int *dir_fd)
{
    enum restore_choice c = choose_entry(r, l, nd);
    if (c == CHOICE_SKIP)
        return;
    if (nd->type == NODE_DIR) {
        add_sub(l, nd, c == CHOICE_TAKE);
        return;
    }
    if (!restore_dir_ensure(r, l->dir))
        return;
    if (*dir_fd < 0 && l->dir->there) {
        struct err *e = restore_dir_open(r, l->dir, dir_fd);
        if (e) {
            restore_problem(r, l->dir, nd->name, e);
            return;
        }
    }
    add_entry(r, l->dir, *dir_fd, nd);
}

static void visit_entries(struct restore *r, struct level *l, struct tree_stream *s)
{
    AUTO(fd) int dir_fd = -1;
    struct node *nd = NULL;
    while (!restore_is_cancelled(r)) {
        restore_report(r);
        struct err *e = tree_stream_next(s, &nd);
        restore_problem(r, l->dir, NULL, e);
        if (e || !nd)
            return;
        visit_entry(r, l, nd, &dir_fd);
    }
}

/* Loads the list of a directory and deals with all but its subdirectories. */
static struct err *enter(struct restore *r, struct walk *w, struct restore_dir *d,
                         const struct digest *tree, bool inside, size_t path_n)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct err *e = NULL;
    if (w->n > RESTORE_DEPTH_MAX)
        e = err_new(ERR_LIMIT, "directories nest deeper than %d", RESTORE_DEPTH_MAX);
    if (!e)
        e = tree_stream_open(r->io, tree, &s);
    if (e) {
        restore_problem(r, d, NULL, e);
        restore_dir_drop(r, d);
        cut_path(r, path_n);
        return NULL;
    }
    restore_remove_others(r, d, tree, inside);
    struct level l = {.dir = d, .tree = *tree, .inside = inside, .path_n = path_n};
    visit_entries(r, &l, s);
    mem_reserve((void **)&w->levels, &w->cap, w->n, sizeof *w->levels);
    w->levels[w->n++] = l;
    return restore_is_cancelled(r) ? err_new(ERR_CANCELLED, "cancelled") : NULL;
}

/* Begins the list again behind the subdirectories that were held; the first time only. */
static struct err *open_rest(struct restore *r, struct level *l, struct node **nd)
{
    TRY(tree_stream_open(r->io, &l->tree, &l->rest));
    do {
        TRY(tree_stream_next(l->rest, nd));
    } while (*nd && strcmp((*nd)->name, l->last) <= 0);
    return NULL;
}

/* Fetches the next subdirectories, all of those held being done. */
static struct err *more_subs(struct restore *r, struct level *l)
{
    struct node *nd = NULL;
    l->subs_n = l->next = 0;
    l->more = false;
    if (l->rest)
        TRY(tree_stream_next(l->rest, &nd));
    else
        TRY(open_rest(r, l, &nd));
    while (nd) {
        enum restore_choice c =
            nd->type == NODE_DIR ? choose_entry(r, l, nd) : CHOICE_SKIP;
        if (c != CHOICE_SKIP)
            add_sub(l, nd, c == CHOICE_TAKE);
        if (l->subs_n == RESTORE_SUBS) {
            l->more = true;
            return NULL;
        }
        TRY(tree_stream_next(l->rest, &nd));
    }
    return NULL;
}

static void leave(struct restore *r, struct walk *w)
{
    struct level *l = &w->levels[--w->n];
    for (size_t i = l->next; i < l->subs_n; i++)
        node_fini(&l->subs[i]);
    free(l->subs);
    free(l->taken);
    free(l->last);
    tree_stream_free(l->rest);
    restore_dir_drop(r, l->dir);
    cut_path(r, l->path_n);
}

/* Goes into the next subdirectory of the level on top. */
static struct err *descend(struct restore *r, struct walk *w)
{
    struct level *l = &w->levels[w->n - 1];
    size_t path_n = r->path.len;
    bool taken = l->taken[l->next];
    struct node *nd = &l->subs[l->next++];
    struct digest tree = nd->subtree;
    struct restore_dir *d = restore_dir_new(r, l->dir, nd->name);
    if (l->next == l->subs_n && l->more && !l->rest)
        l->last = mem_strdup(nd->name);
    push_path(r, nd->name);
    d->node = *nd;
    *nd = (struct node){0};
    /* What is only passed through is made when something below it is. */
    if (taken && !restore_dir_ensure(r, d)) {
        restore_dir_drop(r, d);
        cut_path(r, path_n);
        return NULL;
    }
    return enter(r, w, d, &tree, taken, path_n);
}

static struct err *walk(struct restore *r, const struct node *top)
{
    struct walk w = {0};
    r->path.len = r->strip_n;
    bool taken = r->opts->includes_n == 0;
    if (r->strip_n)
        taken = restore_choose(r, taken) == CHOICE_TAKE;
    struct err *e =
        enter(r, &w, restore_dir_hold(r->root), &top->subtree, taken, r->path.len);
    while (!e && w.n) {
        struct level *l = &w.levels[w.n - 1];
        if (l->next == l->subs_n && l->more)
            restore_problem(r, l->dir, NULL, more_subs(r, l));
        else if (l->next == l->subs_n)
            leave(r, &w);
        else
            e = descend(r, &w);
    }
    while (w.n)
        leave(r, &w);
    free(w.levels);
    return e;
}

/* ---- the whole ---- */

/* mkdir -p beneath a directory: an earlier restore may have left links there. */
static struct err *make_beneath(const struct restore_opts *o, const char *path, int *out)
{
    AUTO(str) char *copy = mem_strdup(path);
    char *rest = copy, *part;
    AUTO(fd) int fd = open(o->below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open directory '%s'", o->below);
    while ((part = strsep(&rest, "/"))) {
        int next = -1;
        if (!*part)
            continue;
        if (strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
            return err_new(ERR_INVALID, "it has a component '%s'", part);
        if (!o->dry_run && mkdirat(fd, part, 0700) && errno != EEXIST)
            return err_os(errno, "make directory '%s'", part);
        TRY(beneath_open_dir(fd, part, &next));
        fd_close(&fd);
        fd = next;
    }
    *out = fd_steal(&fd);
    return NULL;
}

static struct err *make_target_below(const struct restore_opts *o, int *out)
{
    size_t n = strlen(o->below);
    while (n > 0 && o->below[n - 1] == '/')
        n--;
    const char *rest = o->target + n;
    if (strncmp(o->target, o->below, n) != 0 || (*rest && *rest != '/'))
        return err_new(ERR_INVALID, "it is not below '%s'", o->below);
    struct err *e = make_beneath(o, rest, out);
    if (e && e->kind == ERR_NOT_FOUND && o->dry_run)
        err_free(STEAL(e));
    return e ? err_wrap(e, "below '%s'", o->below) : NULL;
}

/* mkdir -p. */
static struct err *make_target(const struct restore_opts *o, int *out)
{
    if (o->below)
        return make_target_below(o, out);
    AUTO(str) char *copy = mem_strdup(o->target);
    for (char *p = copy + 1; *copy && *p && !o->dry_run; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(copy, 0755) && errno != EEXIST)
            return err_os(errno, "make directory '%s'", copy);
        *p = '/';
    }
    if (!o->dry_run && mkdir(o->target, 0700) && errno != EEXIST)
        return err_os(errno, "make directory '%s'", o->target);
    *out = open(o->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0 && !(o->dry_run && errno == ENOENT))
        return err_os(errno, "open directory '%s'", o->target);
    return NULL;
}

static void note_missing(struct restore *r)
{
    for (size_t i = 0; i < r->opts->includes_n; i++)
        if (!r->included[i])
            problems_add(r->problems, r->opts->includes[i],
                         err_new(ERR_NOT_FOUND, "it is not in the snapshot"));
}

/* Waits for both windows, the older one first. */
static void finish_windows(struct restore *r)
{
    restore_window_start(&r->windows[r->filling]);
    restore_window_finish(&r->windows[!r->filling]);
    restore_window_finish(&r->windows[r->filling]);
    restore_links_make(r);
}

/* Walks from `top`, the directory that target stands for. */
static struct err *run_from(struct restore *r, struct node *top)
{
    /* One more than processors: one of them waits for the disk. */
    unsigned workers = r->opts->workers ? r->opts->workers : workq_workers() + 1;
    workers = workers < RESTORE_WORKERS_MAX ? workers : RESTORE_WORKERS_MAX;
    if (top->type != NODE_DIR)
        return err_new(ERR_INVALID, "'%s' is not a directory in the snapshot",
                       r->opts->strip);
    TRY(make_target(r->opts, &r->root_fd));
    r->root = restore_dir_new(r, NULL, "");
    r->root->fresh = r->root_fd < 0;
    for (unsigned i = 0; i < workers; i++)
        r->workers[i] = restore_worker_new(r);
    TRY(workq_new(workers, 4 * workers, restore_work, r, &r->queue));
    restore_dir_ensure(r, r->root);
    r->out->dirs = 0; /* the target is not the snapshot's */
    struct digest tree = top->subtree;
    if (top->name) {
        r->root->node = *top;
        *top = (struct node){.subtree = tree};
    }
    struct err *e = walk(r, top);
    finish_windows(r);
    workq_free(STEAL(r->queue));
    restore_dir_drop(r, STEAL(r->root));
    TRY(e);
    if (restore_is_cancelled(r))
        return err_new(ERR_CANCELLED, "cancelled");
    note_missing(r);
    return NULL;
}

static void begin(struct restore *r, const char *strip)
{
    r->root_fd = -1;
    r->io = repo_io_new(r->repo);
    r->included = mem_array(r->opts->includes_n, sizeof *r->included);
    for (size_t i = 0; i < RESTORE_LOCKS; i++)
        pthread_mutex_init(&r->locks[i], NULL);
    pthread_mutex_init(&r->item_mu, NULL);
    restore_pace_init(&r->pace, r->opts->writes);
    for (size_t i = 0; i < ARRAY_LEN(r->windows); i++)
        restore_window_init(r, &r->windows[i]);
    buf_str(&r->path, strip);
    while (r->path.len && r->path.data[r->path.len - 1] == '/')
        r->path.data[--r->path.len] = '\0';
    r->strip_n = r->path.len;
}

static void end(struct restore *r)
{
    restore_dir_drop(r, r->root);
    for (unsigned i = 0; i < RESTORE_WORKERS_MAX; i++)
        restore_worker_free(r->workers[i]);
    repo_io_free(r->io);
    restore_links_fini(r);
    for (size_t i = 0; i < ARRAY_LEN(r->windows); i++)
        restore_window_fini(&r->windows[i]);
    for (size_t i = 0; i < RESTORE_LOCKS; i++)
        pthread_mutex_destroy(&r->locks[i]);
    pthread_mutex_destroy(&r->item_mu);
    restore_pace_fini(&r->pace);
    buf_fini(&r->path);
    free(r->included);
    if (r->root_fd >= 0)
        close(r->root_fd);
}

struct err *restore_run(struct repo *repo, const struct digest *tree,
                        const struct restore_opts *opts, struct restore_result *out)
{
    struct restore r = {
        .repo = repo, .opts = opts, .problems = &out->problems, .out = out};
    struct node top = {0};
    const char *strip = opts->strip ? opts->strip : "/";
    *out = (struct restore_result){0};
    problems_init(&out->problems);
    begin(&r, strip);
    struct err *e = find_node(r.io, tree, strip, &top);
    if (!e)
        e = run_from(&r, &top);
    out->files = atomic_load(&r.files);
    out->bytes = atomic_load(&r.bytes);
    out->kept = atomic_load(&r.kept);
    out->kept_bytes = atomic_load(&r.kept_bytes);
    node_fini(&top);
    end(&r);
    TRY_CTX(e, "restore to '%s'", opts->target);
    return problems_err(&out->problems, ERR_IO, "the restore is incomplete");
}
