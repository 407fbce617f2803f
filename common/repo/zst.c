#include "common/repo/zst.h"

#include <assert.h>
#include <zstd.h>

#include "common/base/mem.h"

enum {
    STEP = 256 * 1024,
    /* Of dense data: this many pieces of this length, in blobs from this length on. */
    SAMPLES = 8,
    SAMPLE = 4 << 10,
    DENSE_MIN = 256 << 10,
    LONG_HASH_LOG = 14,
    LONG_MIN_MATCH = 5,
};

/* Level 1 stores 3 % more than restic's "auto" at a third of its time, level 2 as much;
 * 3 is smaller than it. */
static const int levels[ZST_EFFORTS] = {
    [ZST_AUTO] = 1, [ZST_OFF] = 1, [ZST_FASTEST] = -1, [ZST_BETTER] = 3, [ZST_MAX] = 12,
};
const char *const zst_effort_names[ZST_EFFORTS] = {
    [ZST_AUTO] = "auto",     [ZST_OFF] = "off", [ZST_FASTEST] = "fastest",
    [ZST_BETTER] = "better", [ZST_MAX] = "max",
};

struct zst {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
    int level;
};

struct zst *zst_new(void)
{
    struct zst *z = mem_zalloc(sizeof *z);
    z->pack = ZSTD_createCCtx();
    z->unpack = ZSTD_createDCtx();
    assert(z->pack && z->unpack);
    z->level = levels[ZST_AUTO];
    return z;
}

void zst_free(struct zst *z)
{
    if (!z)
        return;
    ZSTD_freeCCtx(z->pack);
    ZSTD_freeDCtx(z->unpack);
    free(z);
}

void zst_set_effort(struct zst *z, enum zst_effort effort)
{
    z->level = levels[effort];
}

size_t zst_bound(size_t n)
{
    return ZSTD_compressBound(n);
}

/* Long blobs repeat themselves in ways that level 1 misses because it looks for at least
 * seven equal bytes: on a database it stores a fifth more than level 3. With five, and a
 * table that fits the nearest caches, it stores what level 3 does (4 % more of programs
 * and texts) in 60 to 70 % of its time. A larger table costs more than it saves. */
static bool is_long(const struct zst *z, size_t n)
{
    return n >= DENSE_MIN && z->level == levels[ZST_AUTO];
}

