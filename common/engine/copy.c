#include "common/engine/copy.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/revive.h"
#include "common/engine/workq.h"
#include "common/repo/idset.h"
#include "common/repo/tree_stream.h"

enum { DEPTH_MAX = 10000, WORKERS_MAX = 16, QUEUE_PER_WORKER = 4 };

/* One blob to move; its worker frees it. */
struct job {
    enum blob_type type;
    struct digest id;
};

struct copy {
    struct repo *from;
    struct repo *to;
    const struct copy_opts *opts;
    struct repo_io *walk_io; /* of the source */
    struct repo_io *to_io;
    struct repo_io *from_ios[WORKERS_MAX];
    struct repo_io *to_ios[WORKERS_MAX];
    struct workq *queue;
    struct idset seen[BLOB_TYPES]; /* blobs that were looked at */
    pthread_mutex_t mu;            /* guards the two below */
    struct err *fatal;
    struct copy_result *out;
};

static struct err *move_blob(struct copy *c, unsigned worker, const struct job *job)
{
    AUTO_BUF struct buf plain = {0};
    struct repo_saved saved;
    struct digest id;
    TRY(repo_load_blob(c->from_ios[worker], job->type, &job->id, &plain));
    TRY(repo_save_blob(c->to_ios[worker], job->type, buf_text(&plain), plain.len, &id,
                       &saved));
    pthread_mutex_lock(&c->mu);
    c->out->blobs += saved.fresh;
    c->out->bytes += saved.fresh ? plain.len : 0;
    c->out->stored_bytes += saved.stored;
    pthread_mutex_unlock(&c->mu);
    return NULL;
}

static bool has_failed(struct copy *c)
{
    pthread_mutex_lock(&c->mu);
    bool failed = c->fatal != NULL;
    pthread_mutex_unlock(&c->mu);
    return failed;
}

static void run_job(void *ctx, unsigned worker, void *arg)
{
    struct copy *c = ctx;
    struct job *job = arg;
    struct err *e = has_failed(c) ? NULL : move_blob(c, worker, job);
    free(job);
    pthread_mutex_lock(&c->mu);
    if (e && !c->fatal)
        c->fatal = STEAL(e);
    pthread_mutex_unlock(&c->mu);
    err_free(e);
}

