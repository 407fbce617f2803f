#include "common/repo/indexfile.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/repo/jscan.h"

/* rustic's name for the same thing. */
static const char dying_key[] = "packs_to_delete";

bool indexfile_has_dying(const void *json, size_t n)
{
    return n && memmem(json, n, dying_key, strlen(dying_key)) != NULL;
}

static const char sign_key[] = ",\"stillpoint\":{\"session\":\"";

void indexfile_sign(struct buf *json, const char *session)
{
    while (json->len && json->data[json->len - 1] != '}')
        json->len--;
    assert(json->len);
    json->len--;
    buf_printf(json, "%s%s\"}}\n", sign_key, session);
}

void indexfile_signer(const void *json, size_t n, char out[INDEXFILE_SESSION_BYTES])
{
    size_t i = 0;
    const char *at = n ? memmem(json, n, sign_key, strlen(sign_key)) : NULL;
    const char *end = (const char *)json + n;
    if (at)
        for (at += strlen(sign_key); at < end && *at != '"'; at++)
            if (i < INDEXFILE_SESSION_BYTES - 1)
                out[i++] = *at;
    out[i] = '\0';
}

void indexfile_fini(struct indexfile *f)
{
    buf_fini(&f->living);
    buf_fini(&f->dying);
    *f = (struct indexfile){0};
}

void indexfile_add(struct indexfile *f, const struct indexfile_pack *p,
                   struct go_time now)
{
    struct buf *to = p->dying ? &f->dying : &f->living;
    char hex[65];
    digest_hex(&p->id, hex);
    buf_printf(to, "%s{\"id\":\"%s\",\"blobs\":[", to->len ? "," : "", hex);
    for (size_t i = 0; i < p->n; i++) {
        const struct blob_entry *e = &p->blobs[i];
        digest_hex(&e->id, hex);
        buf_printf(to, "%s{\"id\":\"%s\",\"type\":\"%s\",\"offset\":%u,\"length\":%u",
                   i ? "," : "", hex, e->type == BLOB_TREE ? "tree" : "data", e->offset,
                   e->length);
        if (e->plain)
            buf_printf(to, ",\"uncompressed_length\":%u", e->plain);
        buf_char(to, '}');
    }
    buf_char(to, ']');
    if (p->dying) {
        buf_str(to, ",\"time\":\"");
        go_time_format(to, now);
        buf_char(to, '"');
    }
    buf_char(to, '}');
    f->packs++;
    f->blobs += p->n;
}

bool indexfile_is_full(const struct indexfile *f)
{
    return f->blobs >= INDEXFILE_BLOBS_MAX;
}

void indexfile_end(struct indexfile *f, struct buf *out)
{
    buf_printf(out, "{\"packs\":[%s]", buf_text(&f->living));
    if (f->dying.len)
        buf_printf(out, ",\"%s\":[%s]", dying_key, buf_text(&f->dying));
    buf_str(out, "}\n");
    indexfile_fini(f);
}

/* Depths of {"packs":[{"id":…,"blobs":[{…}]}]}. */
enum { IN_TOP = 1, IN_PACKS, IN_PACK, IN_BLOBS, IN_BLOB };
/* What a blob must have, as bits. */
enum { HAS_ID = 1, HAS_TYPE = 2, HAS_OFFSET = 4, HAS_LENGTH = 8, HAS_ALL = 15 };

struct reader {
    indexfile_visit *visit;
    void *ctx;
    bool in_packs; /* below one of the two lists */
    bool dying;
    char pack_key[8];
    char blob_key[24];
    bool have_id;
    struct digest id;
    unsigned have;
    struct blob_entry blob;
    struct blob_entry *blobs;
    size_t n;
    size_t cap;
};

static void keep_key(const struct jscan_event *ev, char *out, size_t bytes)
{
    size_t n = ev->len < bytes ? ev->len : 0; /* longer keys are none of ours */
    memcpy(out, ev->text, n);
    out[n] = '\0';
}

static struct err *id_of(const struct jscan_event *ev, struct digest *out)
{
    char hex[65] = {0};
    if (ev->what == JSCAN_STRING && ev->len == 64)
        memcpy(hex, ev->text, 64);
    if (!digest_parse(hex, out))
        return err_new(ERR_CORRUPT, "index: an id is malformed");
    return NULL;
}

