/* A folder at the far end of a network: what is in DIR appears at MOUNTPOINT, and each
 * call goes as the link is said to be in the file FAULT, which is read anew each time:
 *
 *   drop, out   it does not get there until that is over, and then does
 *   in          it is carried out, but its answer comes when that is over
 *   reset       it fails with EIO
 *   loss        one in twenty takes a second more, as when a packet is sent again
 *   slow        1 Mbit/s, and a millisecond a call
 *   anything else, or no such file: at once
 *
 * Stays in the foreground; ends with SIGTERM, or when it is unmounted. */
#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOK_MS = 20, LOST_MS = 1000, LOST_ONE_IN = 20, BYTES_PER_MS = 125 };

static int root;          /* DIR */
static const char *fault; /* the file that says how the link is */
static pthread_mutex_t line = PTHREAD_MUTEX_INITIALIZER; /* one byte after another */

static void read_fault(char *out, size_t n)
{
    FILE *f = fopen(fault, "re");
    if (!f || !fgets(out, (int)n, f))
        out[0] = '\0';
    if (f)
        fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

static bool is_one_of(const char *now, const char *one, const char *other)
{
    return strcmp(now, one) == 0 || strcmp(now, other) == 0;
}

static void wait_while(const char *one, const char *other)
{
    char now[16];
    for (read_fault(now, sizeof now); is_one_of(now, one, other);
         read_fault(now, sizeof now))
        poll(NULL, 0, LOOK_MS);
}

/* The way there of a call with so many bytes, there or back; -EIO if it has none. */
static int go(size_t bytes)
{
    static atomic_uint calls;
    char now[16];
    wait_while("drop", "out");
    read_fault(now, sizeof now);
    if (strcmp(now, "reset") == 0)
        return -EIO;
    if (strcmp(now, "loss") == 0 && ++calls % LOST_ONE_IN == 0)
        poll(NULL, 0, LOST_MS);
    if (strcmp(now, "slow") == 0) {
        pthread_mutex_lock(&line);
        poll(NULL, 0, 1 + (int)(bytes / BYTES_PER_MS));
        pthread_mutex_unlock(&line);
    }
    return 0;
}

/* The way back: what a system call returned, as FUSE wants it. */
static int back(ssize_t result)
{
    int answer = result < 0 ? -errno : (int)result;
    wait_while("in", "drop");
    return answer;
}

#define GO(bytes)                                                                        \
    do {                                                                                 \
        int lost_ = go(bytes);                                                           \
        if (lost_)                                                                       \
            return lost_;                                                                \
    } while (0)

static const char *below(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static int far_getattr(const char *path, struct stat *out, struct fuse_file_info *fi)
{
    GO(0);
    return back(fi ? fstat((int)fi->fh, out)
                   : fstatat(root, below(path), out, AT_SYMLINK_NOFOLLOW));
}

static int far_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                       struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
    (void)offset, (void)fi, (void)flags;
    GO(0);
    int fd = openat(root, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return back(-1);
    for (const struct dirent *e; (e = readdir(dir));)
        fill(buffer, e->d_name, NULL, 0, 0);
    closedir(dir);
    return back(0);
}

/* The far end has a page cache of its own: O_DIRECT stays here. */
static int far_open(const char *path, struct fuse_file_info *fi)
{
    GO(0);
    int fd = openat(root, below(path), (fi->flags & ~O_DIRECT) | O_CLOEXEC);
    fi->fh = (uint64_t)fd;
    return back(fd < 0 ? -1 : 0);
}

static int far_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    GO(0);
    int fd =
        openat(root, below(path), (fi->flags & ~O_DIRECT) | O_CREAT | O_CLOEXEC, mode);
    fi->fh = (uint64_t)fd;
    return back(fd < 0 ? -1 : 0);
}

static int far_read(const char *path, char *out, size_t n, off_t at,
                    struct fuse_file_info *fi)
{
    (void)path;
    GO(n);
    return back(pread((int)fi->fh, out, n, at));
}

static int far_write(const char *path, const char *data, size_t n, off_t at,
                     struct fuse_file_info *fi)
{
    (void)path;
    GO(n);
    return back(pwrite((int)fi->fh, data, n, at));
}

static int far_release(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    return back(close((int)fi->fh));
}

static int far_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)path;
    GO(0);
    return back(data_only ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static int far_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)data_only, (void)fi;
    GO(0);
    int fd = openat(root, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0;
    int os = errno;
    if (fd >= 0)
        close(fd);
    errno = os;
    return back(failed ? -1 : 0);
}

static int far_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    (void)path;
    GO(0);
    errno = EBADF; /* nobody truncates by name */
    return back(fi ? ftruncate((int)fi->fh, size) : -1);
}

static int far_rename(const char *from, const char *to, unsigned flags)
{
    GO(0);
    return back(renameat2(root, below(from), root, below(to), flags));
}

static int far_link(const char *from, const char *to)
{
    GO(0);
    return back(linkat(root, below(from), root, below(to), 0));
}

static int far_unlink(const char *path)
{
    GO(0);
    return back(unlinkat(root, below(path), 0));
}

static int far_mkdir(const char *path, mode_t mode)
{
    GO(0);
    return back(mkdirat(root, below(path), mode));
}

static int far_rmdir(const char *path)
{
    GO(0);
    return back(unlinkat(root, below(path), AT_REMOVEDIR));
}

static int far_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    GO(0);
    return back(fi ? fchmod((int)fi->fh, mode) : fchmodat(root, below(path), mode, 0));
}

static int far_utimens(const char *path, const struct timespec times[2],
                       struct fuse_file_info *fi)
{
    GO(0);
    return back(fi ? futimens((int)fi->fh, times)
                   : utimensat(root, below(path), times, AT_SYMLINK_NOFOLLOW));
}

/* Nothing of it is remembered on the near side. */
static void *far_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    (void)conn;
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    config->use_ino = 1;
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct fuse_operations ops = {
        .init = far_init,
        .getattr = far_getattr,
        .readdir = far_readdir,
        .open = far_open,
        .create = far_create,
        .read = far_read,
        .write = far_write,
        .release = far_release,
        .fsync = far_fsync,
        .fsyncdir = far_fsyncdir,
        .truncate = far_truncate,
        .rename = far_rename,
        .link = far_link,
        .unlink = far_unlink,
        .mkdir = far_mkdir,
        .rmdir = far_rmdir,
        .chmod = far_chmod,
        .utimens = far_utimens,
    };
    if (argc != 4) {
        fprintf(stderr, "usage: far_dir DIR MOUNTPOINT FAULT\n");
        return 2;
    }
    root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        perror(argv[1]);
        return 1;
    }
    fault = argv[3];
    umask(0);
    char foreground[] = "-f";
    char *args[] = {argv[0], foreground, argv[2], NULL};
    return fuse_main(3, args, &ops, NULL);
}
