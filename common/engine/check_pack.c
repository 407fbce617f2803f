/* Reading packs and everything in them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/check_own.h"
#include "common/engine/workq.h"
#include "common/repo/pack.h"
#include "common/repo/reader.h"

enum {
    RUN_BYTES = 4 << 20,
    HELD_BYTES = 16 << 20, /* of a blob that is unpacked as a whole */
    WAIT_BYTES = 2 << 20,  /* of a blob that may wait for the next one */
};

/* A blob that is decoded and not hashed to its end yet. */
struct lane {
    struct blob_entry blob;
    struct buf plain;
    size_t at;         /* hashed so far */
    struct hash *hash; /* NULL: the lane is free */
};

/* One pack being read from front to end. Everything in it is hashed twice, as part of the
 * pack and of its blob; the processor hashes two streams in hardly more time than one. So
 * what is left of a blob when the pack's bytes are used up waits for the next blob. */
struct reading {
    struct check *check;
    struct repo_io *io;
    const struct digest *id;
    const char *what; /* "pack ID" */
    struct hash *hash;
    struct buf run;
    size_t hashed;        /* of run */
    struct lane lanes[2]; /* the first: who waits */
    uint64_t at;          /* up to here it was read */
    bool damaged;
};

static struct err *read_to(struct reading *rd, uint64_t end)
{
    size_t n = (size_t)(end - rd->at);
    buf_clear(&rd->run);
    rd->hashed = 0;
    TRY(repo_read_pack(rd->check->repo, rd->id, rd->at, buf_room(&rd->run, n), n));
    rd->run.len = n;
    rd->at = end;
    atomic_fetch_add(&rd->check->bytes, n);
    return NULL;
}

static void note_blob(struct reading *rd, const struct blob_entry *blob, struct err *e)
{
    char hex[65];
    if (!e)
        return;
    digest_hex(&blob->id, hex);
    rd->damaged = true;
    problems_add(&rd->check->out->problems, rd->what, err_wrap(e, "blob %s", hex));
}

static size_t left_of(const struct lane *l)
{
    return l->hash ? l->plain.len - l->at : 0;
}

static void end_lane(struct reading *rd, struct lane *l)
{
    struct digest real;
    if (!l->hash)
        return;
    hash_add(l->hash, l->plain.data + l->at, left_of(l));
    hash_end(STEAL(l->hash), &real);
    note_blob(rd, &l->blob, repo_verify_blob(&l->blob, &real));
}

/* The pack's own bytes up to `end` of the run, beside the lane if it has any left. */
static void hash_run(struct reading *rd, struct lane *l, size_t end)
{
    const char *data = rd->run.data + rd->hashed;
    size_t n = end - rd->hashed, beside = left_of(l) < n ? left_of(l) : n;
    if (beside)
        hash_add_two(rd->hash, data, beside, l->hash, l->plain.data + l->at, beside);
    l->at += beside;
    rd->hashed += beside;
}

/* Hashes the blob in the second lane as far as it has company. */
static void hash_blob(struct reading *rd, size_t run_end)
{
    struct lane *a = &rd->lanes[0], *b = &rd->lanes[1];
    size_t n = left_of(a) < b->plain.len ? left_of(a) : b->plain.len;
    b->hash = hash_new();
    if (n)
        hash_add_two(a->hash, a->plain.data + a->at, n, b->hash, b->plain.data, n);
    a->at += n;
    b->at = n;
    if (left_of(b)) {
        end_lane(rd, a);
        hash_run(rd, b, run_end);
    } else {
        hash_run(rd, a, run_end);
    }
    if (!left_of(a))
        end_lane(rd, a);
    if (!left_of(b) || b->plain.len > WAIT_BYTES) {
        end_lane(rd, b);
        return;
    }
    const struct lane ended = *a;
    *a = *b;
    *b = ended;
}

