#include "agent/guardian/tree.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/file/fd.h"
#include "common/base/mem.h"
#include "agent/guardian/capture.h"

/* A file with several names: where its first one was put. */
struct link {
    ino_t ino;
    char *path; /* relative to the copy's root; owned. NULL: free slot */
};

enum { SEALED_MIN = 1 << 20 }; /* see seal() */

struct walk {
    const struct config_partition *part;
    enum tree_data how;
    dev_t dev;          /* of the source's root */
    int source, target; /* the two roots */
    struct buf rel;     /* where we are, relative to both roots, "" is the root */
    struct link *links; /* open addressing; cap is a power of two */
    size_t n_links, cap_links;
    FILE *manifest;
    int64_t files, bytes;
    bool measure_only;
};

static const char *here(const struct walk *w)
{
    return w->rel.len ? w->rel.data : ".";
}

/* ---- Hard links ---- */

static struct link *link_slot(struct walk *w, ino_t ino)
{
    size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15)) & (w->cap_links - 1);
    while (w->links[i].path && w->links[i].ino != ino)
        i = (i + 1) & (w->cap_links - 1);
    return &w->links[i];
}

static void links_grow(struct walk *w)
{
    struct link *old = w->links;
    size_t n = w->cap_links;
    w->cap_links = n ? n * 2 : 1024;
    w->links = mem_array(w->cap_links, sizeof(*w->links));
    for (size_t i = 0; i < n; i++)
        if (old[i].path)
            *link_slot(w, old[i].ino) = old[i];
    free(old);
}

/* The slot of this file; an empty one is taken over by the current path. */
static struct link *find_link(struct walk *w, ino_t ino, bool *known)
{
    if (w->n_links * 2 >= w->cap_links)
        links_grow(w);
    struct link *l = link_slot(w, ino);
    *known = l->path != NULL;
    if (!*known) {
        *l = (struct link){.ino = ino, .path = mem_strdup(here(w))};
        w->n_links++;
    }
    return l;
}

/* ---- Metadata ---- */

/* A path to the file itself, for calls that have no form with a descriptor. */
static void proc_path(int dir, const char *name, char *out, size_t bytes)
{
    snprintf(out, bytes, "/proc/self/fd/%d/%s", dir, name);
}

static struct err *copy_xattrs(const struct walk *w, int from, int to, const char *name)
{
    char src[320], dst[320], names[65536], value[65536];
    proc_path(from, name, src, sizeof(src));
    proc_path(to, name, dst, sizeof(dst));
    ssize_t n = llistxattr(src, names, sizeof(names));
    if (n < 0 && errno == EOPNOTSUPP)
        return NULL;
    if (n < 0)
        return err_os(errno, "list the attributes of '%s'", here(w));
    for (const char *key = names; key < names + n; key += strlen(key) + 1) {
        ssize_t len = lgetxattr(src, key, value, sizeof(value));
        /* The copy's own filesystem computes these anew. */
        if (len < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
            continue;
        if (len < 0 || lsetxattr(dst, key, value, (size_t)len, 0) != 0)
            return err_os(errno, "copy attribute '%s' of '%s'", key, here(w));
    }
    return NULL;
}

/* Owner before mode and attributes: a change of owner clears set-id bits and
 * capabilities. Times come last of all. */
static struct err *copy_metadata(const struct walk *w, int from, int to, const char *name,
                                 const struct stat *st)
{
    if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) != 0)
        return err_os(errno, "set the owner of '%s'", here(w));
    if (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) != 0)
        return err_os(errno, "set the mode of '%s'", here(w));
    TRY(copy_xattrs(w, from, to, name));
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) != 0)
        return err_os(errno, "set the times of '%s'", here(w));
    return NULL;
}

