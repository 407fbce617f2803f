/* `stillpoint repo forget` and `reclaim`: what stays, and for how long. */
#include "coordinator/ctl/cmd_repo.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/engine/forget.h"
#include "common/engine/pin.h"
#include "common/engine/reclaim.h"
#include "coordinator/ctl/repo_access.h"
#include "coordinator/ctl/repo_print.h"

static const double mib = 1048576;

/* ---- options ---- */

static const char *const keep_names[] = {"keep-last",   "keep-hourly",  "keep-daily",
                                         "keep-weekly", "keep-monthly", "keep-yearly"};
static const char *const within_names[] = {"keep-within",         "keep-within-hourly",
                                           "keep-within-daily",   "keep-within-weekly",
                                           "keep-within-monthly", "keep-within-yearly"};

static struct err *read_count(const struct ctl *c, const char *name, int *out)
{
    const char *text = ctl_value(c, name);
    char *end = NULL;
    if (!text)
        return NULL;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (strcmp(text, "unlimited") == 0)
        v = -1;
    else if (errno || end == text || *end || v < -1 || v > INT_MAX)
        return err_new(ERR_INVALID, "--%s '%s' is not a count, -1 or 'unlimited'", name,
                       text);
    *out = (int)v;
    return NULL;
}

/* "a,b" is a list of tags that all must be there; the option repeated is another list. */
static struct strings *read_tags(const struct ctl *c, const char *name, size_t *n)
{
    const char **values = NULL;
    *n = ctl_values(c, name, &values);
    struct strings *lists = mem_array(*n, sizeof *lists);
    for (size_t i = 0; i < *n; i++) {
        AUTO(str) char *copy = mem_strdup(values[i]);
        char *rest = copy, *part;
        while ((part = strsep(&rest, ",")))
            if (*part)
                strings_add(&lists[i], part);
    }
    free(values);
    return lists;
}

static void free_tags(struct strings *lists, size_t n)
{
    for (size_t i = 0; i < n; i++)
        strings_fini(&lists[i]);
    free(lists);
}

static struct err *read_groups(const struct ctl *c, struct forget_opts *o)
{
    const char *text = ctl_value(c, "group-by");
    AUTO(str) char *copy = mem_strdup(text ? text : "host,paths");
    char *rest = copy, *part;
    while ((part = strsep(&rest, ","))) {
        bool host = strcmp(part, "host") == 0 || strcmp(part, "hosts") == 0;
        bool paths = strcmp(part, "path") == 0 || strcmp(part, "paths") == 0;
        bool tags = strcmp(part, "tag") == 0 || strcmp(part, "tags") == 0;
        if (*part && !host && !paths && !tags)
            return err_new(ERR_INVALID, "--group-by '%s': known are host, paths, tags",
                           part);
        o->by_host |= host;
        o->by_paths |= paths;
        o->by_tags |= tags;
    }
    return NULL;
}

static struct err *read_policy(const struct ctl *c, struct forget_opts *o)
{
    for (int i = 0; i < RETAIN_BUCKETS; i++) {
        const char *span = ctl_value(c, within_names[i]);
        TRY(read_count(c, keep_names[i], &o->policy.keep[i]));
        if (span)
            TRY_CTX(retain_span_parse(span, &o->policy.within[i]), "--%s",
                    within_names[i]);
    }
    return read_groups(c, o);
}

/* ---- forget ---- */

static void print_item(const struct ctl *c, const struct forget_item *it)
{
    AUTO_BUF struct buf line = {0};
    char id[65];
    digest_hex(&it->snapshot.id, id);
    if (c->json) {
        json_t *o = repo_snapshot_json(&it->snapshot);
        json_object_set_new(o, "message_type", json_string("snapshot"));
        json_object_set_new(o, "group", json_integer((json_int_t)it->group));
        json_object_set_new(o, "keep", json_boolean(it->keep));
        json_object_set_new(o, "removed", json_boolean(it->removed));
        ctl_print_json(o);
        return;
    }
    repo_snapshot_line(&it->snapshot, &line);
    printf("%-7s %s\n", it->keep ? "keep" : "remove", buf_text(&line));
}

static void print_plan(const struct ctl *c, const struct forget_plan *p, bool dry)
{
    uint64_t keep = 0;
    for (size_t i = 0; i < p->n; i++) {
        print_item(c, &p->items[i]);
        keep += p->items[i].keep;
    }
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:I, s:I, s:I, s:b}", "message_type", "summary",
                                 "groups", (json_int_t)p->groups, "kept",
                                 (json_int_t)keep, "removed", (json_int_t)(p->n - keep),
                                 "dry_run", dry));
    ctl_say(c, "%" PRIu64 " kept, %" PRIu64 " %s, in %zu groups\n", keep, p->n - keep,
            dry ? "would be removed" : "removed", p->groups);
}

