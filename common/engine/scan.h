/* Reading the filesystem: one entry's metadata as a node, a directory's names, file
 * contents without following anything. */
#ifndef COMMON_ENGINE_SCAN_H
#define COMMON_ENGINE_SCAN_H

#include <stdbool.h>
#include <sys/stat.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/repo/snapshot.h"
#include "common/repo/tree.h"

/* Names of user and group ids, cached; one thread. */
struct scan_names;
struct scan_names *scan_names_new(void);
void scan_names_free(struct scan_names *s);
DEFINE_AUTO(scan_names, struct scan_names *, scan_names_free);

/* Opens a directory (never through a symbolic link in its last component). */
struct err *scan_open_dir(int at_fd, const char *name, int *out) MUST_USE;
/* Opens a regular file for reading without following a link or waiting on a fifo; *st is
 * that of the open file. INVALID: it is no regular file. */
struct err *scan_open_file(int at_fd, const char *name, int *out,
                           struct stat *st) MUST_USE;
/* Names of ids, "" when unknown; borrowed until the next call. */
const char *scan_user(struct scan_names *names, uint32_t uid);
const char *scan_group(struct scan_names *names, uint32_t gid);
/* The names in a directory, one after the other with their NULs, in no order; their
 * number goes to *n. Keeps dir_fd open. */
struct err *scan_list(int dir_fd, struct buf *names, size_t *n) MUST_USE;
/* The names in a directory, sorted by bytes, without "." and "..". Keeps dir_fd open. */
struct err *scan_dir(int dir_fd, struct strings *out) MUST_USE;

/* True if a pattern matches: one with a leading '/' is held against `path` (below the
 * root of the walk) and root + path, others against `name`, the last component of path.
 */
bool scan_is_excluded(const char *const *patterns, size_t n, const char *root,
                      const char *path, const char *name);

/* The parts of scan_node that only some entries have: a link's target, extended
 * attributes. Same arguments. */
struct err *scan_extras(int dir_fd, const char *name, int fd, mode_t mode,
                        struct node *out) MUST_USE;
/* Fills a zeroed node from the entry `name` of a directory (or, with name "", from the
 * descriptor itself): all but content, subtree and device_id. `st` is its stat. Extended
 * attributes are read through `fd` when that is >= 0. */
struct err *scan_node(struct scan_names *names, int dir_fd, const char *name, int fd,
                      const struct stat *st, struct node *out) MUST_USE;

#endif
