/* `stillpoint repo backup`. */
#include "coordinator/ctl/cmd_repo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/backup.h"
#include "coordinator/ctl/repo_access.h"
#include "coordinator/ctl/repo_print.h"

const struct ctl_option cmd_repo_backup_options[] = {
    REPO_OPTIONS,
    {"as", "PATH", "absolute path the directory stands for (default: its own)", 0},
    {"host", "NAME", "host name of the snapshot (default: this host)", 'H'},
    {"tag", "TAG", "tag of the snapshot (repeatable)", 't'},
    {"exclude", "PATTERN", "leave out matching entries (repeatable)", 'e'},
    {"compression", "EFFORT", "auto (default), off, fastest, better or max", 0},
    {"base", "FILE",
     "read only what lies on other blocks than in the capture that FILE tells of, and "
     "remember this one there (btrfs snapshots, immutable files on xfs)",
     0},
    {"manifest", "FILE", "inode numbers and times of the source of a copied capture", 0},
    {"chunks", "HOW", "files (default), database, or a size such as 64KiB", 0},
    CACHE_OPTION,
    {"resume", NULL, "use what an earlier backup stored before it was killed", 0},
    {"force", NULL, "read every file, also those unchanged since the last snapshot", 'f'},
    {0},
};
static void show_backup(void *ctx, const struct backup_progress *p)
{
    const struct ctl *c = ctx;
    if (c->json && !c->quiet)
        ctl_print_json(json_pack("{s:s, s:I, s:I, s:I}", "message_type", "status",
                                 "files_done", (json_int_t)p->files, "bytes_done",
                                 (json_int_t)p->bytes_read, "error_count",
                                 (json_int_t)p->problems));
    ctl_status(c, "%" PRIu64 " files, %.1f MiB read, %.1f MiB stored", p->files,
               (double)p->bytes_read / 1048576, (double)p->bytes_stored / 1048576);
}

static void print_backup(const struct ctl *c, const struct backup_result *r)
{
    const struct snapshot_summary *s = &r->summary;
    char id[65];
    digest_hex(&r->snapshot, id);
    if (c->json) {
        ctl_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}",
            "message_type", "summary", "files_new", (json_int_t)s->files_new,
            "files_changed", (json_int_t)s->files_changed, "files_unmodified",
            (json_int_t)s->files_unmodified, "dirs_new", (json_int_t)s->dirs_new,
            "dirs_changed", (json_int_t)s->dirs_changed, "dirs_unmodified",
            (json_int_t)s->dirs_unmodified, "data_blobs", (json_int_t)s->data_blobs,
            "tree_blobs", (json_int_t)s->tree_blobs, "data_added",
            (json_int_t)s->data_added, "data_added_packed",
            (json_int_t)s->data_added_packed, "total_files_processed",
            (json_int_t)s->total_files_processed, "total_bytes_processed",
            (json_int_t)s->total_bytes_processed, "bytes_known",
            (json_int_t)r->bytes_known, "snapshot_id", id));
        return;
    }
    ctl_say(c,
            "%" PRIu64 " files, %.1f MiB read, %" PRIu64 " new blobs, %.1f MiB stored\n",
            s->total_files_processed, (double)s->total_bytes_processed / 1048576,
            s->data_blobs + s->tree_blobs, (double)s->data_added_packed / 1048576);
    if (r->bytes_known)
        ctl_say(c, "%.1f MiB of these were not read: they lie on the base's blocks\n",
                (double)r->bytes_known / 1048576);
    printf("snapshot %s\n", id);
}

static struct err *effort_of(const struct ctl *c, enum zst_effort *out)
{
    const char *named = ctl_value(c, "compression");
    *out = ZST_AUTO;
    if (!named)
        return NULL;
    for (int i = 0; i < ZST_EFFORTS; i++) {
        *out = (enum zst_effort)i;
        if (strcmp(named, zst_effort_names[i]) == 0)
            return NULL;
    }
    return err_new(ERR_INVALID,
                   "--compression '%s' is none of auto, off, fastest, better, max",
                   named);
}

