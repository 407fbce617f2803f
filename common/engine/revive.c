#include "common/engine/revive.h"

#include <stdlib.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/repo/indexfile.h"
#include "common/repo/tree_stream.h"

/* How often index files are listed anew when some vanish meanwhile. */
enum { DEPTH_MAX = 10000, LIST_TRIES = 10 };

/* What new index files say of a pack that the loaded index has. */
enum { DYING = 1, LIVING = 2, USED = 4 };

struct revival {
    struct repo_io *io;
    const struct index *index;
    unsigned char *state; /* by number of pack */
    bool dying;           /* some pack is, and nothing says it lives */
    bool used;            /* and the snapshot needs one */
    struct idset trees;   /* that were looked at */
};

/* ---- what others say ---- */

static struct err *note_pack(void *ctx, const struct indexfile_pack *p)
{
    struct revival *v = ctx;
    size_t at;
    if (index_find_pack(v->index, &p->id, &at))
        v->state[at] |= p->dying ? DYING : LIVING;
    return NULL;
}

static struct err *read_file(struct revival *v, const struct digest *id)
{
    AUTO_BUF struct buf json = {0};
    char hex[65];
    digest_hex(id, hex);
    TRY_CTX(repo_read_file(v->io, REPO_INDEX, id, &json), "index file %s", hex);
    return indexfile_read(json.data, json.len, note_pack, v);
}

static struct err *read_new(struct revival *v, struct idset *seen)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    struct err *e = NULL;
    TRY(repo_list_new_index(repo_io_repo(v->io), &files, &n));
    for (size_t i = 0; i < n && !e; i++) {
        if (idset_has(seen, &files[i].id))
            continue;
        e = read_file(v, &files[i].id);
        if (!e)
            idset_add(seen, &files[i].id);
    }
    free(files);
    return e;
}

/* A file that vanishes was replaced by another. */
static struct err *read_all_new(struct revival *v, struct idset *seen)
{
    struct err *e = read_new(v, seen);
    for (int i = 1; i < LIST_TRIES && e && e->kind == ERR_NOT_FOUND; i++) {
        err_free(e);
        e = read_new(v, seen);
    }
    TRY(e);
    for (size_t i = 0; i < index_packs(v->index); i++)
        v->dying |= v->state[i] == DYING;
    return NULL;
}

/* ---- what is used ---- */

/* One living copy is enough; of several dying ones, so is one. */
static void use_blob(struct revival *v, enum blob_type type, const struct digest *id)
{
    struct blob_entry e;
    size_t first = SIZE_MAX;
    for (size_t i = 0; index_find(v->index, type, id, i, &e); i++) {
        if (v->state[e.pack] != DYING)
            return;
        first = first == SIZE_MAX ? e.pack : first;
    }
    if (first == SIZE_MAX)
        return;
    v->state[first] = DYING | USED;
    v->used = true;
}

static struct err *use_tree(struct revival *v, const struct digest *id, unsigned depth)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", DEPTH_MAX);
    if (!idset_add(&v->trees, id))
        return NULL;
    use_blob(v, BLOB_TREE, id);
    TRY(tree_stream_open(v->io, id, &s));
    for (;;) {
        TRY(tree_stream_next(s, &nd));
        if (!nd)
            return NULL;
        for (size_t i = 0; i < nd->content_n; i++)
            use_blob(v, BLOB_DATA, &nd->content[i]);
        if (nd->type == NODE_DIR)
            TRY(use_tree(v, &nd->subtree, depth + 1));
    }
}

/* ---- listing it ---- */

static void add_pack(struct revival *v, struct indexfile *f, size_t pack,
                     struct go_time now)
{
    struct blob_entry *list = NULL;
    size_t n = 0, cap = 0;
    struct index_cursor c = index_blobs_of(v->index, pack);
    while (index_next(&c)) {
        mem_reserve((void **)&list, &cap, n, sizeof *list);
        list[n++] = c.blob;
    }
    const struct indexfile_pack p = {index_pack(v->index, pack)->id, false, list, n};
    indexfile_add(f, &p, now);
    free(list);
}

/* Signed as ours, so that another reclaim leaves it alone until the snapshot is there. */
static struct err *store_file(struct revival *v, struct indexfile *f,
                              struct repo_lock *lock)
{
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    indexfile_end(f, &json);
    if (lock) {
        indexfile_sign(&json, repo_lock_claim(lock)->session);
        TRY(repo_lock_check(lock));
    }
    repo_seal_file(v->io, json.data, json.len, &sealed, &id);
    return repo_put_file(repo_io_repo(v->io), REPO_INDEX, &id, sealed.data, sealed.len);
}

static struct err *list_used(struct revival *v, struct repo_lock *lock)
{
    struct indexfile f = {0};
    struct timespec now;
    struct err *e = NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < index_packs(v->index) && !e; i++) {
        if (!(v->state[i] & USED))
            continue;
        add_pack(v, &f, i, (struct go_time){now.tv_sec, (uint32_t)now.tv_nsec});
        if (indexfile_is_full(&f))
            e = store_file(v, &f, lock);
    }
    if (!e && f.packs)
        e = store_file(v, &f, lock);
    indexfile_fini(&f);
    return e;
}

struct err *revive_used(struct repo_io *io, const struct digest *tree,
                        struct repo_lock *lock, struct idset *seen)
{
    struct revival v = {.io = io, .index = repo_index(repo_io_repo(io))};
    v.state = mem_array(index_packs(v.index), sizeof *v.state);
    struct err *e = read_all_new(&v, seen);
    if (!e && v.dying)
        e = use_tree(&v, tree, 0);
    if (!e && v.used)
        e = list_used(&v, lock);
    idset_fini(&v.trees);
    free(v.state);
    return e ? err_wrap(e, "look at the index again") : NULL;
}
