/* Capture copy: a full second tree, anywhere. Works with everything and pauses for as
 * long as the copying takes: for small partitions. */
#include "agent/guardian/capture.h"
#include "agent/guardian/place.h"
#include "agent/guardian/tree.h"

#define BYTES_PER_MS 100000 /* careful guesses, to predict the pause */
#define FILES_PER_MS 10
#define SPARE_BYTES ((int64_t)16 << 20) /* left free for everybody else */

static struct err *copy_check(const struct config_partition *p, int64_t *cost_ms)
{
    TRY(capture_make_dir(p));
    struct place source, target;
    TRY(place_of(p->path, &source));
    TRY(place_of(p->capture.dir, &target));
    if (p->quiesce.method == CONFIG_FSFREEZE && place_same_superblock(&source, &target))
        return err_new(
            ERR_INVALID,
            "capture dir '%s' lies on the filesystem that quiesce fsfreeze has "
            "frozen; choose a dir on another one",
            p->capture.dir);
    int64_t bytes, files;
    TRY(tree_measure(p, &bytes, &files));
    *cost_ms = bytes / BYTES_PER_MS + files / FILES_PER_MS;
    if (target.free_bytes < bytes + SPARE_BYTES)
        return err_new(ERR_NO_SPACE,
                       "a copy of '%s' needs %lld bytes, but only %lld are free at '%s'; "
                       "make room, or choose capture btrfs or reflink",
                       p->path, (long long)(bytes + SPARE_BYTES),
                       (long long)target.free_bytes, p->capture.dir);
    return NULL;
}

static struct err *copy_take(const struct config_partition *p, int source, int dir,
                             const char *name)
{
    return tree_copy(p, source, TREE_COPY, dir, name);
}

const struct capture_ops capture_copy = {
    .name = "copy",
    .check = copy_check,
    .take = copy_take,
    .remove = tree_remove,
};
