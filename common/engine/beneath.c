#include "common/engine/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/scan.h"

static int open_step(int fd, const char *path)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, fd, path, &how, sizeof how);
}

/* Length of the longest front of whole components that the kernel takes at once. */
static size_t step_length(const char *path)
{
    size_t n = strlen(path);
    if (n < PATH_MAX)
        return n;
    n = PATH_MAX - 1;
    while (n && path[n] != '/')
        n--;
    return n;
}

struct err *beneath_open_dir(int root_fd, const char *path, int *out)
{
    AUTO(fd) int fd = open_step(root_fd, ".");
    if (fd < 0)
        return err_os(errno, "open directory");
    while (*path) {
        size_t n = step_length(path);
        if (!n)
            return err_new(ERR_INVALID, "a name is too long");
        AUTO(str) char *step = mem_strndup(path, n);
        int next = open_step(fd, step);
        if (next < 0)
            return err_os(errno, "open directory '%s'", step);
        fd_close(&fd);
        fd = next;
        path += n;
        while (*path == '/')
            path++;
    }
    *out = fd_steal(&fd);
    return NULL;
}

struct err *beneath_open_parent(int root_fd, const char *path, int *out,
                                const char **base)
{
    const char *slash = strrchr(path, '/');
    AUTO(str) char *dir = mem_strndup(path, slash ? (size_t)(slash - path) : 0);
    *base = slash ? slash + 1 : path;
    return beneath_open_dir(root_fd, dir, out);
}
