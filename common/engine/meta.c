#include "common/engine/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/restore.h"
#include "common/engine/scan.h"

static const struct node_xattr *find_attr(const struct node *nd, const char *name)
{
    for (size_t i = 0; i < nd->xattrs_n; i++)
        if (strcmp(nd->xattrs[i].name, name) == 0)
            return &nd->xattrs[i];
    return NULL;
}

/* Those of security modules are the system's, unless the snapshot has them. */
static bool is_systems(const char *name)
{
    return strncmp(name, "security.", 9) == 0;
}

static bool same_attrs(const struct node *want, const struct node *has)
{
    for (size_t i = 0; i < want->xattrs_n; i++) {
        const struct node_xattr *x = &want->xattrs[i], *y = find_attr(has, x->name);
        if (!y || x->n != y->n || (x->n && memcmp(x->value, y->value, x->n) != 0))
            return false;
    }
    for (size_t i = 0; i < has->xattrs_n; i++)
        if (!is_systems(has->xattrs[i].name) && !find_attr(want, has->xattrs[i].name))
            return false;
    return true;
}

bool meta_is_same(int dir_fd, const struct node *nd, const struct stat *st)
{
    struct node has = {0};
    if (st->st_uid != nd->uid || st->st_gid != nd->gid ||
        (st->st_mode & 07777) != node_permissions(nd->mode) ||
        st->st_mtim.tv_sec != nd->mtime.sec ||
        (uint32_t)st->st_mtim.tv_nsec != nd->mtime.nsec)
        return false;
    AUTO(err) struct err *e = scan_extras(dir_fd, nd->name, -1, st->st_mode, &has);
    bool same = !e && same_attrs(nd, &has);
    node_fini(&has);
    return same;
}

/* An entry to change: by a descriptor, or (links, devices, fifos) by the kernel's link to
 * one that was opened for its path only. That leads to exactly that entry, also when it
 * is a symbolic link itself. */
struct subject {
    int fd;
    const char *path; /* NULL: the descriptor serves */
};

static ssize_t list_attrs(const struct subject *s, char *out, size_t n)
{
    return s->path ? listxattr(s->path, out, n) : flistxattr(s->fd, out, n);
}

static int remove_attr(const struct subject *s, const char *name)
{
    return s->path ? removexattr(s->path, name) : fremovexattr(s->fd, name);
}

static int set_attr(const struct subject *s, const struct node_xattr *x)
{
    return s->path ? setxattr(s->path, x->name, x->value, x->n, 0)
                   : fsetxattr(s->fd, x->name, x->value, x->n, 0);
}

/* What a new entry got from its directory (default ACLs) and the original lacked. */
static struct err *drop_others(const struct subject *s, const struct node *nd)
{
    AUTO(str) char *names = NULL;
    ssize_t n = list_attrs(s, NULL, 0);
    if (n <= 0)
        return NULL;
    names = mem_alloc(XATTR_LIST_MAX + 1);
    n = list_attrs(s, names, XATTR_LIST_MAX);
    if (n < 0)
        return err_os(errno, "list extended attributes");
    names[n] = '\0';
    for (const char *at = names; at < names + n; at += strlen(at) + 1)
        if (!find_attr(nd, at) && !is_systems(at) && remove_attr(s, at) &&
            errno != ENODATA)
            return err_os(errno, "remove extended attribute '%s'", at);
    return NULL;
}

static struct err *apply_attrs(const struct subject *s, const struct node *nd)
{
    for (size_t i = 0; i < nd->xattrs_n; i++) {
        const struct node_xattr *x = &nd->xattrs[i];
        if (set_attr(s, x) == 0)
            continue;
        bool privileged =
            strncmp(x->name, "user.", 5) != 0 && strncmp(x->name, "system.", 7) != 0;
        if (errno == EPERM && privileged && geteuid() != 0)
            continue;
        return err_os(errno, "set extended attribute '%s'", x->name);
    }
    return NULL;
}

static int set_mode(const struct subject *s, mode_t mode)
{
    return s->path ? chmod(s->path, mode) : fchmod(s->fd, mode);
}

static bool has_acl(const struct node *nd)
{
    return find_attr(nd, "system.posix_acl_access") != NULL;
}

/* The owner first: changing it clears setuid bits and capabilities. The mode last: until
 * then a file has the one that says it is being written, so that whoever is killed here
 * leaves nothing that looks complete. Access lists change it, so it is put back. */
static struct err *apply(const struct subject *s, const struct node *nd, bool fresh)
{
    bool owned = fresh && nd->uid == geteuid() && nd->gid == getegid();
    if (!owned && fchownat(s->fd, "", nd->uid, nd->gid, AT_EMPTY_PATH) &&
        !(errno == EPERM && geteuid() != 0))
        return err_os(errno, "change owner to %u:%u", nd->uid, nd->gid);
    if (!fresh)
        TRY(drop_others(s, nd));
    TRY(apply_attrs(s, nd));
    if (nd->type == NODE_FILE && has_acl(nd) && set_mode(s, RESTORE_MARK))
        return err_os(errno, "change mode");
    const struct timespec times[2] = {
        {nd->atime.sec, nd->atime.nsec},
        {nd->mtime.sec, nd->mtime.nsec},
    };
    if (s->path ? utimensat(AT_FDCWD, s->path, times, 0) : futimens(s->fd, times))
        return err_os(errno, "set times");
    if (nd->type != NODE_SYMLINK && set_mode(s, node_permissions(nd->mode)))
        return err_os(errno, "change mode");
    return NULL;
}

struct err *meta_apply(int fd, const struct node *nd, bool fresh)
{
    const struct subject s = {fd, NULL};
    return apply(&s, nd, fresh);
}

struct err *meta_apply_at(int dir_fd, const char *name, const struct node *nd)
{
    AUTO(fd) int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open");
    struct stat st;
    char path[64];
    if (fstat(fd, &st))
        return err_os(errno, "look at");
    /* Somebody else put another thing in its place: its owner is not ours to change. */
    if (node_type_of(st.st_mode) != nd->type)
        return err_new(ERR_CONFLICT, "it was replaced while being restored");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const struct subject s = {fd, path};
    return apply(&s, nd, false);
}
