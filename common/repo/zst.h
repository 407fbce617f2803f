/* zstd frames as restic stores them: one frame per unit, no dictionary, content size
 * present. One `struct zst` per thread; the project's only door to zstd. */
#ifndef COMMON_REPO_ZST_H
#define COMMON_REPO_ZST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"

/* What compressing may cost. */
enum zst_effort {
    ZST_AUTO, /* the default: close to restic's in bytes, at a third of the work */
    ZST_OFF,  /* data is stored as it is; trees and indexes are compressed nevertheless */
    ZST_FASTEST,
    ZST_BETTER,
    ZST_MAX,
    ZST_EFFORTS,
};
/* "auto", "off"…: static. */
extern const char *const zst_effort_names[ZST_EFFORTS];

struct zst;
struct zst *zst_new(void);
/* From now on; ZST_OFF means the same as ZST_AUTO here. */
void zst_set_effort(struct zst *z, enum zst_effort effort);
void zst_free(struct zst *z);
DEFINE_AUTO(zst, struct zst *, zst_free);

/* Most bytes that packing n bytes can need. */
size_t zst_bound(size_t n);
/* Packs n bytes into out[cap] (cap >= zst_bound(n)) and returns the packed length. */
size_t zst_pack(struct zst *z, const void *data, size_t n, void *out, size_t cap);
/* Takes a part of what is packed or unpacked; the bytes are borrowed for the call. */
typedef struct err *zst_sink(void *ctx, const void *data, size_t n);
/* Packs a frame of n bytes that come in parts; its bytes go to the sink, whose errors are
 * passed on. CONFLICT, at the end: there were more or fewer. */
void zst_pack_begin(struct zst *z, size_t n);
struct err *zst_pack_part(struct zst *z, const void *data, size_t n, zst_sink *sink,
                          void *ctx) MUST_USE;
struct err *zst_pack_end(struct zst *z, zst_sink *sink, void *ctx) MUST_USE;
/* True if compressing would hardly make it smaller, as far as samples tell: compressed
 * and encrypted data is not worth the time. False for anything short. */
bool zst_is_dense(struct zst *z, const void *data, size_t n);
/* Unpacks a frame into out[n]; CORRUPT unless it holds exactly n bytes. */
struct err *zst_unpack(struct zst *z, const void *frame, size_t frame_n, void *out,
                       size_t n) MUST_USE;
/* Unpacks a frame that comes in parts: begin, then some of in[in_n] into out[*out_n], so
 * often as there is more; both counts become what was used. CORRUPT. */
void zst_unpack_begin(struct zst *z);
struct err *zst_unpack_some(struct zst *z, const void *in, size_t *in_n, void *out,
                            size_t *out_n) MUST_USE;
/* Unpacks a frame of unknown size part by part. LIMIT: above `limit` bytes. */
struct err *zst_unpack_to(struct zst *z, const void *frame, size_t frame_n, size_t limit,
                          zst_sink *sink, void *ctx) MUST_USE;
/* Unpacks a frame of unknown size, appending to `out`. LIMIT: above `limit` bytes. */
struct err *zst_unpack_all(struct zst *z, const void *frame, size_t frame_n, size_t limit,
                           struct buf *out) MUST_USE;

#endif