/* A blob too long to be held: the list of a very large directory. */
static void verify_long(struct reading *rd, const struct blob_entry *blob, size_t at)
{
    size_t end = at + blob->length;
    hash_add(rd->hash, rd->run.data + rd->hashed, end - rd->hashed);
    rd->hashed = end;
    /* Opening it reads it through. */
    AUTO(repo_reader) struct repo_reader *unused = NULL;
    note_blob(rd, blob,
              repo_reader_open_held(rd->check->repo, blob, rd->run.data + at, &unused));
}

/* Decodes the blobs from *c on that lie in the run, which begins at `start`. */
static void decode_run(struct reading *rd, struct index_cursor *c, uint64_t start)
{
    bool inside = true;
    while (inside && c->blob.offset < rd->at) {
        size_t at = (size_t)(c->blob.offset - start);
        struct lane *l = &rd->lanes[1];
        if (c->blob.plain > HELD_BYTES) {
            verify_long(rd, &c->blob, at);
            inside = index_next(c);
            continue;
        }
        buf_clear(&l->plain);
        l->blob = c->blob;
        struct err *e =
            repo_unseal_blob(rd->io, &c->blob, (uint8_t *)rd->run.data + at, &l->plain);
        note_blob(rd, &c->blob, e);
        if (!e)
            hash_blob(rd, at + c->blob.length);
        inside = index_next(c);
    }
}

/* Reads blobs from *c on, up to RUN_BYTES at once, and decodes each. `c` stands at a blob
 * that was not looked at yet. *more: there are further ones. */
