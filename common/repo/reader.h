/* Long blobs, read from their front part by part. One thread each. */
#ifndef COMMON_REPO_READER_H
#define COMMON_REPO_READER_H

#include "common/repo/repo.h"

struct repo_reader;
/* Opens the first copy of a blob and reads it through once, so that what comes later is
 * known to be sound. NOT_FOUND: not indexed; CORRUPT. Needs some 400 KiB of memory. */
struct err *repo_reader_open(struct repo *r, enum blob_type type, const struct digest *id,
                             struct repo_reader **out) MUST_USE;
/* Reads n bytes of content, fewer only at its end: *got. CORRUPT, at the end: the stored
 * bytes changed since it was opened. */
struct err *repo_reader_read(struct repo_reader *rd, void *out, size_t n,
                             size_t *got) MUST_USE;
void repo_reader_free(struct repo_reader *rd);
DEFINE_AUTO(repo_reader, struct repo_reader *, repo_reader_free);

#endif
