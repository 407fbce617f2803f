/* Capture reflink: a second tree whose files share the blocks of the first (FICLONE), on
 * xfs and btrfs. The cost is per file, not per byte. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/guardian/capture.h"
#include "agent/guardian/place.h"
#include "agent/guardian/tree.h"
#include "common/file/fd.h"

#define FILES_PER_MS 15 /* a careful guess, to predict the pause */

/* The only reliable question is to try. */
static struct err *probe(const struct config_partition *p)
{
    AUTO(fd) int from = open(p->path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    AUTO(fd) int to = open(p->capture.dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (from < 0 || to < 0)
        return err_os(errno, "try a temporary file in '%s'",
                      from < 0 ? p->path : p->capture.dir);
    if (pwrite(from, "x", 1, 0) != 1)
        return err_os(errno, "write a temporary file in '%s'", p->path);
    if (ioctl(to, FICLONE, from) == 0)
        return NULL;
    if (errno == EXDEV)
        return err_new(ERR_INVALID,
                       "capture dir '%s' is not on the filesystem of '%s', so blocks "
                       "cannot be shared; leave 'dir' out, or choose capture copy",
                       p->capture.dir, p->path);
    return err_new(
        ERR_INVALID,
        "the filesystem at '%s' cannot share blocks (reflink): it needs btrfs, "
        "or xfs made with reflink=1; choose capture copy",
        p->path);
}

static struct err *reflink_check(const struct config_partition *p, int64_t *cost_ms)
{
    TRY(capture_make_dir(p));
    TRY(probe(p));
    int64_t bytes, files;
    TRY(tree_measure(p, &bytes, &files));
    *cost_ms = files / FILES_PER_MS;
    return NULL;
}

static struct err *reflink_take(const struct config_partition *p, int source, int dir,
                                const char *name)
{
    return tree_copy(p, source, TREE_CLONE, dir, name);
}

const struct capture_ops capture_reflink = {
    .name = "reflink",
    .check = reflink_check,
    .take = reflink_take,
    .remove = tree_remove,
};
