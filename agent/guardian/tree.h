/* Copying a file tree with everything that can be read of it: all kinds of files, owner,
 * mode, extended attributes (ACLs are among them), times, hard links, holes. Doer only.
 *
 * The manifest beside the copy remembers what a copy cannot keep, so that files do not
 * look changed at the next backup. It begins with the line "stillpoint manifest 1"; then
 * one record for each file, in the order of the walk:
 *     <inode> <ctime seconds>.<nine digits> <device number> <path>NUL
 * all as of the source, the path relative to the partition ("." is itself). The last
 * record is "end <number of files>" and a NUL. */
#ifndef AGENT_GUARDIAN_TREE_H
#define AGENT_GUARDIAN_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

#define TREE_MAX_DEPTH 1024

enum tree_data {
    TREE_CLONE, /* share the blocks (FICLONE): same filesystem, nothing is copied */
    TREE_COPY,
};

/* Copies the partition's tree, open as `source`, without what it excludes, to `name` in
 * the open folder `dir` and writes name.manifest. Folders of other filesystems become
 * empty folders. */
struct err *tree_copy(const struct config_partition *p, int source, enum tree_data how,
                      int dir, const char *name) MUST_USE;
/* Bytes that a copy will occupy, and the number of files. */
struct err *tree_measure(const struct config_partition *p, int64_t *bytes,
                         int64_t *files) MUST_USE;
/* Removes `name` and its manifest from the open folder `dir`; never follows a link, nor
 * leaves the filesystem. Nothing there is a success. */
struct err *tree_remove(int dir, const char *name) MUST_USE;

#endif
