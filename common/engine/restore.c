#include "common/engine/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/beneath.h"
#include "common/engine/find.h"
#include "common/engine/meta.h"
#include "common/engine/restore_own.h"
#include "common/engine/scan.h"

enum { REPORT_MS = 200 };

void restore_result_fini(struct restore_result *r)
{
    problems_fini(&r->problems);
}

/* The entry's path below the target. */
static const char *out_path(const struct restore *r)
{
    const char *p = buf_text(&r->snap_path) + r->strip_n;
    return *p == '/' ? p + 1 : p;
}

/* The path below or equal to `dir`? */
static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    while (n && dir[n - 1] == '/')
        n--;
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]);
}

enum selection { SKIP, ENTER, TAKE };

/* TAKE: the entry is asked for; ENTER: only something below it. */
static enum selection select_entry(struct restore *r)
{
    const char *path = buf_text(&r->snap_path);
    enum selection s = r->opts->includes_n ? SKIP : TAKE;
    for (size_t i = 0; i < r->opts->includes_n; i++) {
        if (is_below(path, r->opts->includes[i])) {
            r->included[i] = true;
            s = TAKE;
        } else if (s == SKIP && is_below(r->opts->includes[i], path)) {
            s = ENTER;
        }
    }
    return s;
}

static struct err *step(struct restore *r)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    if (r->opts->progress && now - r->reported_ms >= REPORT_MS) {
        const struct restore_progress p = {atomic_load(&r->files), atomic_load(&r->bytes),
                                           problems_total(r->problems)};
        r->reported_ms = now;
        r->opts->progress(r->opts->progress_ctx, &p);
    }
    if (r->opts->cancel && atomic_load(r->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    return NULL;
}

/* Metadata of a directory without its lists, for the end. */
static void keep_dir(struct restore *r, const char *path, const struct node *nd)
{
    mem_reserve((void **)&r->later_dirs, &r->later_dirs_cap, r->later_dirs_n,
                sizeof *r->later_dirs);
    struct later_dir *d = &r->later_dirs[r->later_dirs_n++];
    d->path = mem_strdup(path);
    node_copy(&d->node, nd);
}

static void keep_link(struct restore *r, const struct link_source *source,
                      const char *path)
{
    mem_reserve((void **)&r->later_links, &r->later_links_cap, r->later_links_n,
                sizeof *r->later_links);
    r->later_links[r->later_links_n++] = (struct later_link){source, mem_strdup(path)};
}

static struct err *make_dir(struct restore *r, int dir_fd, const struct node *nd)
{
    struct stat st;
    if (mkdirat(dir_fd, nd->name, 0700) == 0) {
        keep_dir(r, out_path(r), nd);
        return NULL;
    }
    if (errno != EEXIST)
        return err_os(errno, "make directory");
    if (fstatat(dir_fd, nd->name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode))
        return err_new(ERR_CONFLICT, "something else exists in place of the directory");
    keep_dir(r, out_path(r), nd);
    return NULL;
}

static struct err *make_special(int dir_fd, const struct node *nd)
{
    static const mode_t kind[] = {
        [NODE_DEV] = S_IFBLK,
        [NODE_CHARDEV] = S_IFCHR,
        [NODE_FIFO] = S_IFIFO,
        [NODE_SOCKET] = S_IFSOCK,
    };
    if (nd->type == NODE_SYMLINK) {
        if (symlinkat(nd->target ? nd->target : "", dir_fd, nd->name))
            return err_os(errno, "make symbolic link");
    } else if (mknodat(dir_fd, nd->name, kind[nd->type] | 0600, (dev_t)nd->device)) {
        return err_os(errno, "make %s", node_type_name(nd->type));
    }
    return meta_apply_at(dir_fd, nd->name, nd);
}

static struct err *add_other(struct restore *r, int dir_fd, const struct node *nd,
                             struct restore_result *out)
{
    bool fresh = true;
    struct link_source *source = NULL;
    if (nd->links > 1)
        source = link_table_get(&r->links, nd, out_path(r), &fresh);
    if (!fresh) {
        keep_link(r, source, out_path(r));
        return NULL;
    }
    if (nd->type == NODE_FILE) {
        struct file_job *job = mem_zalloc(sizeof *job);
        job->path = mem_strdup(out_path(r));
        node_copy(&job->node, nd);
        job->source = source;
        workq_push(r->queue, job);
        return NULL;
    }
    out->others++;
    TRY(make_special(dir_fd, nd));
    if (source)
        atomic_store(&source->done, true);
    return NULL;
}

/* Makes everything of one tree but the content of its subdirectories; fills `enter` with
 * those to go into. */
static struct err *make_entries(struct restore *r, const struct tree *t, bool *enter,
                                struct restore_result *out)
{
    AUTO_FD int dir_fd = -1;
    TRY(beneath_open_dir(r->root_fd, out_path(r), &dir_fd));
    for (size_t i = 0; i < t->n; i++) {
        const struct node *nd = &t->nodes[i];
        size_t length = r->snap_path.len;
        TRY(step(r));
        buf_char(&r->snap_path, '/');
        buf_str(&r->snap_path, nd->name);
        enum selection s = select_entry(r);
        struct err *e = NULL;
        if (s != SKIP && nd->type == NODE_DIR) {
            e = make_dir(r, dir_fd, nd);
            enter[i] = e == NULL;
            out->dirs += e == NULL;
        } else if (s == TAKE) {
            e = add_other(r, dir_fd, nd, out);
        }
        problems_add(r->problems, out_path(r), e);
        r->snap_path.len = length;
        r->snap_path.data[length] = '\0';
    }
    return NULL;
}

static struct err *restore_tree(struct restore *r, const struct digest *id,
                                unsigned depth, struct restore_result *out);

static struct err *enter_dirs(struct restore *r, const struct tree *t, const bool *enter,
                              unsigned depth, struct restore_result *out)
{
    for (size_t i = 0; i < t->n; i++) {
        size_t length = r->snap_path.len;
        if (!enter[i])
            continue;
        buf_char(&r->snap_path, '/');
        buf_str(&r->snap_path, t->nodes[i].name);
        struct err *e = restore_tree(r, &t->nodes[i].subtree, depth + 1, out);
        if (e && e->kind == ERR_CANCELLED)
            return e;
        problems_add(r->problems, out_path(r), e);
        r->snap_path.len = length;
        r->snap_path.data[length] = '\0';
    }
    return NULL;
}

static struct err *restore_tree(struct restore *r, const struct digest *id,
                                unsigned depth, struct restore_result *out)
{
    AUTO_TREE struct tree t = {0};
    if (depth > RESTORE_DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", RESTORE_DEPTH_MAX);
    TRY(repo_load_tree(r->io, id, &t));
    bool *enter = mem_array(t.n, sizeof *enter);
    struct err *e = make_entries(r, &t, enter, out);
    if (!e)
        e = enter_dirs(r, &t, enter, depth, out);
    free(enter);
    return e;
}

static struct err *make_link(struct restore *r, const struct later_link *l)
{
    AUTO_FD int from_fd = -1;
    AUTO_FD int to_fd = -1;
    const char *from = NULL, *to = NULL;
    if (!atomic_load(&l->source->done))
        return err_new(ERR_IO, "the file it is linked to, '%s', was not restored",
                       l->source->path);
    TRY(beneath_open_parent(r->root_fd, l->source->path, &from_fd, &from));
    TRY(beneath_open_parent(r->root_fd, l->path, &to_fd, &to));
    if (linkat(from_fd, from, to_fd, to, 0))
        return err_os(errno, "link to '%s'", l->source->path);
    return NULL;
}

static struct err *finish_dir(struct restore *r, const struct later_dir *d)
{
    AUTO_FD int fd = -1;
    TRY(beneath_open_dir(r->root_fd, d->path, &fd));
    return meta_apply(fd, &d->node);
}

/* Everything that must wait for the files: links, then directories from the leaves up. */
static void finish(struct restore *r)
{
    for (size_t i = 0; i < r->later_links_n; i++) {
        struct err *e = make_link(r, &r->later_links[i]);
        if (!e)
            atomic_fetch_add(&r->files, 1);
        problems_add(r->problems, r->later_links[i].path, e);
    }
    for (size_t i = r->later_dirs_n; i > 0; i--) {
        const struct later_dir *d = &r->later_dirs[i - 1];
        problems_add(r->problems, *d->path ? d->path : "/", finish_dir(r, d));
    }
}

/* mkdir -p. */
static struct err *make_target(const char *path, int *out)
{
    AUTO(str) char *copy = mem_strdup(path);
    for (char *p = copy + 1; *copy && *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(copy, 0755) && errno != EEXIST)
            return err_os(errno, "make directory '%s'", copy);
        *p = '/';
    }
    if (mkdir(path, 0700) && errno != EEXIST)
        return err_os(errno, "make directory '%s'", path);
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0)
        return err_os(errno, "open directory '%s'", path);
    return NULL;
}

