/* One directory of a backup: its entries in, what did not change taken from the parent
 * snapshot, the rest pushed as units of work. */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs_tree.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/backup_own.h"
#include "common/repo/reader.h"
#include "common/repo/tree_cursor.h"

enum {
    FRESH_NS = 50000000, /* several of the slowest kernel's ticks */
    UNIT_FILES_MAX = 64,
    UNIT_BYTES_MAX = 4 << 20,
    OLD_STEP = 64 << 10,
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

/* What the capture could not keep of its source. */
static void as_in_manifest(const struct backup *b, const struct backup_dir *d,
                           struct backup_entry *entry)
{
    struct manifest_entry told;
    if (!b->opts->manifest)
        return;
    AUTO(str) char *path = mem_printf("%s/%s", d->path, backup_name(d, entry));
    if (!manifest_find(b->opts->manifest, path + 1, &told))
        return;
    entry->inode = told.inode;
    entry->ctime = told.ctime_s;
    entry->ctime_nsec = told.ctime_ns;
}

/* A file that is written to again within the same tick of the clock keeps its time of
 * change. Writers go on some milliseconds after the capture, so a change just before it
 * may hide the next one: such a file is stored as changed in 1970, and read next time.
 * Whole seconds are the ticks of filesystems that count no smaller ones.
 *
 * What is no capture is looked at now, and there the kernel gives a time of its own to
 * the change after a look, if the filesystem has room for it. */
static void forget_fresh_change(const struct backup *b, struct backup_entry *entry)
{
    const int64_t second = 1000000000;
    struct timespec seen = b->made;
    if (!seen.tv_sec && entry->ctime_nsec)
        return;
    if (!seen.tv_sec)
        clock_gettime(CLOCK_REALTIME, &seen);
    int64_t fresh_ns = entry->ctime_nsec ? FRESH_NS : 2 * second;
    int64_t age_s = (int64_t)seen.tv_sec - entry->ctime;
    if (age_s > 2)
        return;
    if (age_s < 0 || age_s * second + seen.tv_nsec - entry->ctime_nsec < fresh_ns)
        entry->ctime = entry->ctime_nsec = 0;
}

static bool is_fresh(const struct backup_entry *entry)
{
    return entry->ctime == 0 && entry->ctime_nsec == 0;
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
    as_in_manifest(b, d, entry);
    forget_fresh_change(b, entry);
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

static void take_content(struct backup_entry *e, const struct digest *ids, size_t n)
{
    e->content_n = n;
    if (n == 1)
        e->one = ids[0];
    else if (n)
        e->list = mem_dup(ids, n * sizeof *ids);
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
    take_content(e, old->content, old->content_n);
    for (size_t i = 0; i < old->xattrs_n; i++) {
        if (!e->extra)
            e->extra = mem_zalloc(sizeof *e->extra);
        node_add_xattr(e->extra, old->xattrs[i].name, old->xattrs[i].value,
                       old->xattrs[i].n);
    }
    return true;
}

/* The same for a node that would read the same but for its content. */
static bool reuse_rest(struct backup *b, struct backup_entry *e,
                       const struct tree_rest *rest)
{
    if (rest->ids_n == 1) {
        tree_rest_id(rest, 0, &e->one);
        e->content_n = repo_has_blob(b->repo, BLOB_DATA, &e->one, NULL);
        return e->content_n == 1;
    }
    struct digest *ids = mem_array(rest->ids_n, sizeof *ids);
    bool known = true;
    for (size_t i = 0; i < rest->ids_n && known; i++) {
        tree_rest_id(rest, i, &ids[i]);
        known = repo_has_blob(b->repo, BLOB_DATA, &ids[i], NULL);
    }
    if (known)
        take_content(e, ids, rest->ids_n);
    free(ids);
    return known;
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

static void set_extra(struct backup_entry *entry, const struct node *extra)
{
    if (extra->target || extra->xattrs_n)
        entry->extra = mem_dup(extra, sizeof *extra);
}

/* In place of a subvolume a snapshot shows an empty directory, with a number that no
 * other directory of a btrfs has. (It has a device number of its own, too; but so has
 * what is mounted there.) */
static bool is_lost_subvolume(const struct backup *b, const struct backup_dir *d,
                              const char *name, const struct stat *st)
{
    if (b->look.seal != BASE_SNAPSHOT || !S_ISDIR(st->st_mode) ||
        st->st_ino != BTRFS_EMPTY_SUBVOL_DIR_OBJECTID)
        return false;
    AUTO(fd) int fd = openat(d->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && extents_kind_of(fd) == EXTENTS_BTRFS;
}

static struct err *look_at(struct backup *b, struct backup_dir *d,
                           struct backup_entry *entry)
{
    struct stat st;
    struct node extra = {0};
    const char *name = backup_name(d, entry);
    if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_os(errno, "look at");
    if (S_ISSOCK(st.st_mode))
        return NULL;
    backup_fill_entry(b, d, &st, entry);
    if (is_lost_subvolume(b, d, name, &st))
        return err_new(ERR_CONFLICT,
                       "a subvolume lies here in the source, and the snapshot does not "
                       "hold it: exclude it, or back it up by itself");
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        return NULL;
    struct err *e = scan_extras(d->fd, name, -1, st.st_mode, &extra);
    set_extra(entry, &extra);
    return e;
}

/* The entry in the parent snapshot. */
struct old_entry {
    bool matched; /* it reads the same up to `rest`, … */
    struct tree_rest rest;
    struct tree one; /* … or it is the only node here, if there is one */
};

/* Goes on in the parent's list, which is sorted as ours, up to the entry. */
static void find_old(struct backup_worker *w, struct backup_dir *d,
                     struct backup_entry *entry, struct tree_cursor *c,
                     struct old_entry *out)
{
    struct node nd = {0};
    const char *name = backup_name(d, entry), *there;
    int order = 1;
    backup_view(w, d, entry, &nd);
    buf_clear(&w->head);
    tree_write_head(&w->head, &nd);
    out->matched = tree_cursor_match(c, &w->head, &out->rest);
    if (out->matched)
        return;
    while ((there = tree_cursor_name(c)) && (order = strcmp(there, name)) < 0) {
        tree_cursor_skip(c);
        d->same = false;
    }
    if (!there || order)
        return;
    out->matched = tree_cursor_match(c, &w->head, &out->rest);
    if (out->matched)
        return;
    err_free(tree_cursor_read(c, &out->one));
    tree_cursor_skip(c);
}

/* What becomes of an entry: done, or work for later. */
static void sort_in(struct backup *b, struct backup_dir *d, size_t at,
                    const struct old_entry *old, struct scan_state *s)
{
    struct backup_entry *entry = &d->entries[at];
    const struct node *nd = old->one.n ? &old->one.nodes[0] : NULL;
    entry->had_old = old->matched || (nd && nd->type == node_type_of(entry->mode));
    d->same = d->same && old->matched;
    if (S_ISDIR(entry->mode)) {
        if (entry->had_old)
            entry->one = old->matched ? old->rest.subtree : nd->subtree;
        add_unit(s, UNIT_DIR, d, at, at + 1);
    } else if (!S_ISREG(entry->mode)) {
        s->others++;
    } else if (!is_fresh(entry) && (old->matched ? reuse_rest(b, entry, &old->rest)
                                                 : nd && reuse(b, entry, nd))) {
        s->unmodified++;
        s->unmodified_bytes += entry->size;
    } else {
        d->same = false;
        if (backup_may_know(b, entry, nd))
            take_content(entry, nd->content, nd->content_n);
        add_file(s, d, at);
    }
}

static void look_at_all(struct backup_worker *w, struct backup_dir *d,
                        struct tree_cursor *c, struct scan_state *s)
{
    struct backup *b = w->b;
    for (size_t i = 0; i < d->entries_n && !backup_is_over(b); i++) {
        struct backup_entry *entry = &d->entries[i];
        const char *name = backup_name(d, entry);
        struct old_entry old = {0};
        if (is_excluded(b, d, name))
            continue;
        struct err *e = look_at(b, d, entry);
        if (!e && entry->mode) {
            find_old(w, d, entry, c, &old);
            sort_in(b, d, i, &old, s);
            tree_fini(&old.one);
        }
        if (e)
            entry->mode = 0;
        backup_problem(b, d, name, e);
    }
    d->same = d->same && !tree_cursor_name(c);
}

static size_t chunk_bytes(const struct backup *b, const struct backup_dir *d)
{
    struct chunks_sum sum = {0};
    for (size_t i = 0; i < d->entries_n && b->opts->chunks.database; i++)
        if (S_ISREG(d->entries[i].mode))
            chunks_count(&sum, d->entries[i].size);
    return chunks_bytes(&b->opts->chunks, &sum);
}

/* A directory's list in the parent snapshot, long ones part by part. */
struct old_list {
    struct repo_reader *reader;
    struct err *e; /* of reading it a second time */
};

static void more_of_list(void *ctx, size_t n, struct buf *text)
{
    struct old_list *old = ctx;
    size_t got = 0;
    char *room = buf_room(text, n);
    if (!old->e)
        old->e = repo_reader_read(old->reader, room, n, &got);
    text->len += got;
}

/* A damaged parent only costs its reuse. */
static void open_old(struct backup_worker *w, struct backup_dir *d, struct old_list *old,
                     struct tree_cursor *c)
{
    uint64_t bytes = 0;
    buf_clear(&w->old);
    if (d->had_old && repo_has_blob(w->b->repo, BLOB_TREE, &d->old, &bytes)) {
        if (bytes > REPO_HELD_MAX)
            err_free(repo_reader_open(w->io, BLOB_TREE, &d->old, &old->reader));
        else
            err_free(repo_load_blob(w->io, BLOB_TREE, &d->old, &w->old));
    }
    if (old->reader)
        tree_cursor_init_on(c, more_of_list, old);
    else
        tree_cursor_init(c, buf_text(&w->old), w->old.len);
    d->same = old->reader || w->old.len > 0;
}

/* Only at its end a list in parts is known to be what it was when it was opened; what was
 * taken from it is in our entries already. */
static struct err *close_old(struct backup_worker *w, struct old_list *old)
{
    size_t got = 1;
    while (old->reader && got && !old->e) {
        buf_clear(&w->old);
        old->e =
            repo_reader_read(old->reader, buf_room(&w->old, OLD_STEP), OLD_STEP, &got);
    }
    repo_reader_free(old->reader);
    return old->e ? err_wrap(old->e, "the parent snapshot") : NULL;
}

void backup_scan(struct backup_worker *w, struct backup_dir *d)
{
    struct backup *b = w->b;
    struct tree_cursor c;
    struct old_list old = {0};
    struct scan_state s = {0};
    struct err *e = list_entries(d);
    if (e) {
        backup_problem(b, d, "", e);
        return;
    }
    open_old(w, d, &old, &c);
    d->todo = mem_array(d->entries_n, sizeof *d->todo);
    look_at_all(w, d, &c, &s);
    tree_cursor_fini(&c);
    e = close_old(w, &old);
    if (e)
        backup_fail(b, e);
    d->chunk_bytes = chunk_bytes(b, d);
    pthread_mutex_lock(&b->mu);
    b->summary.files_unmodified += s.unmodified;
    b->summary.total_files_processed += s.unmodified;
    b->summary.total_bytes_processed += s.unmodified_bytes;
    b->others += s.others;
    pthread_mutex_unlock(&b->mu);
    backup_push(b, s.units, s.units_n);
    free(s.units);
}
