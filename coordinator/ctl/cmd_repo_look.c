/* `stillpoint repo find`, `diff`, `dump` and `stats`: looking into snapshots. */
#include "coordinator/ctl/cmd_repo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/diff.h"
#include "common/engine/dump.h"
#include "common/engine/find.h"
#include "common/engine/stats.h"
#include "coordinator/ctl/repo_access.h"
#include "coordinator/ctl/repo_print.h"

static const double mib = 1048576;

/* Why a command that only reads failed. */
static int fail(const struct ctl *c, struct err *e)
{
    return ctl_fail(c, e, e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED);
}

/* ---- find ---- */

struct finding {
    struct ctl *c;
    const struct snapshot *snapshot;
    bool headed; /* the snapshot's line is printed */
    uint64_t found;
};

static struct err *print_match(void *ctx, const char *path, const struct node *nd)
{
    struct finding *f = ctx;
    AUTO(str) char *name = repo_printable(path);
    AUTO_BUF struct buf time = {0};
    char id[65];
    if (atomic_load(&ctl_cancelled))
        return err_new(ERR_CANCELLED, "cancelled");
    digest_hex(&f->snapshot->id, id);
    go_time_format(&time, nd->mtime);
    f->found++;
    if (f->c->json) {
        ctl_print_json(json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:s}", "message_type",
                                 "match", "snapshot", id, "path", name, "type",
                                 node_type_name(nd->type), "size", (json_int_t)nd->size,
                                 "mode", (int)node_permissions(nd->mode), "mtime",
                                 buf_text(&time)));
        return NULL;
    }
    if (!f->headed) {
        AUTO_BUF struct buf line = {0};
        repo_snapshot_line(f->snapshot, &line);
        printf("%s\n", buf_text(&line));
        f->headed = true;
    }
    printf("  %-7s %12" PRIu64 " %.19s %s\n", node_type_name(nd->type), nd->size,
           buf_text(&time), name);
    return NULL;
}

static struct err *read_type(const struct ctl *c, enum node_type *out)
{
    const char *text = ctl_value(c, "type");
    *out = NODE_NONE;
    if (!text)
        return NULL;
    for (enum node_type t = NODE_FILE; t <= NODE_SOCKET; t++)
        if (strcmp(text, node_type_name(t)) == 0) {
            *out = t;
            return NULL;
        }
    return err_new(ERR_INVALID,
                   "--type '%s': known are file, dir, symlink, dev, chardev, "
                   "fifo, socket",
                   text);
}

static struct err *find_in(struct ctl *c, struct repo_access *a, struct find_query *q)
{
    struct snapshot *list = NULL;
    size_t n = 0;
    struct idset barren = {0};
    struct finding f = {.c = c};
    struct err *e = NULL;
    const char *one = ctl_value(c, "snapshot");
    if (one) {
        list = mem_array(1, sizeof *list);
        e = repo_find_snapshot(a->io, one, list);
        n = e ? 0 : 1;
    } else {
        e = repo_chosen(c, a->io, c->args_n, &list, &n);
    }
    for (size_t i = n; i > 0 && !e; i--) { /* the newest first */
        f.snapshot = &list[i - 1];
        f.headed = false;
        ctl_status(c, "%zu of %zu snapshots", n - i, n);
        e = find_match(a->io, &list[i - 1].tree, q, &barren, print_match, &f);
    }
    ctl_status_end(c);
    idset_fini(&barren);
    repo_free_snapshots(list, n);
    if (!e)
        ctl_say(c, "%" PRIu64 " found in %zu snapshots\n", f.found, n);
    return e;
}

static int run_find(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    struct find_query q = {.patterns = c->args,
                           .patterns_n = (size_t)c->args_n,
                           .ignore_case = ctl_has(c, "ignore-case")};
    struct err *e = read_type(c, &q.type);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    int rc = repo_access_want(c, REPO_WANT_INDEX | REPO_WANT_LOCK | REPO_WANT_CACHE, &a);
    if (rc)
        return rc;
    e = find_in(c, &a, &q);
    return e ? fail(c, e) : CTL_OK;
}

static void show_dirs(void *ctx, uint64_t dirs)
{
    ctl_status(ctx, "%" PRIu64 " directories", dirs);
}

/* ---- diff ---- */

static struct err *print_change(void *ctx, const struct diff_change *d)
{
    const struct ctl *c = ctx;
    if (d->what == DIFF_METADATA && !ctl_has(c, "metadata"))
        return NULL;
    AUTO(str) char *path = repo_printable(d->path);
    const struct node *nd = d->after ? d->after : d->before;
    const char *slash = nd->type == NODE_DIR ? "/" : "";
    ctl_status_end(c); /* the line may go to the same terminal */
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:s+, s:s#}", "message_type", "change", "path",
                                 path, slash, "modifier", (const char[]){(char)d->what},
                                 1));
    else
        printf("%c    %s%s\n", d->what, path, slash);
    return NULL;
}