static struct err *read_run(struct reading *rd, struct index_cursor *c, bool *more)
{
    struct index_cursor end = *c;
    uint64_t start = rd->at, last;
    do {
        last = (uint64_t)end.blob.offset + end.blob.length;
        *more = index_next(&end);
    } while (*more && end.blob.offset == last &&
             end.blob.offset + (uint64_t)end.blob.length - start <= RUN_BYTES);
    TRY(read_to(rd, last));
    decode_run(rd, c, start);
    hash_add(rd->hash, rd->run.data + rd->hashed, rd->run.len - rd->hashed);
    return NULL;
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

static struct err *check_header(struct reading *rd, size_t pack, uint64_t bytes)
{
    struct blob_entry *list = NULL;
    size_t n = 0;
    TRY(read_to(rd, bytes));
    hash_add(rd->hash, rd->run.data, rd->run.len);
    TRY(pack_read_header(repo_crypt(rd->io), rd->run.data, rd->run.len, bytes, &list,
                         &n));
    struct err *e = same_entries(repo_index(rd->check->repo), pack, list, n);
    free(list);
    return e;
}

static struct err *check_bytes(struct reading *rd, size_t pack)
{
    const struct index *ix = repo_index(rd->check->repo);
    uint64_t bytes = index_pack_bytes(ix, pack);
    struct index_cursor c = index_blobs_of(ix, pack);
    bool more = index_next(&c);
    while (more) {
        uint32_t limit = c.blob.type == BLOB_TREE ? REPO_BLOB_MAX : REPO_DATA_MAX;
        if (c.blob.length > limit || c.blob.offset != rd->at)
            return err_new(ERR_CORRUPT, "the index has %s",
                           c.blob.length > limit ? "a blob that is too large"
                                                 : "nothing for some of its bytes");
        TRY(read_run(rd, &c, &more));
        if (check_is_cancelled(rd->check->opts->cancel))
            return NULL;
    }
    return check_header(rd, pack, bytes);
}

static void check_pack(void *ctx, unsigned worker, void *job)
{
    struct check *c = ctx;
    const struct index *ix = repo_index(c->repo);
    struct check_room *room = &c->rooms[worker];
    struct reading rd = {.check = c,
                         .io = c->ios[worker],
                         .id = job,
                         .run = room->run,
                         .lanes = {{.plain = room->plain[0]}, {.plain = room->plain[1]}}};
    char hex[65], what[80];
    struct digest real;
    size_t pack = 0;
    if (check_is_cancelled(c->opts->cancel))
        return;
    digest_hex(rd.id, hex);
    snprintf(what, sizeof what, "pack %s", hex);
    rd.what = what;
    rd.hash = hash_new();
    index_find_pack(ix, rd.id, &pack);
    struct err *e = check_bytes(&rd, pack);
    end_lane(&rd, &rd.lanes[0]);
    hash_end(rd.hash, &real);
    bool cancelled = check_is_cancelled(c->opts->cancel);
    if (!e && !cancelled && !digest_equal(&real, rd.id))
        e = err_new(ERR_CORRUPT, "its bytes do not match its name");
    rd.damaged |= e != NULL;
    problems_add(&c->out->problems, what, e);
    *room = (struct check_room){rd.run, {rd.lanes[0].plain, rd.lanes[1].plain}};
    if (rd.damaged && !cancelled)
        check_mark_lost(c, rd.io, pack);
    uint64_t done = atomic_fetch_add(&c->done, 1) + 1;
    if (c->opts->progress)
        c->opts->progress(c->opts->progress_ctx, done, c->packs_to_read);
}

void check_rooms_fini(struct check *c)
{
    for (size_t i = 0; i < CHECK_WORKERS_MAX; i++) {
        buf_fini(&c->rooms[i].run);
        buf_fini(&c->rooms[i].plain[0]);
        buf_fini(&c->rooms[i].plain[1]);
    }
}

void check_mark_lost(struct check *c, struct repo_io *io, size_t pack)
{
    const struct index *ix = repo_index(c->repo);
    struct index_cursor next = index_blobs_of(ix, pack);
    AUTO_BUF struct buf plain = {0};
    while (index_next(&next) && !check_is_cancelled(c->opts->cancel)) {
        buf_clear(&plain);
        struct err *e = repo_load_blob(io, next.blob.type, &next.blob.id, &plain);
        if (!e)
            continue;
        err_free(e);
        bitmap_add(&c->lost, index_number(ix, next.blob.type, &next.blob.id));
        atomic_store(&c->any_lost, true);
    }
}

/* Spreads `percent` evenly: the n-th pack is read when that takes the share over the next
 * whole number. Which ones begins at random, so that repeated checks see all in time. */
static bool is_chosen(const struct check_opts *o, const struct digest *id, double *share)
{
    if (o->parts)
        return id->b[0] % o->parts == o->part - 1;
    if (o->percent <= 0 || o->percent >= 100)
        return true;
    *share += o->percent / 100;
    if (*share < 1)
        return false;
    *share -= 1;
    return true;
}

static size_t choose(struct check *c, struct bitmap *chosen)
{
    const struct index *ix = repo_index(c->repo);
    uint16_t start = 0;
    size_t n = 0;
    crypt_random(&start, sizeof start);
    double share = (double)start / 65536;
    for (size_t i = 0; i < index_packs(ix); i++)
        if (is_chosen(c->opts, &index_pack(ix, i)->id, &share) &&
            !bitmap_has(&c->bad_packs, i))
            n += bitmap_add(chosen, i);
    return n;
}

struct err *check_packs(struct check *c)
{
    const struct index *ix = repo_index(c->repo);
    unsigned workers = workq_workers();
    struct workq *q = NULL;
    struct bitmap chosen;
    bitmap_init(&chosen, index_packs(ix));
    c->packs_to_read = choose(c, &chosen);
    struct err *e = workq_new(workers, workers, check_pack, c, &q);
    for (size_t i = 0; !e && i < index_packs(ix); i++)
        if (bitmap_has(&chosen, i) && !check_is_cancelled(c->opts->cancel))
            workq_push(q, (void *)(uintptr_t)&index_pack(ix, i)->id);
    workq_free(q);
    bitmap_fini(&chosen);
    c->out->packs_read = atomic_load(&c->done);
    TRY(e);
    return check_is_cancelled(c->opts->cancel) ? err_new(ERR_CANCELLED, "cancelled")
                                               : NULL;
}
