/* Preloaded into a program, it makes the n-th call of a kind fail, for tests of what a
 * program does then:
 *     FAILCALL=CALL:N:ERROR[:sticky] FAILCALL_UNDER=DIR FAILCALL_HIT=FILE
 * CALL is open, read, write, sync, link (also rename), unlink, truncate, map or alloc; N
 * counts from 1; ERROR is EIO, ENOSPC, EINTR or short (half of a read or write, then no
 * error). With `sticky` all later calls of the kind fail, too. Calls on files count only
 * below DIR. FILE is made when a call was failed. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum {
    SHORT = -1,
    BULK_BYTES = 1024, /* OpenSSL dies of missing less while it starts, in its own code */
};

static struct {
    char call[16];
    char under[PATH_MAX];
    long n;
    int error;
    bool sticky, ready;
    long seen; /* atomic */
} plan;

/* Before main, and so before any thread. */
__attribute__((constructor)) static void read_plan(void)
{
    const char *text = getenv("FAILCALL"), *under = getenv("FAILCALL_UNDER");
    char error[16] = "", sticky[16] = "";
    if (!text || sscanf(text, "%15[a-z]:%ld:%15[A-Za-z]:%15s", plan.call, &plan.n, error,
                        sticky) < 3)
        return;
    snprintf(plan.under, sizeof plan.under, "%s", under ? under : "/");
    plan.error = strcmp(error, "ENOSPC") == 0  ? ENOSPC
                 : strcmp(error, "EINTR") == 0 ? EINTR
                 : strcmp(error, "short") == 0 ? SHORT
                                               : EIO;
    plan.sticky = sticky[0] != '\0';
    plan.ready = true;
}

static void tell(void)
{
    const char *file = getenv("FAILCALL_HIT");
    long fd = file ? syscall(SYS_openat, AT_FDCWD, file, O_CREAT | O_WRONLY, 0600) : -1;
    if (fd >= 0)
        syscall(SYS_close, fd);
}

/* Counts a call of the kind; true if it is to fail. */
static bool is_due(const char *call)
{
    if (!plan.ready || strcmp(plan.call, call) != 0)
        return false;
    long seen = __atomic_add_fetch(&plan.seen, 1, __ATOMIC_RELAXED);
    if (seen != plan.n && !(plan.sticky && seen > plan.n))
        return false;
    if (seen == plan.n)
        tell();
    return true;
}

static bool is_under(int fd)
{
    char link[64], path[PATH_MAX];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlink, link, path, sizeof path - 1);
    errno = saved;
    if (n <= 0)
        return false;
    path[n] = '\0';
    return strncmp(path, plan.under, strlen(plan.under)) == 0;
}

static bool names_under(int dir_fd, const char *path)
{
    if (path[0] == '/')
        return strncmp(path, plan.under, strlen(plan.under)) == 0;
    return dir_fd != AT_FDCWD && is_under(dir_fd);
}

static bool fails_fd(const char *call, int fd)
{
    return plan.ready && strcmp(plan.call, call) == 0 && is_under(fd) && is_due(call);
}

static bool fails_path(const char *call, int dir_fd, const char *path)
{
    return plan.ready && strcmp(plan.call, call) == 0 && names_under(dir_fd, path) &&
           is_due(call);
}

