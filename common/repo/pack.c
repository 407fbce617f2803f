#include "common/repo/pack.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"

struct err *pack_new(struct store *s, struct pack **out)
{
    AUTO(pack) struct pack *p = mem_zalloc(sizeof *p);
    p->hash = hash_new();
    TRY(store_begin(s, "data", &p->upload));
    *out = STEAL(p);
    return NULL;
}

void pack_free(struct pack *p)
{
    if (!p)
        return;
    struct digest unused;
    store_abort(p->upload);
    if (p->hash)
        hash_end(p->hash, &unused);
    free(p->blobs);
    free(p);
}

struct err *pack_add_part(struct pack *p, const void *sealed, size_t n)
{
    assert(p->bytes + n <= UINT32_MAX);
    p->bytes += n;
    return store_append(p->upload, sealed, n);
}

void pack_end_parts(struct pack *p, const struct blob_entry *blob)
{
    assert(p->n == 0 || p->blobs[0].type == blob->type);
    mem_reserve((void **)&p->blobs, &p->cap, p->n, sizeof *p->blobs);
    p->blobs[p->n] = *blob;
    p->blobs[p->n++].offset = (uint32_t)(p->bytes - blob->length);
}

struct err *pack_add(struct pack *p, const struct blob_entry *blob, const void *sealed)
{
    TRY(pack_add_part(p, sealed, blob->length));
    pack_end_parts(p, blob);
    return NULL;
}

bool pack_is_full(const struct pack *p)
{
    return p->bytes >= PACK_TARGET || p->n >= PACK_BLOBS_MAX;
}

static void add_u32(struct buf *b, uint32_t v)
{
    const uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
                           (uint8_t)(v >> 24)};
    buf_add(b, le, sizeof le);
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

struct err *pack_finish(struct pack *p, struct crypt *c, struct digest *id)
{
    AUTO_BUF struct buf header = {0};
    AUTO_BUF struct buf tail = {0};
    for (size_t i = 0; i < p->n; i++) {
        const struct blob_entry *e = &p->blobs[i];
        buf_char(&header, (char)(e->type + (e->plain ? 2 : 0)));
        add_u32(&header, e->length);
        if (e->plain)
            add_u32(&header, e->plain);
        buf_add(&header, e->id.b, sizeof e->id.b);
    }
    size_t sealed = header.len + CRYPT_OVERHEAD;
    crypt_seal(c, buf_text(&header), header.len, buf_room(&tail, sealed));
    tail.len += sealed;
    add_u32(&tail, (uint32_t)sealed);
    struct err *e = pack_add_part(p, tail.data, tail.len);
    hash_add(p->hash, tail.data, tail.len);
    hash_end(STEAL(p->hash), id);
    return e;
}

struct err *pack_commit(struct pack *p, const char *name)
{
    return store_commit(STEAL(p->upload), name);
}

static struct err *parse_entries(const uint8_t *h, size_t n, uint64_t blobs_end,
                                 struct blob_entry **out, size_t *count)
{
    struct blob_entry *list = NULL;
    size_t cap = 0, used = 0;
    uint64_t offset = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        size_t size = h[i] & 2 ? PACK_ENTRY_PACKED : PACK_ENTRY_PLAIN;
        ok = h[i] < 4 && i + size <= n;
        if (!ok)
            break;
        struct blob_entry e = {.type = h[i] & 1, .offset = (uint32_t)offset};
        e.length = get_u32(h + i + 1);
        e.plain = h[i] & 2 ? get_u32(h + i + 5) : 0;
        memcpy(e.id.b, h + i + size - sizeof e.id.b, sizeof e.id.b);
        offset += e.length;
        ok = e.length >= CRYPT_OVERHEAD && offset <= blobs_end && offset <= UINT32_MAX;
        mem_reserve((void **)&list, &cap, used, sizeof *list);
        list[used++] = e;
        i += size;
    }
    if (!ok || offset != blobs_end) {
        free(list);
        return err_new(ERR_CORRUPT, "the pack's header does not describe its bytes");
    }
    *out = list;
    *count = used;
    return NULL;
}

struct err *pack_read_header(struct crypt *c, const void *tail, size_t tail_n,
                             uint64_t bytes, struct blob_entry **out, size_t *n)
{
    if (tail_n < PACK_TRAILER + CRYPT_OVERHEAD)
        return err_new(ERR_CORRUPT, "the pack is too short to have a header");
    const uint8_t *end = (const uint8_t *)tail + tail_n - PACK_TRAILER;
    size_t sealed = get_u32(end);
    if (sealed < CRYPT_OVERHEAD || sealed > PACK_HEADER_MAX ||
        sealed > tail_n - PACK_TRAILER)
        return err_new(ERR_CORRUPT, "the pack's header length %zu is impossible", sealed);
    size_t plain = sealed - CRYPT_OVERHEAD;
    AUTO(str) char *header = mem_alloc(plain);
    TRY_CTX(crypt_open(c, end - sealed, sealed, header), "the pack's header");
    return parse_entries((const uint8_t *)header, plain, bytes - PACK_TRAILER - sealed,
                         out, n);
}
