/* Saving blobs into packs. */
#include "common/repo/repo.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/repo/repo_own.h"

struct err *repo_note_failure(struct repo *r, struct err *e)
{
    if (!e)
        return NULL;
    pthread_mutex_lock(&r->mu);
    if (!r->failure) {
        r->failure = err_text(e);
        r->failure_kind = e->kind;
    }
    pthread_mutex_unlock(&r->mu);
    return e;
}

static struct err *check_usable(struct repo *r)
{
    struct err *e = NULL;
    pthread_mutex_lock(&r->mu);
    if (r->failure)
        e = err_new(r->failure_kind, "an earlier write to '%s' failed: %s", repo_url(r),
                    r->failure);
    pthread_mutex_unlock(&r->mu);
    return e;
}

static struct err *commit_pack(struct repo_io *io, struct pack *p, struct digest *id)
{
    char name[STORE_NAME_MAX];
    TRY(pack_finish(p, io->crypt, id));
    repo_name(REPO_DATA, id, name);
    return pack_commit(p, name);
}

/* Stores a detached pack (taken over) and adds it to the index. */
static struct err *store_pack(struct repo_io *io, struct pack *pack)
{
    struct repo *r = io->repo;
    AUTO(pack) struct pack *p = pack;
    struct digest id;
    TRY(repo_note_failure(r, commit_pack(io, p, &id)));
    pthread_mutex_lock(&r->mu);
    struct err *e = index_add_pack(&r->index, &id, p->blobs, p->n);
    for (size_t i = 0; i < p->n; i++)
        idset_remove(&r->claimed[p->blobs[i].type], &p->blobs[i].id);
    r->unindexed_bytes += p->bytes;
    r->unindexed_blobs += p->n;
    r->stored_bytes += p->bytes;
    bool due = repo_index_is_due(r);
    pthread_mutex_unlock(&r->mu);
    if (e || !due)
        return repo_note_failure(r, e);
    return repo_write_index(io, false);
}

/* Takes an open pack (NULL: one is to be begun) out of one of the slots; *slot says
 * which. The wish is random; when that one is in use, another will do. */
static struct pack *take_pack(struct repo *r, enum blob_type type, unsigned wish,
                              unsigned *slot)
{
    pthread_mutex_lock(&r->mu);
    for (unsigned i = 0;; i++) {
        *slot = (wish + i) % OPEN_PACKS;
        if (!r->taken[type][*slot])
            break;
        if (i % OPEN_PACKS == OPEN_PACKS - 1)
            pthread_cond_wait(&r->put_back, &r->mu);
    }
    r->taken[type][*slot] = true;
    struct pack *p = STEAL(r->open[type][*slot]);
    pthread_mutex_unlock(&r->mu);
    return p;
}

static void put_pack_back(struct repo *r, enum blob_type type, unsigned slot,
                          struct pack *p)
{
    pthread_mutex_lock(&r->mu);
    r->taken[type][slot] = false;
    r->open[type][slot] = p;
    pthread_cond_signal(&r->put_back);
    pthread_mutex_unlock(&r->mu);
}

/* Puts the blob that waits into an open pack, and stores the pack when that fills it.
 * Meanwhile the id of data[n] is made (n == 0: of nothing). */
static struct err *settle_beside(struct repo_io *io, const void *data, size_t n,
                                 struct digest *id)
{
    struct repo *r = io->repo;
    const struct buf *sealed = &io->packed;
    enum blob_type type = (enum blob_type)io->held.type;
    struct pack *full = NULL;
    unsigned slot;
    io->holds = false;
    /* The IV is random, so its first byte chooses fairly. */
    struct pack *p = take_pack(r, type, (uint8_t)sealed->data[0], &slot);
    struct err *e = p ? NULL : pack_new(r->store, &p);
    if (!e) {
        hash_bytes_beside(data, n, id, p->hash, sealed->data, sealed->len);
        e = pack_add(p, &io->held, sealed->data);
    }
    if (!e && pack_is_full(p))
        full = STEAL(p);
    put_pack_back(r, type, slot, p);
    TRY(repo_note_failure(r, e));
    return full ? store_pack(io, full) : NULL;
}

struct err *repo_settle(struct repo_io *io)
{
    struct digest unused;
    if (!io->holds)
        return NULL;
    TRY(check_usable(io->repo));
    return settle_beside(io, NULL, 0, &unused);
}

static struct repo_io *find_holding(struct repo *r)
{
    pthread_mutex_lock(&r->mu);
    struct repo_io *io = r->ios;
    while (io && !io->holds)
        io = io->next;
    pthread_mutex_unlock(&r->mu);
    return io;
}

/* Compresses when it helps and seals into io->packed, where it waits. */
static void encode(struct repo_io *io, enum blob_type type, const void *data, size_t n)
{
    size_t cap = zst_bound(n), len = n;
    uint32_t plain = 0;
    bool wanted = type == BLOB_TREE || io->repo->effort != ZST_OFF;
    buf_clear(&io->packed);
    char *out = buf_room(&io->packed, CRYPT_IV + cap + CRYPT_TAG);
    if (io->repo->version >= 2 && n && wanted && !zst_is_dense(io->zst, data, n)) {
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
    io->held = (struct blob_entry){
        .length = (uint32_t)io->packed.len, .plain = plain, .type = (uint8_t)type};
    io->holds = true;
}

struct err *repo_save_blob(struct repo_io *io, enum blob_type type, const void *data,
                           size_t n, struct digest *id, struct repo_saved *out)
{
    struct repo *r = io->repo;
    *out = (struct repo_saved){0};
    if (n > REPO_BLOB_MAX)
        return err_new(ERR_LIMIT, "a blob of %zu bytes is too large", n);
    TRY(check_usable(r));
    if (io->holds)
        TRY(settle_beside(io, data, n, id));
    else
        hash_bytes(data, n, id);
    pthread_mutex_lock(&r->mu);
    out->fresh = !index_has(&r->index, type, id) && idset_add(&r->claimed[type], id);
    pthread_mutex_unlock(&r->mu);
    if (!out->fresh)
        return NULL;
    encode(io, type, data, n);
    io->held.id = *id;
    out->stored = io->held.length;
    return NULL;
}

struct err *repo_flush(struct repo_io *io)
{
    struct repo *r = io->repo;
    TRY(check_usable(r));
    for (struct repo_io *each; (each = find_holding(r));)
        TRY(repo_settle(each));
    for (int t = 0; t < BLOB_TYPES; t++)
        for (int i = 0; i < OPEN_PACKS; i++)
            if (r->open[t][i])
                TRY(store_pack(io, STEAL(r->open[t][i])));
    return repo_write_index(io, true);
}

struct err *repo_save_tree(struct repo_io *io, const struct tree *t, struct digest *id,
                           struct repo_saved *out)
{
    AUTO_BUF struct buf json = {0};
    tree_write(t, &json);
    return repo_save_blob(io, BLOB_TREE, json.data, json.len, id, out);
}
