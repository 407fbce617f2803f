/* The upper part of what a mount shows: names for snapshots.
 *
 *   sets/SET/PARTITION      what a consistent set holds of a partition
 *   groups/GROUP/TIME       → the set; "latest" → the newest one
 *   times/TIME              → the set, or the snapshot that belongs to none
 *   snapshots/ID            every snapshot, from the root of its host on
 *
 * Pure. */
#ifndef COMMON_MOUNT_VIEW_H
#define COMMON_MOUNT_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "common/repo/snapshot.h"

enum view_kind { VIEW_DIR, VIEW_LINK, VIEW_SNAPSHOT };

struct view {
    enum view_kind kind;
    char *name;
    struct go_time time;
    char *target;        /* of a link */
    struct digest id;    /* of a snapshot … */
    struct digest tree;  /* … its tree … */
    char *path;          /* … and the directory of it that is shown here */
    struct view **items; /* of a directory, sorted by name; owned */
    size_t n;
    size_t cap;
};

/* The root directory. Names that are not one plain component are replaced. */
struct view *view_new(const struct snapshot *list, size_t n);
void view_free(struct view *v);
/* The entry of a directory, or NULL. */
const struct view *view_find(const struct view *dir, const char *name);

#endif
