#include "common/repo/reader.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/repo/repo_own.h"

enum { PART = 128 << 10 };

struct repo_reader {
    struct repo *repo;
    struct blob_entry blob;
    struct digest pack;
    const uint8_t *held; /* the sealed blob; NULL: it is read from the pack */
    struct crypt *crypt;
    struct zst *zst;
    struct hash *hash; /* of the content given; NULL: its end was checked */
    uint64_t given;    /* bytes of it */
    uint64_t at;       /* of the sealed blob: bytes read */
    size_t part_n;     /* decrypted bytes … */
    size_t part_at;    /* … and how many of them were used */
    uint8_t part[PART];
};

static struct err *read_sealed(struct repo_reader *rd, void *out, size_t n)
{
    if (rd->held)
        memcpy(out, rd->held + rd->at, n);
    else
        TRY(repo_read_pack(rd->repo, &rd->pack, rd->blob.offset + rd->at, out, n));
    rd->at += n;
    return NULL;
}

static struct err *rewind_to_front(struct repo_reader *rd)
{
    uint8_t iv[CRYPT_IV];
    rd->given = rd->at = 0;
    rd->part_n = rd->part_at = 0;
    if (!rd->hash)
        rd->hash = hash_new();
    zst_unpack_begin(rd->zst);
    TRY(read_sealed(rd, iv, sizeof iv));
    crypt_open_begin(rd->crypt, iv);
    return NULL;
}

/* Decrypts the next part once all of the last one is used. */
static struct err *refill(struct repo_reader *rd)
{
    uint64_t left = rd->blob.length - CRYPT_TAG - rd->at;
    if (rd->part_at < rd->part_n || !left)
        return NULL;
    size_t n = left < PART ? (size_t)left : PART;
    TRY(read_sealed(rd, rd->part, n));
    crypt_open_part(rd->crypt, rd->part, n, rd->part);
    rd->part_n = n;
    rd->part_at = 0;
    return NULL;
}

/* The next bytes, at most n, at least one unless there is none. */
static struct err *next(struct repo_reader *rd, uint8_t *out, size_t n, size_t *got)
{
    bool moves = true;
    *got = 0;
    while (moves && !*got) {
        TRY(refill(rd));
        size_t in = rd->part_n - rd->part_at, made = n;
        if (rd->blob.plain) {
            TRY(zst_unpack_some(rd->zst, rd->part + rd->part_at, &in, out, &made));
        } else {
            in = made = in < n ? in : n;
            memcpy(out, rd->part + rd->part_at, made);
        }
        moves = in || made;
        rd->part_at += in;
        *got = made;
    }
    return NULL;
}

static struct err *check_tag(struct repo_reader *rd)
{
    uint8_t tag[CRYPT_TAG];
    TRY(read_sealed(rd, tag, sizeof tag));
    return crypt_open_end(rd->crypt, tag);
}

static struct err *check_end(struct repo_reader *rd)
{
    struct digest real;
    hash_end(STEAL(rd->hash), &real);
    if (rd->at != rd->blob.length - CRYPT_TAG || rd->part_at != rd->part_n)
        return err_new(ERR_CORRUPT, "bytes follow the content");
    TRY(check_tag(rd));
    if (!digest_equal(&real, &rd->blob.id))
        return err_new(ERR_CORRUPT, "its content does not match its id");
    return NULL;
}

struct err *repo_reader_read(struct repo_reader *rd, void *out, size_t n, size_t *got)
{
    uint64_t all = blob_entry_bytes(&rd->blob);
    *got = 0;
    n = n < all - rd->given ? n : (size_t)(all - rd->given);
    while (*got < n) {
        size_t some = 0;
        TRY(next(rd, (uint8_t *)out + *got, n - *got, &some));
        if (!some)
            return err_new(ERR_CORRUPT, "its content is cut short");
        *got += some;
    }
    if (*got)
        hash_add(rd->hash, out, *got);
    rd->given += *got;
    return rd->given == all && rd->hash ? check_end(rd) : NULL;
}

/* Nothing is unpacked that was not made by who has the key. */
static struct err *authenticate(struct repo_reader *rd)
{
    TRY(rewind_to_front(rd));
    while (rd->at < rd->blob.length - CRYPT_TAG) {
        rd->part_at = rd->part_n;
        TRY(refill(rd));
    }
    return check_tag(rd);
}

static struct err *read_through(struct repo_reader *rd)
{
    AUTO(str) char *room = mem_alloc(PART);
    size_t got = 1;
    TRY(rewind_to_front(rd));
    while (got)
        TRY(repo_reader_read(rd, room, PART, &got));
    return NULL;
}

static struct err *check_all(struct repo_reader *rd)
{
    TRY(repo_check_size(&rd->blob));
    TRY(authenticate(rd));
    TRY(read_through(rd));
    return rewind_to_front(rd);
}

static struct repo_reader *reader_new(struct repo *r)
{
    struct repo_reader *rd = mem_zalloc(sizeof *rd);
    rd->repo = r;
    rd->crypt = crypt_new(&r->key);
    rd->zst = zst_new();
    return rd;
}

static struct err *open_copy(void *out, struct repo_io *io, const struct blob_entry *e,
                             const struct digest *pack)
{
    AUTO(repo_reader) struct repo_reader *rd = reader_new(io->repo);
    rd->blob = *e;
    rd->pack = *pack;
    TRY(check_all(rd));
    *(struct repo_reader **)out = STEAL(rd);
    return NULL;
}

struct err *repo_reader_open(struct repo_io *io, enum blob_type type,
                             const struct digest *id, struct repo_reader **out)
{
    return repo_any_copy(io, type, id, open_copy, out);
}

struct err *repo_reader_open_held(struct repo *r, const struct blob_entry *e,
                                  const void *sealed, struct repo_reader **out)
{
    AUTO(repo_reader) struct repo_reader *rd = reader_new(r);
    rd->blob = *e;
    rd->held = sealed;
    TRY(check_all(rd));
    *out = STEAL(rd);
    return NULL;
}

void repo_reader_free(struct repo_reader *rd)
{
    struct digest unused;
    if (!rd)
        return;
    if (rd->hash)
        hash_end(rd->hash, &unused);
    crypt_free(rd->crypt);
    zst_free(rd->zst);
    free(rd);
}
