/* The index of a repository: loading it, and writing down what was stored since. */
#include "common/repo/repo.h"

#include <stdlib.h>
#include <time.h>

#include "common/repo/repo_own.h"

/* When to write an index file while running, so that what a killed backup has stored is
 * found by its retry: after 64 MiB at first, then in proportion to what is stored, which
 * keeps the number of index files logarithmic. */
static const uint64_t index_bytes_min = UINT64_C(64) << 20;
enum { INDEX_FRACTION = 16, INDEX_BLOBS_MAX = 50000, INDEX_AGE_MS = 10 * 60 * 1000 };

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct err *load_index_file(struct repo_io *io, const struct digest *id)
{
    AUTO_BUF struct buf json = {0};
    char hex[65];
    digest_hex(id, hex);
    TRY(repo_read_file(io, REPO_INDEX, id, &json));
    TRY_CTX(index_read(&io->repo->index, json.data, json.len), "index file %s", hex);
    return NULL;
}

struct err *repo_load_index_all(struct repo *r, void (*bad)(void *ctx, struct err *e),
                                void *ctx)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct repo_file *files = NULL;
    size_t n = 0;
    TRY_CTX(repo_list(r, REPO_INDEX, &files, &n), "load index");
    struct err *e = NULL;
    for (size_t i = 0; i < n && !e; i++) {
        e = load_index_file(io, &files[i].id);
        if (e && bad)
            bad(ctx, STEAL(e));
    }
    free(files);
    r->indexed_packs = index_packs(&r->index);
    r->indexed_at_ms = now_ms();
    return e ? err_wrap(e, "load index") : NULL;
}

struct err *repo_load_index(struct repo *r)
{
    return repo_load_index_all(r, NULL, NULL);
}

const struct index *repo_index(const struct repo *r)
{
    return &r->index;
}

bool repo_has_blob(struct repo *r, enum blob_type type, const struct digest *id,
                   uint64_t *bytes)
{
    struct blob_entry e;
    pthread_mutex_lock(&r->mu);
    bool found =
        bytes ? index_find(&r->index, type, id, 0, &e) : index_has(&r->index, type, id);
    pthread_mutex_unlock(&r->mu);
    if (found && bytes)
        *bytes = blob_entry_bytes(&e);
    return found;
}

struct err *repo_write_index(struct repo_io *io)
{
    struct repo *r = io->repo;
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    pthread_mutex_lock(&r->mu);
    size_t first = r->indexed_packs;
    size_t count = index_packs(&r->index) - first;
    if (count)
        index_write(&r->index, first, count, &json);
    r->indexed_packs += count;
    r->unindexed_bytes = r->unindexed_blobs = 0;
    r->indexed_at_ms = now_ms();
    pthread_mutex_unlock(&r->mu);
    if (!count)
        return NULL;
    repo_seal_file(io, json.data, json.len, &sealed, &id);
    TRY_CTX(
        repo_note_failure(r, repo_put_file(r, REPO_INDEX, &id, sealed.data, sealed.len)),
        "write index");
    return NULL;
}

bool repo_index_is_due(const struct repo *r)
{
    uint64_t enough = r->stored_bytes / INDEX_FRACTION;
    enough = enough > index_bytes_min ? enough : index_bytes_min;
    return r->unindexed_bytes >= enough ||
           r->unindexed_blobs >= INDEX_BLOBS_MAX - PACK_BLOBS_MAX ||
           (r->unindexed_bytes && now_ms() - r->indexed_at_ms >= INDEX_AGE_MS);
}
