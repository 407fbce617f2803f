#include "common/engine/forget.h"

#include <string.h>

#include "common/base/mem.h"

static const char set_prefix[] = "set=", record_tag[] = "stillpoint-set";

void forget_plan_fini(struct forget_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        snapshot_fini(&p->items[i].snapshot);
    free(p->items);
    *p = (struct forget_plan){0};
}

/* The set that a snapshot belongs to, or NULL. */
static const char *set_of(const struct snapshot *s)
{
    for (size_t i = 0; i < s->tags.n; i++)
        if (strncmp(s->tags.items[i], set_prefix, strlen(set_prefix)) == 0)
            return s->tags.items[i];
    return NULL;
}

static bool is_record(const struct snapshot *s)
{
    return strings_has(&s->tags, record_tag) && set_of(s);
}

static bool is_cancelled(const struct forget_opts *opts)
{
    return opts->cancel && atomic_load(opts->cancel);
}

/* ---- groups ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_sorted(struct buf *key, const struct strings *s)
{
    char **items = mem_array(s->n, sizeof *items);
    if (s->n)
        memcpy(items, s->items, s->n * sizeof *items);
    qsort(items, s->n, sizeof *items, by_text);
    for (size_t i = 0; i < s->n; i++)
        buf_add(key, items[i], strlen(items[i]) + 1);
    buf_char(key, '\0');
    free(items);
}

static char *group_key(const struct forget_opts *opts, const struct snapshot *s,
                       size_t *n)
{
    struct buf key = {0};
    if (opts->by_host)
        buf_str(&key, s->hostname);
    buf_char(&key, '\0');
    if (opts->by_paths)
        add_sorted(&key, &s->paths);
    if (opts->by_tags)
        add_sorted(&key, &s->tags);
    *n = key.len;
    return buf_steal(&key);
}

struct keyed {
    struct forget_item item;
    char *key;
    size_t key_n;
    bool matches; /* the filter names it or its set */
    bool silent;  /* the record of a set with parts here: they decide */
};

static int by_group(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    size_t n = x->key_n < y->key_n ? x->key_n : y->key_n;
    int d = memcmp(x->key, y->key, n);
    if (!d && x->key_n != y->key_n)
        d = x->key_n < y->key_n ? -1 : 1;
    const struct go_time *s = &x->item.snapshot.time, *t = &y->item.snapshot.time;
    if (!d && s->sec != t->sec)
        d = s->sec > t->sec ? -1 : 1;
    if (!d && s->nsec != t->nsec)
        d = s->nsec > t->nsec ? -1 : 1;
    return d ? d
             : memcmp(x->item.snapshot.id.b, y->item.snapshot.id.b,
                      sizeof x->item.snapshot.id.b);
}

static bool matches(const struct forget_opts *opts, const struct snapshot *s)
{
    bool tagged = opts->tags_n == 0;
    if ((opts->host && strcmp(opts->host, s->hostname) != 0) ||
        (opts->path && !strings_has(&s->paths, opts->path)))
        return false;
    for (size_t i = 0; i < opts->tags_n && !tagged; i++) {
        tagged = true;
        for (size_t j = 0; j < opts->tags[i].n; j++)
            tagged = tagged && strings_has(&s->tags, opts->tags[i].items[j]);
    }
    return tagged;
}

/* ---- sets ---- */

/* All snapshots by the set they belong to: sorted, so that a set is one run. */
struct member {
    const char *set;
    size_t at;
};

static int by_set(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int d = strcmp(x->set, y->set);
    return d ? d : x->at < y->at ? -1 : 1;
}

static struct member *members_of(const struct keyed *list, size_t n, size_t *out_n)
{
    struct member *m = mem_array(n, sizeof *m);
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const char *set = set_of(&list[i].item.snapshot);
        if (set)
            m[used++] = (struct member){set, i};
    }
    if (used)
        qsort(m, used, sizeof *m, by_set);
    *out_n = used;
    return m;
}

static size_t run_end(const struct member *m, size_t n, size_t from)
{
    size_t end = from + 1;
    while (end < n && strcmp(m[end].set, m[from].set) == 0)
        end++;
    return end;
}

