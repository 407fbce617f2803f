#include "common/engine/pin.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/retain.h"

enum { LABEL_MAX = 200 };
static const char set_prefix[] = "set=", record_tag[] = "stillpoint-set";

static bool is_pin(const char *tag)
{
    size_t n = strlen(RETAIN_PIN);
    return strncmp(tag, RETAIN_PIN, n) == 0 && (!tag[n] || tag[n] == '=');
}

static const char *set_tag(const struct snapshot *s)
{
    for (size_t i = 0; i < s->tags.n; i++)
        if (strncmp(s->tags.items[i], set_prefix, strlen(set_prefix)) == 0)
            return s->tags.items[i];
    return NULL;
}

/* restic separates tags by commas on its command line. */
static struct err *make_tag(const struct pin_opts *opts, char **out)
{
    const char *label = opts->label;
    if (!label) {
        *out = mem_strdup(RETAIN_PIN);
        return NULL;
    }
    bool ok = *label && strlen(label) <= LABEL_MAX;
    for (const char *p = label; *p; p++)
        ok = ok && *p != ',' && (unsigned char)*p >= ' ';
    if (!ok)
        return err_new(ERR_INVALID,
                       "'%s' cannot label a pin: it is empty, longer than %d bytes, or "
                       "holds a comma or control characters",
                       label, LABEL_MAX);
    *out = mem_printf(RETAIN_PIN "=%s", label);
    return NULL;
}

/* The snapshot that carries the pin for s: s itself, or its set's record. */
static struct err *find_carrier(const struct snapshot *all, size_t n,
                                const struct snapshot *s, const struct snapshot **out)
{
    const char *set = set_tag(s);
    *out = s;
    if (!set)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (strings_has(&all[i].tags, record_tag) && strings_has(&all[i].tags, set)) {
            *out = &all[i];
            return NULL;
        }
    return err_new(ERR_INVALID, "set '%s' has no record yet, which would be pinned",
                   set + strlen(set_prefix));
}

/* True if the tags change. */
static bool new_tags(const struct pin_opts *opts, const struct snapshot *s,
                     const char *tag, struct strings *out)
{
    bool had = false;
    for (size_t i = 0; i < s->tags.n; i++) {
        const char *t = s->tags.items[i];
        bool goes = opts->unpin && (opts->label ? strcmp(t, tag) == 0 : is_pin(t));
        had |= goes || strcmp(t, tag) == 0;
        if (!goes)
            strings_add(out, t);
    }
    if (!opts->unpin && !had)
        strings_add(out, tag);
    return opts->unpin ? had : !had;
}

static bool same_strings(const struct strings *a, const struct strings *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = strcmp(a->items[i], b->items[i]) == 0;
    return same;
}

/* What a run that was killed has stored already. */
static const struct snapshot *find_successor(const struct snapshot *all, size_t n,
                                             const struct snapshot *s,
                                             const struct strings *tags)
{
    const struct digest *first = s->has_original ? &s->original : &s->id;
    for (size_t i = 0; i < n; i++)
        if (all[i].has_original && digest_equal(&all[i].original, first) &&
            digest_equal(&all[i].tree, &s->tree) && same_strings(&all[i].tags, tags))
            return &all[i];
    return NULL;
}

static struct err *store_successor(struct repo_io *io, const struct pin_opts *opts,
                                   const struct snapshot *s, const struct strings *tags,
                                   struct digest *id)
{
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf fresh = {0};
    AUTO_BUF struct buf sealed = {0};
    TRY(repo_read_file(io, REPO_SNAPSHOT, &s->id, &json));
    TRY(snapshot_retag(json.data, json.len, &s->id, tags, &fresh));
    repo_seal_file(io, fresh.data, fresh.len, &sealed, id);
    TRY(repo_lock_check(opts->lock));
    return repo_put_file(repo_io_repo(io), REPO_SNAPSHOT, id, sealed.data, sealed.len);
}

static struct err *pin_one(struct repo_io *io, const struct pin_opts *opts,
                           const struct snapshot *all, size_t n, const struct snapshot *s,
                           const char *tag)
{
    struct strings tags = {0};
    struct digest after = s->id;
    struct err *e = NULL;
    if (new_tags(opts, s, tag, &tags)) {
        const struct snapshot *there = find_successor(all, n, s, &tags);
        if (there)
            after = there->id;
        else
            e = store_successor(io, opts, s, &tags, &after);
        if (!e)
            e = repo_lock_check(opts->lock);
        if (!e)
            e = repo_remove_file(repo_io_repo(io), REPO_SNAPSHOT, &s->id);
    }
    strings_fini(&tags);
    if (!e && opts->done)
        opts->done(opts->done_ctx, s, &after);
    return e;
}

static struct err *pin_all(struct repo_io *io, const char *const *names, size_t names_n,
                           const struct pin_opts *opts, const struct snapshot *all,
                           size_t n, const char *tag)
{
    const struct snapshot **list = mem_array(names_n, sizeof *list);
    struct err *e = NULL;
    size_t found = 0;
    /* All names first: what is wrong with one changes nothing. */
    for (size_t i = 0; i < names_n && !e; i++) {
        AUTO_SNAPSHOT struct snapshot s = {0};
        const struct snapshot *known = NULL, *carrier = NULL;
        e = repo_find_snapshot(io, names[i], &s);
        for (size_t k = 0; k < n && !e; k++)
            if (digest_equal(&all[k].id, &s.id))
                known = &all[k];
        if (!e && !known)
            e = err_new(ERR_NOT_FOUND, "snapshot '%s' has just gone", names[i]);
        if (!e)
            e = find_carrier(all, n, known, &carrier);
        bool again = false;
        for (size_t k = 0; k < found; k++)
            again |= list[k] == carrier;
        if (!e && !again)
            list[found++] = carrier;
    }
    for (size_t i = 0; i < found && !e; i++)
        e = pin_one(io, opts, all, n, list[i], tag);
    free(list);
    return e;
}

struct err *pin_run(struct repo_io *io, const char *const *names, size_t n,
                    const struct pin_opts *opts)
{
    struct snapshot *all = NULL;
    size_t all_n = 0;
    AUTO(str) char *tag = NULL;
    TRY(make_tag(opts, &tag));
    TRY(repo_snapshots(io, &all, &all_n));
    struct err *e = pin_all(io, names, n, opts, all, all_n, tag);
    repo_free_snapshots(all, all_n);
    return e;
}
