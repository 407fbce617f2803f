/* Objects of the `local` backend that are written in pieces: past the page cache where
 * the filesystem lets us, since syncing 16 MiB out of it takes thrice as long as writing
 * them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/store/local_own.h"

enum {
    BLOCK = 1 << 20,   /* written at once */
    ALIGN = 4096,      /* of memory, offsets and lengths under O_DIRECT */
    RESERVE = 8 << 20, /* space asked for ahead, so that a pack lies in one piece */
};

struct local_upload {
    struct store_upload upload;
    char *block; /* collected, at offset `written` */
    size_t n;
    char *dir;  /* where the temporary file is, */
    int dir_fd; /* opened with it: -1 until the first block is full */
    int fd;     /* the same */
    char *temp; /* its name; NULL: it has none (O_TMPFILE) */
    bool direct;
    uint64_t written;
    uint64_t reserved;
};

static struct local_upload *upload_of(struct store_upload *u)
{
    return (struct local_upload *)u;
}

struct err *local_begin(struct store *s, const char *dir, struct store_upload **out)
{
    struct local_upload *u = mem_zalloc(sizeof *u);
    u->upload.store = s;
    u->dir = mem_strdup(dir);
    u->fd = u->dir_fd = -1;
    if (posix_memalign((void **)&u->block, ALIGN, BLOCK))
        abort();
    *out = &u->upload;
    return NULL;
}

/* A file without a name vanishes with its process; where there is no such thing it gets a
 * name that every reader ignores. */
static struct err *create(struct local_upload *u, int flags)
{
    flags |= O_WRONLY | O_CLOEXEC;
    u->fd = openat(u->dir_fd, ".", flags | O_TMPFILE, 0400);
    if (u->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return u->fd >= 0 ? NULL : err_os(errno, "create");
    u->temp = local_temp_name("upload");
    u->fd = openat(u->dir_fd, u->temp, flags | O_CREAT | O_EXCL, 0400);
    if (u->fd >= 0)
        return NULL;
    struct err *e = err_os(errno, "create");
    free(u->temp);
    u->temp = NULL;
    return e;
}

static struct err *open_file(struct local_upload *u)
{
    int root_fd = local_of(u->upload.store)->root_fd;
    u->dir_fd = openat(root_fd, u->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (u->dir_fd < 0)
        return err_os(errno, "open directory '%s'", u->dir);
    struct err *e = create(u, O_DIRECT);
    u->direct = !e;
    if (e && e->os == EINVAL) { /* the filesystem has no O_DIRECT */
        err_free(e);
        e = create(u, 0);
    }
    return e;
}

static struct err *leave_direct(struct local_upload *u)
{
    int flags = fcntl(u->fd, F_GETFL);
    if (flags < 0 || fcntl(u->fd, F_SETFL, flags & ~O_DIRECT))
        return err_os(errno, "change flags");
    u->direct = false;
    return NULL;
}

static struct err *write_block(struct local_upload *u, size_t n)
{
    /* Only a hint: what does not fit says so when it is written. */
    if (u->written + n > u->reserved &&
        fallocate(u->fd, FALLOC_FL_KEEP_SIZE, (off_t)u->reserved, RESERVE) == 0)
        u->reserved += RESERVE;
    for (size_t at = 0; at < n;) {
        ssize_t put = pwrite(u->fd, u->block + at, n - at, (off_t)(u->written + at));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EINVAL && u->direct) {
            TRY(leave_direct(u));
            continue;
        }
        if (put < 0)
            return err_os(errno, "write");
        if (put == 0)
            return err_os(EIO, "write nothing");
        at += (size_t)put;
        if (u->direct && at % ALIGN)
            TRY(leave_direct(u));
    }
    u->written += n;
    return NULL;
}

static struct err *flush_block(struct local_upload *u)
{
    if (u->fd < 0)
        TRY(open_file(u));
    TRY(write_block(u, u->n));
    u->n = 0;
    return NULL;
}

struct err *local_append(struct store_upload *upload, const void *data, size_t n)
{
    struct local_upload *u = upload_of(upload);
    const char *from = data;
    while (n) {
        size_t take = n < BLOCK - u->n ? n : BLOCK - u->n;
        memcpy(u->block + u->n, from, take);
        u->n += take;
        from += take;
        n -= take;
        if (u->n == BLOCK)
            TRY_CTX(flush_block(u), "store a part in '%s'", upload->store->url);
    }
    return NULL;
}

/* Writes the rest, cuts off its padding and the reserve, and makes all durable. */
static struct err *finish(struct local_upload *u)
{
    uint64_t bytes = u->written + u->n;
    if (u->fd < 0)
        TRY(open_file(u));
    size_t padded = u->direct ? (u->n + ALIGN - 1) & ~(size_t)(ALIGN - 1) : u->n;
    memset(u->block + u->n, 0, padded - u->n);
    if (padded)
        TRY(write_block(u, padded));
    if (ftruncate(u->fd, (off_t)bytes))
        return err_os(errno, "cut to %llu bytes", (unsigned long long)bytes);
    if (fchmod(u->fd, 0400))
        return err_os(errno, "change mode");
    if (fsync(u->fd))
        return err_os(errno, "sync");
    return NULL;
}

/* Neither way replaces anything. */
static struct err *name_it(struct local_upload *u, int dir_fd, const char *base)
{
    char path[64];
    if (u->temp)
        return local_publish(u->dir_fd, u->temp, dir_fd, base);
    snprintf(path, sizeof path, "/proc/self/fd/%d", u->fd);
    if (linkat(AT_FDCWD, path, dir_fd, base, AT_SYMLINK_FOLLOW) == 0)
        return NULL;
    if (errno == EEXIST)
        return err_new(ERR_CONFLICT, "it already exists");
    return err_os(errno, "link");
}

static struct err *commit(struct local_upload *u, const char *name)
{
    struct local *l = local_of(u->upload.store);
    const char *base = NULL;
    AUTO(fd) int dir_fd = -1;
    TRY(local_open_parent(l, name, true, &base, &dir_fd));
    TRY(finish(u));
    TRY(name_it(u, dir_fd, base));
    /* The file has its name: from here on it stays. */
    free(u->temp);
    u->temp = NULL;
    int fd = u->fd;
    u->fd = -1;
    if (close(fd))
        return err_os(errno, "close");
    return local_sync_dir(dir_fd, base);
}

struct err *local_end(struct store_upload *upload, const char *name)
{
    struct local_upload *u = upload_of(upload);
    struct err *e = name ? commit(u, name) : NULL;
    if (e)
        e = err_wrap(e, "store '%s' in '%s'", name, upload->store->url);
    if (u->fd >= 0)
        close(u->fd);
    if (u->temp)
        unlinkat(u->dir_fd, u->temp, 0);
    if (u->dir_fd >= 0)
        close(u->dir_fd);
    free(u->dir);
    free(u->temp);
    free(u->block);
    free(u);
    return e;
}