/* A unit: one whole set, as positions in the list. */
struct unit {
    const struct member *m;
    size_t n;
    bool complete;
};

typedef void unit_visit(void *ctx, struct keyed *list, const struct unit *u);

static void each_unit(struct keyed *list, size_t n, unit_visit *visit, void *ctx)
{
    size_t count = 0;
    struct member *m = members_of(list, n, &count);
    for (size_t i = 0; i < count;) {
        struct unit u = {m + i, run_end(m, count, i) - i, false};
        for (size_t j = 0; j < u.n; j++)
            u.complete |= is_record(&list[u.m[j].at].item.snapshot);
        visit(ctx, list, &u);
        i += u.n;
    }
    free(m);
}

static void spread_match(void *ctx, struct keyed *list, const struct unit *u)
{
    bool any = false, parts = false;
    (void)ctx;
    for (size_t j = 0; j < u->n; j++) {
        any |= list[u->m[j].at].matches;
        parts |= !is_record(&list[u->m[j].at].item.snapshot);
    }
    for (size_t j = 0; j < u->n; j++)
        list[u->m[j].at].silent = parts && is_record(&list[u->m[j].at].item.snapshot);
    for (size_t j = 0; j < u->n && u->complete; j++)
        list[u->m[j].at].matches = any;
}

static void spread_keep(void *ctx, struct keyed *list, const struct unit *u)
{
    const struct forget_opts *opts = ctx;
    bool keep = false;
    for (size_t j = 0; j < u->n; j++) {
        struct forget_item *it = &list[u->m[j].at].item;
        bool young =
            !u->complete && opts->now.sec - it->snapshot.time.sec < FORGET_SET_GRACE_S;
        it->keep |= young || retain_is_pinned(&it->snapshot);
        keep |= it->keep;
    }
    for (size_t j = 0; j < u->n && u->complete; j++)
        list[u->m[j].at].item.keep = keep;
}

/* ---- plans ---- */

static void keyed_free(struct keyed *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        snapshot_fini(&list[i].item.snapshot);
        free(list[i].key);
    }
    free(list);
}

static struct err *load(struct repo_io *io, const struct forget_opts *opts,
                        struct keyed **out, size_t *n)
{
    struct snapshot *all = NULL;
    TRY(repo_snapshots(io, &all, n));
    struct keyed *list = mem_array(*n, sizeof *list);
    for (size_t i = 0; i < *n; i++) {
        list[i].item.snapshot = all[i];
        list[i].key = group_key(opts, &all[i], &list[i].key_n);
    }
    free(all);
    if (*n)
        qsort(list, *n, sizeof *list, by_group);
    *out = list;
    return NULL;
}

static void to_plan(struct keyed *list, size_t n, struct forget_plan *out)
{
    *out = (struct forget_plan){.items = mem_array(n, sizeof *out->items)};
    const struct keyed *before = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!list[i].matches)
            continue;
        bool same = before && before->key_n == list[i].key_n &&
                    memcmp(before->key, list[i].key, before->key_n) == 0;
        out->groups += !same;
        before = &list[i];
        list[i].item.group = out->groups - 1;
        out->items[out->n++] = list[i].item;
        list[i].item.snapshot = (struct snapshot){0};
    }
    keyed_free(list, n);
}

/* Applies the policy to each group. */
static void judge(const struct forget_opts *opts, struct keyed *list, size_t n)
{
    const struct snapshot **group = mem_array(n, sizeof *group);
    bool *keep = mem_array(n, sizeof *keep);
    size_t *at = mem_array(n, sizeof *at);
    for (size_t i = 0; i < n;) {
        size_t end = i, used = 0;
        for (; end < n && list[end].key_n == list[i].key_n &&
               memcmp(list[end].key, list[i].key, list[i].key_n) == 0;
             end++) {
            if (!list[end].matches || list[end].silent)
                continue;
            keep[used] = false;
            at[used] = end;
            group[used++] = &list[end].item.snapshot;
        }
        retain_apply(&opts->policy, group, used, opts->now, keep);
        for (size_t j = 0; j < used; j++)
            list[at[j]].item.keep = keep[j];
        i = end;
    }
    free(group);
    free(keep);
    free(at);
}

