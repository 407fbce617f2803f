/* The index of a repository: loading it, and writing down what was stored since. */
#include "common/repo/repo.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/repo/indexfile.h"
#include "common/repo/repo_own.h"

/* When to write an index file while running, so that what a killed backup has stored is
 * found by its retry: after 32 MiB at first, then in proportion to what is stored, which
 * keeps the number of index files logarithmic. */
static const uint64_t index_bytes_min = UINT64_C(32) << 20;
enum { INDEX_FRACTION = 16, INDEX_BLOBS_MAX = 50000, INDEX_AGE_MS = 10 * 60 * 1000 };
/* Bytes of a pack's end that are read for its header; more only if it is longer. */
enum { HEADER_GUESS = 64 << 10 };
/* How often the index is loaded anew when files of it vanish meanwhile. */
enum { LOAD_TRIES = 10 };

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct digest));
}

static bool is_covered(const struct index_covered *c, const struct digest *id)
{
    return c->n && bsearch(id, c->ids, c->n, sizeof *c->ids, by_id);
}

/* Notes an index file whose packs are all in the index. Needs the lock, or one thread. */
static void note_listed(struct repo *r, const struct digest *id)
{
    mem_reserve((void **)&r->listed, &r->listed_cap, r->listed_n, sizeof *r->listed);
    r->listed[r->listed_n++] = *id;
}

/* Moves what index files list out of memory, into the local file. Needs the lock. A file
 * that lists dying packs will be replaced soon, with other packs in their place: what it
 * says is not kept. */
static void compact(struct repo *r, bool eager)
{
    if (!r->cache_dir || r->index.dying.count || !index_cache_is_due(&r->index, eager))
        return;
    struct index_covered all = {.n = r->covered.n + r->listed_n};
    all.ids = mem_array(all.n, sizeof *all.ids);
    if (r->covered.n)
        memcpy(all.ids, r->covered.ids, r->covered.n * sizeof *all.ids);
    if (r->listed_n)
        memcpy(all.ids + r->covered.n, r->listed, r->listed_n * sizeof *all.ids);
    qsort(all.ids, all.n, sizeof *all.ids, by_id);
    pthread_rwlock_wrlock(&r->index_mu);
    struct err *e =
        index_cache_compact(r->cache_dir, r->id, r->indexed_packs, &all, &r->index);
    pthread_rwlock_unlock(&r->index_mu);
    if (e) { /* no room for it: then it stays in memory */
        err_free(e);
        index_cache_fini(&all);
        return;
    }
    index_cache_fini(&r->covered);
    r->covered = all;
    r->listed_n = 0;
}

/* Maps the local file if it is sound and all it was made of is still there. */
static void open_cache(struct repo *r, const struct repo_file *files, size_t n)
{
    size_t there = 0;
    if (!r->cache_dir)
        return;
    struct err *e = index_cache_open(r->cache_dir, r->id, &r->index, &r->covered);
    for (size_t i = 0; i < n && !e; i++)
        there += is_covered(&r->covered, &files[i].id);
    if (e || there != r->covered.n) {
        index_fini(&r->index);
        index_cache_fini(&r->covered);
    }
    err_free(e);
}

static struct err *load_index_file(struct repo_io *io, const struct digest *id)
{
    char hex[65];
    struct index_reader *reader = index_reader_begin(&io->repo->index);
    digest_hex(id, hex);
    AUTO(err)
    struct err *e = repo_stream_file(io, REPO_INDEX, id, index_reader_feed, reader);
    struct err *end = index_reader_end(reader);
    if (e) {
        err_free(end);
        return err_wrap(STEAL(e), "index file %s", hex);
    }
    return end ? err_wrap(end, "index file %s", hex) : NULL;
}

static struct err *load_files(struct repo_io *io, const struct repo_file *files, size_t n,
                              void (*bad)(void *ctx, struct err *e), void *ctx)
{
    struct repo *r = io->repo;
    for (size_t i = 0; i < n; i++) {
        if (is_covered(&r->covered, &files[i].id))
            continue;
        struct err *e = load_index_file(io, &files[i].id);
        if (e && (!bad || e->kind == ERR_NOT_FOUND))
            return e;
        if (e) {
            bad(ctx, e);
            continue;
        }
        note_listed(r, &files[i].id);
        r->indexed_packs = index_packs(&r->index);
        if (!bad)
            compact(r, false);
    }
    return NULL;
}

static struct err *load_once(struct repo_io *io, void (*bad)(void *ctx, struct err *e),
                             void *ctx)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    TRY(repo_list(io->repo, REPO_INDEX, &files, &n));
    if (!bad)
        open_cache(io->repo, files, n);
    struct err *e = load_files(io, files, n, bad, ctx);
    free(files);
    return e;
}

/* A check wants what the repository says, not what we remember. A file that vanishes
 * between the listing and the reading was replaced by `reclaim`: then all is read again,
 * for the new one may list what was in it. */
struct err *repo_load_index_all(struct repo *r, void (*bad)(void *ctx, struct err *e),
                                void *ctx)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct err *e = load_once(io, bad, ctx);
    for (int i = 1; i < LOAD_TRIES && e && e->kind == ERR_NOT_FOUND; i++) {
        err_free(e);
        index_fini(&r->index);
        index_cache_fini(&r->covered);
        r->listed_n = 0;
        e = load_once(io, bad, ctx);
    }
    r->indexed_packs = r->written_packs = index_packs(&r->index);
    r->indexed_at_ms = now_ms();
    if (e)
        return err_wrap(e, "load index");
    if (!bad)
        compact(r, true);
    return NULL;
}

struct err *repo_load_index(struct repo *r)
{
    return repo_load_index_all(r, NULL, NULL);
}

