/* Saving blobs into packs. */
#include "common/repo/repo.h"

#include <assert.h>
#include <inttypes.h>
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
    TRY(repo_ask_gate(io->repo));
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
    struct err *e = repo_add_to_index(r, &id, p->blobs, p->n);
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
 * which. The wish is random; when that one is in use, the next will do. */
static struct pack *take_pack(struct repo *r, enum blob_type type, unsigned wish,
                              unsigned *slot)
{
    pthread_mutex_lock(&r->mu);
    for (unsigned i = 0;; i = (i + 1) % OPEN_PACKS) {
        *slot = i < CHOSEN_PACKS ? (wish + i) % CHOSEN_PACKS : i;
        if (!r->taken[type][*slot])
            break;
        if (i == OPEN_PACKS - 1)
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

/* True if the blob is new, and from now on the caller's to store. */
static bool claim(struct repo *r, enum blob_type type, const struct digest *id)
{
    pthread_mutex_lock(&r->mu);
    bool fresh = !index_has(&r->index, type, id) && idset_add(&r->claimed[type], id);
    pthread_mutex_unlock(&r->mu);
    return fresh;
}

struct err *repo_save_blob(struct repo_io *io, enum blob_type type, const void *data,
                           size_t n, struct digest *id, struct repo_saved *out)
{
    struct repo *r = io->repo;
    *out = (struct repo_saved){.bytes = n};
    if (n > REPO_BLOB_MAX)
        return err_new(ERR_LIMIT, "a blob of %zu bytes is too large", n);
    TRY(check_usable(r));
    if (io->holds)
        TRY(settle_beside(io, data, n, id));
    else
        hash_bytes(data, n, id);
    out->fresh = claim(r, type, id);
    if (!out->fresh)
        return NULL;
    encode(io, type, data, n);
    io->held.id = *id;
    out->stored = io->held.length;
    return NULL;
}

/* ---- blobs that are too long to be held ---- */

struct stream {
    struct repo_io *io;
    struct hash *hash; /* of the content; first time: NULL until it is too long to hold */
    uint64_t bytes;    /* of it so far */
    struct pack *pack; /* second time: where it goes … */
    uint64_t stored;   /* … and what it takes there so far */
};

static struct err *measure(void *ctx, const void *data, size_t n)
{
    struct stream *s = ctx;
    s->bytes += n;
    if (!s->hash && s->bytes <= REPO_HELD_MAX) {
        buf_add(&s->io->text, data, n);
        return NULL;
    }
    if (!s->hash) {
        s->hash = hash_new();
        hash_add(s->hash, buf_text(&s->io->text), s->io->text.len);
    }
    hash_add(s->hash, data, n);
    return NULL;
}

static struct err *append_part(struct stream *s, const void *sealed, size_t n)
{
    s->stored += n;
    hash_add(s->pack->hash, sealed, n);
    return pack_add_part(s->pack, sealed, n);
}

static struct err *seal_part(void *ctx, const void *data, size_t n)
{
    struct stream *s = ctx;
    buf_clear(&s->io->text);
    uint8_t *room = buf_room(&s->io->text, n);
    crypt_seal_part(s->io->crypt, data, n, room);
    return append_part(s, room, n);
}

static struct err *pack_part(void *ctx, const void *data, size_t n)
{
    struct stream *s = ctx;
    hash_add(s->hash, data, n);
    if (s->io->repo->version < 2)
        return seal_part(s, data, n);
    return zst_pack_part(s->io->zst, data, n, seal_part, s);
}

/* Appends the whole blob to s->pack. */
static struct err *append_stream(struct stream *s, enum blob_type type,
                                 repo_source *source, void *ctx, const struct digest *id)
{
    struct repo_io *io = s->io;
    bool packs = io->repo->version >= 2;
    uint8_t ends[CRYPT_IV > CRYPT_TAG ? CRYPT_IV : CRYPT_TAG];
    struct digest again;
    crypt_seal_begin(io->crypt, ends);
    TRY(append_part(s, ends, CRYPT_IV));
    if (packs)
        zst_pack_begin(io->zst, s->bytes);
    s->hash = hash_new();
    struct err *e = source(ctx, pack_part, s);
    hash_end(STEAL(s->hash), &again);
    TRY(e);
    if (packs)
        TRY(zst_pack_end(io->zst, seal_part, s));
    if (!digest_equal(&again, id))
        return err_new(ERR_CONFLICT, "what is stored changed meanwhile");
    crypt_seal_end(io->crypt, ends);
    TRY(append_part(s, ends, CRYPT_TAG));
    const struct blob_entry blob = {.id = *id,
                                    .length = (uint32_t)s->stored,
                                    .plain = packs ? (uint32_t)s->bytes : 0,
                                    .type = (uint8_t)type};
    pack_end_parts(s->pack, &blob);
    return NULL;
}

/* After an error nothing of the pack may be used: the caller notes the failure. */
static struct err *store_stream(struct stream *s, enum blob_type type,
                                repo_source *source, void *ctx, const struct digest *id)
{
    struct repo *r = s->io->repo;
    struct pack *full = NULL;
    unsigned slot;
    s->pack = take_pack(r, type, id->b[0], &slot);
    struct err *e = s->pack ? NULL : pack_new(r->store, &s->pack);
    if (!e)
        e = append_stream(s, type, source, ctx, id);
    if (!e && pack_is_full(s->pack))
        full = STEAL(s->pack);
    put_pack_back(r, type, slot, STEAL(s->pack));
    TRY(repo_note_failure(r, e));
    return full ? store_pack(s->io, full) : NULL;
}

struct err *repo_save_source(struct repo_io *io, enum blob_type type, repo_source *source,
                             void *ctx, struct digest *id, struct repo_saved *out)
{
    struct stream s = {.io = io};
    *out = (struct repo_saved){0};
    buf_clear(&io->text);
    struct err *e = source(ctx, measure, &s);
    if (s.hash)
        hash_end(STEAL(s.hash), id);
    else if (!e)
        return repo_save_blob(io, type, buf_text(&io->text), io->text.len, id, out);
    TRY(e);
    if (s.bytes > REPO_BLOB_MAX)
        return err_new(ERR_LIMIT, "a blob of %" PRIu64 " bytes is too large", s.bytes);
    TRY(check_usable(io->repo));
    out->bytes = s.bytes;
    out->fresh = claim(io->repo, type, id);
    if (!out->fresh)
        return NULL;
    TRY(store_stream(&s, type, source, ctx, id));
    out->stored = (uint32_t)s.stored;
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
