#include "agent/work/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/engine/backup.h"
#include "common/engine/base.h"
#include "common/engine/check.h"
#include "common/engine/restore.h"
#include "common/file/file.h"
#include "common/obs/log.h"
#include "common/repo/lock.h"
#include "common/repo/password.h"
#include "common/repo/repo.h"
#include "common/store/store.h"
#include "common/wire/convert.h"

enum { JOURNALED_BYTES = 64 << 20 };

typedef Stillpoint__V1__TaskRecord Task;

/* ---- the repository of a task ---- */

struct session {
    struct repo *repo;
    struct repo_lock *lock;
};

static void session_close(struct session *s)
{
    repo_lock_free(s->lock);
    repo_close(s->repo);
}

static const struct config_repository *find_repository(const struct config *c,
                                                       const char *name)
{
    for (size_t i = 0; i < c->n_repositories; i++)
        if (strcmp(c->repositories[i].name, name) == 0)
            return &c->repositories[i];
    return NULL;
}

static struct err *open_repo(const struct config_repository *r, struct repo **out)
{
    AUTO_PASSWORD struct buf password = {0};
    TRY(password_read(r->password_file, &password));
    struct store *store = NULL;
    TRY(store_open(r->url, 0, &store));
    return repo_open(store, password.data, password.len, out);
}

/* `cached`: the index may come from what this node remembers. A verification asks the
 * repository. */
static struct err *session_open(const struct work *w, bool cached, struct session *s)
{
    const struct config_repository *r = find_repository(w->conf, w->task->repository);
    if (!r)
        return err_new(
            ERR_INVALID,
            "the agent's file has no repository '%s': add it under 'repositories' "
            "and restart the agent",
            w->task->repository);
    TRY_CTX(open_repo(r, &s->repo), "repository '%s'", r->name);
    TRY_CTX(repo_lock(s->repo, false, &s->lock), "repository '%s'", r->name);
    AUTO(str) char *cache = mem_printf("%s/cache", w->conf->state_dir);
    if (cached)
        repo_set_cache(s->repo, cache);
    TRY_CTX(repo_load_index(s->repo), "repository '%s'", r->name);
    return NULL;
}

/* ---- snapshots are journaled before they are stored ---- */

static char *journal_path(const char *dir, const char *task)
{
    return mem_printf("%s/%s.snapshot", dir, task);
}

void work_forget(const char *journal_dir, const char *task)
{
    AUTO(str) char *path = journal_path(journal_dir, task);
    err_free(file_remove(path)); /* what stays is found by the same name, and harmless */
}

static struct err *journal(void *ctx, const struct digest *id, const void *bytes,
                           size_t n)
{
    const struct work *w = ctx;
    (void)id;
    AUTO(str) char *path = journal_path(w->journal_dir, w->task->id);
    return file_replace(path, bytes, n, 0600);
}

static struct err *read_journaled(const struct work *w, char **bytes, size_t *n)
{
    AUTO(str) char *path = journal_path(w->journal_dir, w->task->id);
    struct err *e = file_read(path, JOURNALED_BYTES, bytes, n);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    return e;
}

static void take_backup_progress(void *ctx, const struct backup_progress *now)
{
    struct work *w = ctx;
    atomic_store(&w->files, (long long)now->files);
    atomic_store(&w->bytes_read, (long long)now->bytes_read);
    atomic_store(&w->bytes_stored, (long long)now->bytes_stored);
}

static void set_digest(char **member, const struct digest *d)
{
    char hex[65];
    digest_hex(d, hex);
    pb_set(member, hex);
}

static struct go_time time_of(int64_t unix_ms)
{
    return (struct go_time){.sec = unix_ms / 1000,
                            .nsec = (uint32_t)(unix_ms % 1000) * 1000000};
}

/* ---- upload ---- */

/* The capture's directory: named by the partition's own configuration, not by the wire.
 */
