#include "common/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"

static struct err *read_all(int fd, const char *path, size_t most, char **out, size_t *n)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_os(errno, "stat '%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_new(ERR_INVALID, "'%s' is not a regular file", path);
    if ((size_t)st.st_size > most)
        return err_new(ERR_LIMIT, "'%s' has %lld bytes, at most %zu are read", path,
                       (long long)st.st_size, most);
    size_t size = (size_t)st.st_size;
    AUTO(str) char *data = mem_alloc(size + 1);
    size_t got = 0;
    while (got < size) {
        ssize_t r = read(fd, data + got, size - got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_os(errno, "read '%s'", path);
        if (r == 0)
            break;
        got += (size_t)r;
    }
    data[got] = '\0';
    *n = got;
    *out = STEAL(data);
    return NULL;
}

struct err *file_read(const char *path, size_t most, char **out, size_t *n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_os(errno, "open '%s'", path);
    struct err *e = read_all(fd, path, most, out, n);
    close(fd);
    return e;
}

static struct err *sync_dir_of(const char *path)
{
    AUTO(str) char *dir = mem_strdup(path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open '%s'", dir);
    int os = fsync(fd) < 0 ? errno : 0;
    close(fd);
    return os ? err_os(os, "fsync '%s'", dir) : NULL;
}

static struct err *write_all(int fd, const char *path, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t w = write(fd, bytes + done, n - done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_os(errno, "write '%s'", path);
        done += (size_t)w;
    }
    if (fsync(fd) < 0)
        return err_os(errno, "fsync '%s'", path);
    return NULL;
}

struct err *file_replace(const char *path, const void *bytes, size_t n, mode_t mode)
{
    AUTO(str) char *tmp = mem_printf("%s.new", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_os(errno, "create '%s'", tmp);
    struct err *e = write_all(fd, tmp, bytes, n);
    if (close(fd) < 0 && !e)
        e = err_os(errno, "close '%s'", tmp);
    if (!e && rename(tmp, path) < 0)
        e = err_os(errno, "rename '%s' to '%s'", tmp, path);
    if (e) {
        unlink(tmp);
        return e;
    }
    return sync_dir_of(path);
}

struct err *file_mkdirs(const char *path, mode_t mode)
{
    AUTO(str) char *p = mem_strdup(path);
    for (char *s = p + 1; *s; s++) {
        if (*s != '/')
            continue;
        *s = '\0';
        if (mkdir(p, mode) < 0 && errno != EEXIST)
            return err_os(errno, "create directory '%s'", p);
        *s = '/';
    }
    if (mkdir(p, mode) < 0 && errno != EEXIST)
        return err_os(errno, "create directory '%s'", p);
    return NULL;
}

struct err *file_remove(const char *path)
{
    if (unlink(path) < 0) {
        if (errno == ENOENT)
            return NULL;
        return err_os(errno, "remove '%s'", path);
    }
    return sync_dir_of(path);
}

struct err *file_boot_id(char out[FILE_BOOT_ID_BYTES])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    char *got = f ? fgets(out, FILE_BOOT_ID_BYTES, f) : NULL;
    if (f)
        fclose(f);
    if (!got)
        return err_new(ERR_IO, "cannot read the boot id");
    out[strcspn(out, "\n")] = '\0';
    return NULL;
}
