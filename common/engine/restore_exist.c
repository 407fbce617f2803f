/* What exists in the target already: what may become of it, and removing it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/restore_own.h"
#include "common/engine/scan.h"
#include "common/repo/tree_stream.h"

enum { REMOVE_DEPTH_MAX = 4000 };

static bool same_time(const struct stat *st, const struct node *nd)
{
    return st->st_mtim.tv_sec == nd->mtime.sec &&
           (uint32_t)st->st_mtim.tv_nsec == nd->mtime.nsec;
}

bool restore_is_newer(const struct node *nd, const struct stat *st)
{
    if (nd->mtime.sec != st->st_mtim.tv_sec)
        return nd->mtime.sec > st->st_mtim.tv_sec;
    return nd->mtime.nsec > (uint32_t)st->st_mtim.tv_nsec;
}

/* A link's target or a device's number, which no time tells of. */
static bool same_special(int dir_fd, const struct node *nd, const struct stat *st)
{
    char target[4097];
    if (nd->type == NODE_DEV || nd->type == NODE_CHARDEV)
        return st->st_rdev == (dev_t)nd->device;
    if (nd->type != NODE_SYMLINK)
        return true;
    ssize_t n = readlinkat(dir_fd, nd->name, target, sizeof target - 1);
    if (n < 0)
        return false;
    target[n] = '\0';
    return strcmp(target, nd->target ? nd->target : "") == 0;
}

/* Left by a restore that was killed while writing it, or while giving it its owner. */
static bool is_half_written(const struct stat *st, const struct node *nd)
{
    return S_ISREG(st->st_mode) && (st->st_mode & 07777) == RESTORE_MARK &&
           (st->st_uid == geteuid() || st->st_uid == nd->uid);
}

struct err *restore_judge(struct restore *r, int dir_fd, const struct node *nd,
                          struct stat *st, enum restore_verdict *out)
{
    *out = VERDICT_CREATE;
    if (fstatat(dir_fd, nd->name, st, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT)
            return NULL;
        return err_os(errno, "look at");
    }
    bool file = nd->type == NODE_FILE;
    bool alike = node_type_of(st->st_mode) == nd->type;
    bool same = alike && (file ? (uint64_t)st->st_size == nd->size && same_time(st, nd)
                               : same_special(dir_fd, nd, st));
    *out = file && alike ? VERDICT_UPDATE : VERDICT_REPLACE;
    if (file && is_half_written(st, nd))
        return NULL;
    switch (r->opts->existing) {
    case RESTORE_REFUSE:
        *out = VERDICT_KEEP;
        return same ? NULL : err_new(ERR_CONFLICT, "it exists and is something else");
    case RESTORE_NEVER:
        *out = same ? VERDICT_KEEP : VERDICT_SPARE;
        return NULL;
    case RESTORE_IF_NEWER:
        if (!restore_is_newer(nd, st))
            *out = same ? VERDICT_KEEP : VERDICT_SPARE;
        return NULL;
    case RESTORE_IF_CHANGED:
        if (same && (file || st->st_nlink == 1))
            *out = VERDICT_META;
        return NULL;
    case RESTORE_ALWAYS:
        if (same && !file && st->st_nlink == 1)
            *out = VERDICT_META;
        return NULL;
    }
    return NULL;
}

static struct err *remove_tree(struct restore *r, int dir_fd, const char *name, dev_t dev,
                               unsigned depth);

static struct err *empty_dir(struct restore *r, int fd, dev_t dev, unsigned depth)
{
    struct strings names = {0};
    struct err *e = scan_dir(fd, &names);
    for (size_t i = 0; i < names.n && !e; i++)
        e = remove_tree(r, fd, names.items[i], dev, depth + 1);
    strings_fini(&names);
    return e;
}

/* Never leaves the filesystem: what is mounted inside is somebody else's. */
static struct err *remove_tree(struct restore *r, int dir_fd, const char *name, dev_t dev,
                               unsigned depth)
{
    struct stat st;
    if (restore_is_cancelled(r))
        return err_new(ERR_CANCELLED, "cancelled");
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? NULL : err_os(errno, "look at '%s'", name);
    if (st.st_dev != dev)
        return err_new(ERR_CONFLICT, "'%s' is another filesystem", name);
    if (!S_ISDIR(st.st_mode)) {
        if (unlinkat(dir_fd, name, 0) && errno != ENOENT)
            return err_os(errno, "remove '%s'", name);
        return NULL;
    }
    if (depth > REMOVE_DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", REMOVE_DEPTH_MAX);
    if (r->opts->remove) {
        AUTO(fd) int fd = -1;
        TRY(scan_open_dir(dir_fd, name, &fd));
        struct stat inside;
        if (fstat(fd, &inside) || inside.st_dev != dev)
            return err_new(ERR_CONFLICT, "'%s' is another filesystem", name);
        TRY(empty_dir(r, fd, dev, depth));
    }
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) && errno != ENOENT)
        return err_os(errno, "remove directory '%s'", name);
    return NULL;
}

struct err *restore_remove(struct restore *r, int dir_fd, const char *name)
{
    struct stat st;
    if (fstat(dir_fd, &st))
        return err_os(errno, "look at directory");
    return remove_tree(r, dir_fd, name, st.st_dev, 0);
}

static void remove_other(struct restore *r, const struct restore_dir *d, int fd,
                         const char *name, bool taken)
{
    struct err *e = NULL;
    size_t length = r->path.len;
    buf_char(&r->path, '/');
    buf_str(&r->path, name);
    if (restore_choose(r, taken) == CHOICE_TAKE) {
        if (!r->opts->dry_run)
            e = restore_remove(r, fd, name);
        if (!e) {
            r->out->removed++;
            restore_tell(r, RESTORE_DELETE, d, name);
        }
        restore_problem(r, d, name, e);
    }
    r->path.len = length;
    r->path.data[length] = '\0';
}

/* Leaves those of the sorted names that the snapshot's list lacks. */
static struct err *drop_known(struct restore *r, const struct digest *tree,
                              struct strings *names)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    size_t kept = 0;
    TRY(tree_stream_open(r->io, tree, &s));
    TRY(tree_stream_next(s, &nd));
    for (size_t i = 0; i < names->n; i++) {
        while (nd && strcmp(nd->name, names->items[i]) < 0)
            TRY(tree_stream_next(s, &nd));
        char *name = names->items[i];
        names->items[i] = NULL;
        if (nd && strcmp(nd->name, name) == 0)
            free(name);
        else
            names->items[kept++] = name;
    }
    names->n = kept;
    /* What follows must be a list as well: nothing is removed on the word of half one. */
    while (nd)
        TRY(tree_stream_next(s, &nd));
    return NULL;
}

void restore_remove_others(struct restore *r, const struct restore_dir *d,
                           const struct digest *tree, bool taken)
{
    AUTO(fd) int fd = -1;
    struct strings names = {0};
    if (!r->opts->remove || !d->there || d->fresh)
        return;
    struct err *e = restore_dir_open(r, d, &fd);
    if (!e)
        e = scan_dir(fd, &names);
    if (!e)
        e = drop_known(r, tree, &names);
    restore_problem(r, d, NULL, e);
    for (size_t i = 0; i < names.n && !e; i++)
        remove_other(r, d, fd, names.items[i], taken);
    strings_fini(&names);
}
