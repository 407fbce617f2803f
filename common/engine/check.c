#include "common/engine/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/compare.h"
#include "common/engine/workq.h"
#include "common/repo/idset.h"
#include "common/repo/pack.h"

enum { DEPTH_MAX = 10000, WORKERS_MAX = 16 };

void check_result_fini(struct check_result *r)
{
    problems_fini(&r->problems);
}

static bool is_cancelled(const atomic_bool *cancel)
{
    return cancel && atomic_load(cancel);
}

/* A walk over trees, each once. */
struct walk {
    struct repo *repo;
    struct repo_io *io;
    struct idset seen;
    bool *packs_used;          /* one for each pack of the index, or NULL */
    struct problems *problems; /* NULL: the first problem ends the walk */
    const atomic_bool *cancel;
};

static struct err *note(struct walk *w, const char *what, struct err *e)
{
    if (!w->problems || !e)
        return e;
    problems_add(w->problems, what, e);
    return NULL;
}

static struct err *use_blob(struct walk *w, enum blob_type type, const struct digest *id)
{
    const struct index *ix = repo_index(w->repo);
    struct blob_entry entry;
    char hex[65];
    digest_hex(id, hex);
    if (!index_find(ix, type, id, 0, &entry))
        return err_new(ERR_NOT_FOUND, "%s blob %s is not in the index",
                       type == BLOB_TREE ? "tree" : "data", hex);
    if (w->packs_used)
        w->packs_used[entry.pack] = true;
    return NULL;
}

static struct err *walk_tree(struct walk *w, const struct digest *id, unsigned depth);

static struct err *walk_node(struct walk *w, const struct node *nd, unsigned depth)
{
    if (nd->type == NODE_DIR)
        return walk_tree(w, &nd->subtree, depth + 1);
    for (size_t i = 0; i < nd->content_n; i++)
        TRY_CTX(use_blob(w, BLOB_DATA, &nd->content[i]), "file '%s'", nd->name);
    return NULL;
}

