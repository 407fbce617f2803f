#include "common/engine/packs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/repo/pack.h"

/* How often the index is loaded anew when files of it vanish meanwhile. */
enum { LOAD_TRIES = 10 };

void packs_fini(struct packs *p)
{
    free(p->items);
    free(p->blobs);
    free(p->order);
    free(p->by_id);
    free(p->files);
    free(p->lists);
    *p = (struct packs){0};
}

/* ---- reading ---- */

static int by_offset(const void *a, const void *b)
{
    const struct packs_blob *x = a, *y = b;
    return x->at.offset < y->at.offset ? -1 : x->at.offset > y->at.offset;
}

static uint64_t blob_bytes(const struct blob_entry *e)
{
    return (uint64_t)e->length + (e->plain ? PACK_ENTRY_PACKED : PACK_ENTRY_PLAIN);
}

static struct err *take_pack(void *ctx, const struct indexfile_pack *f)
{
    struct packs *p = ctx;
    if (p->blobs_n + f->n >= UINT32_MAX)
        return err_new(ERR_LIMIT, "the repository has too many blobs");
    mem_reserve((void **)&p->items, &p->cap, p->n, sizeof *p->items);
    mem_reserve((void **)&p->blobs, &p->blobs_cap, p->blobs_n + f->n, sizeof *p->blobs);
    mem_reserve((void **)&p->lists, &p->lists_cap, p->lists_n, sizeof *p->lists);
    struct packs_pack *pack = &p->items[p->n];
    *pack = (struct packs_pack){.id = f->id,
                                .living = !f->dying,
                                .dying = f->dying,
                                .first = p->blobs_n,
                                .count = f->n,
                                .bytes = CRYPT_OVERHEAD + PACK_TRAILER};
    for (size_t i = 0; i < f->n; i++) {
        p->blobs[p->blobs_n + i] = (struct packs_blob){.at = f->blobs[i]};
        p->blobs[p->blobs_n + i].at.pack = (uint32_t)p->n;
        pack->bytes += blob_bytes(&f->blobs[i]);
    }
    if (f->n)
        qsort(p->blobs + p->blobs_n, f->n, sizeof *p->blobs, by_offset);
    p->lists[p->lists_n++] = (struct packs_list){p->n, f->dying};
    p->blobs_n += f->n;
    p->n++;
    return NULL;
}

static struct err *load_file(struct repo_io *io, struct packs *p, const struct digest *id)
{
    AUTO_BUF struct buf json = {0};
    char hex[65];
    digest_hex(id, hex);
    TRY(repo_read_file(io, REPO_INDEX, id, &json));
    mem_reserve((void **)&p->files, &p->files_cap, p->files_n, sizeof *p->files);
    size_t first = p->lists_n;
    TRY_CTX(indexfile_read(json.data, json.len, take_pack, p), "index file %s", hex);
    struct packs_file *f = &p->files[p->files_n++];
    *f = (struct packs_file){.id = *id, .first = first, .count = p->lists_n - first};
    indexfile_signer(json.data, json.len, f->session);
    return NULL;
}

/* qsort_r(3) orders of positions. */
static int by_blob(const void *a, const void *b, void *ctx)
{
    const struct packs *p = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const struct blob_entry *x = &p->blobs[i].at, *y = &p->blobs[j].at;
    if (x->type != y->type)
        return x->type < y->type ? -1 : 1;
    int d = memcmp(x->id.b, y->id.b, sizeof x->id.b);
    return d ? d : i < j ? -1 : i > j;
}

static int by_pack(const void *a, const void *b, void *ctx)
{
    const struct packs *p = ctx;
    size_t i = *(const size_t *)a, j = *(const size_t *)b;
    int d = memcmp(p->items[i].id.b, p->items[j].id.b, sizeof p->items[i].id.b);
    return d ? d : i < j ? -1 : i > j;
}

