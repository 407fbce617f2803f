/* The directories of a restore: made late, opened by path, finished last. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/beneath.h"
#include "common/engine/meta.h"
#include "common/engine/restore_own.h"
#include "common/engine/scan.h"

struct restore_dir *restore_dir_new(struct restore *r, struct restore_dir *parent,
                                    const char *name)
{
    struct restore_dir *d = mem_zalloc(sizeof *d);
    d->parent = parent ? restore_dir_hold(parent) : NULL;
    d->name = mem_strdup(name);
    d->serial = ++r->serials;
    atomic_init(&d->refs, 1);
    return d;
}

struct restore_dir *restore_dir_hold(struct restore_dir *d)
{
    atomic_fetch_add(&d->refs, 1);
    return d;
}

static struct err *finish(struct restore *r, const struct restore_dir *d)
{
    AUTO(fd) int fd = -1;
    TRY(restore_dir_open(r, d, &fd));
    return meta_apply(fd, &d->node, d->fresh && !d->inherits);
}

void restore_dir_drop(struct restore *r, struct restore_dir *d)
{
    while (d && atomic_fetch_sub(&d->refs, 1) == 1) {
        struct restore_dir *parent = d->parent;
        bool wanted = d->node.type != NODE_NONE && d->there && !r->opts->dry_run;
        /* What an aborted restore leaves is repeated anyway. */
        if (wanted && !restore_is_cancelled(r))
            restore_problem(r, d, NULL, finish(r, d));
        node_fini(&d->node);
        free(d->name);
        free(d);
        d = parent;
    }
}

void restore_dir_path(const struct restore_dir *d, const char *name, struct buf *out)
{
    size_t bytes = name ? strlen(name) + 1 : 0;
    for (const struct restore_dir *p = d; p->parent; p = p->parent)
        bytes += strlen(p->name) + 1;
    if (!bytes)
        return;
    /* From the end to the front, without recursion: directories nest deeply. */
    char *start = buf_room(out, bytes), *at = start + bytes - 1;
    if (name) {
        at -= strlen(name);
        memcpy(at, name, strlen(name));
    }
    for (const struct restore_dir *p = d; p->parent; p = p->parent) {
        if (at < start + bytes - 1)
            *--at = '/';
        at -= strlen(p->name);
        memcpy(at, p->name, strlen(p->name));
    }
    out->len += bytes - 1;
    out->data[out->len] = '\0';
}

struct err *restore_dir_open(struct restore *r, const struct restore_dir *d, int *out)
{
    AUTO_BUF struct buf path = {0};
    restore_dir_path(d, NULL, &path);
    return beneath_open_dir(r->root_fd, buf_text(&path), out);
}

/* Learns of an existing directory what matters for what is made inside. Its owner may
 * have to be let in: an interrupted restore leaves finished directories behind that are
 * read-only. */
static struct err *adopt(struct restore *r, struct restore_dir *d, int parent_fd,
                         const struct stat *st)
{
    AUTO(fd)
    int fd = openat(parent_fd, *d->name ? d->name : ".",
                    O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char path[64];
    if (fd < 0)
        return err_os(errno, "open directory");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    bool mine = st->st_uid == geteuid() && geteuid() != 0;
    if (mine && (st->st_mode & 0700) != 0700 && !r->opts->dry_run &&
        chmod(path, (st->st_mode & 07777) | 0700))
        return err_os(errno, "open directory to its owner");
    d->inherits = (st->st_mode & S_ISGID) ||
                  getxattr(path, "system.posix_acl_default", NULL, 0) >= 0;
    d->there = true;
    return NULL;
}

static struct err *replace_by_dir(struct restore *r, const struct restore_dir *d,
                                  int parent_fd, const struct stat *st)
{
    enum restore_existing ex = r->opts->existing;
    if (ex < RESTORE_IF_NEWER ||
        (ex == RESTORE_IF_NEWER && !restore_is_newer(&d->node, st)))
        return err_new(ERR_CONFLICT, "something else exists in place of the directory");
    if (r->opts->dry_run)
        return NULL;
    return restore_remove(r, parent_fd, d->name);
}

static struct err *make_in(struct restore *r, struct restore_dir *d, int parent_fd)
{
    struct stat st;
    bool exists =
        !d->parent->fresh && fstatat(parent_fd, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (exists && S_ISDIR(st.st_mode))
        return adopt(r, d, parent_fd, &st);
    if (exists)
        TRY(replace_by_dir(r, d, parent_fd, &st));
    d->fresh = true;
    if (r->opts->dry_run)
        return NULL;
    if (mkdirat(parent_fd, d->name, 0700)) {
        if (errno == EEXIST)
            return err_new(ERR_CONFLICT,
                           "something else exists in place of the directory");
        return err_os(errno, "make directory");
    }
    d->inherits = d->parent->inherits;
    d->there = true;
    return NULL;
}

static struct err *ensure(struct restore *r, struct restore_dir *d)
{
    AUTO(fd) int parent_fd = -1;
    if (!d->parent) {
        struct stat st;
        if (r->root_fd < 0) /* a dry run, and there is no target */
            return NULL;
        if (fstat(r->root_fd, &st))
            return err_os(errno, "look at directory");
        return adopt(r, d, r->root_fd, &st);
    }
    if (d->parent->there)
        TRY(restore_dir_open(r, d->parent, &parent_fd));
    return make_in(r, d, parent_fd);
}

bool restore_dir_ensure(struct restore *r, struct restore_dir *d)
{
    if (d->there || d->fresh || d->broken)
        return !d->broken;
    /* Its parents first, from the top: as many as there are levels not made yet. */
    while (d->parent && !d->parent->there && !d->parent->fresh && !d->parent->broken) {
        struct restore_dir *top = d->parent;
        while (top->parent && !top->parent->there && !top->parent->fresh &&
               !top->parent->broken)
            top = top->parent;
        restore_dir_ensure(r, top);
    }
    if (d->parent && d->parent->broken) {
        d->broken = true; /* the parent's problem was told */
        return false;
    }
    struct err *e = ensure(r, d);
    d->broken = e != NULL;
    d->fresh = d->fresh && !e;
    restore_problem(r, d, NULL, e);
    if (!e)
        r->out->dirs++;
    return !e;
}
