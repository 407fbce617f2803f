#include "common/repo/index.h"

#include <string.h>
#include <sys/mman.h>

#include "common/base/mem.h"
#include "common/repo/crypt.h"
#include "common/repo/pack.h"

#define TREE_BIT (UINT32_C(1) << 31)
/* Lengths do not exceed this in a record; a blob so large is refused when it is read. */
static const uint32_t plain_max = INDEX_GAP - 1;

void index_fini(struct index *ix)
{
    if (ix->base.memory)
        munmap(ix->base.memory, ix->base.memory_n);
    free(ix->records);
    free(ix->packs);
    free(ix->slots);
    free(ix->pack_slots);
    idset_fini(&ix->dying);
    *ix = (struct index){0};
}

/* Digests are uniform: their first bytes are the hash. */
static uint64_t hash_of(const struct digest *id)
{
    uint64_t h;
    memcpy(&h, id->b, sizeof h);
    return h;
}

static bool is_gap(const struct index_record *r)
{
    return r->plain == INDEX_GAP;
}

static enum blob_type type_of(const struct index_record *r)
{
    return r->plain & TREE_BIT ? BLOB_TREE : BLOB_DATA;
}

static void link_record(struct index *ix, size_t at)
{
    size_t i = hash_of(&ix->records[at].id) & (ix->slots_n - 1);
    while (ix->slots[i])
        i = (i + 1) & (ix->slots_n - 1);
    ix->slots[i] = (uint32_t)at + 1;
}

static void link_pack(struct index *ix, size_t at)
{
    size_t i = hash_of(&ix->packs[at].id) & (ix->pack_slots_n - 1);
    while (ix->pack_slots[i])
        i = (i + 1) & (ix->pack_slots_n - 1);
    ix->pack_slots[i] = (uint32_t)at + 1;
}

/* Keeps both tables at most three quarters full. */
static void grow_tables(struct index *ix)
{
    if (ix->records_n * 4 >= ix->slots_n * 3) {
        free(ix->slots);
        ix->slots_n = ix->slots_n ? ix->slots_n : 1024;
        while (ix->records_n * 4 >= ix->slots_n * 3)
            ix->slots_n *= 2;
        ix->slots = mem_array(ix->slots_n, sizeof *ix->slots);
        for (size_t i = 0; i < ix->records_n; i++)
            if (!is_gap(&ix->records[i]))
                link_record(ix, i);
    }
    if (ix->packs_n * 4 >= ix->pack_slots_n * 3) {
        free(ix->pack_slots);
        ix->pack_slots_n = ix->pack_slots_n ? ix->pack_slots_n : 64;
        while (ix->packs_n * 4 >= ix->pack_slots_n * 3)
            ix->pack_slots_n *= 2;
        ix->pack_slots = mem_array(ix->pack_slots_n, sizeof *ix->pack_slots);
        for (size_t i = 0; i < ix->packs_n; i++)
            link_pack(ix, i);
    }
}

void index_link(struct index *ix)
{
    free(ix->slots);
    free(ix->pack_slots);
    ix->slots = ix->pack_slots = NULL;
    ix->slots_n = ix->pack_slots_n = 0;
    grow_tables(ix);
}

size_t index_packs(const struct index *ix)
{
    return ix->base.packs_n + ix->packs_n;
}

size_t index_blobs(const struct index *ix)
{
    return ix->base.blobs + ix->blobs;
}

const struct pack_entry *index_pack(const struct index *ix, size_t at)
{
    return at < ix->base.packs_n ? &ix->base.packs[at]
                                 : &ix->packs[at - ix->base.packs_n];
}

/* Where the ids of order[n] stop being less than `id`. Ids are uniform, so the place is
 * guessed from the first bytes and the bounds close in at once. */
static size_t lower_bound(const char *items, size_t bytes, const uint32_t *order,
                          size_t n, const struct digest *id)
{
    size_t low = 0, high = n;
    uint64_t want = __builtin_bswap64(hash_of(id));
    uint64_t from = 0, to = UINT64_MAX;
    for (unsigned guesses = 0; low < high; guesses++) {
        size_t mid = low + (high - low) / 2;
        if (guesses < 4 && want >= from && to > from)
            mid = low + (size_t)((unsigned __int128)(want - from) * (high - low - 1) /
                                 (to - from));
        struct digest at;
        memcpy(&at, items + bytes * order[mid], sizeof at);
        if (memcmp(at.b, id->b, sizeof at.b) < 0) {
            low = mid + 1;
            from = __builtin_bswap64(hash_of(&at));
        } else {
            high = mid;
            to = __builtin_bswap64(hash_of(&at));
        }
    }
    return low;
}

static bool find_base_pack(const struct index_base *b, const struct digest *id,
                           size_t *at)
{
    size_t i = lower_bound((const char *)b->packs, sizeof *b->packs, b->pack_order,
                           b->packs_n, id);
    if (i == b->packs_n || !digest_equal(&b->packs[b->pack_order[i]].id, id))
        return false;
    *at = b->pack_order[i];
    return true;
}

