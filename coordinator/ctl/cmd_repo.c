/* `stillpoint repo …`: a repository without any daemon. Backup is
 * in cmd_repo_data.c, check, restore and mount in cmd_read.c. */
#include "coordinator/ctl/cmd_repo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/find.h"
#include "common/repo/password.h"
#include "coordinator/ctl/repo_access.h"
#include "coordinator/ctl/repo_print.h"

static int run_init(struct ctl *c)
{
    AUTO(store) struct store *store = NULL;
    AUTO_PASSWORD struct buf password = {0};
    if (!ctl_has(c, "repo"))
        return ctl_missing(c, "repo");
    if (!ctl_has(c, "password-file"))
        return ctl_missing(c, "password-file");
    struct err *e = password_read(ctl_value(c, "password-file"), &password);
    if (!e)
        e = store_open(ctl_value(c, "repo"), STORE_CREATE | STORE_RECLAIM, &store);
    if (!e)
        e = repo_init(store, password.data, password.len, &repo_default_cost);
    if (e)
        return ctl_fail(c, e, e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED);
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:s}", "message_type", "initialized",
                                 "repository", store->url));
    ctl_say(c, "made repository '%s'; without its password its data is lost\n",
            store->url);
    return CTL_OK;
}

static void print_snapshot(const struct ctl *c, const struct snapshot *s)
{
    AUTO_BUF struct buf line = {0};
    if (c->json) {
        ctl_print_json(repo_snapshot_json(s));
        return;
    }
    repo_snapshot_line(s, &line);
    printf("%s\n", buf_text(&line));
}

static int run_snapshots(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a;
    struct snapshot *list = NULL;
    size_t n = 0, shown = 0;
    int rc = repo_access_open(c, false, false, &a);
    if (rc)
        return rc;
    struct err *e = repo_snapshots(a.io, &list, &n);
    if (e)
        return ctl_fail(c, e, CTL_FAILED);
    for (size_t i = 0; i < n; i++) {
        if (!repo_is_wanted(c, &list[i]))
            continue;
        print_snapshot(c, &list[i]);
        shown++;
    }
    ctl_say(c, "%zu snapshots\n", shown);
    repo_free_snapshots(list, n);
    return CTL_OK;
}

/* Names may hold any byte: what a terminal would obey is quoted. */
static struct err *print_entry(void *ctx, const char *path, const struct node *nd)
{
    const struct ctl *c = ctx;
    AUTO_BUF struct buf time = {0};
    AUTO_BUF struct buf name = {0};
    AUTO_BUF struct buf target = {0};
    go_time_format(&time, nd->mtime);
    go_quote(&name, path, strlen(path));
    if (nd->target)
        go_quote(&target, nd->target, strlen(nd->target));
    if (c->json) {
        ctl_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:s}",
                                 "message_type", "node", "path", buf_text(&name), "type",
                                 node_type_name(nd->type), "uid", (int)nd->uid, "gid",
                                 (int)nd->gid, "mode", (int)node_permissions(nd->mode),
                                 "size", (json_int_t)nd->size, "mtime", buf_text(&time)));
        return NULL;
    }
    printf("%-7s %04o %6u %6u %12" PRIu64 " %.19s %s%s%s\n", node_type_name(nd->type),
           node_permissions(nd->mode), nd->uid, nd->gid, nd->size, buf_text(&time),
           buf_text(&name), nd->target ? " -> " : "", buf_text(&target));
    return NULL;
}

static int run_ls(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a;
    AUTO_SNAPSHOT struct snapshot s = {0};
    int rc = repo_access_open(c, true, false, &a);
    if (rc)
        return rc;
    struct err *e = repo_find_snapshot(a.io, c->args[0], &s);
    if (!e)
        e = find_list(a.io, &s.tree, c->args_n > 1 ? c->args[1] : "/",
                      ctl_has(c, "recursive"), print_entry, c);
    return e ? ctl_fail(c, e, CTL_FAILED) : CTL_OK;
}

static const struct ctl_option plain_options[] = {REPO_OPTIONS, {0}};
static const struct ctl_option snapshots_options[] = {
    REPO_OPTIONS,
    REPO_FILTER_OPTIONS,
    {0},
};
static const struct ctl_option ls_options[] = {
    REPO_OPTIONS,
    CACHE_OPTION,
    {"recursive", NULL, "everything below, not only one level", 'R'},
    {0},
};
#define WHERE "--repo /srv/backup --password-file /etc/stillpoint/repo.pw"

const struct ctl_command ctl_repo_commands[] = {
    {"repo", "init", "", "make a repository", plain_options,
     "  stillpoint repo init " WHERE "\n", 0, 0, run_init},
    {"repo", "backup", "PATH", "store a directory as a snapshot", cmd_repo_backup_options,
     "  stillpoint repo backup " WHERE " /home\n"
     "  stillpoint repo backup " WHERE " --as /data --tag daily /mnt/capture\n",
     1, 1, cmd_repo_backup},
    {"repo", "snapshots", "", "list snapshots", snapshots_options,
     "  stillpoint repo snapshots " WHERE "\n"
     "  stillpoint repo snapshots " WHERE " --host db1 --tag stillpoint --json\n",
     0, 0, run_snapshots},
    {"repo", "ls", "SNAPSHOT [PATH]", "list what a snapshot holds", ls_options,
     "  stillpoint repo ls " WHERE " latest\n"
     "  stillpoint repo ls " WHERE " -R 1a2b3c4d /home/user\n",
     1, 2, run_ls},
    {0},
};