static void print_diff(const struct ctl *c, const struct diff_result *r)
{
    if (c->json)
        ctl_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "message_type", "statistics", "added",
            (json_int_t)r->added, "removed", (json_int_t)r->removed, "changed",
            (json_int_t)r->changed, "metadata", (json_int_t)r->metadata, "bytes_added",
            (json_int_t)r->bytes_added, "bytes_removed", (json_int_t)r->bytes_removed));
    ctl_say(c,
            "%" PRIu64 " added (%.1f MiB), %" PRIu64 " removed (%.1f MiB), %" PRIu64
            " changed, %" PRIu64 " with other metadata\n",
            r->added, (double)r->bytes_added / mib, r->removed,
            (double)r->bytes_removed / mib, r->changed, r->metadata);
}

/* SNAPSHOT or SNAPSHOT:PATH: the tree to compare. */
static struct err *find_tree(struct repo_access *a, const char *arg, struct digest *out)
{
    AUTO_SNAPSHOT struct snapshot s = {0};
    struct node nd = {0};
    const char *colon = strchr(arg, ':');
    AUTO(str)
    char *name = colon ? mem_strndup(arg, (size_t)(colon - arg)) : mem_strdup(arg);
    TRY(repo_find_snapshot(a->io, name, &s));
    TRY(find_node(a->io, &s.tree, colon ? colon + 1 : "/", &nd));
    bool is_dir = nd.type == NODE_DIR;
    *out = nd.subtree;
    node_fini(&nd);
    if (!is_dir)
        return err_new(ERR_INVALID, "'%s' is not a directory", arg);
    return NULL;
}

static int run_diff(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    struct digest before, after;
    struct diff_result r;
    const struct diff_opts opts = {.visit = print_change,
                                   .visit_ctx = c,
                                   .progress = show_dirs,
                                   .progress_ctx = c,
                                   .cancel = &ctl_cancelled};
    int rc = repo_access_want(c, REPO_WANT_INDEX | REPO_WANT_LOCK | REPO_WANT_CACHE, &a);
    if (rc)
        return rc;
    struct err *e = find_tree(&a, c->args[0], &before);
    if (!e)
        e = find_tree(&a, c->args[1], &after);
    if (!e)
        e = diff_trees(a.io, &before, &after, &opts, &r);
    ctl_status_end(c);
    if (e)
        return fail(c, e);
    print_diff(c, &r);
    return CTL_OK;
}

/* ---- dump ---- */

struct sink {
    const struct ctl *c;
    FILE *to;
    uint64_t bytes;
};

static struct err *write_out(void *ctx, const void *data, size_t n)
{
    struct sink *s = ctx;
    if (n && fwrite(data, 1, n, s->to) != n)
        return err_os(errno, "write");
    s->bytes += n;
    ctl_status(s->c, "%.1f MiB written", (double)s->bytes / mib);
    return NULL;
}

static struct err *dump_to(struct ctl *c, struct repo_access *a, FILE *to,
                           uint64_t *bytes)
{
    AUTO_SNAPSHOT struct snapshot s = {0};
    struct sink sink = {c, to, 0};
    TRY(repo_find_snapshot(a->io, c->args[0], &s));
    TRY(dump_path(a->io, &s.tree, c->args[1], write_out, &sink, &ctl_cancelled));
    *bytes = sink.bytes;
    if (fflush(to))
        return err_os(errno, "write");
    return NULL;
}

static int run_dump(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    uint64_t bytes = 0;
    const char *target = ctl_value(c, "target");
    /* A summary would be in the middle of the data. */
    if (c->json && !target)
        return ctl_fail(c, err_new(ERR_INVALID, "--json needs --target"), CTL_USAGE);
    int rc = repo_access_want(c, REPO_WANT_INDEX | REPO_WANT_LOCK | REPO_WANT_CACHE, &a);
    if (rc)
        return rc;
    FILE *to = target ? fopen(target, "wxe") : stdout;
    if (!to)
        return ctl_fail(c, err_os(errno, "create '%s'", target), CTL_FAILED);
    struct err *e = dump_to(c, &a, to, &bytes);
    if (target && fclose(to) && !e)
        e = err_os(errno, "close '%s'", target);
    /* Half a file must not be taken for a whole one. */
    if (target && e)
        unlink(target);
    ctl_status_end(c);
    if (e)
        return fail(c, e);
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:I}", "message_type", "summary", "bytes_written",
                                 (json_int_t)bytes));
    return CTL_OK;
}

/* ---- stats ---- */

