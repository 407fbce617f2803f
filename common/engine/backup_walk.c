/* One directory of a backup: its entries in, what did not change taken from the parent
 * snapshot, the rest pushed as units of work. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/engine/backup_own.h"

enum {
    UNIT_FILES_MAX = 64,
    UNIT_BYTES_MAX = 4 << 20,
};

const char *backup_name(const struct backup_dir *d, const struct backup_entry *entry)
{
    return d->names.data + entry->name;
}

uint32_t backup_device(const struct backup *b, const char *path)
{
    struct digest d;
    AUTO_BUF struct buf text = {0};
    buf_printf(&text, "%u%s", b->device_base, path);
    hash_bytes(text.data, text.len, &d);
    return (uint32_t)d.b[0] << 24 | (uint32_t)d.b[1] << 16 | (uint32_t)d.b[2] << 8 |
           d.b[3] | 1;
}

void backup_fill_entry(struct backup *b, struct backup_dir *d, const struct stat *st,
                       struct backup_entry *entry)
{
    entry->mode = st->st_mode;
    entry->uid = st->st_uid;
    entry->gid = st->st_gid;
    entry->links = (uint32_t)st->st_nlink;
    entry->mtime = st->st_mtim.tv_sec;
    entry->mtime_nsec = (uint32_t)st->st_mtim.tv_nsec;
    entry->ctime = st->st_ctim.tv_sec;
    entry->ctime_nsec = (uint32_t)st->st_ctim.tv_nsec;
    entry->inode = st->st_ino;
    entry->size = (uint64_t)st->st_size;
    entry->device = st->st_rdev;
    entry->device_id = d->device_id;
    /* Links connect names by (inode, device_id): another filesystem needs another id. */
    if (st->st_dev != d->dev) {
        AUTO(str) char *path = mem_printf("%s/%s", d->path, backup_name(d, entry));
        entry->device_id = backup_device(b, path);
    }
}

static int by_name(const void *a, const void *b, void *names)
{
    const struct backup_entry *x = a, *y = b;
    return strcmp((char *)names + x->name, (char *)names + y->name);
}

static struct err *list_entries(struct backup_dir *d)
{
    TRY(scan_list(d->fd, &d->names, &d->entries_n));
    if (d->names.len > UINT32_MAX)
        return err_new(ERR_LIMIT, "the names take more than 4 GiB");
    d->entries = mem_array(d->entries_n, sizeof *d->entries);
    size_t at = 0;
    for (size_t i = 0; i < d->entries_n; i++) {
        d->entries[i].name = (uint32_t)at;
        at += strlen(d->names.data + at) + 1;
    }
    if (d->entries_n)
        qsort_r(d->entries, d->entries_n, sizeof *d->entries, by_name, d->names.data);
    return NULL;
}

static bool is_excluded(const struct backup *b, const struct backup_dir *d,
                        const char *name)
{
    const struct backup_opts *o = b->opts;
    if (!o->excludes_n)
        return false;
    AUTO(str) char *path = mem_printf("%s/%s", d->path, name);
    return scan_is_excluded(o->excludes, o->excludes_n, o->path, path, name);
}

/* Nothing about the file changed since the parent snapshot; then its content and (since
 * they have the same ctime) its attributes did not either. */
static bool is_same(const struct backup_entry *e, const struct node *old)
{
    return old->type == NODE_FILE && old->size == e->size && old->inode == e->inode &&
           old->mtime.sec == e->mtime && old->mtime.nsec == e->mtime_nsec &&
           old->ctime.sec == e->ctime && old->ctime.nsec == e->ctime_nsec;
}

/* Takes the content list of the parent snapshot's file if every blob still is in the
 * index. */
static bool reuse(struct backup *b, struct backup_entry *e, const struct node *old)
{
    if (!is_same(e, old))
        return false;
    for (size_t i = 0; i < old->content_n; i++)
        if (!repo_has_blob(b->repo, BLOB_DATA, &old->content[i], NULL))
            return false;
    e->content_n = old->content_n;
    if (old->content_n == 1)
        e->one = old->content[0];
    else if (old->content_n)
        e->list = mem_dup(old->content, old->content_n * sizeof *old->content);
    for (size_t i = 0; i < old->xattrs_n; i++) {
        if (!e->extra)
            e->extra = mem_zalloc(sizeof *e->extra);
        node_add_xattr(e->extra, old->xattrs[i].name, old->xattrs[i].value,
                       old->xattrs[i].n);
    }
    return true;
}

