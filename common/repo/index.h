/* Which pack holds which blob: what a repository's index files say. Most of it lies in a
 * sorted local file that is mapped (index_cache), what was added since in memory; both
 * look the same from here. At most 48 bytes a blob, given packs of a dozen blobs or more.
 * Not locked: its user does that. */
#ifndef COMMON_REPO_INDEX_H
#define COMMON_REPO_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/repo/idset.h"

enum blob_type { BLOB_DATA = 0, BLOB_TREE = 1 };
enum { BLOB_TYPES = 2 };

/* One copy of a blob. */
struct blob_entry {
    struct digest id;
    uint32_t pack;   /* number of the pack, for index_pack() */
    uint32_t offset; /* in the pack */
    uint32_t length; /* as stored, with encryption overhead */
    uint32_t plain;  /* length before compression, 0: stored plain */
    uint8_t type;    /* enum blob_type */
};

struct pack_entry {
    struct digest id;
    uint32_t first; /* of its records; index_blobs_of() reads them */
    uint32_t count;
};

/* A blob as it is kept: in its pack's order, so that offsets follow from lengths. */
struct index_record {
    struct digest id;
    uint32_t length;
    uint32_t plain; /* the top bit marks trees; INDEX_GAP: no blob, but skipped bytes */
};
enum { INDEX_GAP = 0x7fffffff };

/* Sorted, immutable records in one piece of memory. */
struct index_base {
    void *memory; /* NULL: there is none */
    size_t memory_n;
    const struct index_record *records;
    const struct pack_entry *packs;
    const uint32_t *order;      /* positions of records, by id */
    const uint32_t *pack_order; /* positions of packs, by id */
    size_t records_n;
    size_t packs_n;
    size_t blobs; /* records without gaps */
};

struct index {
    struct index_base base;       /* records and packs are numbered from here on … */
    struct index_record *records; /* … into these, which grow */
    size_t records_n;
    size_t records_cap;
    struct pack_entry *packs;
    size_t packs_n;
    size_t packs_cap;
    size_t blobs;    /* of records */
    uint32_t *slots; /* hash table over records: position + 1, 0 free */
    size_t slots_n;  /* power of two */
    uint32_t *pack_slots;
    size_t pack_slots_n;
    struct idset dying; /* packs that are listed as on their way out, and not used */
};

/* For index_cache: makes the tables over records and packs anew. */
void index_link(struct index *ix);
/* A zeroed struct is an empty index. */
void index_fini(struct index *ix);

/* Adds a pack with all its blobs (any order, .pack is ignored). A pack that is known with
 * the same blobs is skipped. CORRUPT: it is known with other blobs, or blobs overlap.
 * LIMIT: more than 2^32 - 2 blobs. */
struct err *index_add_pack(struct index *ix, const struct digest *id,
                           const struct blob_entry *blobs, size_t n) MUST_USE;

/* How many packs and blobs (every copy counts). Packs are numbered from 0; numbers hold
 * until the index is compacted, which only saving blobs does. */
size_t index_packs(const struct index *ix);
size_t index_blobs(const struct index *ix);
/* Pack number `at`; borrowed until the next change. */
const struct pack_entry *index_pack(const struct index *ix, size_t at);
/* True if the pack is known; *at (may be NULL) is its number. */
bool index_find_pack(const struct index *ix, const struct digest *id, size_t *at);
/* The file size that the pack's entries imply. */
uint64_t index_pack_bytes(const struct index *ix, size_t at);

/* The blobs of a pack, by offset:
 *     struct index_cursor c = index_blobs_of(ix, pack);
 *     while (index_next(&c))
 *         … c.blob … */
struct index_cursor {
    struct blob_entry blob;
    const struct index_record *next;
    const struct index_record *end;
    uint64_t offset; /* of *next */
};
struct index_cursor index_blobs_of(const struct index *ix, size_t pack);
bool index_next(struct index_cursor *c);

/* Copy number `skip` (0: the first) of a blob goes to *out; false: there is none. */
bool index_find(const struct index *ix, enum blob_type type, const struct digest *id,
                size_t skip, struct blob_entry *out);
/* True if there is a copy, and of how many bytes its content is: quicker than finding
 * where, which walks through half a pack. */
bool index_bytes(const struct index *ix, enum blob_type type, const struct digest *id,
                 uint64_t *bytes);
/* True if there is a copy. */
bool index_has(const struct index *ix, enum blob_type type, const struct digest *id);
/* A number of the blob's own, below index_numbers(), for sets as bitmaps; holds as long
 * as those of packs. SIZE_MAX: it is not there. */
size_t index_number(const struct index *ix, enum blob_type type, const struct digest *id);
size_t index_numbers(const struct index *ix);
/* Bytes of the blob's content. */
uint64_t blob_entry_bytes(const struct blob_entry *e);

/* Adds everything an index file (plain JSON) lists. */
struct err *index_read(struct index *ix, const void *json, size_t n) MUST_USE;
/* The same for a file that comes in pieces: begin, feed (a zst_sink)…, end. */
struct index_reader;
struct index_reader *index_reader_begin(struct index *ix);
struct err *index_reader_feed(void *reader, const void *json, size_t n) MUST_USE;
struct err *index_reader_end(struct index_reader *r) MUST_USE;
/* Appends the JSON of packs [first, first + count). */
void index_write(const struct index *ix, size_t first, size_t count, struct buf *out);

#endif
