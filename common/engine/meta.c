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

#include "common/base/mem.h"
#include "common/engine/scan.h"

/* Calls that take a path get the kernel's link to the descriptor: it leads to exactly
 * that entry, also when that is a symbolic link itself. */
static void fd_path(int fd, char out[64])
{
    snprintf(out, 64, "/proc/self/fd/%d", fd);
}

static bool is_listed(const struct node *nd, const char *name)
{
    for (size_t i = 0; i < nd->xattrs_n; i++)
        if (strcmp(nd->xattrs[i].name, name) == 0)
            return true;
    return false;
}

/* Attributes a new entry got from its directory (default ACLs) and the original lacked.
 * Labels of security modules are the system's, not the snapshot's. */
static struct err *drop_others(const char *path, const struct node *nd)
{
    AUTO(str) char *names = NULL;
    ssize_t n = listxattr(path, NULL, 0);
    if (n <= 0)
        return NULL;
    names = mem_alloc(XATTR_LIST_MAX + 1);
    n = listxattr(path, names, XATTR_LIST_MAX);
    if (n < 0)
        return err_os(errno, "list extended attributes");
    names[n] = '\0';
    for (const char *s = names; s < names + n; s += strlen(s) + 1)
        if (!is_listed(nd, s) && strncmp(s, "security.", 9) != 0 &&
            removexattr(path, s) && errno != ENODATA)
            return err_os(errno, "remove extended attribute '%s'", s);
    return NULL;
}

static struct err *apply_attrs(const char *path, const struct node *nd)
{
    TRY(drop_others(path, nd));
    for (size_t i = 0; i < nd->xattrs_n; i++) {
        const struct node_xattr *x = &nd->xattrs[i];
        if (setxattr(path, x->name, x->value, x->n, 0) == 0)
            continue;
        bool privileged =
            strncmp(x->name, "user.", 5) != 0 && strncmp(x->name, "system.", 7) != 0;
        if (errno == EPERM && privileged && geteuid() != 0)
            continue;
        return err_os(errno, "set extended attribute '%s'", x->name);
    }
    return NULL;
}

/* The owner first: changing it clears setuid bits and capabilities. Times last. */
static struct err *apply(int fd, const struct node *nd)
{
    char path[64];
    fd_path(fd, path);
    if (fchownat(fd, "", nd->uid, nd->gid, AT_EMPTY_PATH) &&
        !(errno == EPERM && geteuid() != 0))
        return err_os(errno, "change owner to %u:%u", nd->uid, nd->gid);
    TRY(apply_attrs(path, nd));
    if (nd->type != NODE_SYMLINK && chmod(path, node_permissions(nd->mode)))
        return err_os(errno, "change mode");
    const struct timespec times[2] = {
        {nd->atime.sec, nd->atime.nsec},
        {nd->mtime.sec, nd->mtime.nsec},
    };
    if (utimensat(AT_FDCWD, path, times, 0))
        return err_os(errno, "set times");
    return NULL;
}

struct err *meta_apply(int fd, const struct node *nd)
{
    return apply(fd, nd);
}

struct err *meta_apply_at(int dir_fd, const char *name, const struct node *nd)
{
    AUTO_FD int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open");
    struct stat st;
    if (fstat(fd, &st))
        return err_os(errno, "look at");
    /* Somebody else put another thing in its place: its owner is not ours to change. */
    if (node_type_of(st.st_mode) != nd->type)
        return err_new(ERR_CONFLICT, "it was replaced while being restored");
    return apply(fd, nd);
}
