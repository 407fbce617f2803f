/* Giving a restored entry its owner, mode, attributes and times. */
#ifndef COMMON_ENGINE_META_H
#define COMMON_ENGINE_META_H

#include <stdbool.h>
#include <sys/stat.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/tree.h"

/* Applies the node's metadata to an open file or directory. Without privileges, ownership
 * and privileged attributes are left as they are. With `fresh` it was just made by this
 * process in a directory that hands nothing down, so that less is to be done. */
struct err *meta_apply(int fd, const struct node *nd, bool fresh) MUST_USE;
/* The same for an entry that cannot be opened (link, device, fifo): by name in a
 * directory, never following it. */
struct err *meta_apply_at(int dir_fd, const char *name, const struct node *nd) MUST_USE;
/* Has the entry, which *st is of, the node's owner, mode, time and attributes? */
bool meta_is_same(int dir_fd, const struct node *nd, const struct stat *st);

#endif
