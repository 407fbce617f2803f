/* zstd frames as restic stores them: one frame per unit, no dictionary, content size
 * present. One `struct zst` per thread; the project's only door to zstd. */
#ifndef COMMON_REPO_ZST_H
#define COMMON_REPO_ZST_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"

struct zst;
struct zst *zst_new(void);
void zst_free(struct zst *z);
DEFINE_AUTO(zst, struct zst *, zst_free);

/* Most bytes that packing n bytes can need. */
size_t zst_bound(size_t n);
/* Packs n bytes into out[cap] (cap >= zst_bound(n)) and returns the packed length. */
size_t zst_pack(struct zst *z, const void *data, size_t n, void *out, size_t cap);
/* Unpacks a frame into out[n]; CORRUPT unless it holds exactly n bytes. */
struct err *zst_unpack(struct zst *z, const void *frame, size_t frame_n, void *out,
                       size_t n) MUST_USE;
/* Unpacks a frame of unknown size, appending to `out`. LIMIT: above `limit` bytes. */
struct err *zst_unpack_all(struct zst *z, const void *frame, size_t frame_n, size_t limit,
                           struct buf *out) MUST_USE;

#endif
