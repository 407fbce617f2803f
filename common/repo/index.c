#include "common/repo/index.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/repo/crypt.h"
#include "common/repo/jscan.h"
#include "common/repo/pack.h"

void index_fini(struct index *ix)
{
    free(ix->entries);
    free(ix->packs);
    free(ix->slots);
    free(ix->pack_slots);
    *ix = (struct index){0};
}

/* Digests are uniform: their first bytes are the hash. */
static uint64_t hash_of(const struct digest *id)
{
    uint64_t h;
    memcpy(&h, id->b, sizeof h);
    return h;
}

static void link_entry(struct index *ix, size_t at)
{
    size_t i = hash_of(&ix->entries[at].id) & (ix->slots_n - 1);
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
    if (ix->entries_n * 4 >= ix->slots_n * 3) {
        free(ix->slots);
        ix->slots_n = ix->slots_n ? ix->slots_n : 1024;
        while (ix->entries_n * 4 >= ix->slots_n * 3)
            ix->slots_n *= 2;
        ix->slots = mem_array(ix->slots_n, sizeof *ix->slots);
        for (size_t i = 0; i < ix->entries_n; i++)
            link_entry(ix, i);
    }
    if (ix->packs_n * 4 >= ix->pack_slots_n * 3) {
        free(ix->pack_slots);
        ix->pack_slots_n = ix->pack_slots_n ? ix->pack_slots_n * 2 : 64;
        ix->pack_slots = mem_array(ix->pack_slots_n, sizeof *ix->pack_slots);
        for (size_t i = 0; i < ix->packs_n; i++)
            link_pack(ix, i);
    }
}