static bool same_blobs(const struct packs *p, const struct packs_pack *x,
                       const struct packs_pack *y)
{
    bool same = x->count == y->count;
    for (size_t i = 0; same && i < x->count; i++) {
        const struct blob_entry *a = &p->blobs[x->first + i].at;
        const struct blob_entry *b = &p->blobs[y->first + i].at;
        same = digest_equal(&a->id, &b->id) && a->type == b->type &&
               a->offset == b->offset && a->length == b->length && a->plain == b->plain;
    }
    return same;
}

/* A pack that several files list is one: the first stands for all. Who is in any list of
 * living packs lives, because writers may count on it. */
static struct err *merge(struct packs *p, size_t keep, size_t other, size_t *stand_in)
{
    struct packs_pack *x = &p->items[keep], *y = &p->items[other];
    if (!same_blobs(p, x, y)) {
        char hex[65];
        digest_hex(&x->id, hex);
        return err_new(ERR_CORRUPT, "pack %s is listed twice with different blobs", hex);
    }
    x->living |= y->living;
    x->dying = !x->living;
    stand_in[other] = keep;
    return NULL;
}

/* Moves packs and blobs together after merging, and sets the orders. */
static void compact(struct packs *p, size_t *stand_in)
{
    size_t packs_n = 0, blobs_n = 0;
    size_t *now = mem_array(p->n, sizeof *now);
    for (size_t i = 0; i < p->n; i++) {
        if (stand_in[i] != i)
            continue;
        struct packs_pack pack = p->items[i];
        memmove(p->blobs + blobs_n, p->blobs + pack.first, pack.count * sizeof *p->blobs);
        for (size_t j = 0; j < pack.count; j++)
            p->blobs[blobs_n + j].at.pack = (uint32_t)packs_n;
        pack.first = blobs_n;
        blobs_n += pack.count;
        now[i] = packs_n;
        p->items[packs_n++] = pack;
    }
    for (size_t i = 0; i < p->lists_n; i++)
        p->lists[i].pack = now[stand_in[p->lists[i].pack]];
    free(now);
    p->n = packs_n;
    p->blobs_n = blobs_n;
}

static void sort_packs(struct packs *p)
{
    free(p->by_id);
    p->by_id = mem_array(p->n, sizeof *p->by_id);
    for (size_t i = 0; i < p->n; i++)
        p->by_id[i] = i;
    if (p->n)
        qsort_r(p->by_id, p->n, sizeof *p->by_id, by_pack, p);
}

static struct err *settle(struct packs *p, void (*bad)(void *ctx, struct err *e),
                          void *ctx)
{
    struct err *e = NULL;
    size_t *stand_in = mem_array(p->n, sizeof *stand_in);
    sort_packs(p);
    for (size_t i = 0; i < p->n; i++)
        stand_in[i] = i;
    for (size_t i = 1; i < p->n && !e; i++) {
        size_t before = stand_in[p->by_id[i - 1]], here = p->by_id[i];
        if (!digest_equal(&p->items[before].id, &p->items[here].id))
            continue;
        e = merge(p, before, here, stand_in);
        if (!e || !bad)
            continue;
        bad(ctx, STEAL(e));
        stand_in[here] = before;
        p->items[before].suspect = true;
    }
    if (!e)
        compact(p, stand_in);
    free(stand_in);
    TRY(e);
    sort_packs(p);
    p->order = mem_array(p->blobs_n, sizeof *p->order);
    for (size_t i = 0; i < p->blobs_n; i++)
        p->order[i] = (uint32_t)i;
    if (p->blobs_n)
        qsort_r(p->order, p->blobs_n, sizeof *p->order, by_blob, p);
    return NULL;
}

static struct err *load_once(struct repo_io *io, void (*bad)(void *ctx, struct err *e),
                             void *ctx, struct packs *out)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    struct err *e = NULL;
    TRY(repo_list(repo_io_repo(io), REPO_INDEX, &files, &n));
    for (size_t i = 0; i < n && !e; i++) {
        const struct packs before = *out;
        e = load_file(io, out, &files[i].id);
        if (!e || !bad || e->kind == ERR_NOT_FOUND)
            continue;
        bad(ctx, STEAL(e));
        out->n = before.n;
        out->blobs_n = before.blobs_n;
        out->lists_n = before.lists_n;
    }
    free(files);
    return e;
}

