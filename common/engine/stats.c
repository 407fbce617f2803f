#include "common/engine/stats.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/packs.h"

enum { PROGRESS_DIRS = 100 };

/* What is below a tree; the same trees come again in each snapshot. */
struct sum {
    struct digest id;
    uint64_t files;
    uint64_t dirs;
    uint64_t bytes;
};

struct counter {
    struct repo_io *io;
    struct packs packs;
    const struct stats_opts *opts;
    uint64_t dirs;    /* looked at */
    struct sum *sums; /* open addressing by id; files == UINT64_MAX: free */
    size_t cap;       /* power of two */
    size_t n;
};

static size_t slot_of(const struct counter *c, const struct digest *id)
{
    uint64_t h;
    memcpy(&h, id->b, sizeof h);
    size_t i = h & (c->cap - 1);
    while (c->sums[i].files != UINT64_MAX && !digest_equal(&c->sums[i].id, id))
        i = (i + 1) & (c->cap - 1);
    return i;
}

static void grow(struct counter *c)
{
    struct sum *old = c->sums;
    size_t old_cap = c->cap;
    if (c->n * 4 < c->cap * 3)
        return;
    c->cap = c->cap ? c->cap * 2 : 1024;
    c->sums = mem_array(c->cap, sizeof *c->sums);
    for (size_t i = 0; i < c->cap; i++)
        c->sums[i].files = UINT64_MAX;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].files != UINT64_MAX)
            c->sums[slot_of(c, &old[i].id)] = old[i];
    free(old);
}

static struct err *count_tree(struct counter *c, const struct digest *id, unsigned depth,
                              struct sum *out)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    grow(c);
    *out = c->sums[slot_of(c, id)];
    if (out->files != UINT64_MAX)
        return NULL;
    if (c->opts->cancel && atomic_load(c->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    if (c->opts->progress && c->dirs++ % PROGRESS_DIRS == 0)
        c->opts->progress(c->opts->progress_ctx, c->dirs - 1);
    if (depth > PACKS_DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", PACKS_DEPTH_MAX);
    TRY(packs_open_tree(c->io, &c->packs, id, &s));
    *out = (struct sum){.id = *id};
    for (struct node *nd;;) {
        TRY(tree_stream_next(s, &nd));
        if (!nd)
            break;
        struct sum below = {.files = nd->type != NODE_DIR, .bytes = nd->size};
        if (nd->type == NODE_DIR) {
            TRY(count_tree(c, &nd->subtree, depth + 1, &below));
            below.dirs++;
        }
        out->files += below.files;
        out->dirs += below.dirs;
        out->bytes += below.bytes;
    }
    grow(c);
    c->sums[slot_of(c, id)] = *out;
    c->n++;
    return NULL;
}

/* Every blob once: the first copy stands for all. */
static void count_blobs(const struct packs *p, struct stats *out)
{
    const struct blob_entry *last = NULL;
    for (size_t i = 0; i < p->blobs_n; i++) {
        const struct packs_blob *b = &p->blobs[p->order[i]];
        bool again =
            last && last->type == b->at.type && digest_equal(&last->id, &b->at.id);
        last = &b->at;
        if (!b->used || again)
            continue;
        out->blobs++;
        out->blob_bytes += blob_entry_bytes(&b->at);
        out->stored_bytes += b->at.length;
    }
    for (size_t i = 0; i < p->n; i++)
        out->pack_bytes += p->items[i].bytes;
    out->packs = p->n;
    out->pack_blobs = p->blobs_n;
    out->index_files = p->files_n;
}

static struct err *run(struct counter *c, const struct snapshot *list, size_t n,
                       struct stats *out)
{
    struct idset seen = {0};
    struct err *e = packs_load(c->io, NULL, NULL, &c->packs);
    for (size_t i = 0; i < n && !e; i++) {
        struct sum sum;
        e = packs_mark(c->io, &c->packs, &list[i].tree, &seen, c->opts->cancel);
        if (!e)
            e = count_tree(c, &list[i].tree, 0, &sum);
        if (e)
            break;
        out->snapshots++;
        out->files += sum.files;
        out->dirs += sum.dirs;
        out->bytes += sum.bytes;
    }
    idset_fini(&seen);
    if (!e)
        count_blobs(&c->packs, out);
    return e;
}

struct err *stats_run(struct repo_io *io, const struct snapshot *list, size_t n,
                      const struct stats_opts *opts, struct stats *out)
{
    struct counter c = {.io = io, .opts = opts};
    *out = (struct stats){0};
    struct err *e = run(&c, list, n, out);
    packs_fini(&c.packs);
    free(c.sums);
    return e;
}
