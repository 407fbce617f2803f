/* The base of the next backup: the capture that the newest snapshot was made of, kept so
 * that the next one can tell by maps of extents (extents.h) which bytes it need not read.
 * A small file says which capture that is and how it looked when it was stored; before it
 * is used, all of that must still be so. Any thread; blocks. */
#ifndef COMMON_ENGINE_BASE_H
#define COMMON_ENGINE_BASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/engine/extents.h"

enum base_seal {
    BASE_UNSEALED, /* anybody may write to it: no base */
    BASE_SNAPSHOT, /* a read-only btrfs snapshot; its generation tells if it ever was not
                    */
    BASE_FILES,    /* files that are immutable (FS_IMMUTABLE_FL), each to be looked at */
};

/* How a capture is recognised. */
struct base_look {
    enum base_seal seal;
    enum extents_kind kind;
    uint8_t uuid[16];    /* of the snapshot, or of the filesystem with the root's inode */
    uint64_t generation; /* the snapshot's last change; BASE_FILES: when it was looked at,
                            ns since 1970: no file may have changed since */
    struct timespec made; /* BASE_SNAPSHOT: when, by the node's clock; not remembered */
};

/* Looks at the capture whose root is open as dir_fd. */
struct err *base_look(int dir_fd, struct base_look *out) MUST_USE;
/* True if the open file of a capture that looked so cannot have been written to since.
 * Needs: a capture that still looks so (base_open). */
bool base_is_sealed(const struct base_look *look, int fd, const struct stat *st);

/* A base that may be used. */
struct base {
    int dir_fd; /* root of the capture; -1: none */
    struct base_look look;
    struct digest snapshot; /* made of it */
};
void base_close(struct base *b);

/* Remembers durably in `file` that `snapshot` of the repository `repo` (its id) was made
 * of the capture at `dir`, which looked so before and looks so still: CONFLICT if not, or
 * if it is unsealed. */
struct err *base_remember(const char *file, const char *repo, const char *dir,
                          const struct base_look *look,
                          const struct digest *snapshot) MUST_USE;
/* Opens the base that `file` tells of. NOT_FOUND: there is none yet; CONFLICT: it belongs
 * to another repository, is gone or was changed; CORRUPT. On each of these a backup reads
 * everything, and says so. */
struct err *base_open(const char *file, const char *repo, struct base *out) MUST_USE;

/* The capture that `file` tells of, whatever became of it: an absolute path, malloc;
 * NULL: none. */
char *base_capture(const char *file) MUST_USE;
bool base_tells_of(const char *file, const char *dir);

#endif