static void show_forget(void *ctx, uint64_t done, uint64_t todo)
{
    ctl_status(ctx, "%" PRIu64 " of %" PRIu64 " snapshots removed", done, todo);
}

static struct err *plan_and_run(struct ctl *c, struct repo_access *a,
                                const struct forget_opts *o)
{
    struct forget_plan plan = {0};
    if (c->args_n)
        TRY(forget_plan_named(a->io, c->args, (size_t)c->args_n, o, &plan));
    else
        TRY(forget_plan(a->io, o, &plan));
    struct err *e = forget_run(a->io, o, &plan);
    ctl_status_end(c);
    print_plan(c, &plan, o->dry_run);
    forget_plan_fini(&plan);
    return e;
}

static struct err *forget_with(struct ctl *c, struct repo_access *a,
                               struct forget_opts *o)
{
    size_t keep_n = 0, filter_n = 0;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct strings *keep = read_tags(c, "keep-tag", &keep_n);
    struct strings *filter = read_tags(c, "tag", &filter_n);
    o->policy.tags = keep;
    o->policy.tags_n = keep_n;
    o->tags = filter;
    o->tags_n = filter_n;
    o->host = ctl_value(c, "host");
    o->path = ctl_value(c, "path");
    o->now = (struct go_time){now.tv_sec, (uint32_t)now.tv_nsec};
    o->allow_empty = ctl_has(c, "allow-remove-all");
    o->dry_run = ctl_has(c, "dry-run");
    o->lock = a->lock;
    o->cancel = &ctl_cancelled;
    o->progress = show_forget;
    o->progress_ctx = c;
    struct err *e = plan_and_run(c, a, o);
    free_tags(keep, keep_n);
    free_tags(filter, filter_n);
    return e;
}

static int run_forget(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    struct forget_opts o = {0};
    struct err *e = read_policy(c, &o);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    unsigned want = ctl_has(c, "dry-run") ? 0 : REPO_WANT_LOCK | REPO_WANT_REMOVE;
    int rc = repo_access_want(c, want, &a);
    if (rc)
        return rc;
    e = forget_with(c, &a, &o);
    if (!e)
        return CTL_OK;
    return ctl_fail(c, e, e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED);
}

/* ---- pin ---- */

static void print_pin(void *ctx, const struct snapshot *s, const struct digest *after)
{
    const struct ctl *c = ctx;
    char old[65], fresh[65];
    const char *what = strcmp(c->command->verb, "pin") == 0 ? "pinned" : "unpinned";
    bool same = digest_equal(&s->id, after);
    digest_hex(&s->id, old);
    digest_hex(after, fresh);
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:s, s:s, s:b}", "message_type", what, "source",
                                 old, "snapshot_id", fresh, "changed", !same));
    else if (same)
        printf("%.8s was %s already\n", old, what);
    else
        printf("%.8s %s, now as %.8s\n", old, what, fresh);
}

static int run_pin(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    int rc = repo_access_want(c, REPO_WANT_LOCK | REPO_WANT_REMOVE, &a);
    if (rc)
        return rc;
    const struct pin_opts o = {.unpin = strcmp(c->command->verb, "unpin") == 0,
                               .label = ctl_value(c, "label"),
                               .lock = a.lock,
                               .done = print_pin,
                               .done_ctx = c};
    struct err *e = pin_run(a.io, c->args, (size_t)c->args_n, &o);
    if (!e)
        return CTL_OK;
    return ctl_fail(c, e, e->kind == ERR_INVALID ? CTL_USAGE : CTL_FAILED);
}

/* ---- reclaim ---- */

static void show_reclaim(void *ctx, const struct reclaim_progress *p)
{
    static const char *const stages[] = {"loading the index", "looking at snapshots",
                                         "copying packs",     "waiting for others",
                                         "looking again",     "deleting packs"};
    const struct ctl *c = ctx;
    if (p->holder)
        ctl_status(c, "waiting for %" PRIu64 " others, such as process %ld on '%s'",
                   p->todo - p->done, p->holder->pid, p->holder->hostname);
    else
        ctl_status(c, "%s: %" PRIu64 " of %" PRIu64, stages[p->stage], p->done, p->todo);
}

