/* Blobs of a repository: saving into packs, loading from them, the index files. */
#include "common/repo/repo.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
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
    r->indexed_packs = r->index.packs_n;
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
    pthread_mutex_lock(&r->mu);
    const struct blob_entry *e = index_find(&r->index, type, id, NULL);
    if (e && bytes)
        *bytes = blob_entry_bytes(e);
    pthread_mutex_unlock(&r->mu);
    return e != NULL;
}

/* Notes a failed write on its way up. Blobs that others took for known may be missing
 * now, so this struct repo must not make a snapshot any more. */
static struct err *note_failure(struct repo *r, struct err *e)
{
    if (e) {
        pthread_mutex_lock(&r->mu);
        r->failed = true;
        pthread_mutex_unlock(&r->mu);
    }
    return e;
}

static struct err *check_usable(struct repo *r)
{
    pthread_mutex_lock(&r->mu);
    bool failed = r->failed;
    pthread_mutex_unlock(&r->mu);
    if (failed)
        return err_new(ERR_UNAVAILABLE, "an earlier write failed: open '%s' again",
                       repo_url(r));
    return NULL;
}

/* Writes an index file of all packs that are in none. Called without the lock; two
 * threads may be here at once, each with its own range of packs. */
static struct err *write_index(struct repo_io *io)
{
    struct repo *r = io->repo;
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    pthread_mutex_lock(&r->mu);
    size_t first = r->indexed_packs;
    size_t count = r->index.packs_n - first;
    if (count)
        index_write(&r->index, first, count, &json);
    r->indexed_packs += count;
    r->unindexed_bytes = r->unindexed_blobs = 0;
    r->indexed_at_ms = now_ms();
    pthread_mutex_unlock(&r->mu);
    if (!count)
        return NULL;
    repo_seal_file(io, json.data, json.len, &sealed, &id);
    TRY_CTX(note_failure(r, repo_put_file(r, REPO_INDEX, &id, sealed.data, sealed.len)),
            "write index");
    return NULL;
}

/* Needs the lock. */
static bool index_is_due(const struct repo *r)
{
    uint64_t enough = r->stored_bytes / INDEX_FRACTION;
    enough = enough > index_bytes_min ? enough : index_bytes_min;
    return r->unindexed_bytes >= enough ||
           r->unindexed_blobs >= INDEX_BLOBS_MAX - PACK_BLOBS_MAX ||
           (r->unindexed_bytes && now_ms() - r->indexed_at_ms >= INDEX_AGE_MS);
}

/* Stores a detached pack (taken over) and adds it to the index. */
static struct err *store_pack(struct repo_io *io, struct pack *pack)
{
    struct repo *r = io->repo;
    AUTO(pack) struct pack *p = pack;
    struct digest id;
    pack_finish(p, io->crypt);
    hash_bytes(p->bytes.data, p->bytes.len, &id);
    TRY(note_failure(r, repo_put_file(r, REPO_DATA, &id, p->bytes.data, p->bytes.len)));
    pthread_mutex_lock(&r->mu);
    struct err *e = index_add_pack(&r->index, &id, p->blobs, p->n);
    r->unindexed_bytes += p->bytes.len;
    r->unindexed_blobs += p->n;
    r->stored_bytes += p->bytes.len;
    bool due = index_is_due(r);
    pthread_mutex_unlock(&r->mu);
    if (e || !due)
        return note_failure(r, e);
    return write_index(io);
}

/* Puts a sealed blob into an open pack; stores the pack when that fills it. */
static struct err *append(struct repo_io *io, enum blob_type type,
                          const struct digest *id, uint32_t plain)
{
    struct repo *r = io->repo;
    const struct buf *sealed = &io->packed;
    /* The IV is random, so its first bit chooses fairly. */
    struct pack **slot = &r->open[type][sealed->data[0] & (OPEN_PACKS - 1)];
    struct pack *full = NULL;
    pthread_mutex_lock(&r->mu);
    if (!*slot)
        *slot = pack_new();
    pack_add(*slot, type, id, sealed->data, (uint32_t)sealed->len, plain);
    if (pack_is_full(*slot))
        full = STEAL(*slot);
    pthread_mutex_unlock(&r->mu);
    return full ? store_pack(io, full) : NULL;
}

/* Compresses when it helps and seals into io->packed; returns the length before
 * compression, 0 when stored plain. */
static uint32_t encode(struct repo_io *io, const void *data, size_t n)
{
    size_t cap = zst_bound(n), len = n;
    uint32_t plain = 0;
    buf_clear(&io->packed);
    char *out = buf_room(&io->packed, CRYPT_IV + cap + CRYPT_TAG);
    if (io->repo->version >= 2 && n) {
        len = zst_pack(io->zst, data, n, out + CRYPT_IV, cap);
        plain = (uint32_t)n;
    }
    if (!plain || len >= n) {
        plain = 0;
        len = n;
        crypt_seal(io->crypt, data, n, (uint8_t *)out);
    } else {
        crypt_seal(io->crypt, out + CRYPT_IV, len, (uint8_t *)out);
    }
    io->packed.len = len + CRYPT_OVERHEAD;
    return plain;
}