static struct err *capture_dir(const struct work *w, const struct config_partition **part,
                               char **out)
{
    *part = config_partition(w->conf, w->task->partition);
    if (!*part)
        return err_new(ERR_INVALID, "the agent's file has no partition '%s'",
                       w->task->partition);
    if (!w->task->capture[0] || strchr(w->task->capture, '/') ||
        w->task->capture[0] == '.')
        return err_new(ERR_INVALID, "capture '%.80s' is not a capture's name",
                       w->task->capture);
    *out = mem_printf("%s/%s", (*part)->capture.dir, w->task->capture);
    return NULL;
}

/* The partition's patterns, and the captures if they lie inside. */
static void excludes_of(const struct config_partition *p, struct strings *out)
{
    size_t top = strcmp(p->path, "/") == 0 ? 0 : strlen(p->path);
    for (size_t i = 0; i < p->n_exclude; i++)
        strings_add(out, p->exclude[i]);
    if (!config_path_within(p->capture.dir, p->path))
        return;
    AUTO_BUF struct buf pattern = {0};
    for (const char *s = p->capture.dir + top; *s; s++) {
        if (strchr("*?[\\", *s))
            buf_char(&pattern, '\\');
        buf_char(&pattern, *s);
    }
    strings_add(out, buf_text(&pattern));
}

/* Where the base of a partition's next upload is remembered. */
static char *base_path(const struct config *c, const char *partition)
{
    return mem_printf("%s/bases/%s", c->state_dir, partition);
}

bool work_needs_base(const struct config *conf, const char *partition,
                     const char *capture)
{
    const struct config_partition *p = config_partition(conf, partition);
    if (!p || !p->keep_base)
        return false;
    AUTO(str) char *file = base_path(conf, partition);
    AUTO(str) char *dir = mem_printf("%s/%s", p->capture.dir, capture);
    return base_tells_of(file, dir);
}

struct tags {
    char *text[4];
};

static void tags_make(const Task *t, const char *first, struct tags *out)
{
    out->text[0] = mem_strdup(first);
    out->text[1] = mem_printf("group=%s", t->group);
    out->text[2] = mem_printf("set=%s", t->set);
    out->text[3] = mem_printf("partition=%s", t->partition);
}

static void tags_fini(struct tags *t)
{
    for (size_t i = 0; i < ARRAY_LEN(t->text); i++)
        free(t->text[i]);
}

/* A copied capture's manifest; none for a snapshot. */
static struct err *open_manifest(const char *dir, struct manifest **out)
{
    AUTO(str) char *path = mem_printf("%s.manifest", dir);
    struct err *e = manifest_open(path, out);
    if (e && e->kind == ERR_NOT_FOUND)
        err_free(STEAL(e));
    return e;
}

static struct err *upload_on_base(struct work *w, struct repo *r,
                                  const struct backup_opts *opts,
                                  struct backup_result *res)
{
    AUTO(str) char *dir = mem_printf("%s/bases", w->conf->state_dir);
    AUTO(str) char *file = base_path(w->conf, w->task->partition);
    AUTO(str) char *before = base_capture(file);
    struct err *why = NULL;
    TRY(file_mkdirs(dir, 0700));
    struct err *e = backup_run_on_base(r, opts, file, res, &why);
    log_err(LOG_LEVEL_WARN, "upload", "without_base", why);
    if (!e)
        log_info("upload", "on_base", "task=%s bytes_known=%llu", w->task->id,
                 (unsigned long long)res->bytes_known);
    /* Remembered now is this capture, whose directory is beside the earlier one's. */
    if (!e && before && !base_tells_of(file, before)) {
        free(w->superseded);
        w->superseded = mem_strdup(strrchr(before, '/') + 1);
    }
    return e;
}

/* The part as it was last stored, then what did not change since is not read. */
static struct err *run_upload(struct work *w, struct session *s,
                              const struct config_partition *p, struct backup_opts *opts,
                              struct backup_result *res)
{
    AUTO(manifest) struct manifest *manifest = NULL;
    AUTO(str) char *tag = mem_printf("partition=%s", w->task->partition);
    const char *const tags[] = {tag};
    AUTO_SNAPSHOT struct snapshot parent = {0};
    bool found = false;
    TRY(backup_find_parent(s->repo, opts, tags, ARRAY_LEN(tags), &parent, &found));
    TRY(open_manifest(opts->source, &manifest));
    opts->parent = found ? &parent : NULL;
    opts->manifest = manifest;
    return p->keep_base ? upload_on_base(w, s->repo, opts, res)
                        : backup_run(s->repo, opts, res);
}

