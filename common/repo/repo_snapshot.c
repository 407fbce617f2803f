/* Finding and listing the snapshots of a repository. */
#include "common/repo/repo.h"

#include <string.h>

#include "common/base/mem.h"

struct err *repo_read_snapshot(struct repo_io *io, const struct digest *id,
                               struct snapshot *out)
{
    AUTO_BUF struct buf json = {0};
    TRY(repo_read_file(io, REPO_SNAPSHOT, id, &json));
    struct err *e = snapshot_read(json.data, json.len, out);
    if (e) {
        snapshot_fini(out);
        return e;
    }
    out->id = *id;
    return NULL;
}

static int by_time(const void *a, const void *b)
{
    const struct snapshot *x = a, *y = b;
    if (x->time.sec != y->time.sec)
        return x->time.sec < y->time.sec ? -1 : 1;
    if (x->time.nsec != y->time.nsec)
        return x->time.nsec < y->time.nsec ? -1 : 1;
    return memcmp(x->id.b, y->id.b, sizeof x->id.b);
}

struct err *repo_snapshots(struct repo_io *io, struct snapshot **out, size_t *n)
{
    struct repo_file *files = NULL;
    size_t count = 0, used = 0;
    TRY(repo_list(repo_io_repo(io), REPO_SNAPSHOT, &files, &count));
    struct snapshot *list = mem_array(count, sizeof *list);
    struct err *e = NULL;
    for (size_t i = 0; i < count && !e; i++) {
        e = repo_read_snapshot(io, &files[i].id, &list[used]);
        if (!e)
            used++;
        else if (e->kind == ERR_NOT_FOUND) /* forgotten since the listing */
            err_free(STEAL(e));
    }
    free(files);
    if (e) {
        repo_free_snapshots(list, used);
        return e;
    }
    qsort(list, used, sizeof *list, by_time);
    *out = list;
    *n = used;
    return NULL;
}

void repo_free_snapshots(struct snapshot *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snapshot_fini(&list[i]);
    free(list);
}

/* The records of sets are no data. */
static bool is_record(const struct snapshot *s)
{
    return strings_has(&s->tags, "stillpoint-set");
}

static bool same_instant(const struct snapshot *a, const struct snapshot *b)
{
    return a->time.sec == b->time.sec && a->time.nsec == b->time.nsec;
}

/* The newest but for records, if it is the only one of its instant; the parts of a set
 * are all of one. */
static struct err *choose_latest(const struct snapshot *list, size_t n, size_t *out)
{
    size_t many = 0;
    *out = n;
    for (size_t i = 0; i < n; i++) {
        if (is_record(&list[i]))
            continue;
        many = *out < n && same_instant(&list[*out], &list[i]) ? many + 1 : 1;
        *out = i;
    }
    if (!n)
        return err_new(ERR_NOT_FOUND, "the repository has no snapshots");
    if (many > 1)
        return err_new(ERR_INVALID,
                       "'latest' could mean any of %zu snapshots of one instant: name "
                       "one, `stillpoint repo snapshots` lists them",
                       many);
    if (!many)
        *out = n - 1;
    return NULL;
}

static struct err *find_latest(struct repo_io *io, struct snapshot *out)
{
    struct snapshot *list = NULL;
    size_t n = 0, at = 0;
    TRY(repo_snapshots(io, &list, &n));
    struct err *e = choose_latest(list, n, &at);
    if (!e) {
        *out = list[at];
        list[at] = (struct snapshot){0};
    }
    repo_free_snapshots(list, n);
    return e;
}

struct err *repo_find_snapshot(struct repo_io *io, const char *name, struct snapshot *out)
{
    struct repo_file *files = NULL;
    size_t n = 0, matches = 0, length = strlen(name);
    struct digest id = {0};
    if (strcmp(name, "latest") == 0)
        return find_latest(io, out);
    if (length < 4 || strspn(name, "0123456789abcdef") != length)
        return err_new(ERR_INVALID, "'%s' is not a snapshot id (or 'latest')", name);
    TRY(repo_list(repo_io_repo(io), REPO_SNAPSHOT, &files, &n));
    for (size_t i = 0; i < n; i++) {
        char hex[65];
        digest_hex(&files[i].id, hex);
        if (strncmp(hex, name, length) != 0)
            continue;
        id = files[i].id;
        matches++;
    }
    free(files);
    if (!matches)
        return err_new(ERR_NOT_FOUND, "there is no snapshot '%s'", name);
    if (matches > 1)
        return err_new(ERR_INVALID, "%zu snapshots begin with '%s'", matches, name);
    return repo_read_snapshot(io, &id, out);
}
