#include "common/engine/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/backup_own.h"
#include "common/engine/check.h"
#include "common/engine/find.h"
#include "common/engine/revive.h"

static const char program_version[] = "stillpoint";

void backup_result_fini(struct backup_result *r)
{
    problems_fini(&r->problems);
}

void backup_fail(struct backup *b, struct err *e)
{
    pthread_mutex_lock(&b->mu);
    if (!b->fatal)
        b->fatal = STEAL(e);
    pthread_mutex_unlock(&b->mu);
    err_free(e);
}

struct err *backup_check(struct backup *b)
{
    if (b->opts->cancel && atomic_load(b->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    if (b->opts->lock)
        TRY(repo_lock_check(b->opts->lock));
    pthread_mutex_lock(&b->mu);
    bool failed = b->fatal != NULL;
    pthread_mutex_unlock(&b->mu);
    if (failed)
        return err_new(ERR_IO, "a worker failed");
    return NULL;
}

void backup_count(struct backup *b, enum blob_type type, const struct repo_saved *saved)
{
    if (!saved->fresh)
        return;
    pthread_mutex_lock(&b->mu);
    if (type == BLOB_TREE)
        b->summary.tree_blobs++;
    else
        b->summary.data_blobs++;
    b->summary.data_added += saved->bytes;
    b->summary.data_added_packed += saved->stored;
    pthread_mutex_unlock(&b->mu);
}

static struct go_time wall_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (struct go_time){t.tv_sec, (uint32_t)t.tv_nsec};
}

/* "/a//b/" → {"a","b"}. */
static struct err *split_path(const char *path, struct strings *out)
{
    if (path[0] != '/')
        return err_new(ERR_INVALID, "'%s' is not an absolute path", path);
    AUTO(str) char *copy = mem_strdup(path);
    char *rest = copy, *part;
    while ((part = strsep(&rest, "/"))) {
        if (!*part)
            continue;
        if (strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
            return err_new(ERR_INVALID, "'%s' has a component '%s'", path, part);
        strings_add(out, part);
    }
    return NULL;
}

static char *join(const struct strings *parts, size_t n)
{
    struct buf b = {0};
    for (size_t i = 0; i < n; i++) {
        buf_char(&b, '/');
        buf_str(&b, parts->items[i]);
    }
    if (!n)
        buf_char(&b, '/');
    return buf_steal(&b);
}

/* The node of a directory above the partition: as it is on this host, or plain when it
 * does not exist here. */
static void parent_node(struct backup *b, const char *path, const char *name,
                        struct node *out)
{
    struct stat st;
    AUTO(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        struct err *e = scan_node(b->names, fd, "", fd, &st, out);
        if (!e) {
            free(out->name);
            out->name = mem_strdup(name);
            return;
        }
        err_free(e);
        node_fini(out);
    }
    out->type = NODE_DIR;
    out->name = mem_strdup(name);
    out->mode = node_mode(S_IFDIR | 0755);
    out->mtime = out->atime = out->ctime = b->opts->time;
}

/* Wraps the partition's tree into one tree for each directory of its logical path, so
 * that its own mode and owner are kept and restic sees what it would have stored. */
static struct err *add_parents(struct backup *b, int dir_fd, const struct strings *parts)
{
    for (size_t i = parts->n; i > 0; i--) {
        AUTO_TREE struct tree t = {0};
        struct node *nd = tree_add(&t);
        const char *name = parts->items[i - 1];
        if (i == parts->n) {
            struct stat st;
            if (fstat(dir_fd, &st))
                return err_os(errno, "look at '%s'", b->opts->source);
            TRY(scan_node(b->names, dir_fd, "", dir_fd, &st, nd));
            free(nd->name);
            nd->name = mem_strdup(name);
        } else {
            AUTO(str) char *path = join(parts, i);
            parent_node(b, path, name, nd);
        }
        nd->device_id = b->device_base;
        nd->has_subtree = true;
        nd->subtree = b->tree;
        struct repo_saved saved;
        TRY(repo_save_tree(b->scan_io, &t, &b->tree, &saved));
        backup_count(b, BLOB_TREE, &saved);
    }
    return NULL;
}

static void fill_snapshot(const struct backup_opts *opts, const struct digest *tree,
                          const struct snapshot_summary *summary, struct snapshot *s)
{
    s->time = opts->time;
    s->tree = *tree;
    strings_add(&s->paths, opts->path);
    for (size_t i = 0; i < opts->tags_n; i++)
        strings_add(&s->tags, opts->tags[i]);
    for (size_t i = 0; i < opts->excludes_n; i++)
        strings_add(&s->excludes, opts->excludes[i]);
    s->hostname = mem_strdup(opts->hostname);
    s->username = mem_strdup(geteuid() == 0 ? "root" : "stillpoint");
    s->uid = getuid();
    s->gid = getgid();
    s->program_version = mem_strdup(program_version);
    if (summary)
        s->summary = *summary;
    if (opts->parent) {
        s->has_parent = true;
        s->parent = opts->parent->id;
    }
}

/* Looks for packs that a reclaim takes away before the snapshot is stored and after. What
 * is published later than that knows the snapshot. */
static struct err *put_snapshot(struct repo_io *io, const struct backup_opts *opts,
                                const struct digest *tree, const struct digest *id,
                                const void *sealed, size_t n)
{
    char hex[65];
    struct idset seen = {0};
    digest_hex(id, hex);
    struct err *e = revive_used(io, tree, opts->lock, &seen);
    if (!e && opts->lock)
        e = repo_lock_check(opts->lock);
    if (!e)
        e = repo_put_file(repo_io_repo(io), REPO_SNAPSHOT, id, sealed, n);
    if (!e) {
        e = revive_used(io, tree, opts->lock, &seen);
        if (e)
            e = err_wrap(e,
                         "snapshot %.8s is stored, but whether a reclaim took what it "
                         "needs could not be seen: run `stillpoint repo check`",
                         hex);
    }
    idset_fini(&seen);
    return e;
}

/* Journal first, upload second: after a crash between the two the retry stores the same
 * file, not a second snapshot. */
static struct err *store_snapshot(struct repo_io *io, const struct backup_opts *opts,
                                  const struct digest *tree,
                                  const struct snapshot_summary *summary,
                                  struct digest *id)
{
    AUTO_SNAPSHOT struct snapshot s = {0};
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    fill_snapshot(opts, tree, summary, &s);
    TRY(snapshot_write(&s, &json));
    repo_seal_file(io, json.data, json.len, &sealed, id);
    if (opts->lock)
        TRY(repo_lock_check(opts->lock));
    if (opts->journal)
        TRY_CTX(opts->journal(opts->journal_ctx, id, sealed.data, sealed.len),
                "journal the snapshot");
    return put_snapshot(io, opts, tree, id, sealed.data, sealed.len);
}

/* Reads the snapshot that an earlier attempt journaled. INVALID: it is of something
 * else. */
static struct err *read_journaled(struct repo_io *io, const struct backup_opts *opts,
                                  struct snapshot *out)
{
    AUTO_BUF struct buf json = {0};
    TRY_CTX(repo_unseal_file(io, opts->journaled, opts->journaled_n, &json),
            "journaled snapshot");
    TRY_CTX(snapshot_read(json.data, json.len, out), "journaled snapshot");
    hash_bytes(opts->journaled, opts->journaled_n, &out->id);
    if (!strings_has(&out->paths, opts->path) ||
        strcmp(out->hostname, opts->hostname) != 0)
        return err_new(ERR_INVALID, "the journaled snapshot is not of '%s' on '%s'",
                       opts->path, opts->hostname);
    return NULL;
}

/* Stores journaled bytes when all they refer to is there. */
static struct err *store_journaled(struct repo_io *io, const struct backup_opts *opts,
                                   const struct snapshot *s, struct backup_result *out)
{
    out->snapshot = s->id;
    out->tree = s->tree;
    out->summary = s->summary;
    return put_snapshot(io, opts, &s->tree, &s->id, opts->journaled, opts->journaled_n);
}

static struct err *try_journaled(struct repo *r, struct repo_io *io,
                                 const struct backup_opts *opts, struct snapshot *s,
                                 struct backup_result *out, bool *done)
{
    TRY(read_journaled(io, opts, s));
    struct err *e = check_tree(r, &s->tree);
    if (e && e->kind != ERR_NOT_FOUND && e->kind != ERR_CORRUPT)
        return e;
    *done = e == NULL;
    err_free(e);
    return *done ? store_journaled(io, opts, s, out) : NULL;
}

/* The tree of the partition in the parent snapshot. */
static bool find_old_tree(struct repo_io *io, const struct backup_opts *opts,
                          struct digest *out)
{
    struct node nd = {0};
    if (!opts->parent)
        return false;
    AUTO(err) struct err *e = find_node(io, &opts->parent->tree, opts->path, &nd);
    bool found = !e && nd.type == NODE_DIR;
    *out = nd.subtree;
    node_fini(&nd);
    return found;
}

/* The device id is made from what names the part, so that every capture has the same. */
static uint32_t device_of_part(const struct backup_opts *opts)
{
    struct digest d;
    AUTO(str) char *text = mem_printf("%s:%s", opts->hostname, opts->path);
    hash_bytes(text, strlen(text), &d);
    return (uint32_t)d.b[0] << 24 | (uint32_t)d.b[1] << 16 | (uint32_t)d.b[2] << 8 |
           d.b[3] | 1;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct problem *)a)->path, ((const struct problem *)b)->path);
}

