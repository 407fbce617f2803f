/* Index files as documents, pack by pack, for those who rewrite them: `reclaim` and
 * `repair-index`. A pack is listed either as living, or as dying: on its way out, still
 * readable, but nothing may be deduplicated against it any more. Stock restic ignores the
 * list of the dying, so for it they are in no index. Pure. */
#ifndef COMMON_REPO_INDEXFILE_H
#define COMMON_REPO_INDEXFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/repo/gotext.h"
#include "common/repo/index.h"

/* restic begins a new index file at this many blobs. */
enum { INDEXFILE_BLOBS_MAX = 50000 };

struct indexfile_pack {
    struct digest id;
    bool dying;
    const struct blob_entry *blobs; /* .pack unset; in the file's order */
    size_t n;
};

/* Told of each pack; everything is borrowed for the call. */
typedef struct err *indexfile_visit(void *ctx, const struct indexfile_pack *p);
/* CORRUPT: it is no index file. */
struct err *indexfile_read(const void *json, size_t n, indexfile_visit *visit,
                           void *ctx) MUST_USE;
/* True if the document lists dying packs; a quick look. */
bool indexfile_has_dying(const void *json, size_t n);

/* Adds to the JSON of an index file which run of a program wrote it; other programs
 * ignore that. Needs: a session of letters and digits. */
void indexfile_sign(struct buf *json, const char *session);
enum { INDEXFILE_SESSION_BYTES = 40 };
/* Reads what indexfile_sign added; empty if there is nothing. */
void indexfile_signer(const void *json, size_t n, char out[INDEXFILE_SESSION_BYTES]);

/* A document being written; a zeroed struct is an empty one. */
struct indexfile {
    struct buf living;
    struct buf dying;
    size_t packs;
    size_t blobs;
};
void indexfile_fini(struct indexfile *f);
/* `now` is noted beside dying packs. */
void indexfile_add(struct indexfile *f, const struct indexfile_pack *p,
                   struct go_time now);
/* True if it is time to write it and to begin another. */
bool indexfile_is_full(const struct indexfile *f);
/* Appends the JSON and empties the document. */
void indexfile_end(struct indexfile *f, struct buf *out);

#endif
