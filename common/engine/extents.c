#include "common/engine/extents.h"

#include <errno.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "common/base/mem.h"
#include "common/engine/extents_own.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

void extents_fini(struct extents *x)
{
    free(x->ranges);
    *x = (struct extents){0};
}

enum extents_kind extents_kind_of(int fd)
{
    struct statfs s;
    if (fstatfs(fd, &s) != 0)
        return EXTENTS_NONE;
    if (s.f_type == BTRFS_SUPER_MAGIC)
        return EXTENTS_BTRFS;
    return s.f_type == XFS_SUPER_MAGIC ? EXTENTS_XFS : EXTENTS_NONE;
}

static void add(struct extents *x, uint64_t start, uint64_t end, uint64_t gap)
{
    if (start >= end)
        return;
    struct extent_range *last = x->n ? &x->ranges[x->n - 1] : NULL;
    if (last && (start <= last->end || start - last->end < gap)) {
        last->end = end > last->end ? end : last->end;
        return;
    }
    mem_reserve((void **)&x->ranges, &x->cap, x->n, sizeof *x->ranges);
    x->ranges[x->n++] = (struct extent_range){start, end};
}

static bool same_bytes(const struct extent_piece *a, const struct extent_piece *b)
{
    if (a->kind != b->kind || a->kind == PIECE_OPAQUE)
        return false;
    return a->kind == PIECE_HOLE ||
           (a->place == b->place && a->shift == b->shift && a->coding == b->coding);
}

/* Both maps side by side up to `size`. With x == NULL only their sums are of interest. */
static struct err *walk_both(struct extent_map *a, struct extent_map *b, uint64_t gap,
                             struct extents *x)
{
    struct extent_piece p = {0}, q = {0};
    uint64_t at = 0;
    for (;;) {
        bool more_p = true, more_q = true;
        if (p.end <= at)
            TRY_CTX(extent_map_next(a, &p, &more_p), "the older file");
        if (q.end <= at)
            TRY_CTX(extent_map_next(b, &q, &more_q), "the newer file");
        if (!more_p || !more_q)
            return NULL;
        uint64_t end = p.end < q.end ? p.end : q.end;
        if (x && !same_bytes(&p, &q))
            add(x, at, end, gap);
        at = end;
    }
}

/* The address of a block is an address only within one device. */
static struct err *same_device(int old_fd, int new_fd, const struct stat *old,
                               const struct stat *new)
{
    struct fsxattr a, b;
    if (old->st_dev != new->st_dev)
        return err_new(ERR_INVALID, "the files are on different filesystems");
    if (ioctl(old_fd, FS_IOC_FSGETXATTR, &a) != 0 ||
        ioctl(new_fd, FS_IOC_FSGETXATTR, &b) != 0)
        return err_os(errno, "read a file's attributes");
    if ((a.fsx_xflags | b.fsx_xflags) & FS_XFLAG_REALTIME)
        return err_new(ERR_INVALID, "a file is on the realtime device");
    return NULL;
}

/* Subvolumes have device numbers of their own, so the filesystem tells its id. */
static struct err *same_btrfs(int old_fd, int new_fd)
{
    struct btrfs_ioctl_fs_info_args a = {0}, b = {0};
    if (ioctl(old_fd, BTRFS_IOC_FS_INFO, &a) != 0 ||
        ioctl(new_fd, BTRFS_IOC_FS_INFO, &b) != 0)
        return err_os(errno, "ask for the filesystem's id");
    if (memcmp(a.fsid, b.fsid, sizeof a.fsid) != 0)
        return err_new(ERR_INVALID, "the files are on different filesystems");
    return NULL;
}

static struct err *pass(enum extents_kind kind, const int fd[2], const struct stat st[2],
                        uint64_t gap, struct extents *x, uint64_t sums[4])
{
    uint64_t size =
        (uint64_t)(st[0].st_size < st[1].st_size ? st[0].st_size : st[1].st_size);
    struct extent_map *maps = mem_array(2, sizeof *maps);
    for (int i = 0; i < 2; i++)
        extent_map_init(&maps[i], kind, fd[i], st[i].st_ino, size);
    struct err *e = walk_both(&maps[0], &maps[1], gap, x);
    memcpy(sums, maps[0].print, sizeof maps[0].print);
    memcpy(sums + 2, maps[1].print, sizeof maps[1].print);
    free(maps);
    return e;
}

struct err *extents_changed(enum extents_kind kind, int old_fd, int new_fd, uint64_t gap,
                            struct extents *changed)
{
    const int fd[2] = {old_fd, new_fd};
    struct stat st[2];
    uint64_t first[4], second[4];
    if (kind == EXTENTS_NONE)
        return err_new(ERR_INVALID, "maps of extents prove nothing on this filesystem");
    if (fstat(old_fd, &st[0]) != 0 || fstat(new_fd, &st[1]) != 0)
        return err_os(errno, "look at a file");
    TRY(kind == EXTENTS_BTRFS ? same_btrfs(old_fd, new_fd)
                              : same_device(old_fd, new_fd, &st[0], &st[1]));
    TRY(pass(kind, fd, st, gap, changed, first));
    TRY(pass(kind, fd, st, gap, NULL, second));
    if (memcmp(first, second, sizeof first) != 0)
        return err_new(ERR_CONFLICT, "the map of extents changed meanwhile");
    if (st[0].st_size != st[1].st_size) {
        off_t less = st[0].st_size < st[1].st_size ? st[0].st_size : st[1].st_size;
        add(changed, (uint64_t)less, (uint64_t)st[1].st_size, gap);
    }
    return NULL;
}

bool extents_miss(const struct extents *x, uint64_t start, uint64_t end, size_t *hint)
{
    while (*hint < x->n && x->ranges[*hint].end <= start)
        (*hint)++;
    return *hint == x->n || x->ranges[*hint].start >= end;
}