struct err *repo_save_blob(struct repo_io *io, enum blob_type type, const void *data,
                           size_t n, struct digest *id, struct repo_saved *out)
{
    struct repo *r = io->repo;
    *out = (struct repo_saved){0};
    if (n > REPO_BLOB_MAX)
        return err_new(ERR_LIMIT, "a blob of %zu bytes is too large", n);
    TRY(check_usable(r));
    hash_bytes(data, n, id);
    pthread_mutex_lock(&r->mu);
    out->fresh =
        !index_find(&r->index, type, id, NULL) && idset_add(&r->claimed[type], id);
    pthread_mutex_unlock(&r->mu);
    if (!out->fresh)
        return NULL;
    uint32_t plain = encode(io, data, n);
    out->stored = (uint32_t)io->packed.len;
    return append(io, type, id, plain);
}

struct err *repo_flush(struct repo_io *io)
{
    struct repo *r = io->repo;
    TRY(check_usable(r));
    for (int t = 0; t < BLOB_TYPES; t++)
        for (int i = 0; i < OPEN_PACKS; i++)
            if (r->open[t][i])
                TRY(store_pack(io, STEAL(r->open[t][i])));
    return write_index(io);
}

struct err *repo_decode_blob(struct repo_io *io, const struct blob_entry *e,
                             const void *sealed, struct buf *out)
{
    size_t text = e->length - CRYPT_OVERHEAD;
    size_t n = e->plain ? e->plain : text;
    struct digest real;
    if (n > REPO_BLOB_MAX)
        return err_new(ERR_LIMIT, "a blob of %zu bytes is too large", n);
    char *to = buf_room(out, n);
    if (e->plain) {
        buf_clear(&io->plain);
        char *packed = buf_room(&io->plain, text);
        TRY(crypt_open(io->crypt, sealed, e->length, packed));
        TRY(zst_unpack(io->zst, packed, text, to, n));
    } else {
        TRY(crypt_open(io->crypt, sealed, e->length, to));
    }
    hash_bytes(to, n, &real);
    if (!digest_equal(&real, &e->id))
        return err_new(ERR_CORRUPT, "its content does not match its id");
    out->len += n;
    out->data[out->len] = '\0';
    return NULL;
}

static struct err *load_copy(struct repo_io *io, const struct blob_entry *e,
                             const struct digest *pack, struct buf *out)
{
    char name[STORE_NAME_MAX];
    repo_name(REPO_DATA, pack, name);
    buf_clear(&io->stored);
    TRY(store_get(io->repo->store, name, e->offset, buf_room(&io->stored, e->length),
                  e->length));
    return repo_decode_blob(io, e, io->stored.data, out);
}

/* Finds the copy of a blob after `skip` others; the entry is copied, since the index may
 * grow meanwhile. */
static bool find_copy(struct repo *r, enum blob_type type, const struct digest *id,
                      size_t skip, struct blob_entry *entry, struct digest *pack)
{
    const struct blob_entry *e = NULL;
    pthread_mutex_lock(&r->mu);
    do {
        e = index_find(&r->index, type, id, e);
    } while (e && skip--);
    if (e) {
        *entry = *e;
        *pack = r->index.packs[e->pack].id;
    }
    pthread_mutex_unlock(&r->mu);
    return e != NULL;
}

/* Two nodes may have stored the same blob: a damaged copy is survived by the other. */
struct err *repo_load_blob(struct repo_io *io, enum blob_type type,
                           const struct digest *id, struct buf *out)
{
    struct blob_entry entry;
    struct digest pack;
    char blob_hex[65], pack_hex[65];
    struct err *first = NULL;
    digest_hex(id, blob_hex);
    for (size_t i = 0; find_copy(io->repo, type, id, i, &entry, &pack); i++) {
        struct err *e = load_copy(io, &entry, &pack, out);
        if (!e) {
            err_free(first);
            return NULL;
        }
        digest_hex(&pack, pack_hex);
        if (first)
            err_free(e);
        else
            first = err_wrap(e, "blob %s in pack %s", blob_hex, pack_hex);
    }
    if (first)
        return first;
    return err_new(ERR_NOT_FOUND, "%s blob %s is not in the index",
                   type == BLOB_TREE ? "tree" : "data", blob_hex);
}

struct err *repo_load_tree(struct repo_io *io, const struct digest *id, struct tree *out)
{
    AUTO_BUF struct buf json = {0};
    char hex[65];
    TRY(repo_load_blob(io, BLOB_TREE, id, &json));
    digest_hex(id, hex);
    struct err *e = tree_read(json.data, json.len, out);
    if (e) {
        tree_fini(out);
        return err_wrap(e, "tree %s", hex);
    }
    return NULL;
}

struct err *repo_save_tree(struct repo_io *io, const struct tree *t, struct digest *id,
                           struct repo_saved *out)
{
    AUTO_BUF struct buf json = {0};
    tree_write(t, &json);
    return repo_save_blob(io, BLOB_TREE, json.data, json.len, id, out);
}
