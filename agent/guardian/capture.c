#include "agent/guardian/capture.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/model/ids.h"

#define PARTIAL ".partial"

const struct capture_ops *capture_of(int method)
{
    static const struct capture_ops *const table[] = {
        [CONFIG_BTRFS] = &capture_btrfs,
        [CONFIG_REFLINK] = &capture_reflink,
        [CONFIG_COPY] = &capture_copy,
    };
    assert((size_t)method < ARRAY_LEN(table));
    return table[method];
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

bool capture_id_is_valid(const char *id)
{
    size_t n = strlen(id);
    if (n == 0 || n >= CAPTURE_BYTES || id[0] == '.' || ends_with(id, CAPTURE_MANIFEST))
        return false;
    for (const char *p = id; *p; p++)
        if (*p <= ' ' || *p >= 127 || *p == '/')
            return false;
    return true;
}

static char *partial_name(const char *id)
{
    return mem_printf(".%s" PARTIAL, id);
}

struct err *capture_open_dir(const struct config_partition *p, int *out)
{
    const char *path = p->capture.dir;
    AUTO(fd)
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        return err_new(ERR_DENIED, "'%s' is not a folder", path);
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_os(errno, "open the folder of captures '%s'", path);
    if (st.st_uid != 0 || (st.st_mode & 022))
        return err_new(ERR_DENIED,
                       "'%s' must belong to root, and nobody else may write it: chown "
                       "root, chmod 700",
                       path);
    *out = fd_steal(&fd);
    return NULL;
}

struct err *capture_make_dir(const struct config_partition *p)
{
    if (mkdir(p->capture.dir, 0700) != 0 && errno != EEXIST)
        return err_os(errno, "make the folder of captures '%s'", p->capture.dir);
    AUTO(fd) int dir = -1;
    return capture_open_dir(p, &dir);
}

static bool exists(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

struct err *capture_take(const struct config_partition *p, int source, const char *id,
                         bool *made)
{
    assert(capture_id_is_valid(id));
    AUTO(str) char *name = partial_name(id);
    *made = false;
    AUTO(fd) int dir = -1;
    TRY(capture_open_dir(p, &dir));
    if (exists(dir, id) || exists(dir, name))
        return err_new(ERR_CONFLICT, "capture '%s' exists already in '%s'", id,
                       p->capture.dir);
    *made = true;
    return capture_of(p->capture.method)->take(p, source, dir, name);
}

/* A capture without a manifest is a btrfs snapshot. */
static struct err *rename_in(int dir, const char *from, const char *to, bool optional)
{
    if (renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0 ||
        (optional && errno == ENOENT))
        return NULL;
    return err_os(errno, "rename '%s' to '%s'", from, to);
}

struct err *capture_publish(const struct config_partition *p, const char *id)
{
    AUTO(str) char *name = partial_name(id);
    AUTO(str) char *manifest = mem_printf("%s" CAPTURE_MANIFEST, name);
    AUTO(str) char *final_manifest = mem_printf("%s" CAPTURE_MANIFEST, id);
    AUTO(fd) int dir = -1;
    TRY(capture_open_dir(p, &dir));
    /* A name promises the contents, through a power cut too. A snapshot is on the disk
     * once it exists. */
    if (p->capture.method != CONFIG_BTRFS && syncfs(dir) != 0)
        return err_os(errno, "flush the capture '%s'", id);
    /* The manifest first: a capture that has its name has all that belongs to it. */
    TRY(rename_in(dir, manifest, final_manifest, true));
    TRY(rename_in(dir, name, id, false));
    if (fsync(dir) == 0)
        return NULL;
    int os = errno;
    struct err *back = rename_in(dir, id, name, false);
    err_free(back); /* then both names are there to be removed */
    return err_os(os, "flush '%s'", p->capture.dir);
}

/* Its final name goes first, so that a crash half way leaves nothing that seems whole. */
static struct err *take_name_away(const struct capture_ops *ops, int dir, const char *id,
                                  const char *name)
{
    AUTO(str) char *manifest = mem_printf("%s" CAPTURE_MANIFEST, id);
    if (renameat2(dir, id, dir, name, RENAME_NOREPLACE) != 0 && errno == EEXIST)
        TRY(ops->remove(dir, id));
    if (unlinkat(dir, manifest, 0) != 0 && errno != ENOENT)
        return err_os(errno, "remove '%s'", manifest);
    return NULL;
}

struct err *capture_remove(const struct config_partition *p, const char *id, bool named)
{
    assert(capture_id_is_valid(id));
    const struct capture_ops *ops = capture_of(p->capture.method);
    AUTO(str) char *name = partial_name(id);
    AUTO(fd) int dir = -1;
    struct err *e = capture_open_dir(p, &dir);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    TRY(e);
    if (named)
        TRY(take_name_away(ops, dir, id, name));
    return ops->remove(dir, name);
}

/* ".ID.partial" → ID, true; "ID" → ID, false; anything else: not a capture. */
static char *id_of(const char *name, bool *partial)
{
    size_t n = strlen(name);
    *partial = name[0] == '.' && ends_with(name, PARTIAL) && n > strlen(PARTIAL) + 1;
    AUTO(str)
    char *id =
        *partial ? mem_strndup(name + 1, n - 1 - strlen(PARTIAL)) : mem_strdup(name);
    return capture_id_is_valid(id) ? STEAL(id) : NULL;
}

struct err *capture_each(const struct config_partition *p, capture_fn *fn, void *ctx)
{
    int dir = -1;
    struct err *gone = capture_open_dir(p, &dir);
    if (gone && gone->kind == ERR_NOT_FOUND) {
        err_free(gone);
        return NULL;
    }
    TRY(gone);
    DIR *d = fdopendir(dir);
    if (!d)
        abort(); /* out of memory */
    struct err *e = NULL;
    for (struct dirent *ent; !e && (ent = readdir(d));) {
        bool partial;
        AUTO(str) char *id = id_of(ent->d_name, &partial);
        if (id)
            e = fn(ctx, id, partial);
    }
    closedir(d);
    return e;
}
