/* Index files: their JSON, written and read as a stream. */
#include "common/repo/index.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/repo/jscan.h"

static void write_blob(const struct blob_entry *e, bool first, struct buf *out)
{
    char hex[65];
    digest_hex(&e->id, hex);
    buf_printf(out, "%s{\"id\":\"%s\",\"type\":\"%s\",\"offset\":%u,\"length\":%u",
               first ? "" : ",", hex, e->type == BLOB_TREE ? "tree" : "data", e->offset,
               e->length);
    if (e->plain)
        buf_printf(out, ",\"uncompressed_length\":%u", e->plain);
    buf_char(out, '}');
}

void index_write(const struct index *ix, size_t first, size_t count, struct buf *out)
{
    char hex[65];
    buf_str(out, "{\"packs\":[");
    for (size_t i = first; i < first + count; i++) {
        digest_hex(&index_pack(ix, i)->id, hex);
        buf_printf(out, "%s{\"id\":\"%s\",\"blobs\":[", i > first ? "," : "", hex);
        struct index_cursor c = index_blobs_of(ix, i);
        for (bool begin = true; index_next(&c); begin = false)
            write_blob(&c.blob, begin, out);
        buf_str(out, "]}");
    }
    buf_str(out, "]}\n");
}

/* Depths of {"packs":[{"id":…,"blobs":[{…}]}]}. */
enum { IN_TOP = 1, IN_PACKS, IN_PACK, IN_BLOBS, IN_BLOB };
enum field { F_OTHER, F_ID, F_BLOBS, F_TYPE, F_OFFSET, F_LENGTH, F_PLAIN };

struct index_reader {
    struct index *index;
    struct jscan_stream *scan;
    bool in_packs;
    bool in_dying;
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

static struct err *blob_event(struct index_reader *r, const struct jscan_event *ev)
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

static struct err *blob_done(struct index_reader *r)
{
    const unsigned needed = 1u << F_ID | 1u << F_TYPE | 1u << F_OFFSET | 1u << F_LENGTH;
    if ((r->have & needed) != needed)
        return err_new(ERR_CORRUPT, "index: a blob lacks a field");
    mem_reserve((void **)&r->blobs, &r->cap, r->n, sizeof *r->blobs);
    r->blobs[r->n++] = r->blob;
    return NULL;
}

static struct err *pack_event(struct index_reader *r, const struct jscan_event *ev)
{
    if (ev->what == JSCAN_KEY) {
        r->pack_field = field_of(ev);
    } else if (r->pack_field == F_ID) {
        r->have_pack = true;
        return id_of(ev, &r->pack);
    }
    return NULL;
}

/* Of packs that shall go only the ids matter. */
static struct err *dying_event(struct index_reader *r, const struct jscan_event *ev)
{
    if (ev->depth != IN_PACK)
        return NULL;
    r->have_pack = false;
    TRY(pack_event(r, ev));
    if (r->have_pack)
        idset_add(&r->index->dying, &r->pack);
    return NULL;
}

static struct err *on_event(void *ctx, const struct jscan_event *ev)
{
    struct index_reader *r = ctx;
    if (ev->depth == IN_TOP && ev->what == JSCAN_KEY) {
        r->in_packs = jscan_is(ev, "packs");
        r->in_dying = jscan_is(ev, "packs_to_delete");
    }
    if (r->in_dying)
        return dying_event(r, ev);
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

struct index_reader *index_reader_begin(struct index *ix)
{
    struct index_reader *r = mem_zalloc(sizeof *r);
    r->index = ix;
    r->scan = jscan_begin(on_event, r);
    return r;
}

struct err *index_reader_feed(void *reader, const void *json, size_t n)
{
    struct index_reader *r = reader;
    return jscan_feed(r->scan, json, n);
}

struct err *index_reader_end(struct index_reader *r)
{
    struct err *e = jscan_end(r->scan);
    free(r->blobs);
    free(r);
    return e;
}

struct err *index_read(struct index *ix, const void *json, size_t n)
{
    struct index_reader *r = index_reader_begin(ix);
    AUTO(err) struct err *fed = index_reader_feed(r, json, n);
    struct err *e = index_reader_end(r);
    return fed ? STEAL(fed) : e;
}