static int refuse(void)
{
    errno = plan.error == SHORT ? EIO : plan.error;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* How much of n bytes a due call may still move; -1: nothing, errno is set. */
static ssize_t moved(size_t n)
{
    if (plan.error != SHORT || n < 2)
        return refuse();
    return (ssize_t)(n / 2);
}

/* ---- open ---- */

int openat(int dir_fd, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (fails_path("open", dir_fd, path))
        return refuse();
    return REAL(openat)(dir_fd, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (fails_path("open", AT_FDCWD, path))
        return refuse();
    return REAL(open)(path, flags, mode);
}

/* What fortified programs call. */
int __openat_2(int dir_fd, const char *path, int flags);
int __openat_2(int dir_fd, const char *path, int flags)
{
    return openat(dir_fd, path, flags);
}

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

/* ---- read and write ---- */

ssize_t read(int fd, void *data, size_t n)
{
    if (fails_fd("read", fd)) {
        ssize_t some = moved(n);
        return some < 0 ? -1 : REAL(read)(fd, data, (size_t)some);
    }
    return REAL(read)(fd, data, n);
}

ssize_t pread(int fd, void *data, size_t n, off_t at)
{
    if (fails_fd("read", fd)) {
        ssize_t some = moved(n);
        return some < 0 ? -1 : REAL(pread)(fd, data, (size_t)some, at);
    }
    return REAL(pread)(fd, data, n, at);
}

ssize_t __read_chk(int fd, void *data, size_t n, size_t room);
ssize_t __read_chk(int fd, void *data, size_t n, size_t room)
{
    (void)room;
    return read(fd, data, n);
}

ssize_t __pread_chk(int fd, void *data, size_t n, off_t at, size_t room);
ssize_t __pread_chk(int fd, void *data, size_t n, off_t at, size_t room)
{
    (void)room;
    return pread(fd, data, n, at);
}

ssize_t write(int fd, const void *data, size_t n)
{
    if (fails_fd("write", fd)) {
        ssize_t some = moved(n);
        return some < 0 ? -1 : REAL(write)(fd, data, (size_t)some);
    }
    return REAL(write)(fd, data, n);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    if (fails_fd("write", fd)) {
        ssize_t some = moved(n);
        return some < 0 ? -1 : REAL(pwrite)(fd, data, (size_t)some, at);
    }
    return REAL(pwrite)(fd, data, n, at);
}

/* ---- durability and names ---- */

int fsync(int fd)
{
    return fails_fd("sync", fd) ? refuse() : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return fails_fd("sync", fd) ? refuse() : REAL(fdatasync)(fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return fails_path("link", to_fd, to) ? refuse()
                                         : REAL(renameat)(from_fd, from, to_fd, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    return fails_path("link", to_fd, to)
               ? refuse()
               : REAL(renameat2)(from_fd, from, to_fd, to, flags);
}

int rename(const char *from, const char *to)
{
    return fails_path("link", AT_FDCWD, to) ? refuse() : REAL(rename)(from, to);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    return fails_path("link", to_fd, to) ? refuse()
                                         : REAL(linkat)(from_fd, from, to_fd, to, flags);
}

int unlinkat(int dir_fd, const char *path, int flags)
{
    return fails_path("unlink", dir_fd, path) ? refuse()
                                              : REAL(unlinkat)(dir_fd, path, flags);
}

int unlink(const char *path)
{
    return fails_path("unlink", AT_FDCWD, path) ? refuse() : REAL(unlink)(path);
}

int ftruncate(int fd, off_t size)
{
    return fails_fd("truncate", fd) ? refuse() : REAL(ftruncate)(fd, size);
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    return fails_fd("truncate", fd) ? refuse() : REAL(fallocate)(fd, mode, at, n);
}

/* ---- memory ---- */

void *mmap(void *address, size_t n, int protection, int flags, int fd, off_t at)
{
    if (is_due("map")) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return REAL(mmap)(address, n, protection, flags, fd, at);
}

void *malloc(size_t n)
{
    static void *(*real)(size_t);
    if (!real)
        real = REAL(malloc);
    if (n >= BULK_BYTES && is_due("alloc")) {
        errno = ENOMEM;
        return NULL;
    }
    return real(n);
}

void *realloc(void *old, size_t n)
{
    static void *(*real)(void *, size_t);
    if (!real)
        real = REAL(realloc);
    if (n >= BULK_BYTES && is_due("alloc")) {
        errno = ENOMEM;
        return NULL;
    }
    return real(old, n);
}
