/* Opening paths that cannot leave a directory: no "..", no symbolic link is ever
 * followed, whatever others do to the tree meanwhile. */
#ifndef COMMON_ENGINE_BENEATH_H
#define COMMON_ENGINE_BENEATH_H

#include "common/base/attr.h"
#include "common/base/err.h"

/* Opens the directory at relative `path` ("" is root itself) of any length. */
struct err *beneath_open_dir(int root_fd, const char *path, int *out) MUST_USE;
/* Opens the parent directory of `path` and points *base at its last component (borrowed
 * from path). */
struct err *beneath_open_parent(int root_fd, const char *path, int *out,
                                const char **base) MUST_USE;

#endif