static int by_offset(const void *a, const void *b)
{
    const struct blob_entry *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

const struct pack_entry *index_find_pack(const struct index *ix, const struct digest *id)
{
    if (!ix->pack_slots_n)
        return NULL;
    size_t i = hash_of(id) & (ix->pack_slots_n - 1);
    for (; ix->pack_slots[i]; i = (i + 1) & (ix->pack_slots_n - 1)) {
        const struct pack_entry *p = &ix->packs[ix->pack_slots[i] - 1];
        if (digest_equal(&p->id, id))
            return p;
    }
    return NULL;
}

/* The entries just appended must not overlap, or lengths would lie. */
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

static struct err *same_pack(const struct index *ix, const struct pack_entry *known,
                             const struct blob_entry *fresh, size_t n)
{
    bool same = known->count == n;
    for (size_t i = 0; same && i < n; i++) {
        const struct blob_entry *old = &ix->entries[known->first + i];
        same = digest_equal(&old->id, &fresh[i].id) && old->offset == fresh[i].offset &&
               old->length == fresh[i].length && old->type == fresh[i].type;
    }
    if (same)
        return NULL;
    char hex[65];
    digest_hex(&known->id, hex);
    return err_new(ERR_CORRUPT, "index: pack %s is listed twice with different blobs",
                   hex);
}

struct err *index_add_pack(struct index *ix, const struct digest *id,
                           const struct blob_entry *blobs, size_t n)
{
    if (ix->entries_n + n >= UINT32_MAX - 1)
        return err_new(ERR_LIMIT, "the repository has too many blobs");
    mem_reserve((void **)&ix->entries, &ix->entries_cap, ix->entries_n + n,
                sizeof *ix->entries);
    struct blob_entry *fresh = ix->entries + ix->entries_n;
    if (n) {
        memcpy(fresh, blobs, n * sizeof *fresh);
        qsort(fresh, n, sizeof *fresh, by_offset);
    }
    TRY(check_layout(fresh, n, id));
    const struct pack_entry *known = index_find_pack(ix, id);
    if (known)
        return same_pack(ix, known, fresh, n);
    for (size_t i = 0; i < n; i++)
        fresh[i].pack = (uint32_t)ix->packs_n;
    mem_reserve((void **)&ix->packs, &ix->packs_cap, ix->packs_n, sizeof *ix->packs);
    ix->packs[ix->packs_n] =
        (struct pack_entry){*id, (uint32_t)ix->entries_n, (uint32_t)n};
    grow_tables(ix);
    link_pack(ix, ix->packs_n++);
    for (size_t i = 0; i < n; i++) {
        grow_tables(ix);
        link_entry(ix, ix->entries_n++);
    }
    return NULL;
}

const struct blob_entry *index_find(const struct index *ix, enum blob_type type,
                                    const struct digest *id,
                                    const struct blob_entry *after)
{
    if (!ix->slots_n)
        return NULL;
    size_t i = hash_of(id) & (ix->slots_n - 1);
    for (; ix->slots[i]; i = (i + 1) & (ix->slots_n - 1)) {
        const struct blob_entry *e = &ix->entries[ix->slots[i] - 1];
        if (e->type != type || !digest_equal(&e->id, id))
            continue;
        if (!after)
            return e;
        if (e == after)
            after = NULL;
    }
    return NULL;
}

uint64_t blob_entry_bytes(const struct blob_entry *e)
{
    return e->plain ? e->plain : e->length - CRYPT_OVERHEAD;
}

uint64_t index_pack_bytes(const struct index *ix, const struct pack_entry *p)
{
    uint64_t bytes = CRYPT_OVERHEAD + PACK_TRAILER;
    for (size_t i = 0; i < p->count; i++) {
        const struct blob_entry *e = &ix->entries[p->first + i];
        bytes += (uint64_t)e->length + (e->plain ? PACK_ENTRY_PACKED : PACK_ENTRY_PLAIN);
    }
    return bytes;
}

void index_write(const struct index *ix, size_t first, size_t count, struct buf *out)
{
    char hex[65];
    buf_str(out, "{\"packs\":[");
    for (size_t i = first; i < first + count; i++) {
        const struct pack_entry *p = &ix->packs[i];
        digest_hex(&p->id, hex);
        buf_printf(out, "%s{\"id\":\"%s\",\"blobs\":[", i > first ? "," : "", hex);
        for (size_t j = 0; j < p->count; j++) {
            const struct blob_entry *e = &ix->entries[p->first + j];
            digest_hex(&e->id, hex);
            buf_printf(out,
                       "%s{\"id\":\"%s\",\"type\":\"%s\",\"offset\":%u,\"length\":%u",
                       j ? "," : "", hex, e->type == BLOB_TREE ? "tree" : "data",
                       e->offset, e->length);
            if (e->plain)
                buf_printf(out, ",\"uncompressed_length\":%u", e->plain);
            buf_char(out, '}');
        }
        buf_str(out, "]}");
    }
    buf_str(out, "]}\n");
}

/* Depths of {"packs":[{"id":…,"blobs":[{…}]}]}. */
enum { IN_TOP = 1, IN_PACKS, IN_PACK, IN_BLOBS, IN_BLOB };
enum field { F_OTHER, F_ID, F_BLOBS, F_TYPE, F_OFFSET, F_LENGTH, F_PLAIN };

struct reader {
    struct index *index;
    bool in_packs;
    enum field pack_field;
    enum field field;
    bool have_pack;
    struct digest pack;
    unsigned have; /* bits of the fields the blob has */
    struct blob_entry blob;
    struct blob_entry *blobs;
    size_t n;
    size_t cap;
};

static struct err *id_of(const struct jscan_event *ev, struct digest *out)
{
    char hex[65] = {0};
    if (ev->what == JSCAN_STRING && ev->len == 64)
        memcpy(hex, ev->text, 64);
    if (!digest_parse(hex, out))
        return err_new(ERR_CORRUPT, "index: an id is malformed");
    return NULL;
}

static enum field field_of(const struct jscan_event *ev)
{
    return jscan_is(ev, "id")                    ? F_ID
           : jscan_is(ev, "blobs")               ? F_BLOBS
           : jscan_is(ev, "type")                ? F_TYPE
           : jscan_is(ev, "offset")              ? F_OFFSET
           : jscan_is(ev, "length")              ? F_LENGTH
           : jscan_is(ev, "uncompressed_length") ? F_PLAIN
                                                 : F_OTHER;
}

static struct err *u32_of(const struct jscan_event *ev, uint32_t *out)
{
    uint64_t v;
    TRY_CTX(jscan_u64(ev, UINT32_MAX, &v), "index");
    *out = (uint32_t)v;
    return NULL;
}

static struct err *blob_event(struct reader *r, const struct jscan_event *ev)
{
    if (ev->what == JSCAN_KEY) {
        r->field = field_of(ev);
        return NULL;
    }
    r->have |= 1u << r->field;
    switch (r->field) {
    case F_ID:
        return id_of(ev, &r->blob.id);
    case F_TYPE:
        if (!jscan_is(ev, "data") && !jscan_is(ev, "tree"))
            return err_new(ERR_CORRUPT, "index: a blob has an unknown type");
        r->blob.type = jscan_is(ev, "tree") ? BLOB_TREE : BLOB_DATA;
        return NULL;
    case F_OFFSET:
        return u32_of(ev, &r->blob.offset);
    case F_LENGTH:
        return u32_of(ev, &r->blob.length);
    case F_PLAIN:
        return u32_of(ev, &r->blob.plain);
    default:
        return NULL;
    }
}

static struct err *blob_done(struct reader *r)
{
    const unsigned needed = 1u << F_ID | 1u << F_TYPE | 1u << F_OFFSET | 1u << F_LENGTH;
    if ((r->have & needed) != needed)
        return err_new(ERR_CORRUPT, "index: a blob lacks a field");
    mem_reserve((void **)&r->blobs, &r->cap, r->n, sizeof *r->blobs);
    r->blobs[r->n++] = r->blob;
    return NULL;
}

static struct err *pack_event(struct reader *r, const struct jscan_event *ev)
{
    if (ev->what == JSCAN_KEY) {
        r->pack_field = field_of(ev);
    } else if (r->pack_field == F_ID) {
        r->have_pack = true;
        return id_of(ev, &r->pack);
    }
    return NULL;
}

static struct err *on_event(void *ctx, const struct jscan_event *ev)
{
    struct reader *r = ctx;
    if (ev->depth == IN_TOP && ev->what == JSCAN_KEY)
        r->in_packs = jscan_is(ev, "packs");
    if (!r->in_packs || ev->depth <= IN_TOP)
        return NULL;
    if (ev->depth == IN_PACKS && ev->what == JSCAN_MAP) {
        r->n = 0;
        r->have_pack = false;
        r->pack_field = F_OTHER;
    } else if (ev->depth == IN_PACKS && ev->what == JSCAN_MAP_END) {
        if (!r->have_pack)
            return err_new(ERR_CORRUPT, "index: a pack lacks its id");
        return index_add_pack(r->index, &r->pack, r->blobs, r->n);
    } else if (ev->depth == IN_PACK) {
        return pack_event(r, ev);
    } else if (r->pack_field == F_BLOBS && ev->depth == IN_BLOBS) {
        if (ev->what == JSCAN_MAP_END)
            return blob_done(r);
        r->have = 0;
        r->field = F_OTHER;
        r->blob = (struct blob_entry){0};
    } else if (r->pack_field == F_BLOBS && ev->depth == IN_BLOB) {
        return blob_event(r, ev);
    }
    return NULL;
}

struct err *index_read(struct index *ix, const void *json, size_t n)
{
    struct reader r = {.index = ix};
    struct err *e = jscan(json, n, on_event, &r);
    free(r.blobs);
    return e;
}
