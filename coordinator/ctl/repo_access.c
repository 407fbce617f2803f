#include "coordinator/ctl/repo_access.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/repo/password.h"

static int open_code(const struct err *e)
{
    if (e->kind == ERR_NOT_FOUND)
        return CTL_NO_REPOSITORY;
    /* With an errno it is the operating system that denies, not the key. */
    if (e->kind == ERR_DENIED && !e->os)
        return CTL_WRONG_PASSWORD;
    return e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED;
}

static struct err *open_repo(const char *url, unsigned flags, const struct buf *password,
                             struct repo **out)
{
    struct store *store = NULL;
    struct err *e = store_open(url, flags, &store);
    if (!e)
        e = repo_open(store, password->data, password->len, out);
    if (e && e->kind == ERR_NOT_FOUND)
        e = err_wrap(e, "there is no repository; `stillpoint repo init` makes one");
    return e;
}

static struct err *take_lock(const struct ctl *c, unsigned want, struct repo_access *out)
{
    if (want & REPO_WANT_EXCLUSIVE)
        return repo_lock_as(out->repo, LOCK_EXCLUSIVE, &out->lock);
    if (want & REPO_WANT_RECLAIM)
        return repo_lock_as(out->repo, LOCK_RECLAIM, &out->lock);
    if ((want & REPO_WANT_LOCK) && !ctl_has(c, "no-lock"))
        return repo_lock_begin(out->repo, LOCK_SHARED, &out->lock);
    return NULL;
}

static int lock_code(const struct err *e)
{
    return e->kind == ERR_CONFLICT ? CTL_LOCKED : CTL_FAILED;
}

/* --cache-dir, or where the XDG rules say. Without a home there is none. */
static void use_cache(const struct ctl *c, struct repo *r)
{
    const char *dir = ctl_value(c, "cache-dir");
    const char *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    AUTO(str) char *found = NULL;
    if (dir)
        found = mem_strdup(dir);
    else if (xdg && *xdg == '/')
        found = mem_printf("%s/stillpoint", xdg);
    else if (home && *home == '/')
        found = mem_printf("%s/.cache/stillpoint", home);
    if (found)
        repo_set_cache(r, found);
}

int repo_access_other(const struct ctl *c, const char *url_option,
                      const char *password_option, unsigned want, struct repo_access *out)
{
    *out = (struct repo_access){0};
    if (!ctl_has(c, url_option))
        return ctl_missing(c, url_option);
    if (!ctl_has(c, password_option))
        return ctl_missing(c, password_option);
    AUTO_PASSWORD struct buf password = {0};
    unsigned flags = want & REPO_WANT_REMOVE ? STORE_RECLAIM : 0;
    struct err *e = password_read(ctl_value(c, password_option), &password);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    e = open_repo(ctl_value(c, url_option), flags, &password, &out->repo);
    if (e)
        return ctl_fail(c, e, open_code(e));
    out->io = repo_io_new(out->repo);
    e = take_lock(c, want, out);
    if (e)
        return ctl_fail(c, e, lock_code(e));
    if (want & REPO_WANT_CACHE)
        use_cache(c, out->repo);
    if (want & REPO_WANT_INDEX)
        e = repo_load_index(out->repo);
    if (e)
        return ctl_fail(c, e, CTL_FAILED);
    /* The index was read meanwhile; who stores goes on until there is something to. */
    return want & REPO_WANT_EARLY ? CTL_OK : repo_access_settle(c, out);
}

int repo_access_want(const struct ctl *c, unsigned want, struct repo_access *out)
{
    return repo_access_other(c, "repo", "password-file", want, out);
}

int repo_access_open(const struct ctl *c, bool index, bool lock, struct repo_access *out)
{
    return repo_access_want(
        c, (index ? REPO_WANT_INDEX : 0u) | (lock ? REPO_WANT_LOCK : 0u), out);
}

int repo_access_settle(const struct ctl *c, struct repo_access *a)
{
    struct err *e = a->lock ? repo_lock_settle(a->lock) : NULL;
    return e ? ctl_fail(c, e, lock_code(e)) : CTL_OK;
}

void repo_access_close(struct repo_access *a)
{
    repo_lock_free(a->lock);
    repo_io_free(a->io);
    repo_close(a->repo);
    *a = (struct repo_access){0};
}
