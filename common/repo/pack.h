/* Pack files: sealed blobs, one after the other, then a sealed list of them. A pack holds
 * either data or trees, and is written to its store while it grows; one thread a pack. */
#ifndef COMMON_REPO_PACK_H
#define COMMON_REPO_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/repo/crypt.h"
#include "common/repo/index.h"
#include "common/store/store.h"

enum {
    PACK_TARGET = 16 << 20, /* a pack is closed when it reaches this */
    PACK_TRAILER = 4,       /* the header's length, little endian, at the very end */
    PACK_ENTRY_PLAIN = 37,
    PACK_ENTRY_PACKED = 41,
    PACK_HEADER_MAX = 16 << 20,
    PACK_BLOBS_MAX = 10000, /* so that one index file can always hold whole packs */
};

/* A pack being filled. */
struct pack {
    struct store_upload *upload;
    struct hash *hash; /* of the bytes so far */
    uint64_t bytes;
    struct blob_entry *blobs;
    size_t n;
    size_t cap;
};

/* Begins a pack in the store. */
struct err *pack_new(struct store *s, struct pack **out) MUST_USE;
/* Gives up what was not finished. */
void pack_free(struct pack *p);
DEFINE_AUTO(pack, struct pack *, pack_free);
/* Appends a sealed blob, whose offset is set here. The caller has added the same bytes to
 * p->hash. */
struct err *pack_add(struct pack *p, const struct blob_entry *blob,
                     const void *sealed) MUST_USE;
/* The same for a blob that comes in parts; the last call sets its offset. */
struct err *pack_add_part(struct pack *p, const void *sealed, size_t n) MUST_USE;
void pack_end_parts(struct pack *p, const struct blob_entry *blob);
bool pack_is_full(const struct pack *p);
/* Appends header and trailer and tells the pack's id. */
struct err *pack_finish(struct pack *p, struct crypt *c, struct digest *id) MUST_USE;
/* Stores a finished pack as object `name`. */
struct err *pack_commit(struct pack *p, const char *name) MUST_USE;

/* Reads the header of a whole pack (or of its last bytes, with `bytes` the file's size).
 * Entries go to *out (malloc), offsets included. CORRUPT: whatever does not fit. */
struct err *pack_read_header(struct crypt *c, const void *tail, size_t tail_n,
                             uint64_t bytes, struct blob_entry **out, size_t *n) MUST_USE;

#endif
