#include "common/engine/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/check_own.h"
#include "common/engine/compare.h"
#include "common/engine/workq.h"

void check_result_fini(struct check_result *r)
{
    problems_fini(&r->problems);
}

/* ---- one snapshot ---- */

static struct err *check_pack_size(uint64_t bytes, uint64_t want, const char *hex)
{
    if (bytes != want)
        return err_new(ERR_CORRUPT, "pack %s has %" PRIu64 " bytes instead of %" PRIu64,
                       hex, bytes, want);
    return NULL;
}

static struct err *check_used_packs(struct repo *r, const struct bitmap *used)
{
    const struct index *ix = repo_index(r);
    char hex[65];
    for (size_t i = 0; i < index_packs(ix); i++) {
        const struct digest *id = &index_pack(ix, i)->id;
        uint64_t bytes = 0;
        if (!bitmap_has(used, i))
            continue;
        digest_hex(id, hex);
        TRY_CTX(repo_stat_file(r, REPO_DATA, id, &bytes), "pack %s", hex);
        TRY(check_pack_size(bytes, index_pack_bytes(ix, i), hex));
    }
    return NULL;
}

struct err *check_tree(struct repo *r, const struct digest *tree)
{
    struct walk w;
    walk_init(&w, r);
    bitmap_init(&w.packs, index_packs(repo_index(r)));
    struct err *e = walk_add(&w, tree);
    if (!e)
        e = walk_run(&w);
    if (!e)
        e = check_used_packs(r, &w.packs);
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

/* ---- the whole repository ---- */

static void add_problem(struct check *c, const char *kind, const struct digest *id,
                        struct err *e)
{
    char hex[65], what[90];
    digest_hex(id, hex);
    snprintf(what, sizeof what, "%s %s", kind, hex);
    problems_add(&c->out->problems, what, e);
}

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
        char hex[65];
        struct repo_file key = {.id = index_pack(ix, i)->id};
        const struct repo_file *f =
            n ? bsearch(&key, files, n, sizeof *files, by_id) : NULL;
        digest_hex(&key.id, hex);
        struct err *e = f ? check_pack_size(f->bytes, index_pack_bytes(ix, i), hex)
                          : err_new(ERR_NOT_FOUND, "the pack is missing");
        if (!e)
            continue;
        add_problem(c, "pack", &key.id, e);
        bitmap_add(&c->bad_packs, i);
        check_mark_lost(c, c->ios[0], i);
    }
    for (size_t i = 0; i < n; i++)
        c->out->orphans += !index_find_pack(ix, &files[i].id, NULL);
}

/* The key that opened the repository is right; the others, and what it says besides, are
 * known by their names only. */
static struct err *check_keys(struct check *c)
{
    struct repo_file *keys = NULL;
    size_t n = 0;
    TRY(repo_list(c->repo, REPO_KEY, &keys, &n));
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf bytes = {0};
        struct digest real;
        struct err *e = repo_get_raw(c->repo, REPO_KEY, &keys[i].id, &bytes);
        hash_bytes(buf_text(&bytes), bytes.len, &real);
        if (!e && !digest_equal(&real, &keys[i].id))
            e = err_new(ERR_CORRUPT, "its bytes do not match its name");
        add_problem(c, "key", &keys[i].id, e);
    }
    free(keys);
    return NULL;
}

static void bad_index(void *ctx, struct err *e)
{
    struct check_result *out = ctx;
    problems_add(&out->problems, "index", e);
}

/* A snapshot that can be read, and its tree. */
struct readable {
    struct digest id;
    struct digest tree;
};

static size_t read_snapshots(struct check *c, struct walk *w,
                             const struct repo_file *files, size_t n,
                             struct readable *out)
{
    size_t good = 0;
    for (size_t i = 0; i < n; i++) {
        AUTO_SNAPSHOT struct snapshot s = {0};
        struct err *e = repo_read_snapshot(c->ios[0], &files[i].id, &s);
        if (!e) {
            c->out->snapshots++;
            out[good++] = (struct readable){files[i].id, s.tree};
            e = walk_add(w, &s.tree);
            w->lost |= e != NULL;
        }
        add_problem(c, "snapshot", &files[i].id, e);
    }
    return good;
}

static struct err *name_lost(struct check *c, const struct readable *list, size_t n)
{
    struct bitmap clean;
    struct err *e = NULL;
    bitmap_init(&clean, index_numbers(repo_index(c->repo)));
    for (size_t i = 0; i < n && !e; i++)
        e = check_name_lost(c, &list[i].id, &list[i].tree, &clean);
    bitmap_fini(&clean);
    return e;
}

static struct err *check_trees_and_data(struct check *c, const struct repo_file *files,
                                        size_t n)
{
    struct walk w;
    struct readable *list = mem_array(n, sizeof *list);
    walk_init(&w, c->repo);
    w.problems = &c->out->problems;
    w.cancel = c->opts->cancel;
    size_t good = read_snapshots(c, &w, files, n, list);
    struct err *e = walk_run(&w);
    c->out->trees = w.trees;
    if (w.lost)
        atomic_store(&c->any_lost, true);
    walk_fini(&w);
    if (!e && c->opts->read_data)
        e = check_packs(c);
    if (!e && atomic_load(&c->any_lost))
        e = name_lost(c, list, good);
    free(list);
    return e;
}

static struct err *check_all(struct check *c)
{
    struct repo_file *snapshots = NULL, *packs = NULL;
    size_t snapshots_n = 0, packs_n = 0;
    TRY(check_keys(c));
    TRY(repo_list(c->repo, REPO_SNAPSHOT, &snapshots, &snapshots_n));
    struct err *e = repo_load_index_all(c->repo, bad_index, c->out);
    bitmap_init(&c->bad_packs, index_packs(repo_index(c->repo)));
    bitmap_init(&c->lost, index_numbers(repo_index(c->repo)));
    if (!e)
        e = repo_list(c->repo, REPO_DATA, &packs, &packs_n);
    if (!e)
        check_files(c, packs, packs_n);
    free(packs);
    if (!e)
        e = check_trees_and_data(c, snapshots, snapshots_n);
    free(snapshots);
    return e;
}

struct err *check_run(struct repo *r, const struct check_opts *opts,
                      struct check_result *out)
{
    struct check c = {.repo = r, .opts = opts, .out = out};
    unsigned workers = workq_workers();
    *out = (struct check_result){0};
    problems_init(&out->problems);
    for (unsigned i = 0; i < workers; i++)
        c.ios[i] = repo_io_new(r);
    struct err *e = check_all(&c);
    for (unsigned i = 0; i < workers; i++)
        repo_io_free(c.ios[i]);
    check_rooms_fini(&c);
    bitmap_fini(&c.bad_packs);
    bitmap_fini(&c.lost);
    out->packs = index_packs(repo_index(r));
    out->blobs = index_blobs(repo_index(r));
    out->bytes_read = atomic_load(&c.bytes);
    TRY(e);
    return problems_err(&out->problems, ERR_CORRUPT, "the repository is damaged");
}
