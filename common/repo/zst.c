#include "common/repo/zst.h"

#include <assert.h>
#include <zstd.h>

#include "common/base/mem.h"

/* restic's "auto" is about this level: on databases 2.7 times smaller at 190 MB/s. */
enum { LEVEL = 3, STEP = 256 * 1024 };

struct zst {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
};

struct zst *zst_new(void)
{
    struct zst *z = mem_zalloc(sizeof *z);
    z->pack = ZSTD_createCCtx();
    z->unpack = ZSTD_createDCtx();
    assert(z->pack && z->unpack);
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

size_t zst_bound(size_t n)
{
    return ZSTD_compressBound(n);
}

size_t zst_pack(struct zst *z, const void *data, size_t n, void *out, size_t cap)
{
    size_t got = ZSTD_compressCCtx(z->pack, out, cap, data, n, LEVEL);
    assert(!ZSTD_isError(got));
    return got;
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

struct err *zst_unpack_all(struct zst *z, const void *frame, size_t frame_n, size_t limit,
                           struct buf *out)
{
    ZSTD_DCtx_reset(z->unpack, ZSTD_reset_session_only);
    ZSTD_inBuffer in = {frame, frame_n, 0};
    size_t total = 0, left = 1;
    while (left) {
        ZSTD_outBuffer to = {buf_room(out, STEP), STEP, 0};
        size_t before = in.pos;
        left = ZSTD_decompressStream(z->unpack, &to, &in);
        if (ZSTD_isError(left))
            return err_new(ERR_CORRUPT, "bad zstd frame: %s", ZSTD_getErrorName(left));
        out->len += to.pos;
        out->data[out->len] = '\0';
        total += to.pos;
        if (total > limit)
            return err_new(ERR_LIMIT, "zstd frame holds more than %zu bytes", limit);
        if (left && to.pos == 0 && in.pos == before)
            return err_new(ERR_CORRUPT, "zstd frame is cut short");
    }
    if (in.pos != in.size)
        return err_new(ERR_CORRUPT, "bytes follow the zstd frame");
    return NULL;
}
