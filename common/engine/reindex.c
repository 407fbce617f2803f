#include "common/engine/reindex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/packs.h"
#include "common/repo/pack.h"

void reindex_result_fini(struct reindex_result *r)
{
    problems_fini(&r->problems);
}

struct reindex {
    struct repo *repo;
    struct repo_io *io;
    const struct reindex_opts *opts;
    struct reindex_result *out;
    struct packs packs;
    struct repo_file *found; /* packs in the store */
    size_t found_n;
    struct repo_file *old; /* index files that were there */
    size_t old_n;
    struct indexfile file;
    bool wrong;
};

static void bad_index(void *ctx, struct err *e)
{
    struct reindex *x = ctx;
    x->out->bad_indexes++;
    x->wrong = true;
    problems_add(&x->out->problems, "index", e);
}

static struct err *may_go_on(struct reindex *x)
{
    if (x->opts->cancel && atomic_load(x->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    return repo_lock_check(x->opts->lock);
}

/* The entries of a pack, from its own header. */
static struct err *read_header(struct reindex *x, const struct repo_file *f,
                               struct blob_entry **out, size_t *n)
{
    AUTO_BUF struct buf tail = {0};
    uint32_t length = 0;
    if (f->bytes < PACK_TRAILER + CRYPT_OVERHEAD)
        return err_new(ERR_CORRUPT, "it is too short for a pack");
    TRY(repo_get_part(x->repo, REPO_DATA, &f->id, f->bytes - PACK_TRAILER, PACK_TRAILER,
                      &tail));
    for (int i = PACK_TRAILER - 1; i >= 0; i--)
        length = length << 8 | (uint8_t)tail.data[i];
    if (length > PACK_HEADER_MAX || length > f->bytes - PACK_TRAILER)
        return err_new(ERR_CORRUPT, "its header's length is impossible");
    size_t whole = (size_t)length + PACK_TRAILER;
    buf_clear(&tail);
    TRY(repo_get_part(x->repo, REPO_DATA, &f->id, f->bytes - whole, whole, &tail));
    return pack_read_header(repo_crypt(x->io), tail.data, tail.len, f->bytes, out, n);
}

static struct err *store_file(struct reindex *x)
{
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    if (!x->file.packs)
        return NULL;
    indexfile_end(&x->file, &json);
    repo_seal_file(x->io, json.data, json.len, &sealed, &id);
    TRY(may_go_on(x));
    return repo_put_file(x->repo, REPO_INDEX, &id, sealed.data, sealed.len);
}

static struct err *add_pack(struct reindex *x, const struct digest *id,
                            const struct blob_entry *blobs, size_t n)
{
    const struct indexfile_pack p = {*id, false, blobs, n};
    x->out->packs++;
    if (x->opts->dry_run)
        return NULL;
    indexfile_add(&x->file, &p, (struct go_time){0, 0});
    return indexfile_is_full(&x->file) ? store_file(x) : NULL;
}

static struct err *add_read(struct reindex *x, const struct repo_file *f)
{
    struct blob_entry *list = NULL;
    size_t n = 0;
    char hex[65], what[80];
    digest_hex(&f->id, hex);
    snprintf(what, sizeof what, "pack %s", hex);
    x->out->read++;
    struct err *e = read_header(x, f, &list, &n);
    if (e && e->kind != ERR_CORRUPT && e->kind != ERR_LIMIT)
        return e;
    if (e) {
        problems_add(&x->out->problems, what, e);
        return NULL;
    }
    e = add_pack(x, &f->id, list, n);
    free(list);
    return e;
}

static struct err *add_known(struct reindex *x, const struct packs_pack *p)
{
    struct blob_entry *list = mem_array(p->count, sizeof *list);
    for (size_t i = 0; i < p->count; i++)
        list[i] = x->packs.blobs[p->first + i].at;
    struct err *e = add_pack(x, &p->id, list, p->count);
    free(list);
    return e;
}

/* One pack of the store: what the index says of it is taken if it can be true. */
static struct err *add_found(struct reindex *x, const struct repo_file *f)
{
    size_t at = packs_find_pack(&x->packs, &f->id);
    if (at == SIZE_MAX)
        return add_read(x, f);
    const struct packs_pack *p = &x->packs.items[at];
    if (x->opts->read_all || p->suspect || p->bytes != f->bytes)
        return add_read(x, f);
    return add_known(x, p);
}

static struct err *remove_old(struct reindex *x)
{
    for (size_t i = 0; i < x->old_n; i++) {
        TRY(may_go_on(x));
        TRY(repo_remove_file(x->repo, REPO_INDEX, &x->old[i].id));
    }
    return NULL;
}

static void count_missing(struct reindex *x)
{
    for (size_t i = 0; i < x->packs.n; i++)
        x->out->missing += !x->packs.items[i].present;
    x->wrong |= x->out->missing > 0;
}

/* Decides first, so that nothing is written when nothing is wrong. */
static bool survey(struct reindex *x)
{
    x->wrong |= x->opts->read_all;
    for (size_t i = 0; i < x->found_n; i++) {
        size_t at = packs_find_pack(&x->packs, &x->found[i].id);
        struct packs_pack *p = at == SIZE_MAX ? NULL : &x->packs.items[at];
        if (p)
            p->present = true;
        x->wrong |= !p || p->dying || p->suspect || p->bytes != x->found[i].bytes;
    }
    count_missing(x);
    return x->wrong;
}

static struct err *run(struct reindex *x)
{
    TRY(repo_list(x->repo, REPO_INDEX, &x->old, &x->old_n));
    TRY(packs_load(x->io, bad_index, x, &x->packs));
    TRY(repo_list(x->repo, REPO_DATA, &x->found, &x->found_n));
    if (!survey(x)) {
        x->out->packs = x->found_n;
        return NULL;
    }
    for (size_t i = 0; i < x->found_n; i++) {
        TRY(may_go_on(x));
        if (x->opts->progress)
            x->opts->progress(x->opts->progress_ctx, i, x->found_n);
        TRY(add_found(x, &x->found[i]));
    }
    if (x->opts->dry_run)
        return NULL;
    TRY(store_file(x));
    TRY(remove_old(x));
    x->out->changed = true;
    return NULL;
}

struct err *reindex_run(struct repo *r, const struct reindex_opts *opts,
                        struct reindex_result *out)
{
    struct reindex x = {.repo = r, .opts = opts, .out = out};
    *out = (struct reindex_result){0};
    problems_init(&out->problems);
    x.io = repo_io_new(r);
    struct err *e = run(&x);
    repo_io_free(x.io);
    packs_fini(&x.packs);
    indexfile_fini(&x.file);
    free(x.found);
    free(x.old);
    return e ? err_wrap(e, "repair index") : NULL;
}
