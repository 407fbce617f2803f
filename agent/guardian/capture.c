#include "agent/guardian/capture.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/model/ids.h"

#define PARTIAL ".partial"

static void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

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

struct err *capture_make_dir(const struct config_partition *p)
{
    const char *dir = p->capture.dir;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return err_os(errno, "make the folder of captures '%s'", dir);
    struct stat st;
    if (lstat(dir, &st) != 0)
        return err_os(errno, "look at '%s'", dir);
    if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
        return err_new(ERR_INVALID,
                       "'%s' must be a folder that belongs to root and that nobody else "
                       "can write",
                       dir);
    return NULL;
}

struct err *capture_take(const struct config_partition *p, const char *id, bool *made)
{
    assert(capture_id_is_valid(id));
    AUTO(str) char *name = partial_name(id);
    const char *const names[] = {id, name};
    *made = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO(str) char *path = mem_printf("%s/%s", p->capture.dir, names[i]);
        struct stat st;
        if (lstat(path, &st) == 0)
            return err_new(ERR_CONFLICT, "capture '%s' exists already", path);
    }
    *made = true;
    return capture_of(p->capture.method)->take(p, name);
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
    CLEANUP(fd_close) int dir = open(p->capture.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_os(errno, "open '%s'", p->capture.dir);
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
static struct err *take_name_away(const struct config_partition *p, const char *id,
                                  const char *name)
{
    AUTO(str) char *final = mem_printf("%s/%s", p->capture.dir, id);
    AUTO(str) char *partial = mem_printf("%s/%s", p->capture.dir, name);
    AUTO(str) char *manifest = mem_printf("%s" CAPTURE_MANIFEST, final);
    if (renameat2(AT_FDCWD, final, AT_FDCWD, partial, RENAME_NOREPLACE) != 0 &&
        errno == EEXIST)
        TRY(capture_of(p->capture.method)->remove(p, id));
    if (unlink(manifest) != 0 && errno != ENOENT && errno != ENOTDIR)
        return err_os(errno, "remove '%s'", manifest);
    return NULL;
}

struct err *capture_remove(const struct config_partition *p, const char *id, bool named)
{
    assert(capture_id_is_valid(id));
    AUTO(str) char *name = partial_name(id);
    if (named)
        TRY(take_name_away(p, id, name));
    return capture_of(p->capture.method)->remove(p, name);
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
    DIR *d = opendir(p->capture.dir);
    if (!d && errno == ENOENT)
        return NULL;
    if (!d)
        return err_os(errno, "open '%s'", p->capture.dir);
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
