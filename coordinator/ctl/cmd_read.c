/* `stillpoint repo check` and `restore`, and the table of the commands that read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/check.h"
#include "common/engine/restore.h"
#include "coordinator/ctl/cmd_mount.h"
#include "coordinator/ctl/cmd_repo.h"
#include "coordinator/ctl/repo_access.h"
#include "coordinator/ctl/repo_print.h"

static const struct ctl_option check_options[] = {
    REPO_OPTIONS,
    NO_LOCK_OPTION,
    {"read-data", "[=N%|n/m]", "read packs: all, a share by chance, or part n of m", 0},
    {0},
};
static const struct ctl_option restore_options[] = {
    REPO_OPTIONS,
    NO_LOCK_OPTION,
    CACHE_OPTION,
    {"target", "DIR", "directory to write to; made when missing", 0},
    {"strip", "PATH", "directory of the snapshot that becomes the target itself", 0},
    {"include", "PATTERN", "only what matches, with all below it (repeatable)", 'i'},
    {"exclude", "PATTERN", "leave out what matches (repeatable)", 'e'},
    {"overwrite", "WHEN",
     "what exists: refuse (default), never, if-newer, if-changed, always", 0},
    {"delete", NULL, "also remove what the snapshot does not have", 0},
    {"dry-run", NULL, "change nothing, say what would be done", 'n'},
    {"verbose", NULL, "name each entry", 'v'},
    {"no-sparse", NULL, "write runs of zeros instead of leaving holes", 0},
    {0},
};

/* ---- check ---- */

static void show_packs(void *ctx, uint64_t done, uint64_t total)
{
    const struct ctl *c = ctx;
    ctl_status(c, "%" PRIu64 " of %" PRIu64 " packs read", done, total);
}

/* "", "N%" or "n/m". */
static bool parse_share(const char *text, struct check_opts *out)
{
    char *end = NULL;
    if (!*text)
        return true;
    if (strchr(text, '%')) {
        out->percent = strtod(text, &end);
        return strcmp(end, "%") == 0 && out->percent > 0 && out->percent <= 100;
    }
    unsigned long part = strtoul(text, &end, 10);
    if (*end != '/')
        return false;
    unsigned long parts = strtoul(end + 1, &end, 10);
    out->part = (unsigned)part;
    out->parts = (unsigned)parts;
    return !*end && part >= 1 && part <= parts && parts <= 256;
}

static void print_check(const struct ctl *c, struct check_result *r)
{
    uint64_t errors = problems_total(&r->problems);
    if (c->json)
        ctl_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "message_type",
            "summary", "num_errors", (json_int_t)errors, "snapshots",
            (json_int_t)r->snapshots, "trees", (json_int_t)r->trees, "packs",
            (json_int_t)r->packs, "packs_read", (json_int_t)r->packs_read, "blobs",
            (json_int_t)r->blobs, "orphan_packs", (json_int_t)r->orphans, "bytes_read",
            (json_int_t)r->bytes_read, "lost_files", (json_int_t)r->lost_files));
    ctl_say(c,
            "%" PRIu64 " snapshots, %" PRIu64 " trees, %" PRIu64 " blobs in %" PRIu64
            " packs",
            r->snapshots, r->trees, r->blobs, r->packs);
    if (r->packs_read)
        ctl_say(c, ", %" PRIu64 " packs (%.1f MiB) read", r->packs_read,
                (double)r->bytes_read / 1048576);
    if (r->orphans)
        ctl_say(c, ", %" PRIu64 " packs belong to no index (harmless)", r->orphans);
    ctl_say(c, errors ? ": DAMAGED\n" : ": no damage\n");
}

static int run_check(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    struct check_result r;
    struct check_opts opts = {
        .read_data = ctl_has(c, "read-data"),
        .progress = show_packs,
        .progress_ctx = c,
        .cancel = &ctl_cancelled,
    };
    const char *share = ctl_value(c, "read-data");
    if (share && !parse_share(share, &opts))
        return ctl_fail(c,
                        err_new(ERR_INVALID,
                                "--read-data '%s' is neither a share of packs (5%%) nor "
                                "a part of them (1/8)",
                                share),
                        CTL_USAGE);
    int rc = repo_access_want(c, REPO_WANT_LOCK | REPO_WANT_EARLY, &a);
    if (rc)
        return rc;
    struct err *e = check_run(a.repo, &opts, &r);
    ctl_status_end(c);
    /* What is found beside somebody who removes things means nothing. */
    rc = repo_access_settle(c, &a);
    if (!rc) {
        repo_print_problems(c, &r.problems);
        if (!e || problems_total(&r.problems))
            print_check(c, &r);
        rc = e ? ctl_fail(c, STEAL(e), CTL_FAILED) : CTL_OK;
    }
    err_free(e);
    check_result_fini(&r);
    return rc;
}