static bool is_listed(const struct repo *r, const struct digest *id)
{
    for (size_t i = 0; i < r->listed_n; i++)
        if (digest_equal(&r->listed[i], id))
            return true;
    return is_covered(&r->covered, id);
}

struct err *repo_list_new_index(struct repo *r, struct repo_file **out, size_t *n)
{
    size_t kept = 0;
    TRY(repo_list(r, REPO_INDEX, out, n));
    pthread_mutex_lock(&r->mu);
    for (size_t i = 0; i < *n; i++)
        if (!is_listed(r, &(*out)[i].id))
            (*out)[kept++] = (*out)[i];
    pthread_mutex_unlock(&r->mu);
    *n = kept;
    return NULL;
}

const struct index *repo_index(const struct repo *r)
{
    return &r->index;
}

bool repo_has_blob(struct repo *r, enum blob_type type, const struct digest *id,
                   uint64_t *bytes)
{
    uint64_t unused;
    pthread_rwlock_rdlock(&r->index_mu);
    bool found = index_bytes(&r->index, type, id, bytes ? bytes : &unused);
    pthread_rwlock_unlock(&r->index_mu);
    return found;
}

struct err *repo_add_to_index(struct repo *r, const struct digest *pack,
                              const struct blob_entry *blobs, size_t n)
{
    pthread_rwlock_wrlock(&r->index_mu);
    struct err *e = index_add_pack(&r->index, pack, blobs, n);
    pthread_rwlock_unlock(&r->index_mu);
    return e;
}

struct err *repo_write_index(struct repo_io *io, bool last)
{
    struct repo *r = io->repo;
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    pthread_mutex_lock(&r->mu);
    size_t first = r->written_packs;
    size_t count = index_packs(&r->index) - first;
    if (count)
        index_write(&r->index, first, count, &json);
    if (count && r->session[0])
        indexfile_sign(&json, r->session);
    r->written_packs += count;
    r->index_writers += count > 0;
    r->unindexed_bytes = r->unindexed_blobs = 0;
    r->indexed_at_ms = now_ms();
    pthread_mutex_unlock(&r->mu);
    if (!count)
        return NULL;
    repo_seal_file(io, json.data, json.len, &sealed, &id);
    struct err *e =
        repo_note_failure(r, repo_put_file(r, REPO_INDEX, &id, sealed.data, sealed.len));
    pthread_mutex_lock(&r->mu);
    r->index_writers--;
    if (!e) {
        note_listed(r, &id);
        /* Another thread's file may still be under way with packs before these. */
        if (!r->index_writers && !r->failure) {
            r->indexed_packs = r->written_packs;
            compact(r, last);
        }
    }
    pthread_mutex_unlock(&r->mu);
    return e ? err_wrap(e, "write index") : NULL;
}

bool repo_index_is_due(const struct repo *r)
{
    uint64_t enough = r->stored_bytes / INDEX_FRACTION;
    enough = enough > index_bytes_min ? enough : index_bytes_min;
    return r->unindexed_bytes >= enough ||
           r->unindexed_blobs >= INDEX_BLOBS_MAX - PACK_BLOBS_MAX ||
           (r->unindexed_bytes && now_ms() - r->indexed_at_ms >= INDEX_AGE_MS);
}

/* ---- what a killed process left ---- */

static struct err *read_header(struct repo_io *io, const struct repo_file *f,
                               size_t tail_n, struct blob_entry **out, size_t *n)
{
    char name[STORE_NAME_MAX];
    repo_name(REPO_DATA, &f->id, name);
    tail_n = f->bytes < tail_n ? (size_t)f->bytes : tail_n;
    buf_clear(&io->stored);
    TRY(store_get(io->repo->store, name, f->bytes - tail_n, buf_room(&io->stored, tail_n),
                  tail_n));
    return pack_read_header(io->crypt, io->stored.data, tail_n, f->bytes, out, n);
}

static struct err *adopt(struct repo_io *io, const struct repo_file *f, uint64_t *packs)
{
    struct repo *r = io->repo;
    struct blob_entry *blobs = NULL;
    size_t n = 0;
    struct err *e = read_header(io, f, HEADER_GUESS, &blobs, &n);
    if (e && e->kind == ERR_CORRUPT) { /* longer than guessed, perhaps */
        err_free(e);
        e = read_header(io, f, PACK_HEADER_MAX + PACK_TRAILER, &blobs, &n);
    }
    if (e && (e->kind == ERR_CORRUPT || e->kind == ERR_NOT_FOUND)) {
        err_free(e);
        return NULL;
    }
    TRY(e);
    pthread_mutex_lock(&r->mu);
    e = repo_add_to_index(r, &f->id, blobs, n);
    r->unindexed_bytes += f->bytes;
    r->unindexed_blobs += n;
    bool due = repo_index_is_due(r);
    pthread_mutex_unlock(&r->mu);
    free(blobs);
    TRY(e);
    ++*packs;
    return due ? repo_write_index(io, false) : NULL;
}

struct err *repo_adopt_packs(struct repo_io *io, uint64_t *packs)
{
    struct repo *r = io->repo;
    struct repo_file *files = NULL;
    size_t n = 0;
    *packs = 0;
    TRY_CTX(repo_list(r, REPO_DATA, &files, &n), "look for packs in no index");
    struct err *e = NULL;
    for (size_t i = 0; i < n && !e; i++)
        if (!index_find_pack(&r->index, &files[i].id, NULL) &&
            !idset_has(&r->index.dying, &files[i].id))
            e = adopt(io, &files[i], packs);
    free(files);
    return e ? err_wrap(e, "look for packs in no index") : NULL;
}