/* Workers find them in any order. */
static void sort_problems(struct problems *p)
{
    if (p->n)
        qsort(p->items, p->n, sizeof *p->items, by_path);
}

static struct err *run_walk(struct backup *b, const struct strings *parts,
                            struct backup_result *out)
{
    struct digest old;
    AUTO(fd) int fd = open(b->opts->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open directory '%s'", b->opts->source);
    /* Without the right to look, a snapshot is a directory like others. */
    err_free(base_look(fd, &b->look));
    b->made = b->opts->manifest ? manifest_made(b->opts->manifest) : b->look.made;
    bool has_old = find_old_tree(b->scan_io, b->opts, &old);
    TRY(backup_walk(b, fd, has_old ? &old : NULL));
    if (b->fatal) {
        /* Only what is known to be stored is indexed; a failed store says so again. */
        err_free(repo_flush(b->scan_io));
        return STEAL(b->fatal);
    }
    if (problems_total(b->problems)) {
        sort_problems(b->problems);
        TRY(repo_flush(b->scan_io));
        return problems_err(b->problems, ERR_IO, "the backup is incomplete");
    }
    TRY(add_parents(b, fd, parts));
    TRY(repo_flush(b->scan_io));
    b->summary.backup_end = wall_clock();
    out->summary = b->summary;
    out->others = b->others;
    out->bytes_known = b->bytes_known;
    out->tree = b->tree;
    return NULL;
}

static struct err *run_once(struct backup *b, struct backup_result *out)
{
    const struct backup_opts *opts = b->opts;
    struct strings parts = {0};
    struct err *e = split_path(opts->path, &parts);
    if (!e)
        e = run_walk(b, &parts, out);
    strings_fini(&parts);
    return e;
}

static void backup_start(struct backup *b, struct repo *r, const struct backup_opts *opts,
                         struct backup_result *out)
{
    struct digest secret;
    pthread_condattr_t attr;
    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->changed, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->left, &attr);
    pthread_condattr_destroy(&attr);
    b->repo = r;
    b->opts = opts;
    b->problems = &out->problems;
    b->scan_io = repo_io_new(r);
    b->names = scan_names_new();
    b->device_base = device_of_part(opts);
    b->summary.valid = true;
    b->summary.backup_start = wall_clock();
    repo_secret(r, "stillpoint chunker", &secret);
    gear_init(&b->gear, &secret);
}