static struct err *walk_tree(struct walk *w, const struct digest *id, unsigned depth)
{
    AUTO_TREE struct tree t = {0};
    char hex[65], what[80];
    if (is_cancelled(w->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    if (!idset_add(&w->seen, id))
        return NULL;
    digest_hex(id, hex);
    snprintf(what, sizeof what, "tree %s", hex);
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", DEPTH_MAX);
    struct err *e = use_blob(w, BLOB_TREE, id);
    if (!e)
        e = repo_load_tree(w->io, id, &t);
    TRY(note(w, what, e));
    for (size_t i = 0; i < t.n; i++) {
        e = walk_node(w, &t.nodes[i], depth);
        if (e && e->kind == ERR_CANCELLED)
            return e;
        TRY(note(w, what, e));
    }
    return NULL;
}

static void walk_fini(struct walk *w)
{
    repo_io_free(w->io);
    idset_fini(&w->seen);
    free(w->packs_used);
}

static struct err *check_pack_size(uint64_t bytes, uint64_t want, const char *hex)
{
    if (bytes != want)
        return err_new(ERR_CORRUPT, "pack %s has %" PRIu64 " bytes instead of %" PRIu64,
                       hex, bytes, want);
    return NULL;
}

static struct err *check_used_packs(struct repo *r, const bool *used)
{
    const struct index *ix = repo_index(r);
    char hex[65];
    for (size_t i = 0; i < index_packs(ix); i++) {
        const struct digest *id = &index_pack(ix, i)->id;
        uint64_t bytes = 0;
        if (!used[i])
            continue;
        digest_hex(id, hex);
        TRY_CTX(repo_stat_file(r, REPO_DATA, id, &bytes), "pack %s", hex);
        TRY(check_pack_size(bytes, index_pack_bytes(ix, i), hex));
    }
    return NULL;
}

struct err *check_tree(struct repo *r, const struct digest *tree)
{
    struct walk w = {.repo = r};
    w.io = repo_io_new(r);
    w.packs_used = mem_array(index_packs(repo_index(r)), sizeof *w.packs_used);
    struct err *e = walk_tree(&w, tree, 0);
    if (!e)
        e = check_used_packs(r, w.packs_used);
    walk_fini(&w);
    return e;
}

struct err *check_snapshot(struct repo *r, const struct digest *id,
                           const struct check_compare *compare)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_SNAPSHOT struct snapshot s = {0};
    char hex[65];
    digest_hex(id, hex);
    TRY_CTX(repo_read_snapshot(io, id, &s), "snapshot %s", hex);
    TRY_CTX(check_tree(r, &s.tree), "snapshot %s", hex);
    if (compare)
        TRY_CTX(compare_tree(io, &s.tree, compare), "snapshot %s", hex);
    return NULL;
}

/* The full check. */
struct check {
    struct repo *repo;
    const struct check_opts *opts;
    struct check_result *out;
    struct repo_io *ios[WORKERS_MAX];
    atomic_uint_fast64_t done;
    atomic_uint_fast64_t bytes;
};

static int by_id(const void *a, const void *b)
{
    const struct repo_file *x = a, *y = b;
    return memcmp(x->id.b, y->id.b, sizeof x->id.b);
}

/* Every indexed pack is there with the right size. */
static void check_files(struct check *c, struct repo_file *files, size_t n)
{
    const struct index *ix = repo_index(c->repo);
    if (n)
        qsort(files, n, sizeof *files, by_id);
    for (size_t i = 0; i < index_packs(ix); i++) {
        char hex[65], what[80];
        struct repo_file key = {.id = index_pack(ix, i)->id};
        const struct repo_file *f =
            n ? bsearch(&key, files, n, sizeof *files, by_id) : NULL;
        digest_hex(&key.id, hex);
        snprintf(what, sizeof what, "pack %s", hex);
        problems_add(&c->out->problems, what,
                     f ? check_pack_size(f->bytes, index_pack_bytes(ix, i), hex)
                       : err_new(ERR_NOT_FOUND, "the pack is missing"));
    }
    for (size_t i = 0; i < n; i++)
        c->out->orphans += !index_find_pack(ix, &files[i].id, NULL);
}

static struct err *same_entries(const struct index *ix, size_t pack,
                                const struct blob_entry *list, size_t n)
{
    struct index_cursor c = index_blobs_of(ix, pack);
    const struct blob_entry *e = &c.blob;
    bool same = true;
    size_t i = 0;
    for (; same && index_next(&c); i++)
        same = i < n && digest_equal(&e->id, &list[i].id) &&
               e->offset == list[i].offset && e->length == list[i].length &&
               e->plain == list[i].plain && e->type == list[i].type;
    if (!same || i != n)
        return err_new(ERR_CORRUPT, "its header and the index list different blobs");
    return NULL;
}

static struct err *check_header(struct check *c, struct repo_io *io, size_t pack,
                                const struct buf *bytes)
{
    struct blob_entry *list = NULL;
    size_t n = 0;
    TRY(pack_read_header(repo_crypt(io), bytes->data, bytes->len, bytes->len, &list, &n));
    struct err *e = same_entries(repo_index(c->repo), pack, list, n);
    free(list);
    return e;
}

/* Notes every blob of the pack that cannot be read. */
static void check_blobs(struct check *c, struct repo_io *io, size_t pack,
                        const struct buf *bytes, const char *what)
{
    AUTO_BUF struct buf plain = {0};
    struct index_cursor next = index_blobs_of(repo_index(c->repo), pack);
    const struct blob_entry *entry = &next.blob;
    while (index_next(&next)) {
        char hex[65];
        struct err *e = NULL;
        buf_clear(&plain);
        if ((uint64_t)entry->offset + entry->length > bytes->len)
            e = err_new(ERR_CORRUPT, "it lies behind the pack's end");
        else
            e = repo_decode_blob(io, entry, bytes->data + entry->offset, &plain);
        digest_hex(&entry->id, hex);
        if (e)
            problems_add(&c->out->problems, what, err_wrap(e, "blob %s", hex));
    }
}

static void check_pack(void *ctx, unsigned worker, void *job)
{
    struct check *c = ctx;
    const struct digest *id = job;
    size_t pack = 0;
    AUTO_BUF struct buf bytes = {0};
    char hex[65], what[80];
    struct digest real;
    if (is_cancelled(c->opts->cancel))
        return;
    digest_hex(id, hex);
    snprintf(what, sizeof what, "pack %s", hex);
    index_find_pack(repo_index(c->repo), id, &pack);
    struct err *e = repo_get_raw(c->repo, REPO_DATA, id, &bytes);
    if (e) {
        problems_add(&c->out->problems, what, e);
        return;
    }
    hash_bytes(buf_text(&bytes), bytes.len, &real);
    if (!digest_equal(&real, id))
        problems_add(&c->out->problems, what,
                     err_new(ERR_CORRUPT, "its bytes do not match its name"));
    problems_add(&c->out->problems, what, check_header(c, c->ios[worker], pack, &bytes));
    check_blobs(c, c->ios[worker], pack, &bytes, what);
    atomic_fetch_add(&c->bytes, bytes.len);
    uint64_t done = atomic_fetch_add(&c->done, 1) + 1;
    if (c->opts->progress)
        c->opts->progress(c->opts->progress_ctx, done, index_packs(repo_index(c->repo)));
}

static struct err *check_data(struct check *c)
{
    const struct index *ix = repo_index(c->repo);
    unsigned workers = workq_workers();
    AUTO(workq) struct workq *q = NULL;
    for (unsigned i = 0; i < workers; i++)
        c->ios[i] = repo_io_new(c->repo);
    TRY(workq_new(workers, workers, check_pack, c, &q));
    for (size_t i = 0; i < index_packs(ix) && !is_cancelled(c->opts->cancel); i++)
        workq_push(q, (void *)(uintptr_t)&index_pack(ix, i)->id);
    workq_free(STEAL(q));
    if (is_cancelled(c->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    return NULL;
}

static void bad_index(void *ctx, struct err *e)
{
    struct check_result *out = ctx;
    problems_add(&out->problems, "index", e);
}

static struct err *check_snapshots(struct check *c, const struct repo_file *files,
                                   size_t n)
{
    struct walk w = {
        .repo = c->repo, .problems = &c->out->problems, .cancel = c->opts->cancel};
    struct err *e = NULL;
    w.io = repo_io_new(c->repo);
    for (size_t i = 0; i < n && !e; i++) {
        AUTO_SNAPSHOT struct snapshot s = {0};
        char hex[65], what[90];
        digest_hex(&files[i].id, hex);
        snprintf(what, sizeof what, "snapshot %s", hex);
        struct err *bad = repo_read_snapshot(w.io, &files[i].id, &s);
        problems_add(&c->out->problems, what, bad);
        if (bad)
            continue;
        c->out->snapshots++;
        e = walk_tree(&w, &s.tree, 0);
    }
    c->out->trees = w.seen.count;
    walk_fini(&w);
    return e;
}

static struct err *check_all(struct check *c)
{
    struct repo_file *snapshots = NULL, *packs = NULL;
    size_t snapshots_n = 0, packs_n = 0;
    TRY(repo_list(c->repo, REPO_SNAPSHOT, &snapshots, &snapshots_n));
    struct err *e = repo_load_index_all(c->repo, bad_index, c->out);
    if (!e)
        e = repo_list(c->repo, REPO_DATA, &packs, &packs_n);
    if (!e)
        check_files(c, packs, packs_n);
    if (!e)
        e = check_snapshots(c, snapshots, snapshots_n);
    if (!e && c->opts->read_data)
        e = check_data(c);
    free(snapshots);
    free(packs);
    return e;
}

struct err *check_run(struct repo *r, const struct check_opts *opts,
                      struct check_result *out)
{
    struct check c = {.repo = r, .opts = opts, .out = out};
    *out = (struct check_result){0};
    problems_init(&out->problems);
    struct err *e = check_all(&c);
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        repo_io_free(c.ios[i]);
    out->packs = index_packs(repo_index(r));
    out->blobs = index_blobs(repo_index(r));
    out->bytes_read = atomic_load(&c.bytes);
    TRY(e);
    return problems_err(&out->problems, ERR_CORRUPT, "the repository is damaged");
}