/* Between blobs: go on? */
static struct err *may_go_on(struct copy *c)
{
    if (c->opts->cancel && atomic_load(c->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    if (c->opts->from_lock)
        TRY(repo_lock_check(c->opts->from_lock));
    TRY(repo_lock_check(c->opts->to_lock));
    if (has_failed(c))
        return err_new(ERR_IO, "a worker failed");
    if (c->opts->progress) {
        pthread_mutex_lock(&c->mu);
        struct copy_result now = *c->out;
        pthread_mutex_unlock(&c->mu);
        c->opts->progress(c->opts->progress_ctx, &now);
    }
    return NULL;
}

static void want_blob(struct copy *c, enum blob_type type, const struct digest *id)
{
    if (!idset_add(&c->seen[type], id))
        return;
    if (repo_has_blob(c->to, type, id, NULL)) {
        pthread_mutex_lock(&c->mu);
        c->out->known_blobs++;
        pthread_mutex_unlock(&c->mu);
        return;
    }
    struct job *job = mem_alloc(sizeof *job);
    *job = (struct job){type, *id};
    workq_push(c->queue, job);
}

/* That a tree is there does not mean that all below is: a killed copy may have left it.
 */
static struct err *walk(struct copy *c, const struct digest *id, unsigned depth)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", DEPTH_MAX);
    if (idset_has(&c->seen[BLOB_TREE], id))
        return NULL;
    TRY(may_go_on(c));
    TRY(tree_stream_open(c->walk_io, id, &s));
    want_blob(c, BLOB_TREE, id);
    for (;;) {
        TRY(tree_stream_next(s, &nd));
        if (!nd)
            return NULL;
        for (size_t j = 0; j < nd->content_n; j++)
            want_blob(c, BLOB_DATA, &nd->content[j]);
        if (nd->type == NODE_DIR)
            TRY(walk(c, &nd->subtree, depth + 1));
    }
}

static struct err *store_snapshot(struct copy *c, const struct snapshot *s,
                                  struct idset *seen)
{
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf copied = {0};
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    TRY(repo_read_file(c->walk_io, REPO_SNAPSHOT, &s->id, &json));
    TRY(snapshot_copy(json.data, json.len, &s->id, &copied));
    repo_seal_file(c->to_io, copied.data, copied.len, &sealed, &id);
    TRY(revive_used(c->to_io, &s->tree, c->opts->to_lock, seen));
    TRY(repo_lock_check(c->opts->to_lock));
    TRY(repo_put_file(c->to, REPO_SNAPSHOT, &id, sealed.data, sealed.len));
    TRY(revive_used(c->to_io, &s->tree, c->opts->to_lock, seen));
    c->out->snapshots++;
    if (c->opts->stored)
        c->opts->stored(c->opts->stored_ctx, s, &id);
    return NULL;
}

static struct err *copy_one(struct copy *c, const struct snapshot *s)
{
    struct err *e = walk(c, &s->tree, 0);
    workq_drain(c->queue);
    pthread_mutex_lock(&c->mu);
    if (c->fatal) {
        err_free(e);
        e = STEAL(c->fatal);
    }
    pthread_mutex_unlock(&c->mu);
    TRY(e);
    TRY(repo_flush(c->to_io));
    struct idset seen = {0};
    e = store_snapshot(c, s, &seen);
    idset_fini(&seen);
    return e;
}

static const struct digest *root_id(const struct snapshot *s)
{
    return s->has_original ? &s->original : &s->id;
}

/* The same snapshot, copied or not, has the same first id and the same tree. */
static bool is_there(const struct snapshot *there, size_t n, const struct snapshot *s)
{
    for (size_t i = 0; i < n; i++)
        if (digest_equal(root_id(&there[i]), root_id(s)) &&
            digest_equal(&there[i].tree, &s->tree))
            return true;
    return false;
}

static struct err *copy_all(struct copy *c, const struct snapshot *list, size_t n)
{
    struct snapshot *there = NULL;
    size_t there_n = 0;
    struct err *e = NULL;
    TRY(repo_snapshots(c->to_io, &there, &there_n));
    for (size_t i = 0; i < n && !e; i++) {
        char hex[65];
        digest_hex(&list[i].id, hex);
        if (is_there(there, there_n, &list[i]))
            c->out->skipped++;
        else
            e = copy_one(c, &list[i]);
        if (e)
            e = err_wrap(e, "copy snapshot %.8s", hex);
    }
    repo_free_snapshots(there, there_n);
    return e;
}

struct err *copy_run(struct repo *from, struct repo *to, const struct snapshot *list,
                     size_t n, const struct copy_opts *opts, struct copy_result *out)
{
    struct copy c = {.from = from, .to = to, .opts = opts, .out = out};
    unsigned workers = opts->workers ? opts->workers : workq_workers();
    workers = workers < WORKERS_MAX ? workers : WORKERS_MAX;
    *out = (struct copy_result){0};
    pthread_mutex_init(&c.mu, NULL);
    c.walk_io = repo_io_new(from);
    c.to_io = repo_io_new(to);
    for (unsigned i = 0; i < workers; i++) {
        c.from_ios[i] = repo_io_new(from);
        c.to_ios[i] = repo_io_new(to);
    }
    struct err *e =
        workq_new(workers, (size_t)workers * QUEUE_PER_WORKER, run_job, &c, &c.queue);
    if (!e)
        e = copy_all(&c, list, n);
    workq_free(c.queue);
    for (unsigned i = 0; i < workers; i++) {
        repo_io_free(c.from_ios[i]);
        repo_io_free(c.to_ios[i]);
    }
    repo_io_free(c.walk_io);
    repo_io_free(c.to_io);
    idset_fini(&c.seen[BLOB_DATA]);
    idset_fini(&c.seen[BLOB_TREE]);
    err_free(c.fatal);
    pthread_mutex_destroy(&c.mu);
    return e;
}