/* What a directory's scan gathers. */
struct scan_state {
    struct backup_unit *units;
    size_t units_n;
    size_t units_cap;
    size_t todo_n;
    uint64_t unit_bytes; /* in the small files of the last unit */
    uint64_t unmodified;
    uint64_t unmodified_bytes;
    uint64_t others;
};

static void add_unit(struct scan_state *s, enum backup_unit_kind kind,
                     struct backup_dir *d, size_t from, size_t to)
{
    mem_reserve((void **)&s->units, &s->units_cap, s->units_n, sizeof *s->units);
    s->units[s->units_n++] = (struct backup_unit){kind, d, (uint32_t)from, (uint32_t)to};
}

static void add_file(struct scan_state *s, struct backup_dir *d, size_t at)
{
    uint64_t bytes = d->entries[at].size;
    size_t i = s->todo_n++;
    d->todo[i] = (uint32_t)at;
    if (bytes >= BACKUP_SHARED_MIN) {
        add_unit(s, UNIT_LARGE, d, i, i + 1);
        return;
    }
    struct backup_unit *last = s->units_n ? &s->units[s->units_n - 1] : NULL;
    if (last && last->kind == UNIT_FILES && last->to == i &&
        i - last->from < UNIT_FILES_MAX && s->unit_bytes + bytes <= UNIT_BYTES_MAX) {
        last->to++;
        s->unit_bytes += bytes;
    } else {
        add_unit(s, UNIT_FILES, d, i, i + 1);
        s->unit_bytes = bytes;
    }
}

static struct err *look_at(struct backup *b, struct backup_dir *d, size_t at,
                           const struct node *old, struct scan_state *s)
{
    struct stat st;
    struct node extra = {0};
    struct backup_entry *entry = &d->entries[at];
    const char *name = backup_name(d, entry);
    if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_os(errno, "look at");
    if (S_ISSOCK(st.st_mode))
        return NULL;
    backup_fill_entry(b, d, &st, entry);
    entry->had_old = old && old->type == node_type_of(st.st_mode);
    if (S_ISREG(st.st_mode)) {
        if (old && reuse(b, entry, old)) {
            s->unmodified++;
            s->unmodified_bytes += entry->size;
        } else {
            add_file(s, d, at);
        }
        return NULL;
    }
    if (S_ISDIR(st.st_mode)) {
        if (entry->had_old)
            entry->one = old->subtree;
        add_unit(s, UNIT_DIR, d, at, at + 1);
        return NULL;
    }
    s->others++;
    struct err *e = scan_extras(d->fd, name, -1, st.st_mode, &extra);
    if (extra.target || extra.xattrs_n)
        entry->extra = mem_dup(&extra, sizeof extra);
    return e;
}

static void look_at_all(struct backup *b, struct backup_dir *d, const struct tree *old,
                        struct scan_state *s)
{
    size_t next_old = 0;
    for (size_t i = 0; i < d->entries_n && !backup_is_over(b); i++) {
        struct backup_entry *entry = &d->entries[i];
        const char *name = backup_name(d, entry);
        const struct node *found = NULL;
        if (is_excluded(b, d, name))
            continue;
        /* Both lists are sorted. */
        while (next_old < old->n && strcmp(old->nodes[next_old].name, name) < 0)
            next_old++;
        if (next_old < old->n && strcmp(old->nodes[next_old].name, name) == 0)
            found = &old->nodes[next_old];
        struct err *e = look_at(b, d, i, found, s);
        if (e)
            entry->mode = 0;
        backup_problem(b, d, name, e);
    }
}

void backup_scan(struct backup_worker *w, struct backup_dir *d)
{
    struct backup *b = w->b;
    AUTO_TREE struct tree old = {0};
    struct scan_state s = {0};
    struct err *e = list_entries(d);
    if (e) {
        backup_problem(b, d, "", e);
        return;
    }
    /* A damaged parent only costs its reuse. */
    if (d->had_old)
        err_free(repo_load_tree(w->io, &d->old, &old));
    d->todo = mem_array(d->entries_n, sizeof *d->todo);
    look_at_all(b, d, &old, &s);
    pthread_mutex_lock(&b->mu);
    b->summary.files_unmodified += s.unmodified;
    b->summary.total_files_processed += s.unmodified;
    b->summary.total_bytes_processed += s.unmodified_bytes;
    b->others += s.others;
    pthread_mutex_unlock(&b->mu);
    backup_push(b, s.units, s.units_n);
    free(s.units);
}
