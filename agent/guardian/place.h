/* Where a path lies: which superblock, what kind of filesystem, which freeze domain. The
 * superblock is what FIFREEZE stops; st_dev alone does not name it on btrfs, where every
 * subvolume has a device number of its own. Any thread; may block on a hung disk. */
#ifndef AGENT_GUARDIAN_PLACE_H
#define AGENT_GUARDIAN_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/model/ids.h"

struct place {
    dev_t dev; /* st_dev: differs from subvolume to subvolume on btrfs */
    ino_t ino; /* of the path itself */
    bool btrfs;
    uint8_t fsid[16]; /* btrfs: of the filesystem; else zero */
    bool network;     /* a network or user-space filesystem: others can write it */
    int64_t used_bytes, free_bytes; /* of the filesystem */
};

/* Looks at a path; a symbolic link as its last part is not followed. INVALID if it is not
 * a directory. */
struct err *place_of(const char *path, struct place *out) MUST_USE;
/* The same for the nearest folder above that exists, or the path itself. */
struct err *place_of_nearest(const char *path, struct place *out) MUST_USE;
bool place_same_superblock(const struct place *a, const struct place *b);

/* INVALID, saying why, when the filesystem at `path` must go on being written while
 * something is frozen: the root filesystem, the one that holds the agent's state, the
 * guardian's journal or the logs, or a network filesystem. */
struct err *place_may_freeze(const char *path, const char *state_dir,
                             const char *guardian_socket) MUST_USE;

/* The freeze domain of a partition: what else stops when it is paused. "<node>/cgroup:…"
 * names the topmost configured cgroup that contains this one's. */
struct err *place_domain(const struct config *c, const struct config_partition *p,
                         struct domain_id *out) MUST_USE;
/* For quiesce cgroup: that topmost cgroup. Borrowed from the configuration. */
const char *place_domain_cgroup(const struct config *c, const struct config_partition *p);

/* Where the cgroup2 hierarchy is mounted ("/sys/fs/cgroup", "/sys/fs/cgroup/unified");
 * NOT_FOUND if it is not. */
struct err *place_cgroup_mount(char **out) MUST_USE;
/* The cgroup of this process below that mount, or NULL without cgroup v2. Owned. */
char *place_own_cgroup(void) MUST_USE;
/* The same for any process; NULL when it is gone. */
char *place_cgroup_of(pid_t pid) MUST_USE;

/* One line of /proc/self/mountinfo. Borrowed for the call. */
struct place_mount {
    const char *root;  /* of the mount within its filesystem */
    const char *point; /* where it is mounted, escapes resolved */
    const char *type;  /* "ext4", "cgroup2" */
};
typedef struct err *place_mount_fn(void *ctx, const struct place_mount *m);
/* Calls fn for every mount of this process's namespace until it returns an error. */
struct err *place_each_mount(place_mount_fn *fn, void *ctx) MUST_USE;

#endif