static struct err *note(struct walk *w, const struct stat *st)
{
    w->files++;
    if (w->measure_only) {
        /* A block of its own for the inode, names and attributes of each. */
        w->bytes += (int64_t)st->st_blocks * 512 + 4096;
        return NULL;
    }
    int n = fprintf(w->manifest, "%" PRIu64 " %lld.%09ld %" PRIu64 " %s%c",
                    (uint64_t)st->st_ino, (long long)st->st_ctim.tv_sec,
                    st->st_ctim.tv_nsec, (uint64_t)st->st_dev, here(w), 0);
    return n < 0 ? err_os(errno, "write the manifest") : NULL;
}

/* ---- Contents ---- */

static struct err *copy_range(const struct walk *w, int from, int to, off_t at, off_t end)
{
    char block[65536];
    while (at < end) {
        loff_t in = at, out = at;
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP ||
                      errno == ENOSYS)) {
            size_t want =
                end - at < (off_t)sizeof(block) ? (size_t)(end - at) : sizeof(block);
            n = pread(from, block, want, at);
            if (n > 0)
                n = pwrite(to, block, (size_t)n, at);
        }
        if (n < 0 && errno != EINTR)
            return err_os(errno, "copy '%s'", here(w));
        if (n == 0)
            return err_new(ERR_IO, "'%s' became shorter while it was copied", here(w));
        if (n > 0)
            at += n;
    }
    return NULL;
}

/* Holes stay holes. */
static struct err *copy_data(const struct walk *w, int from, int to, off_t size)
{
    if (ftruncate(to, size) != 0)
        return err_os(errno, "size '%s'", here(w));
    off_t at = 0;
    while (at < size) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return NULL;
        if (data < 0)
            return err_os(errno, "find the data of '%s'", here(w));
        off_t hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0)
            return err_os(errno, "find the holes of '%s'", here(w));
        TRY(copy_range(w, from, to, data, hole < size ? hole : size));
        at = hole;
    }
    return NULL;
}

static struct err *copy_regular(struct walk *w, int from, int to, const char *name,
                                off_t size)
{
    AUTO(fd)
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
    if (in < 0)
        return err_os(errno, "open '%s'", here(w));
    AUTO(fd)
    int out =
        openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return err_os(errno, "create the copy of '%s'", here(w));
    if (w->how == TREE_COPY)
        return copy_data(w, in, out, size);
    if (ioctl(out, FICLONE, in) != 0)
        return err_os(errno, "share the blocks of '%s'", here(w));
    return NULL;
}

static struct err *copy_symlink(struct walk *w, int from, int to, const char *name)
{
    char target[4097];
    ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);
    if (n < 0)
        return err_os(errno, "read the link '%s'", here(w));
    target[n] = 0;
    if (symlinkat(target, to, name) != 0)
        return err_os(errno, "make the link '%s'", here(w));
    return NULL;
}

/* Whoever reads the next capture may trust that this one was not written to: the file
 * becomes immutable. Not for files with other names to come, which could not be linked,
 * nor for small ones, which are quicker read than looked up. Without the right to do it
 * the file is read next time. */