static void print_reclaim_json(const struct reclaim_result *r, bool dry)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"snapshots", r->snapshots},
        {"packs", r->packs},
        {"bytes", r->bytes},
        {"needed_bytes", r->needed_bytes},
        {"dead_packs", r->dead_packs},
        {"dead_bytes", r->dead_bytes},
        {"orphan_packs", r->orphan_packs},
        {"orphan_bytes", r->orphan_bytes},
        {"repack_packs", r->repack_packs},
        {"repack_bytes", r->repack_bytes},
        {"copied_bytes", r->copied_bytes},
        {"unused_bytes", r->unused_bytes},
        {"revived_packs", r->revived_packs},
        {"deleted_packs", r->deleted_packs},
        {"freed_bytes", r->freed_bytes},
        {"waiting", r->waiting},
        {"in_flight_packs", r->in_flight_packs},
        {"pending_packs", r->pending_packs},
        {"leftover_files", r->leftover_files},
        {"leftover_bytes", r->leftover_bytes},
    };
    json_t *o = json_pack("{s:s, s:b}", "message_type", "summary", "dry_run", dry);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        json_object_set_new(o, numbers[i].key,
                            json_integer((json_int_t)numbers[i].value));
    ctl_print_json(o);
}

static void print_reclaim(const struct ctl *c, const struct reclaim_result *r, bool dry)
{
    if (c->json) {
        print_reclaim_json(r, dry);
        return;
    }
    printf("%" PRIu64 " packs with %.1f MiB, needed by %" PRIu64 " snapshots: %.1f MiB\n",
           r->packs, (double)r->bytes / mib, r->snapshots, (double)r->needed_bytes / mib);
    printf("without use %" PRIu64 " packs with %.1f MiB, in no index %" PRIu64
           " with %.1f MiB\n",
           r->dead_packs, (double)r->dead_bytes / mib, r->orphan_packs,
           (double)r->orphan_bytes / mib);
    printf("to be repacked %" PRIu64 " packs with %.1f MiB, of which %.1f MiB stay\n",
           r->repack_packs, (double)r->repack_bytes / mib, (double)r->copied_bytes / mib);
    if (r->waiting)
        printf("%" PRIu64 " others still use the repository: %" PRIu64
               " packs wait for the next run\n",
               r->waiting, r->pending_packs);
    if (!dry)
        printf("deleted %" PRIu64 " packs, freed %.1f MiB; %.1f MiB of waste stay\n",
               r->deleted_packs, (double)r->freed_bytes / mib,
               (double)r->unused_bytes / mib);
}

/* "5%", "64MiB" or "unlimited". */
static struct err *read_unused(const struct ctl *c, struct reclaim_opts *o)
{
    const char *text = ctl_value(c, "max-unused");
    o->max_unused_percent = 5;
    if (!text)
        return NULL;
    char *end = NULL;
    double part = strtod(text, &end);
    if (end != text && strcmp(end, "%") == 0 && part >= 0 && part <= 100) {
        o->max_unused_percent = part;
        return NULL;
    }
    o->max_unused_percent = -1;
    if (strcmp(text, "unlimited") == 0) {
        o->max_unused_bytes = UINT64_MAX;
        return NULL;
    }
    return repo_read_bytes("max-unused", text, &o->max_unused_bytes);
}

static struct err *read_reclaim(const struct ctl *c, struct reclaim_opts *o)
{
    const char *repack = ctl_value(c, "max-repack"), *wait = ctl_value(c, "max-wait");
    TRY(read_unused(c, o));
    if (repack)
        TRY(repo_read_bytes("max-repack", repack, &o->max_repack_bytes));
    o->max_wait_ms = -1;
    if (wait) {
        uint64_t seconds;
        TRY(repo_read_seconds("max-wait", wait, &seconds));
        o->max_wait_ms = (int64_t)seconds * 1000;
    }
    return NULL;
}

static int run_reclaim(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    struct reclaim_opts o = {.progress = show_reclaim,
                             .progress_ctx = c,
                             .dry_run = ctl_has(c, "dry-run"),
                             .cancel = &ctl_cancelled};
    struct reclaim_result r;
    struct err *e = read_reclaim(c, &o);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    int rc = repo_access_want(c, REPO_WANT_RECLAIM | REPO_WANT_REMOVE, &a);
    if (rc)
        return rc;
    o.lock = a.lock;
    e = reclaim_run(a.repo, &o, &r);
    ctl_status_end(c);
    repo_print_problems(c, &r.problems);
    bool partial = r.waiting || problems_total(&r.problems);
    if (!e)
        print_reclaim(c, &r, o.dry_run);
    reclaim_result_fini(&r);
    if (e)
        return ctl_fail(c, e, CTL_FAILED);
    return partial ? CTL_PARTIAL : CTL_OK;
}