static struct err *upload_with(struct work *w, struct session *s, const char *dir,
                               const struct config_partition *p, const struct tags *tags)
{
    Task *t = w->task;
    AUTO(str) char *journaled = NULL;
    size_t journaled_n = 0;
    TRY(read_journaled(w, &journaled, &journaled_n));
    struct strings excludes = {0};
    struct chunks chunks = {0};
    if (p->chunks)
        TRY(chunks_parse(p->chunks, &chunks));
    excludes_of(p, &excludes);
    struct backup_opts opts = {
        .source = dir,
        .path = p->path,
        .hostname = w->conf->node,
        .tags = (const char *const *)tags->text,
        .tags_n = ARRAY_LEN(tags->text),
        .excludes = (const char *const *)excludes.items,
        .excludes_n = excludes.n,
        .time = time_of(t->cut_unix_ms),
        .lock = s->lock,
        .journaled = journaled,
        .journaled_n = journaled_n,
        .journal = journal,
        .journal_ctx = w,
        .chunks = chunks,
        .resume = true,
        .progress = take_backup_progress,
        .progress_ctx = w,
        .cancel = &w->cancel,
    };
    struct backup_result res = {0};
    struct err *e = run_upload(w, s, p, &opts, &res);
    strings_fini(&excludes);
    if (!e) {
        set_digest(&t->snapshot_id, &res.snapshot);
        set_digest(&t->tree_id, &res.tree);
        t->files = (int64_t)res.summary.total_files_processed;
        t->bytes_read = (int64_t)res.summary.total_bytes_processed;
        t->bytes_stored = (int64_t)res.summary.data_added_packed;
    }
    backup_result_fini(&res);
    return e;
}

static struct err *upload(struct work *w)
{
    const struct config_partition *p = NULL;
    AUTO(str) char *dir = NULL;
    TRY(capture_dir(w, &p, &dir));
    struct session s = {0};
    struct tags tags;
    tags_make(w->task, "stillpoint", &tags);
    struct err *e = session_open(w, true, &s);
    if (!e)
        e = upload_with(w, &s, dir, p, &tags);
    session_close(&s);
    tags_fini(&tags);
    return e;
}

/* ---- verify ---- */

static struct err *verify_with(struct work *w, struct session *s)
{
    struct digest id;
    if (!digest_parse(w->task->snapshot_id, &id))
        return err_new(ERR_INVALID, "field 'snapshot_id': '%.80s'", w->task->snapshot_id);
    if (!w->task->capture[0])
        return check_snapshot(s->repo, &id, NULL);
    const struct config_partition *p = NULL;
    AUTO(str) char *dir = NULL;
    TRY(capture_dir(w, &p, &dir));
    struct strings excludes = {0};
    excludes_of(p, &excludes);
    struct check_compare compare = {.dir = dir,
                                    .path = p->path,
                                    .excludes = (const char *const *)excludes.items,
                                    .excludes_n = excludes.n,
                                    .cancel = &w->cancel};
    struct err *e = check_snapshot(s->repo, &id, &compare);
    strings_fini(&excludes);
    return e;
}

static struct err *verify(struct work *w)
{
    struct session s = {0};
    struct err *e = session_open(w, false, &s);
    if (!e)
        e = verify_with(w, &s);
    session_close(&s);
    return e;
}

/* ---- seal ---- */

