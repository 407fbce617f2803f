#include "coordinator/ctl/repo_access.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

static struct err *open_repo(const struct ctl *c, const struct buf *password,
                             struct repo **out)
{
    struct store *store = NULL;
    struct err *e = store_open(ctl_value(c, "repo"), 0, &store);
    if (!e)
        e = repo_open(store, password->data, password->len, out);
    if (e && e->kind == ERR_NOT_FOUND)
        e = err_wrap(e, "there is no repository; `stillpoint repo init` makes one");
    return e;
}

int repo_access_open(const struct ctl *c, bool index, bool lock, struct repo_access *out)
{
    *out = (struct repo_access){0};
    if (!ctl_has(c, "repo"))
        return ctl_missing(c, "repo");
    if (!ctl_has(c, "password-file"))
        return ctl_missing(c, "password-file");
    AUTO_PASSWORD struct buf password = {0};
    struct err *e = password_read(ctl_value(c, "password-file"), &password);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    e = open_repo(c, &password, &out->repo);
    if (e)
        return ctl_fail(c, e, open_code(e));
    out->io = repo_io_new(out->repo);
    if (lock && !ctl_has(c, "no-lock"))
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

/* Names may hold any byte: what a terminal would obey is quoted. */
static void print_problem(const struct ctl *c, const struct problem *p)
{
    AUTO_BUF struct buf path = {0};
    AUTO_BUF struct buf text = {0};
    go_quote(&path, p->path, strlen(p->path));
    go_quote(&text, p->text, strlen(p->text));
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:{s:s}, s:s}", "message_type", "error", "error",
                                 "message", buf_text(&text), "item", buf_text(&path)));
    else
        fprintf(stderr, "%s: %s\n", buf_text(&path), p->text);
}

void repo_print_problems(const struct ctl *c, const struct problems *p)
{
    for (size_t i = 0; i < p->n; i++)
        print_problem(c, &p->items[i]);
    if (p->total > p->n)
        ctl_say(c, "… and %" PRIu64 " more\n", p->total - p->n);
}
