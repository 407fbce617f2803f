/* `stillpoint repo copy`, `key`, `unlock` and `repair-index`: caring for repositories. */
#include "coordinator/ctl/cmd_repo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/copy.h"
#include "common/engine/reindex.h"
#include "common/repo/keys.h"
#include "common/repo/password.h"
#include "coordinator/ctl/repo_access.h"
#include "coordinator/ctl/repo_print.h"

static const double mib = 1048576;

static int fail(const struct ctl *c, struct err *e)
{
    return ctl_fail(c, e, e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED);
}

/* ---- copy ---- */

static void show_copy(void *ctx, const struct copy_result *now)
{
    ctl_status(ctx, "%" PRIu64 " snapshots, %" PRIu64 " blobs, %.1f MiB stored",
               now->snapshots, now->blobs, (double)now->stored_bytes / mib);
}

static void print_copied(void *ctx, const struct snapshot *from, const struct digest *to)
{
    const struct ctl *c = ctx;
    char old[65], fresh[65];
    digest_hex(&from->id, old);
    digest_hex(to, fresh);
    ctl_status_end(c);
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:s, s:s}", "message_type", "copied", "source",
                                 old, "snapshot_id", fresh));
    else
        printf("%.8s copied as %s\n", old, fresh);
}

static void print_copy(const struct ctl *c, const struct copy_result *r)
{
    if (c->json)
        ctl_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "message_type", "summary", "snapshots",
            (json_int_t)r->snapshots, "skipped", (json_int_t)r->skipped, "blobs",
            (json_int_t)r->blobs, "bytes", (json_int_t)r->bytes, "stored_bytes",
            (json_int_t)r->stored_bytes, "known_blobs", (json_int_t)r->known_blobs));
    ctl_say(c,
            "%" PRIu64 " snapshots copied, %" PRIu64 " were there; %" PRIu64
            " blobs stored in %.1f MiB, %" PRIu64 " were there\n",
            r->snapshots, r->skipped, r->blobs, (double)r->stored_bytes / mib,
            r->known_blobs);
}

static int copy_between(struct ctl *c, struct repo_access *from, struct repo_access *to)
{
    struct snapshot *list = NULL;
    size_t n = 0;
    struct copy_result r;
    const struct copy_opts o = {.from_lock = from->lock,
                                .to_lock = to->lock,
                                .progress = show_copy,
                                .progress_ctx = c,
                                .stored = print_copied,
                                .stored_ctx = c,
                                .cancel = &ctl_cancelled};
    struct err *e = repo_chosen(c, from->io, 0, &list, &n);
    if (e)
        return fail(c, e);
    e = copy_run(from->repo, to->repo, list, n, &o, &r);
    ctl_status_end(c);
    repo_free_snapshots(list, n);
    if (e)
        return fail(c, e);
    print_copy(c, &r);
    return CTL_OK;
}

static int run_copy(struct ctl *c)
{
    AUTO_ACCESS struct repo_access from = {0};
    AUTO_ACCESS struct repo_access to = {0};
    unsigned want = REPO_WANT_INDEX | REPO_WANT_LOCK;
    if (!ctl_has(c, "to-repo"))
        return ctl_missing(c, "to-repo");
    if (!ctl_has(c, "to-password-file"))
        return ctl_missing(c, "to-password-file");
    int rc = repo_access_want(c, want, &from);
    if (!rc)
        rc = repo_access_other(c, "to-repo", "to-password-file", want, &to);
    if (!rc && strcmp(repo_id(from.repo), repo_id(to.repo)) == 0)
        rc = ctl_fail(c, err_new(ERR_INVALID, "both are the same repository"), CTL_USAGE);
    return rc ? rc : copy_between(c, &from, &to);
}

/* ---- key ---- */