/* ---- restore ---- */

/* What the progress needs to know. */
struct showing {
    const struct ctl *ctl;
    uint64_t files; /* of the whole snapshot, 0: unknown */
    uint64_t bytes;
};

static void show_restore(void *ctx, const struct restore_progress *p)
{
    const struct showing *s = ctx;
    uint64_t done = p->bytes + p->kept_bytes;
    double share = s->bytes ? (double)done / (double)s->bytes : 0;
    share = share > 1 ? 1 : share;
    if (s->ctl->json && !s->ctl->quiet)
        ctl_print_json(json_pack(
            "{s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "message_type", "status",
            "percent_done", share, "total_files", (json_int_t)s->files, "files_restored",
            (json_int_t)p->files, "files_skipped", (json_int_t)p->kept, "total_bytes",
            (json_int_t)s->bytes, "bytes_restored", (json_int_t)p->bytes, "bytes_skipped",
            (json_int_t)p->kept_bytes, "error_count", (json_int_t)p->problems));
    if (s->bytes)
        ctl_status(s->ctl, "%.0f%%: %" PRIu64 " files, %.1f MiB written", share * 100,
                   p->files, (double)p->bytes / 1048576);
    else
        ctl_status(s->ctl, "%" PRIu64 " files, %.1f MiB written", p->files,
                   (double)p->bytes / 1048576);
}

static void show_item(void *ctx, enum restore_action action, const char *path)
{
    static const char *const names[] = {
        [RESTORE_CREATE] = "restored",
        [RESTORE_UPDATE] = "updated",
        [RESTORE_KEEP] = "unchanged",
        [RESTORE_DELETE] = "deleted",
    };
    const struct showing *s = ctx;
    AUTO_BUF struct buf text = {0};
    go_quote(&text, path, strlen(path));
    if (s->ctl->json)
        ctl_print_json(json_pack("{s:s, s:s, s:s}", "message_type", "verbose_status",
                                 "action", names[action], "item", buf_text(&text)));
    else
        printf("%-9s %s\n", names[action], buf_text(&text));
}

static void print_restore(const struct ctl *c, struct restore_result *r, bool dry)
{
    if (c->json)
        ctl_print_json(
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I}", "message_type",
                      "summary", "files_restored", (json_int_t)r->files, "files_skipped",
                      (json_int_t)r->kept, "files_deleted", (json_int_t)r->removed,
                      "dirs", (json_int_t)r->dirs, "bytes_restored", (json_int_t)r->bytes,
                      "bytes_skipped", (json_int_t)r->kept_bytes, "dry_run", dry,
                      "error_count", (json_int_t)problems_total(&r->problems)));
    ctl_say(c, "%" PRIu64 " files, %" PRIu64 " directories, %.1f MiB %s", r->files,
            r->dirs, (double)r->bytes / 1048576, dry ? "would be restored" : "restored");
    if (r->kept)
        ctl_say(c, ", %" PRIu64 " files were there", r->kept);
    if (r->removed)
        ctl_say(c, ", %" PRIu64 " entries %s", r->removed,
                dry ? "would be removed" : "removed");
    ctl_say(c, "\n");
}

static int finish_restore(struct ctl *c, struct repo_access *a, const struct digest *tree,
                          struct restore_opts *opts)
{
    struct restore_result r;
    struct err *e = restore_run(a->repo, tree, opts, &r);
    ctl_status_end(c);
    repo_print_problems(c, &r.problems);
    uint64_t problems = problems_total(&r.problems);
    if (!e || problems)
        print_restore(c, &r, opts->dry_run);
    restore_result_fini(&r);
    int rc = e ? ctl_fail(c, e, problems ? CTL_PARTIAL : CTL_FAILED) : CTL_OK;
    int late = repo_access_settle(c, a);
    return rc ? rc : late;
}

