/* Shows a repository's snapshots as a read-only filesystem. The project's only door to
 * libfuse. What is shown is the repository at the moment of mounting; directories are
 * read when somebody looks at them, within the bounds of browse.h. */
#ifndef COMMON_MOUNT_MOUNT_H
#define COMMON_MOUNT_MOUNT_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/repo.h"

struct mount_opts {
    const char *dir;          /* an existing directory */
    bool allow_other;         /* also other users may look, each as the modes permit */
    void (*ready)(void *ctx); /* called once it is mounted; may be NULL */
    void *ready_ctx;
};

/* Mounts and serves until SIGINT, SIGTERM, SIGHUP or an unmount. Needs: index loaded; the
 * process' main thread. UNAVAILABLE: this system has no FUSE. */
struct err *mount_run(struct repo *r, const struct mount_opts *opts) MUST_USE;

#endif