static void backup_end(struct backup *b)
{
    repo_io_free(b->scan_io);
    scan_names_free(b->names);
    free(b->units);
    err_free(b->fatal);
    pthread_cond_destroy(&b->changed);
    pthread_cond_destroy(&b->left);
    pthread_mutex_destroy(&b->mu);
}

/* Only somebody with a lock may be writing packs that nobody lists yet, or removing them
 * because nobody does: `reclaim` waits for us once we have ours. */
static struct err *adopt(struct repo_io *io, const struct backup_opts *opts)
{
    uint64_t packs = 0;
    bool alone = false;
    TRY(repo_lock_is_alone(opts->lock, &alone));
    return alone ? repo_adopt_packs(io, &packs) : NULL;
}

struct err *backup_run(struct repo *r, const struct backup_opts *opts,
                       struct backup_result *out)
{
    *out = (struct backup_result){0};
    problems_init(&out->problems);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_SNAPSHOT struct snapshot earlier = {0};
    bool done = false;
    if (opts->resume && opts->lock)
        TRY(adopt(io, opts));
    if (opts->journaled)
        TRY(try_journaled(r, io, opts, &earlier, out, &done));
    if (done)
        return NULL;
    struct backup b = {0};
    backup_start(&b, r, opts, out);
    struct err *e = run_once(&b, out);
    backup_end(&b);
    TRY_CTX(e, "backup of '%s'", opts->path);
    if (opts->journaled && digest_equal(&earlier.tree, &out->tree))
        return store_journaled(io, opts, &earlier, out);
    return store_snapshot(io, opts, &out->tree, &out->summary, &out->snapshot);
}

