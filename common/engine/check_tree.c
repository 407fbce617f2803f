/* Walking all trees of a repository, and naming what is lost in them. */
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/check_own.h"
#include "common/engine/workq.h"
#include "common/repo/tree_stream.h"

void bitmap_init(struct bitmap *b, size_t n)
{
    b->n = n;
    b->bits = mem_array(n / 8 + 1, sizeof *b->bits);
}

void bitmap_fini(struct bitmap *b)
{
    free(b->bits);
    *b = (struct bitmap){0};
}

bool bitmap_add(struct bitmap *b, size_t at)
{
    unsigned char bit = (unsigned char)(1u << at % 8);
    return at < b->n && !(atomic_fetch_or(&b->bits[at / 8], bit) & bit);
}

bool bitmap_has(const struct bitmap *b, size_t at)
{
    return at < b->n && atomic_load(&b->bits[at / 8]) >> at % 8 & 1;
}

bool check_is_cancelled(const atomic_bool *cancel)
{
    return cancel && atomic_load(cancel);
}

void walk_init(struct walk *w, struct repo *r)
{
    const struct index *ix = repo_index(r);
    *w = (struct walk){.repo = r};
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->changed, NULL);
    bitmap_init(&w->seen, index_numbers(ix));
}

void walk_fini(struct walk *w)
{
    for (size_t i = 0; i < CHECK_WORKERS_MAX; i++)
        repo_io_free(w->ios[i]);
    bitmap_fini(&w->packs);
    bitmap_fini(&w->seen);
    free(w->waiting);
    err_free(w->first);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mu);
}

static struct err *use_blob(struct walk *w, enum blob_type type, const struct digest *id)
{
    struct blob_entry entry;
    char hex[65];
    const struct index *ix = repo_index(w->repo);
    if (!w->packs.bits && index_has(ix, type, id))
        return NULL;
    if (w->packs.bits && index_find(ix, type, id, 0, &entry)) {
        bitmap_add(&w->packs, entry.pack);
        return NULL;
    }
    digest_hex(id, hex);
    return err_new(ERR_NOT_FOUND, "%s blob %s is not in the index",
                   type == BLOB_TREE ? "tree" : "data", hex);
}

/* Needs the lock. */
static void push(struct walk *w, const struct digest *tree)
{
    size_t number = index_number(repo_index(w->repo), BLOB_TREE, tree);
    if (!bitmap_add(&w->seen, number))
        return;
    mem_reserve((void **)&w->waiting, &w->waiting_cap, w->waiting_n, sizeof *w->waiting);
    w->waiting[w->waiting_n++] = *tree;
    w->trees++;
    pthread_cond_signal(&w->changed);
}

struct err *walk_add(struct walk *w, const struct digest *tree)
{
    TRY(use_blob(w, BLOB_TREE, tree));
    pthread_mutex_lock(&w->mu);
    push(w, tree);
    pthread_mutex_unlock(&w->mu);
    return NULL;
}

static struct err *look_at_node(struct walk *w, const struct node *nd)
{
    if (nd->type == NODE_DIR)
        TRY_CTX(walk_add(w, &nd->subtree), "directory '%s'", nd->name);
    for (size_t i = 0; i < nd->content_n; i++)
        TRY_CTX(use_blob(w, BLOB_DATA, &nd->content[i]), "file '%s'", nd->name);
    return NULL;
}

static void note(struct walk *w, const struct digest *tree, struct err *e)
{
    char hex[65], what[80];
    if (!e)
        return;
    digest_hex(tree, hex);
    snprintf(what, sizeof what, "tree %s", hex);
    pthread_mutex_lock(&w->mu);
    w->lost = true;
    if (!w->problems && !w->first)
        w->first = err_wrap(STEAL(e), "%s", what);
    pthread_mutex_unlock(&w->mu);
    if (w->problems)
        problems_add(w->problems, what, STEAL(e));
    err_free(e);
}

static void look_at(struct walk *w, struct repo_io *io, const struct digest *tree)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    struct err *e = tree_stream_open(io, tree, &s);
    while (!e && !(e = tree_stream_next(s, &nd)) && nd)
        note(w, tree, look_at_node(w, nd));
    note(w, tree, e);
}