/* A group that vanishes whole is more likely a mistake than a wish. */
static struct err *refuse_empty(const struct forget_plan *p)
{
    for (size_t i = 0; i < p->n;) {
        const struct snapshot *s = &p->items[i].snapshot;
        size_t group = p->items[i].group;
        bool any = false;
        for (; i < p->n && p->items[i].group == group; i++)
            any |= p->items[i].keep;
        if (!any)
            return err_new(ERR_CONFLICT,
                           "no snapshot of '%s' on '%s', or of its group, would stay",
                           s->paths.n ? s->paths.items[0] : "", s->hostname);
    }
    return NULL;
}

struct err *forget_plan(struct repo_io *io, const struct forget_opts *opts,
                        struct forget_plan *out)
{
    struct keyed *list = NULL;
    size_t n = 0;
    if (retain_is_empty(&opts->policy))
        return err_new(ERR_INVALID, "the policy keeps nothing: name what to keep");
    TRY(load(io, opts, &list, &n));
    for (size_t i = 0; i < n; i++)
        list[i].matches = matches(opts, &list[i].item.snapshot);
    each_unit(list, n, spread_match, NULL);
    judge(opts, list, n);
    each_unit(list, n, spread_keep, (void *)opts);
    to_plan(list, n, out);
    struct err *e = opts->allow_empty ? NULL : refuse_empty(out);
    if (e)
        forget_plan_fini(out);
    return e;
}

static struct err *mark_named(struct repo_io *io, struct keyed *list, size_t n,
                              const char *name)
{
    AUTO_SNAPSHOT struct snapshot s = {0};
    TRY(repo_find_snapshot(io, name, &s));
    for (size_t i = 0; i < n; i++)
        list[i].matches |= digest_equal(&list[i].item.snapshot.id, &s.id);
    return NULL;
}

static struct err *refuse_pinned(const struct keyed *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char hex[65];
        digest_hex(&list[i].item.snapshot.id, hex);
        if (list[i].matches && retain_is_pinned(&list[i].item.snapshot))
            return err_new(ERR_CONFLICT, "snapshot %.8s is pinned", hex);
    }
    return NULL;
}

struct err *forget_plan_named(struct repo_io *io, const char *const *names,
                              size_t names_n, const struct forget_opts *opts,
                              struct forget_plan *out)
{
    struct keyed *list = NULL;
    size_t n = 0;
    struct err *e = NULL;
    TRY(load(io, opts, &list, &n));
    for (size_t i = 0; i < names_n && !e; i++)
        e = mark_named(io, list, n, names[i]);
    if (!e) {
        each_unit(list, n, spread_match, NULL);
        e = refuse_pinned(list, n);
    }
    if (e) {
        keyed_free(list, n);
        return e;
    }
    to_plan(list, n, out);
    return NULL;
}

/* ---- removal ---- */

static struct err *remove_one(struct repo_io *io, const struct forget_opts *opts,
                              struct forget_item *it)
{
    if (is_cancelled(opts))
        return err_new(ERR_CANCELLED, "cancelled");
    if (opts->lock)
        TRY(repo_lock_check(opts->lock));
    struct err *e = repo_remove_file(repo_io_repo(io), REPO_SNAPSHOT, &it->snapshot.id);
    if (e && e->kind == ERR_NOT_FOUND)
        err_free(STEAL(e));
    it->removed = !e;
    return e;
}

struct err *forget_run(struct repo_io *io, const struct forget_opts *opts,
                       struct forget_plan *plan)
{
    uint64_t done = 0, todo = 0;
    if (opts->dry_run)
        return NULL;
    for (size_t i = 0; i < plan->n; i++)
        todo += !plan->items[i].keep;
    for (int records = 1; records >= 0; records--)
        for (size_t i = 0; i < plan->n; i++) {
            struct forget_item *it = &plan->items[i];
            if (it->keep || is_record(&it->snapshot) != records)
                continue;
            if (opts->progress)
                opts->progress(opts->progress_ctx, done++, todo);
            TRY(remove_one(io, opts, it));
        }
    return NULL;
}
