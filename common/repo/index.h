/* Which pack holds which blob: the contents of a repository's index files in memory
 * (about 60 bytes a blob). Not locked: its user does that. */
#ifndef COMMON_REPO_INDEX_H
#define COMMON_REPO_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/hash.h"

enum blob_type { BLOB_DATA = 0, BLOB_TREE = 1 };
enum { BLOB_TYPES = 2 };

/* One copy of a blob. */
struct blob_entry {
    struct digest id;
    uint32_t pack;   /* position in index.packs */
    uint32_t offset; /* in the pack */
    uint32_t length; /* as stored, with encryption overhead */
    uint32_t plain;  /* length before compression, 0: stored plain */
    uint8_t type;    /* enum blob_type */
};

struct pack_entry {
    struct digest id;
    uint32_t first; /* its blobs are entries[first … first + count), by offset */
    uint32_t count;
};

struct index {
    struct blob_entry *entries;
    size_t entries_n;
    size_t entries_cap;
    struct pack_entry *packs;
    size_t packs_n;
    size_t packs_cap;
    uint32_t *slots; /* hash table over entries: position + 1, 0 free */
    size_t slots_n;  /* power of two */
    uint32_t *pack_slots;
    size_t pack_slots_n;
};

/* A zeroed struct is an empty index. */
void index_fini(struct index *ix);

/* Adds a pack with all its blobs (their .pack is set here). A pack that is known with the
 * same blobs is skipped. CORRUPT: it is known with other blobs, or blobs overlap. LIMIT:
 * more than 2^32 - 2 blobs. */
struct err *index_add_pack(struct index *ix, const struct digest *id,
                           const struct blob_entry *blobs, size_t n) MUST_USE;
/* First copy of a blob, or NULL; with `after`, the copy after that one. */
const struct blob_entry *index_find(const struct index *ix, enum blob_type type,
                                    const struct digest *id,
                                    const struct blob_entry *after);
const struct pack_entry *index_find_pack(const struct index *ix, const struct digest *id);
/* Bytes of the blob's content. */
uint64_t blob_entry_bytes(const struct blob_entry *e);
/* The file size that the pack's entries imply. */
uint64_t index_pack_bytes(const struct index *ix, const struct pack_entry *p);

/* Adds everything an index file (plain JSON) lists. */
struct err *index_read(struct index *ix, const void *json, size_t n) MUST_USE;
/* Appends the JSON of packs [first, first + count). */
void index_write(const struct index *ix, size_t first, size_t count, struct buf *out);

#endif