bool index_find_pack(const struct index *ix, const struct digest *id, size_t *at)
{
    size_t unused = 0;
    at = at ? at : &unused;
    if (find_base_pack(&ix->base, id, at))
        return true;
    if (!ix->pack_slots_n)
        return false;
    size_t i = hash_of(id) & (ix->pack_slots_n - 1);
    for (; ix->pack_slots[i]; i = (i + 1) & (ix->pack_slots_n - 1)) {
        *at = ix->base.packs_n + ix->pack_slots[i] - 1;
        if (digest_equal(&ix->packs[ix->pack_slots[i] - 1].id, id))
            return true;
    }
    return false;
}

struct index_cursor index_blobs_of(const struct index *ix, size_t pack)
{
    const struct pack_entry *p = index_pack(ix, pack);
    if (!p->count) /* there may be no records at all */
        return (struct index_cursor){.blob.pack = (uint32_t)pack};
    const struct index_record *first =
        pack < ix->base.packs_n ? ix->base.records + p->first : ix->records + p->first;
    return (struct index_cursor){
        .blob.pack = (uint32_t)pack, .next = first, .end = first + p->count};
}

static void fill_entry(struct blob_entry *e, const struct index_record *r,
                       uint64_t offset)
{
    e->id = r->id;
    e->offset = (uint32_t)offset;
    e->length = r->length;
    e->plain = r->plain & ~TREE_BIT;
    e->type = (uint8_t)type_of(r);
}

bool index_next(struct index_cursor *c)
{
    while (c->next < c->end) {
        const struct index_record *r = c->next++;
        uint64_t at = c->offset;
        c->offset += r->length;
        if (is_gap(r))
            continue;
        fill_entry(&c->blob, r, at);
        return true;
    }
    return false;
}

static int by_offset(const void *a, const void *b)
{
    const struct blob_entry *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Blobs must not overlap, or lengths would lie. */
static struct err *check_layout(const struct blob_entry *e, size_t n,
                                const struct digest *pack)
{
    uint64_t end = 0;
    char hex[65];
    for (size_t i = 0; i < n; i++) {
        if (e[i].offset < end || e[i].length < CRYPT_OVERHEAD) {
            digest_hex(pack, hex);
            return err_new(ERR_CORRUPT, "index: blobs of pack %s overlap", hex);
        }
        end = (uint64_t)e[i].offset + e[i].length;
    }
    return NULL;
}

static struct err *same_pack(const struct index *ix, size_t known,
                             const struct blob_entry *fresh, size_t n)
{
    struct index_cursor c = index_blobs_of(ix, known);
    size_t i = 0;
    bool same = true;
    for (; same && index_next(&c); i++)
        same = i < n && digest_equal(&c.blob.id, &fresh[i].id) &&
               c.blob.offset == fresh[i].offset && c.blob.length == fresh[i].length &&
               c.blob.type == fresh[i].type;
    if (same && i == n)
        return NULL;
    char hex[65];
    digest_hex(&index_pack(ix, known)->id, hex);
    return err_new(ERR_CORRUPT, "index: pack %s is listed twice with different blobs",
                   hex);
}

static struct index_record *add_record(struct index *ix)
{
    mem_reserve((void **)&ix->records, &ix->records_cap, ix->records_n,
                sizeof *ix->records);
    grow_tables(ix);
    return &ix->records[ix->records_n];
}

static void add_blob(struct index *ix, const struct blob_entry *e)
{
    uint32_t plain = e->plain < plain_max ? e->plain : plain_max;
    *add_record(ix) = (struct index_record){
        e->id, e->length, plain | (e->type == BLOB_TREE ? TREE_BIT : 0)};
    link_record(ix, ix->records_n++);
    ix->blobs++;
}

static void add_gap(struct index *ix, uint32_t bytes)
{
    *add_record(ix) = (struct index_record){.length = bytes, .plain = INDEX_GAP};
    ix->records_n++;
}

/* Blobs are sorted and do not overlap. */
static void add_fresh(struct index *ix, const struct digest *id,
                      const struct blob_entry *blobs, size_t n)
{
    size_t first = ix->records_n;
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (blobs[i].offset > end)
            add_gap(ix, (uint32_t)(blobs[i].offset - end));
        add_blob(ix, &blobs[i]);
        end = (uint64_t)blobs[i].offset + blobs[i].length;
    }
    mem_reserve((void **)&ix->packs, &ix->packs_cap, ix->packs_n, sizeof *ix->packs);
    grow_tables(ix);
    ix->packs[ix->packs_n] =
        (struct pack_entry){*id, (uint32_t)first, (uint32_t)(ix->records_n - first)};
    link_pack(ix, ix->packs_n++);
}

