/* Loading blobs from the packs of a repository. */
#include "common/repo/repo.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/repo/repo_own.h"

struct err *repo_check_size(const struct blob_entry *e)
{
    uint64_t limit = e->type == BLOB_TREE ? REPO_BLOB_MAX : REPO_DATA_MAX;
    uint64_t bytes = e->plain > e->length ? e->plain : e->length;
    if (bytes > limit || e->length < CRYPT_OVERHEAD)
        return err_new(ERR_LIMIT, "a blob of %" PRIu64 " bytes is too large", bytes);
    if (bytes > REPO_EASY_BYTES && bytes / REPO_EASY_RATIO > e->length)
        return err_new(ERR_LIMIT, "%u bytes that become %" PRIu64 " are no honest blob",
                       e->length, bytes);
    return NULL;
}

struct err *repo_unseal_blob(struct repo_io *io, const struct blob_entry *e,
                             const void *sealed, struct buf *out)
{
    TRY(repo_check_size(e));
    size_t text = e->length - CRYPT_OVERHEAD;
    size_t n = e->plain ? e->plain : text;
    char *to = buf_room(out, n);
    if (e->plain) {
        buf_clear(&io->plain);
        char *packed = buf_room(&io->plain, text);
        TRY(crypt_open(io->crypt, sealed, e->length, packed));
        TRY(zst_unpack(io->zst, packed, text, to, n));
    } else {
        TRY(crypt_open(io->crypt, sealed, e->length, to));
    }
    out->len += n;
    out->data[out->len] = '\0';
    return NULL;
}

struct err *repo_verify_blob(const struct blob_entry *e, const struct digest *real)
{
    if (!digest_equal(real, &e->id))
        return err_new(ERR_CORRUPT, "its content does not match its id");
    return NULL;
}

struct err *repo_decode_blob(struct repo_io *io, const struct blob_entry *e,
                             const void *sealed, struct buf *out)
{
    struct digest real;
    size_t before = out->len;
    TRY(repo_unseal_blob(io, e, sealed, out));
    hash_bytes(out->data + before, out->len - before, &real);
    struct err *bad = repo_verify_blob(e, &real);
    if (bad)
        out->len = before;
    return bad;
}

struct err *repo_read_pack(struct repo *r, const struct digest *pack, uint64_t offset,
                           void *out, size_t n)
{
    char name[STORE_NAME_MAX];
    repo_name(REPO_DATA, pack, name);
    return store_get(r->store, name, offset, out, n);
}

struct err *repo_read_copy(struct repo_io *io, const struct blob_entry *e,
                           const struct digest *pack, struct buf *out)
{
    TRY(repo_check_size(e));
    TRY(repo_read_pack(io->repo, pack, e->offset, buf_room(out, e->length), e->length));
    out->len += e->length;
    return NULL;
}

static struct err *load_copy(void *out, struct repo_io *io, const struct blob_entry *e,
                             const struct digest *pack)
{
    buf_clear(&io->stored);
    TRY(repo_read_copy(io, e, pack, &io->stored));
    return repo_decode_blob(io, e, io->stored.data, out);
}

/* Finds the copy of a blob after `skip` others; the entry is copied, since the index may
 * grow meanwhile. */
static bool find_copy(struct repo *r, enum blob_type type, const struct digest *id,
                      size_t skip, struct blob_entry *entry, struct digest *pack)
{
    pthread_rwlock_rdlock(&r->index_mu);
    bool found = index_find(&r->index, type, id, skip, entry);
    if (found)
        *pack = index_pack(&r->index, entry->pack)->id;
    pthread_rwlock_unlock(&r->index_mu);
    return found;
}

bool repo_locate(struct repo *r, enum blob_type type, const struct digest *id,
                 struct blob_entry *entry, struct digest *pack)
{
    return find_copy(r, type, id, 0, entry, pack);
}

struct err *repo_any_copy(struct repo_io *io, enum blob_type type,
                          const struct digest *id, repo_use_copy *use, void *ctx)
{
    struct blob_entry entry;
    struct digest pack;
    char blob_hex[65], pack_hex[65];
    struct err *first = NULL;
    digest_hex(id, blob_hex);
    for (size_t i = 0; find_copy(io->repo, type, id, i, &entry, &pack); i++) {
        struct err *e = use(ctx, io, &entry, &pack);
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

struct err *repo_load_blob(struct repo_io *io, enum blob_type type,
                           const struct digest *id, struct buf *out)
{
    return repo_any_copy(io, type, id, load_copy, out);
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