static const struct ctl_option forget_options[] = {
    REPO_OPTIONS,
    {"keep-last", "N", "keep the N newest (-1 or unlimited: all)", 'l'},
    {"keep-hourly", "N", "keep the newest of each of the last N hours with any", 'H'},
    {"keep-daily", "N", "the same by days", 'd'},
    {"keep-weekly", "N", "the same by ISO weeks", 'w'},
    {"keep-monthly", "N", "the same by months", 'm'},
    {"keep-yearly", "N", "the same by years", 'y'},
    {"keep-within", "SPAN", "keep all of this span before the newest, such as 1y5m7d2h",
     0},
    {"keep-within-hourly", "SPAN", "keep the newest of each hour in this span", 0},
    {"keep-within-daily", "SPAN", "the same by days", 0},
    {"keep-within-weekly", "SPAN", "the same by ISO weeks", 0},
    {"keep-within-monthly", "SPAN", "the same by months", 0},
    {"keep-within-yearly", "SPAN", "the same by years", 0},
    {"keep-tag", "TAG[,TAG]", "keep what has all these tags (repeatable: or these)", 0},
    {"host", "NAME", "only snapshots of this host", 0},
    {"path", "PATH", "only snapshots of this path", 0},
    {"tag", "TAG[,TAG]", "only snapshots with all these tags (repeatable: or these)", 0},
    {"group-by", "WHAT", "count within equal host, paths, tags (default host,paths)",
     'g'},
    {"allow-remove-all", NULL, "even if nothing stays of some group", 0},
    {"dry-run", NULL, "show what would be removed", 'n'},
    {0},
};
static const struct ctl_option reclaim_options[] = {
    REPO_OPTIONS,
    {"max-unused", "LIMIT", "waste that may stay: 5%, 64MiB, unlimited (default 5%)", 0},
    {"max-repack", "BYTES", "copy no more than this in one run, such as 10GiB", 0},
    {"max-wait", "SECONDS", "wait no longer for backups that run; go on next time", 0},
    {"dry-run", NULL, "show what would be freed", 'n'},
    {0},
};

static const struct ctl_option pin_options[] = {
    REPO_OPTIONS,
    {"label", "TEXT", "why: the tag is pin=TEXT", 0},
    {0},
};
static const struct ctl_option unpin_options[] = {
    REPO_OPTIONS,
    {"label", "TEXT", "only the pin of that label", 0},
    {0},
};

const struct ctl_command ctl_repo_retain_commands[] = {
    {"repo", "pin", "SNAPSHOT...", "keep snapshots whatever 'forget' is told",
     pin_options,
     "  stillpoint repo pin " REPO_WHERE " latest --label audit-2026\n"
     "A stored snapshot never changes: it gets a successor with another id. A snapshot "
     "of "
     "a\n"
     "set stands for the set's record, whose pin keeps the whole set.\n",
     1, INT_MAX, run_pin},
    {"repo", "unpin", "SNAPSHOT...", "take pins away", unpin_options,
     "  stillpoint repo unpin " REPO_WHERE " 1a2b3c4d\n", 1, INT_MAX, run_pin},
    {"repo", "forget", "[SNAPSHOT...]", "remove snapshots that a policy does not keep",
     forget_options,
     "  stillpoint repo forget " REPO_WHERE " --keep-daily 7 --keep-weekly 5 -n\n"
     "  stillpoint repo forget " REPO_WHERE " --keep-within 1m --group-by host,tags\n"
     "  stillpoint repo forget " REPO_WHERE " 1a2b3c4d\n"
     "Snapshots tagged 'pin' or 'pin=…' always stay. The parts of a complete set and "
     "its\n"
     "record (tags set=… and stillpoint-set) stay or go together; parts of a set "
     "without\n"
     "a record stay for seven days. Space is freed by 'repo reclaim'.\n",
     0, INT_MAX, run_forget},
    {"repo", "reclaim", "", "free what no snapshot needs, beside running backups",
     reclaim_options,
     "  stillpoint repo reclaim " REPO_WHERE "\n"
     "  stillpoint repo reclaim " REPO_WHERE " --max-unused 10% --max-repack 20GiB\n"
     "  stillpoint repo reclaim " REPO_WHERE " --max-wait 600 --json\n"
     "Exit status 3: backups were running for longer than --max-wait, or a pack could "
     "not\n"
     "be read; a repeated run goes on.\n",
     0, 0, run_reclaim},
    {0},
};