struct err *index_add_pack(struct index *ix, const struct digest *id,
                           const struct blob_entry *blobs, size_t n)
{
    size_t known;
    /* Each blob may bring a gap. */
    if (ix->base.records_n + ix->records_n + 2 * n >= UINT32_MAX - 1)
        return err_new(ERR_LIMIT, "the repository has too many blobs");
    AUTO(str) char *copy = n ? mem_dup(blobs, n * sizeof *blobs) : NULL;
    struct blob_entry *sorted = (struct blob_entry *)copy;
    if (n)
        qsort(sorted, n, sizeof *sorted, by_offset);
    TRY(check_layout(sorted, n, id));
    if (index_find_pack(ix, id, &known))
        return same_pack(ix, known, sorted, n);
    add_fresh(ix, id, sorted, n);
    return NULL;
}

/* The pack that record `at` is part of: the last that begins at or before it. */
static size_t pack_of(const struct pack_entry *packs, size_t n, size_t at)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (packs[mid].first <= at)
            low = mid;
        else
            high = mid;
    }
    /* Empty packs share their first with the next. */
    return low;
}

static void entry_of(const struct index_record *records, const struct pack_entry *packs,
                     size_t packs_n, size_t at, struct blob_entry *out)
{
    size_t pack = pack_of(packs, packs_n, at);
    uint64_t offset = 0;
    for (size_t i = packs[pack].first; i < at; i++)
        offset += records[i].length;
    fill_entry(out, &records[at], offset);
    out->pack = (uint32_t)pack;
}

/* Position of a copy in the base; `*skip` counts down over those passed. */
static bool find_in_base(const struct index_base *b, enum blob_type type,
                         const struct digest *id, size_t *skip, size_t *at)
{
    size_t i =
        lower_bound((const char *)b->records, sizeof *b->records, b->order, b->blobs, id);
    for (; i < b->blobs; i++) {
        const struct index_record *r = &b->records[b->order[i]];
        if (!digest_equal(&r->id, id))
            return false;
        if (type_of(r) != type || (*skip)--)
            continue;
        *at = b->order[i];
        return true;
    }
    return false;
}

static bool find_in_memory(const struct index *ix, enum blob_type type,
                           const struct digest *id, size_t *skip, size_t *at)
{
    if (!ix->slots_n)
        return false;
    size_t i = hash_of(id) & (ix->slots_n - 1);
    for (; ix->slots[i]; i = (i + 1) & (ix->slots_n - 1)) {
        const struct index_record *r = &ix->records[ix->slots[i] - 1];
        if (!digest_equal(&r->id, id) || type_of(r) != type || (*skip)--)
            continue;
        *at = ix->slots[i] - 1;
        return true;
    }
    return false;
}

bool index_find(const struct index *ix, enum blob_type type, const struct digest *id,
                size_t skip, struct blob_entry *out)
{
    size_t at;
    if (find_in_base(&ix->base, type, id, &skip, &at)) {
        entry_of(ix->base.records, ix->base.packs, ix->base.packs_n, at, out);
        return true;
    }
    if (!find_in_memory(ix, type, id, &skip, &at))
        return false;
    entry_of(ix->records, ix->packs, ix->packs_n, at, out);
    out->pack += (uint32_t)ix->base.packs_n;
    return true;
}

bool index_bytes(const struct index *ix, enum blob_type type, const struct digest *id,
                 uint64_t *bytes)
{
    const struct index_record *r = NULL;
    struct blob_entry e;
    size_t at, skip = 0;
    if (find_in_base(&ix->base, type, id, &skip, &at))
        r = &ix->base.records[at];
    else if (find_in_memory(ix, type, id, &skip, &at))
        r = &ix->records[at];
    if (!r)
        return false;
    fill_entry(&e, r, 0);
    *bytes = blob_entry_bytes(&e);
    return true;
}

bool index_has(const struct index *ix, enum blob_type type, const struct digest *id)
{
    uint64_t unused;
    return index_bytes(ix, type, id, &unused);
}

size_t index_number(const struct index *ix, enum blob_type type, const struct digest *id)
{
    size_t at, skip = 0;
    if (find_in_base(&ix->base, type, id, &skip, &at))
        return at;
    if (find_in_memory(ix, type, id, &skip, &at))
        return ix->base.records_n + at;
    return SIZE_MAX;
}

size_t index_numbers(const struct index *ix)
{
    return ix->base.records_n + ix->records_n;
}

uint64_t blob_entry_bytes(const struct blob_entry *e)
{
    return e->plain ? e->plain : e->length - CRYPT_OVERHEAD;
}

uint64_t index_pack_bytes(const struct index *ix, size_t at)
{
    uint64_t bytes = CRYPT_OVERHEAD + PACK_TRAILER;
    struct index_cursor c = index_blobs_of(ix, at);
    while (index_next(&c))
        bytes += (uint64_t)c.blob.length +
                 (c.blob.plain ? PACK_ENTRY_PACKED : PACK_ENTRY_PLAIN);
    return bytes;
}