static struct err *run_engine(const struct ctl *c, struct repo *repo,
                              const struct backup_opts *opts, struct backup_result *r)
{
    const char *base = ctl_value(c, "base");
    struct err *why = NULL;
    if (!base)
        return backup_run(repo, opts, r);
    struct err *e = backup_run_on_base(repo, opts, base, r, &why);
    if (why) {
        AUTO(str) char *text = err_text(why);
        ctl_say(c, "without help of a base: %s\n", text);
        err_free(why);
    }
    return e;
}

static int finish_backup(struct ctl *c, struct repo_access *a, struct backup_opts *opts)
{
    struct backup_result r;
    struct err *e = run_engine(c, a->repo, opts, &r);
    ctl_status_end(c);
    repo_print_problems(c, &r.problems);
    uint64_t problems = problems_total(&r.problems);
    if (!e)
        print_backup(c, &r);
    backup_result_fini(&r);
    if (!e)
        return CTL_OK;
    return ctl_fail(c, e, problems ? CTL_PARTIAL : CTL_FAILED);
}

static int run_backup(struct ctl *c, struct repo_access *a, struct backup_opts *opts)
{
    AUTO_SNAPSHOT struct snapshot parent = {0};
    bool found = false;
    if (!ctl_has(c, "force")) {
        struct err *e =
            backup_find_parent(a->repo, opts, opts->tags, opts->tags_n, &parent, &found);
        if (e)
            return ctl_fail(c, e, CTL_FAILED);
    }
    opts->parent = found ? &parent : NULL;
    opts->lock = a->lock;
    return finish_backup(c, a, opts);
}

int cmd_repo_backup(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    char host[256] = "";
    struct timespec now;
    const char **tags = NULL, **excludes = NULL;
    enum zst_effort effort;
    struct chunks chunks = {0};
    const char *as = ctl_value(c, "as");
    const char *named = ctl_value(c, "host");
    AUTO(str) char *real = realpath(c->args[0], NULL);
    if (!real)
        return ctl_fail(c, err_os(errno, "'%s'", c->args[0]), CTL_FAILED);
    if (as && as[0] != '/')
        return ctl_fail(c, err_new(ERR_INVALID, "--as '%s' is not absolute", as),
                        CTL_USAGE);
    struct err *e = effort_of(c, &effort);
    if (!e && ctl_has(c, "chunks"))
        e = chunks_parse(ctl_value(c, "chunks"), &chunks);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    const unsigned want =
        REPO_WANT_INDEX | REPO_WANT_LOCK | REPO_WANT_CACHE | REPO_WANT_EARLY;
    int rc = repo_access_want(c, want, &a);
    if (rc)
        return rc;
    repo_set_effort(a.repo, effort);
    gethostname(host, sizeof host - 1);
    clock_gettime(CLOCK_REALTIME, &now);
    struct backup_opts opts = {
        .source = real,
        .path = as ? as : real,
        .hostname = named ? named : host,
        .time = {now.tv_sec, (uint32_t)now.tv_nsec},
        .chunks = chunks,
        .resume = ctl_has(c, "resume"),
        .progress = show_backup,
        .progress_ctx = c,
        .cancel = &ctl_cancelled,
    };
    opts.tags_n = ctl_values(c, "tag", &tags);
    opts.tags = tags;
    opts.excludes_n = ctl_values(c, "exclude", &excludes);
    opts.excludes = excludes;
    AUTO(manifest) struct manifest *manifest = NULL;
    const char *told = ctl_value(c, "manifest");
    e = told ? manifest_open(told, &manifest) : NULL;
    opts.manifest = manifest;
    rc = e ? ctl_fail(c, e, CTL_FAILED) : run_backup(c, &a, &opts);
    free(tags);
    free(excludes);
    return rc;
}