static struct err *number_of(struct reader *r, const struct jscan_event *ev, unsigned bit,
                             uint32_t *out)
{
    uint64_t v;
    TRY_CTX(jscan_u64(ev, UINT32_MAX, &v), "index");
    *out = (uint32_t)v;
    r->have |= bit;
    return NULL;
}

static struct err *blob_value(struct reader *r, const struct jscan_event *ev)
{
    if (strcmp(r->blob_key, "id") == 0) {
        r->have |= HAS_ID;
        return id_of(ev, &r->blob.id);
    }
    if (strcmp(r->blob_key, "type") == 0) {
        if (!jscan_is(ev, "data") && !jscan_is(ev, "tree"))
            return err_new(ERR_CORRUPT, "index: a blob has an unknown type");
        r->blob.type = jscan_is(ev, "tree") ? BLOB_TREE : BLOB_DATA;
        r->have |= HAS_TYPE;
        return NULL;
    }
    if (strcmp(r->blob_key, "offset") == 0)
        return number_of(r, ev, HAS_OFFSET, &r->blob.offset);
    if (strcmp(r->blob_key, "length") == 0)
        return number_of(r, ev, HAS_LENGTH, &r->blob.length);
    if (strcmp(r->blob_key, "uncompressed_length") == 0)
        return number_of(r, ev, 0, &r->blob.plain);
    return NULL;
}

static struct err *blob_end(struct reader *r)
{
    if (r->have != HAS_ALL)
        return err_new(ERR_CORRUPT, "index: a blob lacks a field");
    mem_reserve((void **)&r->blobs, &r->cap, r->n, sizeof *r->blobs);
    r->blobs[r->n++] = r->blob;
    return NULL;
}

static struct err *pack_end(struct reader *r)
{
    if (!r->have_id)
        return err_new(ERR_CORRUPT, "index: a pack lacks its id");
    const struct indexfile_pack p = {r->id, r->dying, r->blobs, r->n};
    return r->visit(r->ctx, &p);
}

static struct err *in_pack(struct reader *r, const struct jscan_event *ev)
{
    if (ev->what == JSCAN_KEY) {
        keep_key(ev, r->pack_key, sizeof r->pack_key);
        return NULL;
    }
    if (strcmp(r->pack_key, "id") != 0)
        return NULL;
    r->have_id = true;
    return id_of(ev, &r->id);
}

static struct err *in_blobs(struct reader *r, const struct jscan_event *ev)
{
    if (ev->depth == IN_BLOBS && ev->what == JSCAN_MAP) {
        r->have = 0;
        r->blob = (struct blob_entry){0};
    } else if (ev->depth == IN_BLOBS && ev->what == JSCAN_MAP_END) {
        return blob_end(r);
    } else if (ev->depth == IN_BLOB && ev->what == JSCAN_KEY) {
        keep_key(ev, r->blob_key, sizeof r->blob_key);
    } else if (ev->depth == IN_BLOB) {
        return blob_value(r, ev);
    }
    return NULL;
}

static struct err *on_event(void *ctx, const struct jscan_event *ev)
{
    struct reader *r = ctx;
    if (ev->depth == IN_TOP && ev->what == JSCAN_KEY) {
        r->dying = jscan_is(ev, dying_key);
        r->in_packs = r->dying || jscan_is(ev, "packs");
    }
    if (!r->in_packs || ev->depth <= IN_TOP)
        return NULL;
    if (ev->depth == IN_PACKS && ev->what == JSCAN_MAP) {
        r->n = 0;
        r->have_id = false;
        r->pack_key[0] = '\0';
        return NULL;
    }
    if (ev->depth == IN_PACKS && ev->what == JSCAN_MAP_END)
        return pack_end(r);
    if (ev->depth == IN_PACK)
        return in_pack(r, ev);
    return strcmp(r->pack_key, "blobs") == 0 ? in_blobs(r, ev) : NULL;
}

struct err *indexfile_read(const void *json, size_t n, indexfile_visit *visit, void *ctx)
{
    struct reader r = {.visit = visit, .ctx = ctx};
    struct err *e = jscan(json, n, on_event, &r);
    free(r.blobs);
    return e;
}