static void seal(const struct walk *w, int to, const char *name, const struct stat *st)
{
    int flags = 0;
    if (!w->part->keep_base || w->how != TREE_CLONE || st->st_nlink > 1 ||
        st->st_size < SEALED_MIN)
        return;
    AUTO(fd) int fd = openat(to, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_IMMUTABLE_FL;
        (void)!ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

static struct err *copy_file(struct walk *w, int from, int to, const char *name,
                             const struct stat *st)
{
    if (st->st_nlink > 1) {
        bool known;
        struct link *l = find_link(w, st->st_ino, &known);
        if (known) {
            if (!w->measure_only && linkat(w->target, l->path, to, name, 0) != 0)
                return err_os(errno, "link '%s' to '%s'", here(w), l->path);
            struct stat same = *st;
            same.st_blocks = 0;
            return note(w, &same);
        }
    }
    TRY(note(w, st));
    if (w->measure_only)
        return NULL;
    if (S_ISREG(st->st_mode))
        TRY(copy_regular(w, from, to, name, st->st_size));
    else if (S_ISLNK(st->st_mode))
        TRY(copy_symlink(w, from, to, name));
    else if (mknodat(to, name, st->st_mode, st->st_rdev) != 0)
        return err_os(errno, "make the special file '%s'", here(w));
    TRY(copy_metadata(w, from, to, name, st));
    if (S_ISREG(st->st_mode))
        seal(w, to, name, st);
    return NULL;
}

/* ---- The walk ---- */

static struct err *walk_dir(struct walk *w, int from, int to, int depth);

static struct err *walk_subdir(struct walk *w, int from, int to, const char *name,
                               const struct stat *st, int depth)
{
    TRY(note(w, st));
    if (!w->measure_only && mkdirat(to, name, 0700) != 0)
        return err_os(errno, "make the folder '%s'", here(w));
    AUTO(fd)
    int sub_to = w->measure_only
                     ? -1
                     : openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (!w->measure_only && sub_to < 0)
        return err_os(errno, "open the copy of '%s'", here(w));
    AUTO(fd)
    int sub = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub < 0)
        return err_os(errno, "open '%s'", here(w));
    TRY(walk_dir(w, sub, sub_to, depth + 1));
    return w->measure_only ? NULL : copy_metadata(w, from, to, name, st);
}

static struct err *walk_entry(struct walk *w, int from, int to, const char *name,
                              int depth)
{
    AUTO(str) char *absolute = mem_printf("/%s", w->rel.data);
    if (config_excludes(w->part, absolute))
        return NULL;
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return err_os(errno, "look at '%s'", here(w));
    /* Prepare has refused those that it saw: it is not to be an empty folder either. (The
     * files of an overlay may have other numbers than its directories.) */
    if (S_ISDIR(st.st_mode) && st.st_dev != w->dev)
        return err_new(ERR_CONFLICT,
                       "another filesystem is mounted at '%s', or it is a subvolume: "
                       "exclude it, and make it a partition of its own if it matters",
                       here(w));
    if (S_ISDIR(st.st_mode))
        return walk_subdir(w, from, to, name, &st, depth);
    return copy_file(w, from, to, name, &st);
}

static struct err *walk_dir(struct walk *w, int from, int to, int depth)
{
    if (depth == TREE_MAX_DEPTH)
        return err_new(ERR_LIMIT, "'%s' is nested deeper than %d folders", here(w),
                       TREE_MAX_DEPTH);
    int copy = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d)
        return err_os(errno, "list '%s'", here(w));
    struct err *e = NULL;
    errno = 0;
    for (struct dirent *ent; !e && (ent = readdir(d)); errno = 0) {
        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
            continue;
        size_t was = w->rel.len;
        buf_printf(&w->rel, "%s%s", was ? "/" : "", ent->d_name);
        e = walk_entry(w, from, to, ent->d_name, depth);
        w->rel.len = was;
        w->rel.data[was] = 0;
    }
    if (!e && errno != 0)
        e = err_os(errno, "list '%s'", here(w));
    closedir(d);
    return e;
}

static void walk_fini(struct walk *w)
{
    for (size_t i = 0; i < w->cap_links; i++)
        free(w->links[i].path);
    free(w->links);
    buf_fini(&w->rel);
    fd_close(&w->target);
    if (w->manifest)
        fclose(w->manifest);
}

static struct err *walk_init(struct walk *w, const struct config_partition *p, int source)
{
    *w = (struct walk){.part = p, .source = source, .target = -1};
    buf_init(&w->rel);
    struct stat st;
    if (fstat(source, &st) != 0)
        return err_os(errno, "look at '%s'", p->path);
    w->dev = st.st_dev;
    return NULL;
}

struct err *tree_measure(const struct config_partition *p, int64_t *bytes, int64_t *files)
{
    AUTO(fd) int source = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source < 0)
        return err_os(errno, "open '%s'", p->path);
    struct walk w;
    struct err *e = walk_init(&w, p, source);
    w.measure_only = true;
    if (!e)
        e = walk_dir(&w, w.source, -1, 0);
    *bytes = w.bytes;
    *files = w.files;
    walk_fini(&w);
    return e;
}