static void prepare(struct zst *z, size_t n)
{
    ZSTD_CCtx_reset(z->pack, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(z->pack, ZSTD_c_compressionLevel, z->level);
    if (is_long(z, n)) {
        ZSTD_CCtx_setParameter(z->pack, ZSTD_c_hashLog, LONG_HASH_LOG);
        ZSTD_CCtx_setParameter(z->pack, ZSTD_c_minMatch, LONG_MIN_MATCH);
    }
}

size_t zst_pack(struct zst *z, const void *data, size_t n, void *out, size_t cap)
{
    size_t got;
    if (is_long(z, n)) {
        prepare(z, n);
        got = ZSTD_compress2(z->pack, out, cap, data, n);
    } else {
        got = ZSTD_compressCCtx(z->pack, out, cap, data, n, z->level);
    }
    assert(!ZSTD_isError(got));
    return got;
}

void zst_pack_begin(struct zst *z, size_t n)
{
    prepare(z, n);
    ZSTD_CCtx_setPledgedSrcSize(z->pack, n);
}

static struct err *pack_some(struct zst *z, ZSTD_inBuffer *in, ZSTD_EndDirective what,
                             zst_sink *sink, void *ctx)
{
    AUTO(str) char *room = mem_alloc(STEP);
    size_t left = 1;
    while (what == ZSTD_e_end ? left > 0 : in->pos < in->size) {
        ZSTD_outBuffer to = {room, STEP, 0};
        left = ZSTD_compressStream2(z->pack, &to, in, what);
        if (ZSTD_isError(left))
            return err_new(ERR_CONFLICT, "compress: %s", ZSTD_getErrorName(left));
        if (to.pos)
            TRY(sink(ctx, room, to.pos));
    }
    return NULL;
}

struct err *zst_pack_part(struct zst *z, const void *data, size_t n, zst_sink *sink,
                          void *ctx)
{
    ZSTD_inBuffer in = {data, n, 0};
    return pack_some(z, &in, ZSTD_e_continue, sink, ctx);
}

struct err *zst_pack_end(struct zst *z, zst_sink *sink, void *ctx)
{
    ZSTD_inBuffer in = {NULL, 0, 0};
    return pack_some(z, &in, ZSTD_e_end, sink, ctx);
}

bool zst_is_dense(struct zst *z, const void *data, size_t n)
{
    char room[SAMPLE + SAMPLE / 64];
    const char *from = data;
    if (n < DENSE_MIN)
        return false;
    for (size_t i = 0; i < SAMPLES; i++) {
        const char *at = from + (n - SAMPLE) / (SAMPLES - 1) * i;
        size_t got =
            ZSTD_compressCCtx(z->pack, room, sizeof room, at, SAMPLE, levels[ZST_AUTO]);
        if (ZSTD_isError(got) || got < SAMPLE - SAMPLE / 64)
            return false;
    }
    return true;
}

struct err *zst_unpack(struct zst *z, const void *frame, size_t frame_n, void *out,
                       size_t n)
{
    size_t got = ZSTD_decompressDCtx(z->unpack, out, n, frame, frame_n);
    if (ZSTD_isError(got))
        return err_new(ERR_CORRUPT, "bad zstd frame: %s", ZSTD_getErrorName(got));
    if (got != n)
        return err_new(ERR_CORRUPT, "zstd frame holds %zu bytes, expected %zu", got, n);
    return NULL;
}

void zst_unpack_begin(struct zst *z)
{
    ZSTD_DCtx_reset(z->unpack, ZSTD_reset_session_only);
}

struct err *zst_unpack_some(struct zst *z, const void *in, size_t *in_n, void *out,
                            size_t *out_n)
{
    ZSTD_inBuffer from = {in, *in_n, 0};
    ZSTD_outBuffer to = {out, *out_n, 0};
    size_t left = ZSTD_decompressStream(z->unpack, &to, &from);
    if (ZSTD_isError(left))
        return err_new(ERR_CORRUPT, "bad zstd frame: %s", ZSTD_getErrorName(left));
    *in_n = from.pos;
    *out_n = to.pos;
    return NULL;
}

struct err *zst_unpack_to(struct zst *z, const void *frame, size_t frame_n, size_t limit,
                          zst_sink *sink, void *ctx)
{
    AUTO(str) char *room = mem_alloc(STEP);
    ZSTD_DCtx_reset(z->unpack, ZSTD_reset_session_only);
    ZSTD_inBuffer in = {frame, frame_n, 0};
    size_t total = 0, left = 1;
    while (left) {
        ZSTD_outBuffer to = {room, STEP, 0};
        size_t before = in.pos;
        left = ZSTD_decompressStream(z->unpack, &to, &in);
        if (ZSTD_isError(left))
            return err_new(ERR_CORRUPT, "bad zstd frame: %s", ZSTD_getErrorName(left));
        total += to.pos;
        if (total > limit)
            return err_new(ERR_LIMIT, "zstd frame holds more than %zu bytes", limit);
        if (left && to.pos == 0 && in.pos == before)
            return err_new(ERR_CORRUPT, "zstd frame is cut short");
        TRY(sink(ctx, room, to.pos));
    }
    if (in.pos != in.size)
        return err_new(ERR_CORRUPT, "bytes follow the zstd frame");
    return NULL;
}

static struct err *collect(void *ctx, const void *data, size_t n)
{
    buf_add(ctx, data, n);
    return NULL;
}

struct err *zst_unpack_all(struct zst *z, const void *frame, size_t frame_n, size_t limit,
                           struct buf *out)
{
    return zst_unpack_to(z, frame, frame_n, limit, collect, out);
}
