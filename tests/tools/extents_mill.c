/* extents_mill DIR btrfs|xfs SEED ROUNDS: changes files below DIR/live in every way there
 * is, captures them after each round (snapshot or reflinks, DIR/cap.N), and holds what
 * extents_changed says against the bytes. DIR/live is a subvolume on btrfs. Prints one
 * line of counts; exit status 1 at the first byte that differs where it was said not to.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/engine/extents.h"

enum { FILES = 6, FILE_MAX = 3 << 20, PAGE = 4096, OPS = 11, GAP = 4096 };

struct mill {
    enum extents_kind kind;
    const char *dir;
    struct rng rng;
    uint64_t files, conflicts, bytes, said, real;
};

static void die(const char *what, const char *name)
{
    fprintf(stderr, "extents_mill: %s '%s': %s\n", what, name, strerror(errno));
    exit(2);
}

static uint64_t below(struct mill *m, uint64_t n)
{
    return rng_below(&m->rng, n);
}

static int open_live(struct mill *m, int flags)
{
    AUTO(str) char *path = mem_printf("%s/live/f%d", m->dir, (int)below(m, FILES));
    int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        die("open", path);
    return fd;
}

static off_t size_of(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        die("look at", "a file");
    return st.st_size;
}

/* ---- Ways to change a file. Any of them may be refused; then nothing changed. ---- */

static bool write_all(int fd, const void *data, size_t n, off_t at)
{
    return pwrite(fd, data, n, at) == (ssize_t)n;
}

/* Random bytes, zeros, or text that compresses, sometimes less than a page. */
static void op_write(struct mill *m, int fd)
{
    size_t n = below(m, 3) ? PAGE * (1 + below(m, 4)) : 1 + below(m, 70000);
    off_t at = (off_t)below(m, FILE_MAX - 70000);
    if (below(m, 2))
        at &= ~(off_t)(PAGE - 1);
    uint8_t *data = mem_alloc(n);
    uint64_t how = below(m, 3);
    for (size_t i = 0; i < n; i++)
        data[i] = how == 0 ? (uint8_t)below(m, 256) : how == 1 ? 0 : (uint8_t)(i / 97);
    if (!write_all(fd, data, n, at))
        die("write", "a file");
    free(data);
}

static void op_mmap(struct mill *m, int fd)
{
    off_t size = size_of(fd) & ~(off_t)(PAGE - 1);
    if (size == 0)
        return;
    off_t at = (off_t)below(m, (uint64_t)size / PAGE) * PAGE;
    uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
    if (p == MAP_FAILED)
        die("map", "a file");
    p[below(m, PAGE)] ^= (uint8_t)(1 + below(m, 255));
    munmap(p, PAGE);
}

static void op_truncate(struct mill *m, int fd)
{
    static const off_t sizes[] = {0, 1, 1500, 6000, 8000, 4096, 70000, 1 << 20};
    off_t to = below(m, 2) ? sizes[below(m, sizeof sizes / sizeof sizes[0])]
                           : (off_t)below(m, FILE_MAX);
    if (ftruncate(fd, to) != 0)
        die("truncate", "a file");
}

static void op_fallocate(struct mill *m, int fd)
{
    static const int modes[] = {0,
                                FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_COLLAPSE_RANGE,
                                FALLOC_FL_INSERT_RANGE};
    int mode = modes[below(m, sizeof modes / sizeof modes[0])];
    off_t at = (off_t)below(m, FILE_MAX / PAGE) * PAGE;
    off_t n = (off_t)(1 + below(m, 20)) * PAGE;
    if (size_of(fd) + n < 2 * FILE_MAX)
        (void)!fallocate(fd, mode, at, n);
}

static void op_clone_range(struct mill *m, int fd)
{
    int from = open_live(m, O_RDONLY);
    struct file_clone_range r = {.src_fd = from,
                                 .src_offset = below(m, 200) * PAGE,
                                 .src_length = (1 + below(m, 30)) * PAGE,
                                 .dest_offset = below(m, 200) * PAGE};
    (void)!ioctl(fd, FICLONERANGE, &r);
    close(from);
}

