/* Content out of a snapshot as one stream: a file as it is, a directory as a tar archive
 * (POSIX.1-2001, "pax"), with owners, times to the nanosecond and extended attributes. */
#ifndef COMMON_ENGINE_DUMP_H
#define COMMON_ENGINE_DUMP_H

#include <stdatomic.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/repo.h"

/* Takes the next n bytes. */
typedef struct err *dump_write(void *ctx, const void *data, size_t n);

/* Writes what is at `path` below `tree`. INVALID: it is neither file nor directory.
 * CORRUPT: stored data is damaged; what was written before stands. `cancel` may be NULL.
 * Needs: index loaded. */
struct err *dump_path(struct repo_io *io, const struct digest *tree, const char *path,
                      dump_write *write, void *ctx, const atomic_bool *cancel) MUST_USE;

#endif