static void print_key(const struct ctl *c, const struct repo_key *k)
{
    char id[65];
    digest_hex(&k->id, id);
    AUTO(str) char *user = repo_printable(k->info.username ? k->info.username : "");
    AUTO(str) char *host = repo_printable(k->info.hostname ? k->info.hostname : "");
    AUTO(str) char *made = repo_printable(k->info.created ? k->info.created : "damaged");
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:s, s:b, s:s, s:s, s:s}", "message_type", "key",
                                 "id", id, "current", k->current, "username", user,
                                 "hostname", host, "created", made));
    else
        printf("%c%.8s  %-12s %-16s %.19s\n", k->current ? '*' : ' ', id, user, host,
               made);
}

static struct err *list_keys(const struct ctl *c, struct repo *r)
{
    struct repo_key *list = NULL;
    size_t n = 0;
    TRY(keys_list(r, &list, &n));
    for (size_t i = 0; i < n; i++)
        print_key(c, &list[i]);
    keys_free(list, n);
    return NULL;
}

static void print_new_key(const struct ctl *c, const char *what, const struct digest *id)
{
    char hex[65];
    digest_hex(id, hex);
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:s}", "message_type", what, "id", hex));
    else
        printf("%s %s\n", what, hex);
}

static struct err *make_key(struct ctl *c, struct repo *r, bool replace)
{
    AUTO_PASSWORD struct buf password = {0};
    struct digest id;
    TRY(password_read(ctl_value(c, "new-password-file"), &password));
    if (replace)
        TRY(keys_change(r, password.data, password.len, &repo_default_cost, &id));
    else
        TRY(keys_add(r, password.data, password.len, &repo_default_cost, &id));
    print_new_key(c, replace ? "changed" : "added", &id);
    return NULL;
}

static int run_key(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    const char *action = c->args[0];
    bool list = strcmp(action, "list") == 0, add = strcmp(action, "add") == 0;
    bool change = strcmp(action, "passwd") == 0, gone = strcmp(action, "remove") == 0;
    if (!list && !add && !change && !gone)
        return ctl_fail(
            c,
            err_new(ERR_INVALID, "key '%s': known are list, add, remove, passwd", action),
            CTL_USAGE);
    if ((add || change) && !ctl_has(c, "new-password-file"))
        return ctl_missing(c, "new-password-file");
    if (gone != (c->args_n == 2))
        return ctl_fail(
            c, err_new(ERR_INVALID, "only 'key remove' takes an id, and needs it"),
            CTL_USAGE);
    /* Two that remove at once could take each other's key away. */
    unsigned want = list  ? 0
                    : add ? REPO_WANT_LOCK
                          : REPO_WANT_EXCLUSIVE | REPO_WANT_REMOVE;
    int rc = repo_access_want(c, want, &a);
    if (rc)
        return rc;
    struct err *e = list   ? list_keys(c, a.repo)
                    : gone ? keys_remove(a.repo, c->args[1])
                           : make_key(c, a.repo, change);
    return e ? fail(c, e) : CTL_OK;
}

/* ---- unlock ---- */

static int run_unlock(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    size_t removed = 0;
    int rc = repo_access_want(c, 0, &a);
    if (rc)
        return rc;
    struct err *e = lock_remove_stale(a.io, ctl_has(c, "all"), &removed);
    if (e)
        return fail(c, e);
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:I}", "message_type", "summary", "removed",
                                 (json_int_t)removed));
    ctl_say(c, "%zu locks removed\n", removed);
    return CTL_OK;
}

/* ---- repair-index ---- */

static void show_reindex(void *ctx, uint64_t done, uint64_t todo)
{
    ctl_status(ctx, "%" PRIu64 " of %" PRIu64 " packs", done, todo);
}

static void print_reindex(const struct ctl *c, const struct reindex_result *r)
{
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "message_type",
                                 "summary", "packs", (json_int_t)r->packs, "read",
                                 (json_int_t)r->read, "missing", (json_int_t)r->missing,
                                 "bad_indexes", (json_int_t)r->bad_indexes, "unreadable",
                                 (json_int_t)(r->problems.total - r->bad_indexes),
                                 "changed", r->changed));
    ctl_say(c,
            "%" PRIu64 " packs indexed, %" PRIu64 " of them read anew; %" PRIu64
            " missing packs taken out, %" PRIu64 " damaged entries\n",
            r->packs, r->read, r->missing, r->bad_indexes);
    if (!r->changed)
        ctl_say(c, "nothing was written\n");
}