/* A file that vanishes meanwhile was replaced: then all is read again. */
struct err *packs_load(struct repo_io *io, void (*bad)(void *ctx, struct err *e),
                       void *ctx, struct packs *out)
{
    struct err *e = load_once(io, bad, ctx, out);
    for (int i = 1; i < LOAD_TRIES && e && e->kind == ERR_NOT_FOUND; i++) {
        err_free(e);
        packs_fini(out);
        e = load_once(io, bad, ctx, out);
    }
    TRY_CTX(e, "load index");
    return settle(out, bad, ctx);
}

/* ---- looking up ---- */

size_t packs_first(const struct packs *p, enum blob_type type, const struct digest *id)
{
    size_t low = 0, high = p->blobs_n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct blob_entry *e = &p->blobs[p->order[middle]].at;
        int d = e->type != type ? (e->type < type ? -1 : 1)
                                : memcmp(e->id.b, id->b, sizeof id->b);
        if (d < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == p->blobs_n)
        return SIZE_MAX;
    const struct blob_entry *e = &p->blobs[p->order[low]].at;
    return e->type == type && digest_equal(&e->id, id) ? low : SIZE_MAX;
}

size_t packs_find_pack(const struct packs *p, const struct digest *id)
{
    size_t low = 0, high = p->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(p->items[p->by_id[middle]].id.b, id->b, sizeof id->b) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->n && digest_equal(&p->items[p->by_id[low]].id, id) ? p->by_id[low]
                                                                       : SIZE_MAX;
}

static bool is_same(const struct blob_entry *a, const struct blob_entry *b)
{
    return a->type == b->type && digest_equal(&a->id, &b->id);
}

static struct err *open_copy(struct repo_io *io, const struct packs *p,
                             const struct blob_entry *e, struct tree_stream **out)
{
    AUTO_BUF struct buf sealed = {0};
    if (e->length < CRYPT_OVERHEAD)
        return err_new(ERR_CORRUPT, "its length is impossible");
    TRY(repo_get_part(repo_io_repo(io), REPO_DATA, &p->items[e->pack].id, e->offset,
                      e->length, &sealed));
    return tree_stream_of(io, e, &sealed, out);
}

struct err *packs_open_tree(struct repo_io *io, const struct packs *p,
                            const struct digest *id, struct tree_stream **out)
{
    struct err *first = NULL;
    size_t at = packs_first(p, BLOB_TREE, id);
    char hex[65];
    digest_hex(id, hex);
    for (size_t i = at; i < p->blobs_n; i++) {
        const struct blob_entry *e = &p->blobs[p->order[i]].at;
        if (!is_same(e, &p->blobs[p->order[at]].at))
            break;
        struct err *bad = open_copy(io, p, e, out);
        if (!bad) {
            err_free(first);
            return NULL;
        }
        if (first)
            err_free(bad);
        else
            first = bad;
    }
    if (first)
        return err_wrap(first, "blob %s", hex);
    return err_new(ERR_NOT_FOUND, "tree blob %s is in no index file", hex);
}

/* ---- marking ---- */

static struct err *mark_blob(struct packs *p, enum blob_type type,
                             const struct digest *id)
{
    size_t at = packs_first(p, type, id);
    if (at == SIZE_MAX) {
        char hex[65];
        digest_hex(id, hex);
        return err_new(ERR_NOT_FOUND, "%s blob %s is in no index file",
                       type == BLOB_TREE ? "tree" : "data", hex);
    }
    for (size_t i = at; i < p->blobs_n; i++) {
        struct packs_blob *b = &p->blobs[p->order[i]];
        if (!is_same(&b->at, &p->blobs[p->order[at]].at))
            break;
        b->used = true;
    }
    return NULL;
}