/* One thread: until no tree waits and nobody looks at one that may add more. */
static void walk_some(void *ctx, unsigned worker, void *job)
{
    struct walk *w = ctx;
    (void)job;
    pthread_mutex_lock(&w->mu);
    for (;;) {
        bool stop = w->first || check_is_cancelled(w->cancel);
        if (stop || (!w->waiting_n && !w->busy))
            break;
        if (!w->waiting_n) {
            pthread_cond_wait(&w->changed, &w->mu);
            continue;
        }
        struct digest tree = w->waiting[--w->waiting_n];
        w->busy++;
        pthread_mutex_unlock(&w->mu);
        look_at(w, w->ios[worker], &tree);
        pthread_mutex_lock(&w->mu);
        w->busy--;
    }
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mu);
}

struct err *walk_run(struct walk *w)
{
    unsigned workers = workq_workers();
    AUTO(workq) struct workq *q = NULL;
    for (unsigned i = 0; i < workers; i++)
        if (!w->ios[i])
            w->ios[i] = repo_io_new(w->repo);
    TRY(workq_new(workers, workers, walk_some, w, &q));
    for (unsigned i = 0; i < workers; i++)
        workq_push(q, NULL);
    workq_free(STEAL(q));
    if (w->first)
        return STEAL(w->first);
    return check_is_cancelled(w->cancel) ? err_new(ERR_CANCELLED, "cancelled") : NULL;
}

/* ---- naming ---- */

struct naming {
    struct check *check;
    struct repo_io *io;
    struct bitmap *clean;
    struct buf path; /* "snapshot ID: /a/b" */
};

static void name_one(struct naming *n, const char *what)
{
    n->check->out->lost_files++;
    problems_add(&n->check->out->problems, buf_text(&n->path),
                 err_new(ERR_CORRUPT, "the %s cannot be restored", what));
}

static bool is_lost(const struct check *c, enum blob_type type, const struct digest *id)
{
    size_t number = index_number(repo_index(c->repo), type, id);
    return number == SIZE_MAX || bitmap_has(&c->lost, number);
}

/* *clean: nothing below it is lost. */
static struct err *name_in(struct naming *n, const struct digest *tree, unsigned depth,
                           bool *clean);

static struct err *name_node(struct naming *n, const struct node *nd, unsigned depth,
                             bool *clean)
{
    if (nd->type == NODE_DIR)
        return name_in(n, &nd->subtree, depth + 1, clean);
    for (size_t i = 0; i < nd->content_n; i++)
        if (is_lost(n->check, BLOB_DATA, &nd->content[i])) {
            name_one(n, "file");
            *clean = false;
            break;
        }
    return NULL;
}

/* All entries of a directory. */
static struct err *name_nodes(struct naming *n, struct tree_stream *s, unsigned depth,
                              bool *clean, bool *readable)
{
    struct node *nd = NULL;
    for (;;) {
        struct err *e = tree_stream_next(s, &nd);
        if (e) {
            err_free(e);
            *readable = false;
            return NULL;
        }
        if (!nd)
            return NULL;
        size_t length = n->path.len;
        buf_char(&n->path, '/');
        buf_str(&n->path, nd->name);
        TRY(name_node(n, nd, depth, clean));
        n->path.len = length;
        n->path.data[length] = '\0';
    }
}

static struct err *name_in(struct naming *n, const struct digest *tree, unsigned depth,
                           bool *clean)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    size_t number = index_number(repo_index(n->check->repo), BLOB_TREE, tree);
    bool all_clean = true;
    if (check_is_cancelled(n->check->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    if (bitmap_has(n->clean, number))
        return NULL;
    struct err *e = number == SIZE_MAX || depth > CHECK_DEPTH_MAX
                        ? err_new(ERR_LIMIT, "it cannot be read")
                        : tree_stream_open(n->io, tree, &s);
    bool readable = e == NULL;
    err_free(e);
    if (readable)
        TRY(name_nodes(n, s, depth, &all_clean, &readable));
    if (!readable) {
        name_one(n, "directory");
        all_clean = false;
    }
    if (all_clean)
        bitmap_add(n->clean, number);
    *clean = *clean && all_clean;
    return NULL;
}

struct err *check_name_lost(struct check *c, const struct digest *snapshot,
                            const struct digest *tree, struct bitmap *clean)
{
    struct naming n = {.check = c, .clean = clean};
    char hex[65];
    bool unused = true;
    digest_hex(snapshot, hex);
    buf_printf(&n.path, "snapshot %.8s: ", hex);
    n.io = repo_io_new(c->repo);
    struct err *e = name_in(&n, tree, 0, &unused);
    repo_io_free(n.io);
    buf_fini(&n.path);
    return e;
}
