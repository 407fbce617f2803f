/* What a copied or reflinked capture cannot keep of its source: inode numbers, times of
 * change, devices. A capture's manifest, written beside it while it was made, tells them,
 * so that files do not look changed at every backup, and trees come out the same. The
 * format stands in proto/RECORDS.md. Any thread, once loaded. */
#ifndef COMMON_ENGINE_MANIFEST_H
#define COMMON_ENGINE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "common/base/attr.h"
#include "common/base/err.h"

struct manifest_entry {
    uint64_t inode;
    int64_t ctime_s;
    uint32_t ctime_ns;
    uint64_t device; /* st_dev of the source */
};

struct manifest;
/* Maps the file; takes at most 16 bytes of memory for each entry besides. NOT_FOUND;
 * CORRUPT: it is none, or has no end. */
struct err *manifest_open(const char *file, struct manifest **out) MUST_USE;
void manifest_close(struct manifest *m);
DEFINE_AUTO(manifest, struct manifest *, manifest_close);

/* What it says of `path`, relative to the capture ("." is its root); false: nothing. */
bool manifest_find(const struct manifest *m, const char *path,
                   struct manifest_entry *out);
/* When its capture was finished, by the node's clock. */
struct timespec manifest_made(const struct manifest *m);

#endif