/* The same bytes twice, then told to the filesystem. */
static void op_dedupe(struct mill *m, int fd)
{
    int from = open_live(m, O_RDWR);
    uint8_t data[4 * PAGE];
    memset(data, (int)below(m, 256), sizeof data);
    off_t a = (off_t)below(m, 100) * PAGE, b = (off_t)(100 + below(m, 100)) * PAGE;
    if (!write_all(from, data, sizeof data, a) || !write_all(fd, data, sizeof data, b))
        die("write", "a file");
    struct file_dedupe_range *r =
        mem_zalloc(sizeof *r + sizeof(struct file_dedupe_range_info));
    r->src_offset = (uint64_t)a;
    r->src_length = sizeof data;
    r->dest_count = 1;
    r->info[0].dest_fd = fd;
    r->info[0].dest_offset = (uint64_t)b;
    (void)!ioctl(from, FIDEDUPERANGE, r);
    free(r);
    close(from);
}

static void op_rename(struct mill *m, int fd)
{
    (void)fd;
    AUTO(str) char *a = mem_printf("%s/live/f%d", m->dir, (int)below(m, FILES));
    AUTO(str) char *b = mem_printf("%s/live/f%d", m->dir, (int)below(m, FILES));
    (void)!renameat2(AT_FDCWD, a, AT_FDCWD, b, below(m, 2) ? RENAME_EXCHANGE : 0);
}

static void op_defragment(struct mill *m, int fd)
{
    struct btrfs_ioctl_defrag_range_args r = {.len = UINT64_MAX,
                                              .flags = BTRFS_DEFRAG_RANGE_START_IO,
                                              .extent_thresh = 1 << 20};
    if (below(m, 2)) {
        r.flags |= BTRFS_DEFRAG_RANGE_COMPRESS;
        r.compress_type = 3; /* zstd */
    }
    (void)!ioctl(fd, BTRFS_IOC_DEFRAG_RANGE, &r);
}