static int run_repair_index(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    struct reindex_result r;
    int rc = repo_access_want(c, REPO_WANT_EXCLUSIVE | REPO_WANT_REMOVE, &a);
    if (rc)
        return rc;
    const struct reindex_opts o = {.lock = a.lock,
                                   .read_all = ctl_has(c, "read-all-packs"),
                                   .dry_run = ctl_has(c, "dry-run"),
                                   .progress = show_reindex,
                                   .progress_ctx = c,
                                   .cancel = &ctl_cancelled};
    struct err *e = reindex_run(a.repo, &o, &r);
    ctl_status_end(c);
    repo_print_problems(c, &r.problems);
    /* A pack that cannot be read is data that is lost. */
    bool lost = r.missing || problems_total(&r.problems) > r.bad_indexes;
    if (!e)
        print_reindex(c, &r);
    reindex_result_fini(&r);
    if (e)
        return fail(c, e);
    return lost ? CTL_PARTIAL : CTL_OK;
}

static const struct ctl_option copy_options[] = {
    REPO_OPTIONS,
    NO_LOCK_OPTION,
    {"to-repo", "URL", "the repository to copy to", 0},
    {"to-password-file", "FILE", "file that holds its password", 0},
    REPO_FILTER_OPTIONS,
    {0},
};
static const struct ctl_option key_options[] = {
    REPO_OPTIONS,
    {"new-password-file", "FILE", "file that holds the new password", 0},
    {0},
};
static const struct ctl_option unlock_options[] = {
    REPO_OPTIONS,
    {"all", NULL, "also locks whose holders may live: only when none does", 0},
    {0},
};
static const struct ctl_option repair_index_options[] = {
    REPO_OPTIONS,
    {"read-all-packs", NULL, "trust no index file, read every pack's header", 0},
    {"dry-run", NULL, "show what is wrong", 'n'},
    {0},
};

const struct ctl_command ctl_repo_care_commands[] = {
    {"repo", "copy", "[SNAPSHOT...]", "copy snapshots to another repository",
     copy_options,
     "  stillpoint repo copy " REPO_WHERE " --to-repo /mnt/b --to-password-file b.pw\n"
     "  stillpoint repo copy " REPO_WHERE " --to-repo /mnt/b --to-password-file b.pw "
     "latest\n"
     "What is there already is not copied again. Both repositories cut large files by "
     "keys\n"
     "of their own: later backups to the other one share little with what was copied.\n",
     0, 100000, run_copy},
    {"repo", "key", "list | add | remove ID | passwd", "manage passwords", key_options,
     "  stillpoint repo key " REPO_WHERE " list\n"
     "  stillpoint repo key " REPO_WHERE " add --new-password-file new.pw\n"
     "  stillpoint repo key " REPO_WHERE " passwd --new-password-file new.pw\n"
     "  stillpoint repo key " REPO_WHERE " remove 1a2b3c4d\n"
     "The key that opened the repository cannot be removed, so one always stays. Who "
     "knew\n"
     "a removed password and kept its key file can still read the repository.\n",
     1, 2, run_key},
    {"repo", "unlock", "", "remove locks of programs that are gone", unlock_options,
     "  stillpoint repo unlock " REPO_WHERE "\n"
     "  stillpoint repo unlock " REPO_WHERE " --all\n",
     0, 0, run_unlock},
    {"repo", "repair-index", "", "make the index anew from the packs",
     repair_index_options,
     "  stillpoint repo repair-index " REPO_WHERE " --dry-run\n"
     "  stillpoint repo repair-index " REPO_WHERE " --read-all-packs\n"
     "Exit status 3: packs are missing or cannot be read; 'repo check' tells what is "
     "lost.\n",
     0, 0, run_repair_index},
    {0},
};
