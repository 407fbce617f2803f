/* Long blobs, read from their front part by part. One thread each. */
#ifndef COMMON_REPO_READER_H
#define COMMON_REPO_READER_H

#include "common/repo/repo.h"

struct repo_reader;
/* Opens whichever copy of a blob is good, having read it through once, so that what comes
 * later is known to be sound. NOT_FOUND: not indexed; CORRUPT: every copy is damaged.
 * Needs some 400 KiB of memory, and the io only now. */
struct err *repo_reader_open(struct repo_io *io, enum blob_type type,
                             const struct digest *id, struct repo_reader **out) MUST_USE;
/* The same for a blob whose stored bytes are in memory and outlive the reader. */
struct err *repo_reader_open_held(struct repo *r, const struct blob_entry *e,
                                  const void *sealed, struct repo_reader **out) MUST_USE;
/* Reads n bytes of content, fewer only at its end: *got. CORRUPT, at the end: the stored
 * bytes changed since it was opened. */
struct err *repo_reader_read(struct repo_reader *rd, void *out, size_t n,
                             size_t *got) MUST_USE;
void repo_reader_free(struct repo_reader *rd);
DEFINE_AUTO(repo_reader, struct repo_reader *, repo_reader_free);

#endif