static struct err *seal_with(struct work *w, struct session *s, const struct tags *tags)
{
    Task *t = w->task;
    AUTO(str) char *journaled = NULL;
    size_t journaled_n = 0;
    TRY(read_journaled(w, &journaled, &journaled_n));
    struct backup_opts opts = {
        .path = "/stillpoint-set",
        .hostname = w->conf->node,
        .tags = (const char *const *)tags->text,
        .tags_n = 3,
        .time = time_of(t->cut_unix_ms),
        .journaled = journaled,
        .journaled_n = journaled_n,
        .journal = journal,
        .journal_ctx = w,
    };
    const struct backup_memory_file files[] = {
        {"set.json", t->content.data, t->content.len},
        {"set.json.sig", t->seal.data, t->seal.len},
    };
    struct digest id;
    TRY(backup_memory(s->repo, &opts, files, t->seal.len > 0 ? 2 : 1, &id));
    set_digest(&t->snapshot_id, &id);
    return NULL;
}

static struct err *seal(struct work *w)
{
    struct session s = {0};
    struct tags tags;
    tags_make(w->task, "stillpoint-set", &tags);
    struct err *e = session_open(w, true, &s);
    if (!e)
        e = seal_with(w, &s, &tags);
    session_close(&s);
    tags_fini(&tags);
    return e;
}

/* ---- restore ---- */

/* I10: a restore goes below a directory that the node's own file names. */
static struct err *check_target(const struct work *w, const char **below)
{
    const char *target = w->task->target;
    size_t n = strlen(target);
    bool plain = target[0] == '/' && !strstr(target, "/../") && !strstr(target, "//") &&
                 !(n >= 3 && strcmp(target + n - 3, "/..") == 0);
    if (!plain)
        return err_new(ERR_INVALID, "target '%.200s' is not a plain absolute path",
                       target);
    for (size_t i = 0; i < w->conf->n_restore_dirs; i++) {
        *below = w->conf->restore_dirs[i];
        if (config_path_within(target, *below))
            return NULL;
    }
    return err_new(
        ERR_DENIED,
        "target '%.200s' is below none of the directories that 'restore_dirs' of "
        "the agent's file on node '%s' permits",
        target, w->conf->node);
}

static void take_restore_progress(void *ctx, const struct restore_progress *now)
{
    struct work *w = ctx;
    atomic_store(&w->files, (long long)now->files);
    atomic_store(&w->bytes_read, (long long)now->bytes);
}

static struct err *restore_with(struct work *w, struct session *s, const char *below)
{
    Task *t = w->task;
    struct digest id;
    if (!digest_parse(t->snapshot_id, &id))
        return err_new(ERR_INVALID, "field 'snapshot_id': '%.80s'", t->snapshot_id);
    AUTO(repo_io) struct repo_io *io = repo_io_new(s->repo);
    AUTO_SNAPSHOT struct snapshot snap = {0};
    TRY(repo_read_snapshot(io, &id, &snap));
    struct restore_opts opts = {.target = t->target,
                                .below = below,
                                .strip = t->path,
                                .progress = take_restore_progress,
                                .progress_ctx = w,
                                .cancel = &w->cancel};
    struct restore_result res = {0};
    struct err *e = restore_run(s->repo, &snap.tree, &opts, &res);
    t->files = (int64_t)res.files;
    t->bytes_read = (int64_t)res.bytes;
    restore_result_fini(&res);
    return e;
}

static struct err *restore(struct work *w)
{
    const char *below = NULL;
    TRY(check_target(w, &below));
    TRY(file_mkdirs(below, 0700));
    struct session s = {0};
    struct err *e = session_open(w, true, &s);
    if (!e)
        e = restore_with(w, &s, below);
    session_close(&s);
    return e;
}

struct err *work_run(struct work *w)
{
    switch (w->task->kind) {
    case STILLPOINT__V1__TASK_KIND__TASK_UPLOAD:
        return upload(w);
    case STILLPOINT__V1__TASK_KIND__TASK_VERIFY:
        return verify(w);
    case STILLPOINT__V1__TASK_KIND__TASK_SEAL:
        return seal(w);
    case STILLPOINT__V1__TASK_KIND__TASK_RESTORE:
        return restore(w);
    default:
        return err_new(ERR_INVALID, "task kind %d is not known to this agent",
                       (int)w->task->kind);
    }
}
