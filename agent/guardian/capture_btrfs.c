/* Capture btrfs: a read-only snapshot of a subvolume. Atomic, and cheap whatever its
 * size. The folder of captures lies on the same filesystem, usually in the subvolume. */
#include <errno.h>
#include <linux/btrfs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent/guardian/capture.h"
#include "agent/guardian/place.h"

#define SUBVOLUME_INO 256 /* of the root of every subvolume */

static struct err *btrfs_check(const struct config_partition *p, int64_t *cost_ms)
{
    *cost_ms = 10;
    struct place source, target;
    TRY(place_of(p->path, &source));
    if (!source.btrfs || source.ino != SUBVOLUME_INO)
        return err_new(
            ERR_INVALID,
            "'%s' is not a btrfs subvolume, so it has no snapshots; make it one "
            "(btrfs subvolume create) or choose capture reflink or copy",
            p->path);
    TRY(capture_make_dir(p));
    TRY(place_of(p->capture.dir, &target));
    if (!place_same_superblock(&source, &target))
        return err_new(
            ERR_INVALID,
            "capture dir '%s' is not on the btrfs filesystem of '%s'; choose a "
            "folder on it, or leave 'dir' out",
            p->capture.dir, p->path);
    return NULL;
}

static struct err *btrfs_take(const struct config_partition *p, int source, int dir,
                              const char *name)
{
    struct btrfs_ioctl_vol_args_v2 args = {.fd = source, .flags = BTRFS_SUBVOL_RDONLY};
    if (strlen(name) > BTRFS_SUBVOL_NAME_MAX)
        return err_new(ERR_INVALID, "capture name '%s' is too long for btrfs", name);
    memcpy(args.name, name, strlen(name) + 1);
    if (ioctl(dir, BTRFS_IOC_SNAP_CREATE_V2, &args) != 0)
        return err_os(errno, "snapshot '%s' as '%s/%s'", p->path, p->capture.dir, name);
    return NULL;
}

static struct err *btrfs_remove(int dir, const char *name)
{
    struct btrfs_ioctl_vol_args args = {0};
    if (strlen(name) > BTRFS_PATH_NAME_MAX)
        return err_new(ERR_INVALID, "capture name '%s' is too long for btrfs", name);
    memcpy(args.name, name, strlen(name) + 1);
    if (ioctl(dir, BTRFS_IOC_SNAP_DESTROY, &args) != 0 && errno != ENOENT)
        return err_os(errno, "remove snapshot '%s'", name);
    return NULL;
}

const struct capture_ops capture_btrfs = {
    .name = "btrfs",
    .check = btrfs_check,
    .take = btrfs_take,
    .remove = btrfs_remove,
};