static bool parse_existing(const char *text, enum restore_existing *out)
{
    static const char *const names[] = {
        [RESTORE_REFUSE] = "refuse",     [RESTORE_NEVER] = "never",
        [RESTORE_IF_NEWER] = "if-newer", [RESTORE_IF_CHANGED] = "if-changed",
        [RESTORE_ALWAYS] = "always",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum restore_existing)i;
            return true;
        }
    return false;
}

/* NULL, or what is wrong with the options taken together. */
static const char *wrong_options(const struct restore_opts *o)
{
    if (o->remove && o->existing < RESTORE_IF_NEWER)
        return "--delete needs --overwrite if-newer, if-changed or always";
    const char *t = o->target;
    while (*t == '/')
        t++;
    if (o->remove && !*t && !o->includes_n && !o->excludes_n)
        return "--delete on the root of the system needs --include or --exclude";
    return NULL;
}

static int run_restore_with(struct ctl *c, const struct restore_opts *given)
{
    struct restore_opts opts = *given;
    AUTO_ACCESS struct repo_access a = {0};
    AUTO_SNAPSHOT struct snapshot s = {0};
    const char *wrong = wrong_options(&opts);
    if (wrong)
        return ctl_fail(c, err_new(ERR_INVALID, "%s", wrong), CTL_USAGE);
    int rc = repo_access_want(c, REPO_WANT_INDEX | REPO_WANT_LOCK | REPO_WANT_EARLY, &a);
    if (rc)
        return rc;
    struct err *e = repo_find_snapshot(a.io, c->args[0], &s);
    if (e)
        return ctl_fail(c, e, CTL_FAILED);
    struct showing showing = {.ctl = c};
    if (s.summary.valid && !opts.includes_n && !opts.excludes_n && !opts.strip) {
        showing.files = s.summary.total_files_processed;
        showing.bytes = s.summary.total_bytes_processed;
    }
    opts.progress = show_restore;
    opts.progress_ctx = &showing;
    if (opts.dry_run || ctl_has(c, "verbose"))
        opts.item = show_item;
    opts.item_ctx = &showing;
    return finish_restore(c, &a, &s.tree, &opts);
}

static int run_restore(struct ctl *c)
{
    const char **includes = NULL, **excludes = NULL;
    if (!ctl_has(c, "target"))
        return ctl_missing(c, "target");
    struct restore_opts opts = {
        .target = ctl_value(c, "target"),
        .strip = ctl_value(c, "strip"),
        .remove = ctl_has(c, "delete"),
        .dry_run = ctl_has(c, "dry-run"),
        .no_sparse = ctl_has(c, "no-sparse"),
        .cancel = &ctl_cancelled,
    };
    const char *when = ctl_value(c, "overwrite");
    if (when && !parse_existing(when, &opts.existing))
        return ctl_fail(c, err_new(ERR_INVALID, "--overwrite '%s' is unknown", when),
                        CTL_USAGE);
    opts.includes_n = ctl_values(c, "include", &includes);
    opts.includes = includes;
    opts.excludes_n = ctl_values(c, "exclude", &excludes);
    opts.excludes = excludes;
    int rc = run_restore_with(c, &opts);
    free(includes);
    free(excludes);
    return rc;
}

#define WHERE "--repo /srv/backup --password-file /etc/stillpoint/repo.pw"

const struct ctl_command ctl_repo_read_commands[] = {
    {"repo", "check", "", "look for damage", check_options,
     "  stillpoint repo check " WHERE "\n"
     "  stillpoint repo check " WHERE " --read-data\n"
     "  stillpoint repo check " WHERE " --read-data=5%\n",
     0, 0, run_check},
    {"repo", "restore", "SNAPSHOT", "write a snapshot's files to a directory",
     restore_options,
     "  stillpoint repo restore " WHERE " --target /tmp/back latest\n"
     "  stillpoint repo restore " WHERE " --target /data --strip /data 1a2b3c4d\n"
     "  stillpoint repo restore " WHERE
     " --target /data --strip /data --overwrite if-changed --delete latest\n",
     1, 1, run_restore},
    {"repo", "mount", "DIR", "show snapshots as directories", cmd_mount_options,
     "  stillpoint repo mount " WHERE " /mnt/backup\n", 1, 1, cmd_mount},
    {0},
};
