/* The `local` backend: objects are files below one directory, laid out as restic does. */
#include "common/file/fd.h"
#include "common/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/store/local_own.h"

static const char *const layout[] = {"data", "index", "keys", "locks", "snapshots"};
static atomic_uint temp_counter;

char *local_temp_name(const char *base)
{
    return mem_printf("%s-tmp-%d-%u", base, (int)getpid(),
                      atomic_fetch_add(&temp_counter, 1));
}

struct err *local_sync_dir(int fd, const char *what)
{
    if (fsync(fd))
        return err_os(errno, "sync directory of '%s'", what);
    return NULL;
}

struct err *local_open_parent(struct local *l, const char *name, bool make,
                              const char **base, int *dir_fd)
{
    AUTO(fd) int fd = fcntl(l->root_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return err_os(errno, "open directory of '%s'", name);
    const char *slash;
    while ((slash = strchr(name, '/'))) {
        AUTO(str) char *part = mem_strndup(name, (size_t)(slash - name));
        int next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (next < 0 && errno == ENOENT && make) {
            if (mkdirat(fd, part, 0700) && errno != EEXIST)
                return err_os(errno, "make directory '%s'", part);
            TRY(local_sync_dir(fd, part));
            next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        if (next < 0)
            return err_os(errno, "open directory '%s'", part);
        close(fd);
        fd = next;
        name = slash + 1;
    }
    *base = name;
    *dir_fd = fd_steal(&fd);
    return NULL;
}

static struct err *write_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t put = write(fd, data, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_os(errno, "write");
        data += put;
        n -= (size_t)put;
    }
    return NULL;
}

/* Writes the temporary file and makes its bytes durable. Reserving the space first turns
 * a full disk into an early error. */
static struct err *write_temp(int fd, const void *data, size_t n)
{
    if (n && fallocate(fd, 0, 0, (off_t)n) && errno != EOPNOTSUPP && errno != ENOSYS &&
        errno != EINTR)
        return err_os(errno, "reserve space");
    TRY(write_all(fd, data, n));
    if (fchmod(fd, 0400))
        return err_os(errno, "change mode");
    if (fsync(fd))
        return err_os(errno, "sync");
    return NULL;
}

/* Filesystems without RENAME_NOREPLACE get a hard link, which never replaces either. */
struct err *local_publish(int temp_fd, const char *temp, int dir_fd, const char *base)
{
    if (renameat2(temp_fd, temp, dir_fd, base, RENAME_NOREPLACE) == 0)
        return NULL;
    if (errno == EINVAL || errno == ENOSYS) {
        if (linkat(temp_fd, temp, dir_fd, base, 0) == 0) {
            unlinkat(temp_fd, temp, 0);
            return NULL;
        }
    }
    if (errno == EEXIST)
        return err_new(ERR_CONFLICT, "it already exists");
    return err_os(errno, "rename");
}

static struct err *put_in_dir(int dir_fd, const char *base, const void *data, size_t n)
{
    struct stat st;
    if (fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return err_new(ERR_CONFLICT, "it already exists");
    AUTO(str)
    char *temp = local_temp_name(base);
    int fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_os(errno, "create");
    struct err *e = write_temp(fd, data, n);
    /* A deferred write error of a network filesystem shows only here. */
    if (close(fd) && !e)
        e = err_os(errno, "close");
    if (!e)
        e = local_publish(dir_fd, temp, dir_fd, base);
    if (e) {
        unlinkat(dir_fd, temp, 0);
        return e;
    }
    return local_sync_dir(dir_fd, base);
}

static struct err *local_put(struct store *s, const char *name, const void *data,
                             size_t n)
{
    const char *base = NULL;
    AUTO(fd) int dir_fd = -1;
    TRY_CTX(local_open_parent(local_of(s), name, true, &base, &dir_fd), "store '%s'",
            name);
    TRY_CTX(put_in_dir(dir_fd, base, data, n), "store '%s' in '%s'", name, s->url);
    return NULL;
}

static struct err *local_get(struct store *s, const char *name, uint64_t offset,
                             void *out, size_t n)
{
    AUTO(fd) int fd = openat(local_of(s)->root_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open '%s' in '%s'", name, s->url);
    char *to = out;
    while (n) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_os(errno, "read '%s' in '%s'", name, s->url);
        if (got == 0)
            return err_new(ERR_CORRUPT, "'%s' in '%s' is shorter than it should be", name,
                           s->url);
        to += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return NULL;
}

static int skip_dots(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* alphasort(3) would follow the locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static struct err *list_dir(struct local *l, const char *dir, store_visit *visit,
                            void *ctx);

static struct err *list_entry(struct local *l, const char *dir, const char *entry,
                              store_visit *visit, void *ctx)
{
    struct stat st;
    AUTO(str) char *name = mem_printf("%s/%s", dir, entry);
    if (strlen(name) >= STORE_NAME_MAX)
        return NULL;
    if (fstatat(l->root_fd, name, &st, 0)) {
        /* Another process may remove a lock between the listing and this call. */
        if (errno == ENOENT)
            return NULL;
        return err_os(errno, "look at '%s'", name);
    }
    if (S_ISDIR(st.st_mode))
        return list_dir(l, name, visit, ctx);
    if (S_ISREG(st.st_mode))
        return visit(ctx, name, (uint64_t)st.st_size);
    return NULL;
}

static struct err *list_dir(struct local *l, const char *dir, store_visit *visit,
                            void *ctx)
{
    struct dirent **entries = NULL;
    int n = scandirat(l->root_fd, dir, &entries, skip_dots, by_bytes);
    if (n < 0 && errno == ENOENT)
        return NULL;
    if (n < 0)
        return err_os(errno, "list '%s' in '%s'", dir, l->store.url);
    struct err *e = NULL;
    for (int i = 0; i < n; i++) {
        if (!e)
            e = list_entry(l, dir, entries[i]->d_name, visit, ctx);
        free(entries[i]);
    }
    free(entries);
    return e;
}

static struct err *local_list(struct store *s, const char *dir, store_visit *visit,
                              void *ctx)
{
    return list_dir(local_of(s), dir, visit, ctx);
}

static struct err *local_stat(struct store *s, const char *name, uint64_t *bytes)
{
    struct stat st;
    if (fstatat(local_of(s)->root_fd, name, &st, 0))
        return err_os(errno, "look at '%s' in '%s'", name, s->url);
    *bytes = (uint64_t)st.st_size;
    return NULL;
}

static struct err *local_remove(struct store *s, const char *name)
{
    if (unlinkat(local_of(s)->root_fd, name, 0))
        return err_os(errno, "remove '%s' in '%s'", name, s->url);
    return NULL;
}

static void local_close(struct store *s)
{
    close(local_of(s)->root_fd);
    free(s);
}

/* Ours are "…-tmp-PID-NUMBER", restic's "ID-tmp-NUMBER". */
static bool is_temp(const char *name)
{
    return strstr(name, "-tmp-") != NULL;
}

static struct err *clean_dir(int at, const char *name, int64_t before_s, bool deeper,
                             struct store_leftovers *out)
{
    struct dirent **entries = NULL;
    AUTO(fd) int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return NULL;
    int n = fd < 0 ? -1 : scandirat(fd, ".", &entries, skip_dots, by_bytes);
    if (n < 0)
        return err_os(errno, "list '%s'", name);
    struct err *e = NULL;
    for (int i = 0; i < n; i++) {
        const char *entry = entries[i]->d_name;
        struct stat st;
        if (!e && fstatat(fd, entry, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            if (S_ISDIR(st.st_mode) && deeper)
                e = clean_dir(fd, entry, before_s, false, out);
            else if (S_ISREG(st.st_mode) && is_temp(entry) && st.st_mtime < before_s &&
                     unlinkat(fd, entry, 0) == 0) {
                out->files++;
                out->bytes += (uint64_t)st.st_size;
            }
        }
        free(entries[i]);
    }
    free(entries);
    return e;
}

static struct err *local_clean(struct store *s, int64_t older_s,
                               struct store_leftovers *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < ARRAY_LEN(layout); i++)
        TRY_CTX(
            clean_dir(local_of(s)->root_fd, layout[i], now.tv_sec - older_s, true, out),
            "clean '%s'", s->url);
    return NULL;
}

static const struct store_vt local_vt = {
    .put = local_put,
    .begin = local_begin,
    .append = local_append,
    .end = local_end,
    .get = local_get,
    .list = local_list,
    .stat = local_stat,
    .remove = local_remove,
    .clean = local_clean,
    .close = local_close,
};

/* One directory for each first byte of a pack's id, so that no upload has to make and
 * sync one. */
static struct err *make_fan(int fd)
{
    AUTO(fd) int data_fd = openat(fd, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (data_fd < 0)
        return err_os(errno, "open directory 'data'");
    for (unsigned i = 0; i < 256; i++) {
        char name[3];
        snprintf(name, sizeof name, "%02x", i);
        if (mkdirat(data_fd, name, 0700) && errno != EEXIST)
            return err_os(errno, "make directory 'data/%s'", name);
    }
    return local_sync_dir(data_fd, "data");
}

/* What stock restic makes too. */
static struct err *make_layout(int fd, const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(layout); i++)
        if (mkdirat(fd, layout[i], 0700) && errno != EEXIST)
            return err_os(errno, "make directory '%s' in '%s'", layout[i], path);
    TRY(make_fan(fd));
    return local_sync_dir(fd, path);
}

/* Filesystems of one kernel alone: a name is in every list from its link on. A client of
 * some server's may be shown an older list. */
static bool is_coherent(int fd)
{
    static const uint32_t kinds[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                     F2FS_SUPER_MAGIC, TMPFS_MAGIC};
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if ((uint32_t)fs.f_type == kinds[i])
            return true;
    return false;
}

struct err *store_local_open(const char *path, unsigned flags, struct store **out)
{
    if ((flags & STORE_CREATE) && mkdir(path, 0700) && errno != EEXIST)
        return err_os(errno, "make directory '%s'", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open repository '%s'", path);
    if (flags & STORE_CREATE) {
        struct err *e = make_layout(fd, path);
        if (e) {
            close(fd);
            return e;
        }
    }
    struct local *l = mem_zalloc(sizeof *l);
    store_setup(&l->store, &local_vt, flags, path);
    l->root_fd = fd;
    l->store.coherent = is_coherent(fd);
    *out = &l->store;
    return NULL;
}