/* Opens the base and reads its snapshot, which must be of the same part. */
static struct err *open_base(struct repo *r, const struct backup_opts *opts,
                             const char *file, struct base *base, struct snapshot *parent)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    TRY(base_open(file, repo_id(r), base));
    struct err *e = repo_read_snapshot(io, &base->snapshot, parent);
    if (!e && (strcmp(parent->hostname, opts->hostname) != 0 ||
               !strings_has(&parent->paths, opts->path)))
        e = err_new(ERR_CONFLICT, "'%s' tells of another part", file);
    if (e)
        base_close(base);
    return e;
}

struct err *backup_run_on_base(struct repo *r, const struct backup_opts *opts,
                               const char *file, struct backup_result *out,
                               struct err **why)
{
    AUTO_SNAPSHOT struct snapshot parent = {0};
    struct base base = {.dir_fd = -1};
    struct backup_opts with = *opts;
    struct base_look look;
    AUTO(fd) int fd = -1;
    *out = (struct backup_result){0};
    problems_init(&out->problems);
    TRY(scan_open_dir(AT_FDCWD, opts->source, &fd));
    TRY(base_look(fd, &look));
    *why = open_base(r, opts, file, &base, &parent);
    if (*why && (*why)->kind == ERR_NOT_FOUND)
        err_free(STEAL(*why)); /* the first of its kind */
    else if (!*why) {
        with.base = &base;
        with.parent = &parent;
    }
    struct err *e = backup_run(r, &with, out);
    base_close(&base);
    if (e)
        return e;
    struct err *forgotten =
        base_remember(file, repo_id(r), opts->source, &look, &out->snapshot);
    if (forgotten && *why)
        err_free(STEAL(*why));
    if (forgotten)
        *why = forgotten;
    return NULL;
}

static bool is_parent(const struct snapshot *s, const struct backup_opts *opts,
                      const char *const *tags, size_t tags_n)
{
    if (s->time.sec > opts->time.sec || strcmp(s->hostname, opts->hostname) != 0 ||
        s->paths.n != 1 || strcmp(s->paths.items[0], opts->path) != 0)
        return false;
    for (size_t i = 0; i < tags_n; i++)
        if (!strings_has(&s->tags, tags[i]))
            return false;
    return true;
}

struct err *backup_find_parent(struct repo *r, const struct backup_opts *opts,
                               const char *const *tags, size_t tags_n,
                               struct snapshot *out, bool *found)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct snapshot *list = NULL;
    size_t n = 0;
    *found = false;
    TRY(repo_snapshots(io, &list, &n));
    for (size_t i = n; i > 0 && !*found; i--) {
        *found = is_parent(&list[i - 1], opts, tags, tags_n);
        if (!*found)
            continue;
        *out = list[i - 1];
        list[i - 1] = (struct snapshot){0};
    }
    repo_free_snapshots(list, n);
    return NULL;
}

static struct err *memory_node(struct repo_io *io, const struct backup_opts *opts,
                               const struct backup_memory_file *file, struct node *nd)
{
    struct repo_saved saved;
    struct digest id;
    nd->type = NODE_FILE;
    nd->name = mem_strdup(file->name);
    nd->mode = 0600;
    nd->mtime = nd->atime = nd->ctime = opts->time;
    nd->size = file->n;
    nd->links = 1;
    if (!file->n)
        return NULL;
    TRY(repo_save_blob(io, BLOB_DATA, file->data, file->n, &id, &saved));
    node_add_content(nd, &id);
    return NULL;
}

struct err *backup_memory(struct repo *r, const struct backup_opts *opts,
                          const struct backup_memory_file *files, size_t n,
                          struct digest *snapshot)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_TREE struct tree t = {0};
    struct repo_saved saved;
    struct digest tree;
    for (size_t i = 0; i < n; i++)
        TRY(memory_node(io, opts, &files[i], tree_add(&t)));
    tree_sort(&t);
    TRY(repo_save_tree(io, &t, &tree, &saved));
    TRY(repo_flush(io));
    return store_snapshot(io, opts, &tree, NULL, snapshot);
}
