/* Which bytes of a file may differ from the same file in an older capture, told by where
 * both lie on disk instead of by reading them: two files that share a block hold the same
 * bytes there, as long as both exist and nobody writes to either.
 *
 * What needs trust, and is the caller's to make sure of: both files belong to captures
 * that have not been written to since the older one was stored (base.h), and are on the
 * same mounted filesystem. Where the maps themselves cannot be trusted, the bytes count
 * as changed: extents that are inline, encoded in an unknown way, preallocated, not yet
 * placed, on a realtime device, or beyond the smaller end of file (truncation leaves a
 * map as it is). Maps are read twice, before and after the comparison, since a balance
 * may move extents meanwhile. Any thread; blocks. */
#ifndef COMMON_ENGINE_EXTENTS_H
#define COMMON_ENGINE_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum extents_kind {
    EXTENTS_NONE,  /* maps of this filesystem prove nothing */
    EXTENTS_BTRFS, /* items of the filesystem's tree: also for compressed extents */
    EXTENTS_XFS,   /* FIEMAP */
};

/* The kind of the filesystem that fd is on. */
enum extents_kind extents_kind_of(int fd);

struct extent_range {
    uint64_t start, end; /* bytes [start, end) */
};

/* Ranges in ascending order, none touching another. A zeroed struct is empty. */
struct extents {
    struct extent_range *ranges;
    size_t n, cap;
};
void extents_fini(struct extents *x);
#define AUTO_EXTENTS CLEANUP(extents_fini)

/* Fills an empty *changed with what may differ in [0, size of new): everything outside is
 * bit for bit the same in both. Ranges less than `gap` bytes apart are joined, so memory
 * is at most 16 bytes for each `gap` bytes of the file. Works on descriptors open for
 * reading. CONFLICT: a map changed meanwhile; INVALID: the files are not comparable;
 * DENIED: the maps may not be read; IO. After an error everything must count as changed.
 */
struct err *extents_changed(enum extents_kind kind, int old_fd, int new_fd, uint64_t gap,
                            struct extents *changed) MUST_USE;

/* True if no byte of [start, end) is in a range. `*hint`, zeroed at first, makes calls
 * with ascending `start` cheap. */
bool extents_miss(const struct extents *x, uint64_t start, uint64_t end, size_t *hint);

#endif