static void note_missing(struct restore *r)
{
    for (size_t i = 0; i < r->opts->includes_n; i++)
        if (!r->included[i])
            problems_add(r->problems, r->opts->includes[i],
                         err_new(ERR_NOT_FOUND, "it is not in the snapshot"));
}

/* Walks from `top`, the directory that target stands for. */
static struct err *run_from(struct restore *r, const struct node *top,
                            struct restore_result *out)
{
    unsigned workers = r->opts->workers ? r->opts->workers : workq_workers();
    workers = workers < RESTORE_WORKERS_MAX ? workers : RESTORE_WORKERS_MAX;
    if (top->type != NODE_DIR)
        return err_new(ERR_INVALID, "'%s' is not a directory in the snapshot",
                       r->opts->strip);
    TRY(make_target(r->opts->target, &r->root_fd));
    if (top->name)
        keep_dir(r, "", top);
    for (unsigned i = 0; i < workers; i++)
        r->ios[i] = repo_io_new(r->repo);
    TRY(workq_new(workers, 4 * workers, restore_file, r, &r->queue));
    struct err *e = restore_tree(r, &top->subtree, 0, out);
    workq_free(STEAL(r->queue));
    TRY(e);
    if (r->opts->cancel && atomic_load(r->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    finish(r);
    note_missing(r);
    return NULL;
}

static void restore_end(struct restore *r)
{
    for (unsigned i = 0; i < RESTORE_WORKERS_MAX; i++)
        repo_io_free(r->ios[i]);
    repo_io_free(r->io);
    for (size_t i = 0; i < r->later_links_n; i++)
        free(r->later_links[i].path);
    free(r->later_links);
    for (size_t i = 0; i < r->later_dirs_n; i++) {
        free(r->later_dirs[i].path);
        node_fini(&r->later_dirs[i].node);
    }
    free(r->later_dirs);
    link_table_fini(&r->links);
    buf_fini(&r->snap_path);
    free(r->included);
    if (r->root_fd >= 0)
        close(r->root_fd);
}

struct err *restore_run(struct repo *repo, const struct digest *tree,
                        const struct restore_opts *opts, struct restore_result *out)
{
    struct restore r = {.repo = repo, .opts = opts, .problems = &out->problems};
    struct node top = {0};
    const char *strip = opts->strip ? opts->strip : "/";
    *out = (struct restore_result){0};
    problems_init(&out->problems);
    r.root_fd = -1;
    r.io = repo_io_new(repo);
    r.included = mem_array(opts->includes_n, sizeof *r.included);
    buf_str(&r.snap_path, strip);
    while (r.snap_path.len && r.snap_path.data[r.snap_path.len - 1] == '/')
        r.snap_path.data[--r.snap_path.len] = '\0';
    r.strip_n = r.snap_path.len;
    struct err *e = find_node(r.io, tree, strip, &top);
    if (!e)
        e = run_from(&r, &top, out);
    out->files = atomic_load(&r.files);
    out->bytes = atomic_load(&r.bytes);
    node_fini(&top);
    restore_end(&r);
    TRY_CTX(e, "restore to '%s'", opts->target);
    return problems_err(&out->problems, ERR_IO, "the restore is incomplete");
}