static void print_stats(const struct ctl *c, const struct stats *s)
{
    if (c->json) {
        ctl_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
            "message_type", "summary", "snapshots", (json_int_t)s->snapshots, "files",
            (json_int_t)s->files, "dirs", (json_int_t)s->dirs, "restore_bytes",
            (json_int_t)s->bytes, "blobs", (json_int_t)s->blobs, "blob_bytes",
            (json_int_t)s->blob_bytes, "stored_bytes", (json_int_t)s->stored_bytes,
            "packs", (json_int_t)s->packs, "pack_bytes", (json_int_t)s->pack_bytes,
            "pack_blobs", (json_int_t)s->pack_blobs, "index_files",
            (json_int_t)s->index_files));
        return;
    }
    printf("%" PRIu64 " snapshots with %" PRIu64 " files, %" PRIu64
           " directories, %.1f MiB to restore\n",
           s->snapshots, s->files, s->dirs, (double)s->bytes / mib);
    printf("they need %" PRIu64 " blobs with %.1f MiB, stored in %.1f MiB\n", s->blobs,
           (double)s->blob_bytes / mib, (double)s->stored_bytes / mib);
    printf("the repository has %" PRIu64 " packs with %.1f MiB and %" PRIu64
           " blobs, %" PRIu64 " index files\n",
           s->packs, (double)s->pack_bytes / mib, s->pack_blobs, s->index_files);
}

static int run_stats(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    struct snapshot *list = NULL;
    struct stats s;
    const struct stats_opts opts = {
        .progress = show_dirs, .progress_ctx = c, .cancel = &ctl_cancelled};
    size_t n = 0;
    int rc = repo_access_want(c, REPO_WANT_LOCK, &a);
    if (rc)
        return rc;
    struct err *e = repo_chosen(c, a.io, 0, &list, &n);
    if (!e)
        e = stats_run(a.io, list, n, &opts, &s);
    ctl_status_end(c);
    repo_free_snapshots(list, n);
    if (e)
        return fail(c, e);
    print_stats(c, &s);
    return CTL_OK;
}

static const struct ctl_option find_options[] = {
    REPO_OPTIONS,
    NO_LOCK_OPTION,
    CACHE_OPTION,
    REPO_FILTER_OPTIONS,
    {"snapshot", "ID", "only in this snapshot", 's'},
    {"type", "TYPE", "only file, dir, symlink, dev, chardev, fifo or socket", 0},
    {"ignore-case", NULL, "capital and small letters are the same", 'i'},
    {0},
};
static const struct ctl_option diff_options[] = {
    REPO_OPTIONS,
    NO_LOCK_OPTION,
    CACHE_OPTION,
    {"metadata", NULL, "also show what differs in owner, mode, times or attributes", 0},
    {0},
};
static const struct ctl_option dump_options[] = {
    REPO_OPTIONS, NO_LOCK_OPTION,
    CACHE_OPTION, {"target", "FILE", "write to a new file instead of standard output", 0},
    {0},
};
static const struct ctl_option stats_options[] = {
    REPO_OPTIONS,
    NO_LOCK_OPTION,
    REPO_FILTER_OPTIONS,
    {0},
};

const struct ctl_command ctl_repo_look_commands[] = {
    {"repo", "find", "PATTERN...", "look for names in all snapshots", find_options,
     "  stillpoint repo find " REPO_WHERE " '*.conf' passwd\n"
     "  stillpoint repo find " REPO_WHERE " --host db1 --type dir '/var/lib/*'\n"
     "A pattern with a '/' is held against the whole path, others against the name.\n",
     1, 100000, run_find},
    {"repo", "diff", "SNAPSHOT[:DIR] SNAPSHOT[:DIR]", "show what differs", diff_options,
     "  stillpoint repo diff " REPO_WHERE " 1a2b3c4d latest\n"
     "  stillpoint repo diff " REPO_WHERE " 1a2b3c4d:/data 5e6f7a8b:/mnt/data\n"
     "+ added, - removed, M other content, T other type, U other metadata\n",
     2, 2, run_diff},
    {"repo", "dump", "SNAPSHOT PATH", "write a file, or a directory as tar, to stdout",
     dump_options,
     "  stillpoint repo dump " REPO_WHERE " latest /etc/fstab\n"
     "  stillpoint repo dump " REPO_WHERE " latest /srv/www | tar -x -C /tmp/www\n",
     2, 2, run_dump},
    {"repo", "stats", "[SNAPSHOT...]", "count what snapshots hold and what it takes",
     stats_options,
     "  stillpoint repo stats " REPO_WHERE "\n"
     "  stillpoint repo stats " REPO_WHERE " --json latest\n",
     0, 100000, run_stats},
    {0},
};