static struct err *mark_tree(struct repo_io *io, struct packs *p, const struct digest *id,
                             struct idset *seen, const atomic_bool *cancel,
                             unsigned depth)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    if (cancel && atomic_load(cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    if (depth > PACKS_DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", PACKS_DEPTH_MAX);
    if (!idset_add(seen, id))
        return NULL;
    TRY(mark_blob(p, BLOB_TREE, id));
    TRY(packs_open_tree(io, p, id, &s));
    for (;;) {
        TRY(tree_stream_next(s, &nd));
        if (!nd)
            return NULL;
        for (size_t j = 0; j < nd->content_n; j++)
            TRY(mark_blob(p, BLOB_DATA, &nd->content[j]));
        if (nd->type == NODE_DIR)
            TRY(mark_tree(io, p, &nd->subtree, seen, cancel, depth + 1));
    }
}

struct err *packs_mark(struct repo_io *io, struct packs *p, const struct digest *tree,
                       struct idset *seen, const atomic_bool *cancel)
{
    return mark_tree(io, p, tree, seen, cancel, 0);
}

/* ---- writing ---- */

static bool is_wrong(const struct packs *p, const struct packs_file *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct packs_list *l = &p->lists[f->first + i];
        const struct packs_pack *pack = &p->items[l->pack];
        if (pack->drop || pack->living == l->dying)
            return true;
    }
    return false;
}

struct publisher {
    struct repo_io *io;
    struct packs *packs;
    struct err *(*before)(void *ctx);
    void *ctx;
    struct indexfile file;
    struct go_time now;
};

static struct err *store_file(struct publisher *w)
{
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct digest id;
    if (!w->file.packs)
        return NULL;
    indexfile_end(&w->file, &json);
    repo_seal_file(w->io, json.data, json.len, &sealed, &id);
    if (w->before)
        TRY(w->before(w->ctx));
    return repo_put_file(repo_io_repo(w->io), REPO_INDEX, &id, sealed.data, sealed.len);
}

static struct err *add_pack(struct publisher *w, struct packs_pack *pack)
{
    if (pack->drop || pack->written)
        return NULL;
    struct blob_entry *list = mem_array(pack->count, sizeof *list);
    for (size_t i = 0; i < pack->count; i++)
        list[i] = w->packs->blobs[pack->first + i].at;
    const struct indexfile_pack out = {pack->id, !pack->living, list, pack->count};
    indexfile_add(&w->file, &out, w->now);
    free(list);
    pack->written = true;
    return indexfile_is_full(&w->file) ? store_file(w) : NULL;
}

static struct err *write_new(struct publisher *w, const bool *wrong)
{
    struct packs *p = w->packs;
    for (size_t i = 0; i < p->n; i++)
        p->items[i].written = false;
    for (size_t i = 0; i < p->files_n; i++)
        for (size_t j = 0; wrong[i] && j < p->files[i].count; j++)
            TRY(add_pack(w, &p->items[p->lists[p->files[i].first + j].pack]));
    return store_file(w);
}

static struct err *remove_old(struct publisher *w, const bool *wrong)
{
    const struct packs *p = w->packs;
    for (size_t i = 0; i < p->files_n; i++) {
        if (!wrong[i])
            continue;
        if (w->before)
            TRY(w->before(w->ctx));
        TRY(repo_remove_file(repo_io_repo(w->io), REPO_INDEX, &p->files[i].id));
    }
    return NULL;
}

struct err *packs_publish(struct repo_io *io, struct packs *p,
                          struct err *(*before)(void *ctx), void *ctx)
{
    struct publisher w = {.io = io, .packs = p, .before = before, .ctx = ctx};
    struct timespec now;
    bool *wrong = mem_array(p->files_n, sizeof *wrong);
    clock_gettime(CLOCK_REALTIME, &now);
    w.now = (struct go_time){now.tv_sec, (uint32_t)now.tv_nsec};
    for (size_t i = 0; i < p->files_n; i++)
        wrong[i] = is_wrong(p, &p->files[i]);
    struct err *e = write_new(&w, wrong);
    if (!e)
        e = remove_old(&w, wrong);
    indexfile_fini(&w.file);
    free(wrong);
    return e ? err_wrap(e, "publish index") : NULL;
}
