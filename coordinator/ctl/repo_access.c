#include "coordinator/ctl/repo_access.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Longer passwords are a wrong file. */
enum { PASSWORD_MAX = 4096 };

struct err *repo_access_password(const struct ctl *c, struct buf *out)
{
    const char *path = ctl_value(c, "password-file");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        /* Of kind INVALID: a missing password file is no missing repository. */
        return err_make(ERR_INVALID, errno, ERR_WHERE, "open password file '%s'", path);
    char *room = buf_room(out, PASSWORD_MAX + 1);
    ssize_t n = 0;
    size_t len = 0;
    while (len <= PASSWORD_MAX && (n = read(fd, room + len, PASSWORD_MAX + 1 - len)) > 0)
        len += (size_t)n;
    int os = errno;
    close(fd);
    if (n < 0)
        return err_os(os, "read password file '%s'", path);
    if (len > PASSWORD_MAX)
        return err_new(ERR_LIMIT, "password file '%s' has more than %d bytes", path,
                       PASSWORD_MAX);
    while (len && (room[len - 1] == '\n' || room[len - 1] == '\r'))
        len--;
    if (!len)
        return err_new(ERR_INVALID, "password file '%s' is empty", path);
    out->len = len;
    return NULL;
}

void repo_access_wipe(struct buf *password)
{
    if (password->data)
        crypt_wipe(password->data, password->cap);
}

static int open_code(const struct err *e)
{
    if (e->kind == ERR_NOT_FOUND)
        return CTL_NO_REPOSITORY;
    /* With an errno it is the operating system that denies, not the key. */
    if (e->kind == ERR_DENIED && !e->os)
        return CTL_WRONG_PASSWORD;
    return e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED;
}

static struct err *open_repo(const struct ctl *c, struct repo **out)
{
    AUTO_BUF struct buf password = {0};
    struct store *store = NULL;
    TRY(repo_access_password(c, &password));
    struct err *e = store_open(ctl_value(c, "repo"), 0, &store);
    if (!e)
        e = repo_open(store, password.data, password.len, out);
    repo_access_wipe(&password);
    return e;
}

int repo_access_open(const struct ctl *c, bool index, bool lock, struct repo_access *out)
{
    *out = (struct repo_access){0};
    if (!ctl_has(c, "repo"))
        return ctl_missing(c, "repo");
    if (!ctl_has(c, "password-file"))
        return ctl_missing(c, "password-file");
    struct err *e = open_repo(c, &out->repo);
    if (e)
        return ctl_fail(c, e, open_code(e));
    out->io = repo_io_new(out->repo);
    if (lock)
        e = repo_lock(out->repo, false, &out->lock);
    if (e)
        return ctl_fail(c, e, e->kind == ERR_CONFLICT ? CTL_LOCKED : CTL_FAILED);
    if (index)
        e = repo_load_index(out->repo);
    return e ? ctl_fail(c, e, CTL_FAILED) : CTL_OK;
}

void repo_access_close(struct repo_access *a)
{
    repo_lock_free(a->lock);
    repo_io_free(a->io);
    repo_close(a->repo);
    *a = (struct repo_access){0};
}