static struct err *open_target(struct walk *w, int dir, const char *name)
{
    AUTO(str) char *manifest = mem_printf("%s" CAPTURE_MANIFEST, name);
    if (mkdirat(dir, name, 0700) != 0)
        return err_os(errno, "make '%s'", name);
    w->target = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (w->target < 0)
        return err_os(errno, "open '%s'", name);
    int fd =
        openat(dir, manifest, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_os(errno, "create '%s'", manifest);
    w->manifest = fdopen(fd, "w");
    if (!w->manifest)
        abort(); /* out of memory */
    fputs("stillpoint manifest 1\n", w->manifest);
    return NULL;
}

static struct err *copy_all(struct walk *w, int dir, const char *name)
{
    TRY(open_target(w, dir, name));
    struct stat st;
    if (fstat(w->source, &st) != 0)
        return err_os(errno, "look at '%s'", w->part->path);
    TRY(note(w, &st));
    TRY(walk_dir(w, w->source, w->target, 0));
    TRY(copy_metadata(w, w->source, w->target, ".", &st));
    fprintf(w->manifest, "end %" PRId64 "%c", w->files, 0);
    /* Not flushed to the disk: a capture that a crash damages is never published, and
     * publishing flushes what it names. */
    if (fflush(w->manifest) != 0 || ferror(w->manifest))
        return err_os(errno, "write the manifest of '%s'", name);
    return NULL;
}

struct err *tree_copy(const struct config_partition *p, int source, enum tree_data how,
                      int dir, const char *name)
{
    struct walk w;
    struct err *e = walk_init(&w, p, source);
    w.how = how;
    if (!e)
        e = copy_all(&w, dir, name);
    walk_fini(&w);
    return e;
}

/* ---- Removing ---- */

static struct err *remove_in(int dir, const char *name, dev_t dev, int depth);

static struct err *empty_dir(int dir, const char *name, dev_t dev, int depth)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return err_os(errno, "open '%s'", name);
    if (fstat(fd, &st) != 0 || st.st_dev != dev || depth > TREE_MAX_DEPTH) {
        close(fd);
        return err_new(ERR_CONFLICT, "'%s' is mounted, or nested too deep", name);
    }
    DIR *d = fdopendir(fd);
    if (!d)
        abort(); /* out of memory */
    struct err *e = NULL;
    for (struct dirent *ent; !e && (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
            e = remove_in(dirfd(d), ent->d_name, dev, depth + 1);
    closedir(d);
    return e;
}

/* Takes the immutable flag off; true if there was one. */
static bool unseal(int dir, const char *name)
{
    int flags = 0;
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return false;
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0 || !(flags & FS_IMMUTABLE_FL))
        return false;
    flags &= ~FS_IMMUTABLE_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

static struct err *remove_in(int dir, const char *name, dev_t dev, int depth)
{
    bool gone = unlinkat(dir, name, 0) == 0 || errno == ENOENT;
    if (!gone && errno == EPERM && unseal(dir, name))
        gone = unlinkat(dir, name, 0) == 0;
    if (gone)
        return NULL;
    if (errno != EISDIR && errno != EPERM)
        return err_os(errno, "remove '%s'", name);
    TRY(empty_dir(dir, name, dev, depth));
    if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return err_os(errno, "remove the folder '%s'", name);
    return NULL;
}

struct err *tree_remove(int dir, const char *name)
{
    AUTO(str) char *manifest = mem_printf("%s" CAPTURE_MANIFEST, name);
    struct stat st;
    if (fstat(dir, &st) != 0)
        return err_os(errno, "look at the folder of captures");
    TRY_CTX(remove_in(dir, name, st.st_dev, 0), "remove capture '%s'", name);
    return remove_in(dir, manifest, st.st_dev, 0);
}