static void op_compress(struct mill *m, int fd)
{
    int flags = 0;
    (void)m;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags ^= FS_COMPR_FL;
        (void)!ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

static void op_sync(struct mill *m, int fd)
{
    (void)m;
    (void)!fsync(fd);
}

/* A new file of a few bytes: inline where the filesystem can. */
static void op_small(struct mill *m, int fd)
{
    uint8_t data[2000];
    size_t n = 1 + below(m, sizeof data);
    memset(data, (int)below(m, 256), sizeof data);
    if (ftruncate(fd, 0) != 0 || !write_all(fd, data, n, 0))
        die("write", "a small file");
}

static void change(struct mill *m)
{
    static void (*const ops[OPS])(struct mill *, int) = {
        op_write,  op_mmap,       op_truncate, op_fallocate, op_clone_range, op_dedupe,
        op_rename, op_defragment, op_compress, op_sync,      op_small};
    for (uint64_t n = below(m, 12); n > 0; n--) {
        int fd = open_live(m, O_RDWR);
        ops[below(m, 4) ? below(m, OPS) : 0](m, fd);
        close(fd);
    }
}

/* ---- Captures ---- */

static void snapshot(struct mill *m, int number)
{
    struct btrfs_ioctl_vol_args_v2 a = {.flags = BTRFS_SUBVOL_RDONLY};
    AUTO(str) char *live = mem_printf("%s/live", m->dir);
    int dir = open(m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int from = open(live, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(a.name, sizeof a.name, "cap.%d", number);
    a.fd = from;
    if (ioctl(dir, BTRFS_IOC_SNAP_CREATE_V2, &a) != 0)
        die("snapshot", a.name);
    close(from);
    close(dir);
}

static void reflinks(struct mill *m, int number)
{
    AUTO(str) char *dir = mem_printf("%s/cap.%d", m->dir, number);
    if (mkdir(dir, 0700) != 0)
        die("make", dir);
    for (int i = 0; i < FILES; i++) {
        AUTO(str) char *live = mem_printf("%s/live/f%d", m->dir, i);
        AUTO(str) char *copy = mem_printf("%s/f%d", dir, i);
        int from = open(live, O_RDONLY | O_CLOEXEC);
        if (from < 0)
            continue;
        int to = open(copy, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (to < 0 || ioctl(to, FICLONE, from) != 0)
            die("clone", copy);
        close(from);
        close(to);
    }
}

static void capture(struct mill *m, int number)
{
    if (m->kind == EXTENTS_BTRFS)
        snapshot(m, number);
    else
        reflinks(m, number);
}

/* ---- The judgement ---- */

static bool page_differs(int a, int b, uint64_t at, uint64_t n)
{
    static uint8_t x[PAGE], y[PAGE];
    ssize_t got_a = pread(a, x, n, (off_t)at), got_b = pread(b, y, n, (off_t)at);
    if (got_b != (ssize_t)n)
        die("read", "a capture");
    return got_a != got_b || memcmp(x, y, n) != 0;
}

static void judge_bytes(struct mill *m, int a, int b, const struct extents *x,
                        const char *name)
{
    uint64_t size = (uint64_t)size_of(b);
    size_t hint = 0;
    for (uint64_t at = 0; at < size; at += PAGE) {
        uint64_t end = at + PAGE < size ? at + PAGE : size;
        bool differs = page_differs(a, b, at, end - at);
        /* A range may begin in the midst of a page where a file ends there. */
        bool miss = extents_miss(x, at, end, &hint);
        m->bytes += end - at;
        m->said += miss ? 0 : end - at;
        m->real += differs ? end - at : 0;
        if (differs && miss) {
            printf("'%s' differs in [%" PRIu64 ", %" PRIu64 "), which is said to be the "
                   "same\n",
                   name, at, end);
            exit(1);
        }
    }
}

static void judge(struct mill *m, int number, int file)
{
    AUTO_EXTENTS struct extents x = {0};
    AUTO(str) char *older = mem_printf("%s/cap.%d/f%d", m->dir, number - 1, file);
    AUTO(str) char *newer = mem_printf("%s/cap.%d/f%d", m->dir, number, file);
    int a = open(older, O_RDONLY | O_CLOEXEC), b = open(newer, O_RDONLY | O_CLOEXEC);
    if (a >= 0 && b >= 0) {
        struct err *e = extents_changed(m->kind, a, b, GAP, &x);
        m->files++;
        if (e && e->kind != ERR_CONFLICT) {
            AUTO(str) char *text = err_text(e);
            printf("'%s': %s\n", newer, text);
            exit(1);
        }
        if (e)
            m->conflicts++;
        else
            judge_bytes(m, a, b, &x, newer);
        err_free(e);
    }
    if (a >= 0)
        close(a);
    if (b >= 0)
        close(b);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: extents_mill DIR btrfs|xfs SEED ROUNDS\n");
        return 2;
    }
    struct mill m = {.dir = argv[1],
                     .kind = strcmp(argv[2], "btrfs") == 0 ? EXTENTS_BTRFS : EXTENTS_XFS};
    rng_init(&m.rng, strtoull(argv[3], NULL, 10));
    int rounds = atoi(argv[4]);
    capture(&m, 0);
    for (int i = 1; i <= rounds; i++) {
        change(&m);
        capture(&m, i);
        for (int f = 0; f < FILES; f++)
            judge(&m, i, f);
    }
    printf("rounds=%d files=%" PRIu64 " conflicts=%" PRIu64 " bytes=%" PRIu64
           " said_changed=%" PRIu64 " changed=%" PRIu64 "\n",
           rounds, m.files, m.conflicts, m.bytes, m.said, m.real);
    return 0;
}
