#include "common/engine/diff.h"

#include <string.h>

#include "common/base/buf.h"
#include "common/repo/tree_stream.h"

enum { DEPTH_MAX = 10000, PROGRESS_DIRS = 100 };

struct diff {
    struct repo_io *io;
    const struct diff_opts *opts;
    struct diff_result *out;
    uint64_t dirs; /* looked at */
    struct buf path;
};

static bool same_content(const struct node *a, const struct node *b)
{
    return a->content_n == b->content_n &&
           (!a->content_n ||
            memcmp(a->content, b->content, a->content_n * sizeof *a->content) == 0);
}

static bool same_time(struct go_time a, struct go_time b)
{
    return a.sec == b.sec && a.nsec == b.nsec;
}

static bool same_xattrs(const struct node *a, const struct node *b)
{
    bool same = a->xattrs_n == b->xattrs_n;
    for (size_t i = 0; same && i < a->xattrs_n; i++)
        same = strcmp(a->xattrs[i].name, b->xattrs[i].name) == 0 &&
               a->xattrs[i].n == b->xattrs[i].n &&
               (!a->xattrs[i].n ||
                memcmp(a->xattrs[i].value, b->xattrs[i].value, a->xattrs[i].n) == 0);
    return same;
}

/* ctime, inode and device id are the filesystem's, not the user's: no difference. */
static bool same_metadata(const struct node *a, const struct node *b)
{
    return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
           same_time(a->mtime, b->mtime) && a->device == b->device && same_xattrs(a, b);
}

static bool same_target(const struct node *a, const struct node *b)
{
    return !a->target == !b->target && (!a->target || strcmp(a->target, b->target) == 0);
}

static struct err *report(struct diff *d, enum diff_what what, const struct node *before,
                          const struct node *after)
{
    const struct diff_change change = {what, buf_text(&d->path), before, after};
    struct diff_result *r = d->out;
    uint64_t *count = what == DIFF_ADDED      ? &r->added
                      : what == DIFF_REMOVED  ? &r->removed
                      : what == DIFF_METADATA ? &r->metadata
                                              : &r->changed;
    ++*count;
    if (before && what != DIFF_METADATA)
        r->bytes_removed += before->size;
    if (after && what != DIFF_METADATA)
        r->bytes_added += after->size;
    return d->opts->visit(d->opts->visit_ctx, &change);
}

static struct err *diff_dirs(struct diff *d, const struct digest *before,
                             const struct digest *after, unsigned depth);

static const struct digest *subtree_of(const struct node *nd)
{
    return nd && nd->type == NODE_DIR ? &nd->subtree : NULL;
}

static struct err *diff_nodes(struct diff *d, const struct node *a, const struct node *b,
                              unsigned depth)
{
    if (!a || !b)
        TRY(report(d, a ? DIFF_REMOVED : DIFF_ADDED, a, b));
    else if (a->type != b->type)
        TRY(report(d, DIFF_TYPE, a, b));
    else if (!same_content(a, b) || !same_target(a, b))
        TRY(report(d, DIFF_CONTENT, a, b));
    else if (!same_metadata(a, b))
        TRY(report(d, DIFF_METADATA, a, b));
    return diff_dirs(d, subtree_of(a), subtree_of(b), depth + 1);
}

/* No list at all has no nodes. */
static struct err *next(struct tree_stream *s, struct node **out)
{
    *out = NULL;
    return s ? tree_stream_next(s, out) : NULL;
}

/* The nodes of both trees in step, by name. */
static struct err *diff_lists(struct diff *d, struct tree_stream *a,
                              struct tree_stream *b, unsigned depth)
{
    struct node *x = NULL, *y = NULL;
    TRY(next(a, &x));
    TRY(next(b, &y));
    while (x || y) {
        int order = !x ? 1 : !y ? -1 : strcmp(x->name, y->name);
        size_t length = d->path.len;
        buf_char(&d->path, '/');
        buf_str(&d->path, order <= 0 ? x->name : y->name);
        TRY(diff_nodes(d, order <= 0 ? x : NULL, order >= 0 ? y : NULL, depth));
        d->path.len = length;
        d->path.data[length] = '\0';
        if (order <= 0)
            TRY(next(a, &x));
        if (order >= 0)
            TRY(next(b, &y));
    }
    return NULL;
}

/* NULL stands for a directory that is not there. */
static struct err *diff_dirs(struct diff *d, const struct digest *before,
                             const struct digest *after, unsigned depth)
{
    AUTO(tree_stream) struct tree_stream *a = NULL;
    AUTO(tree_stream) struct tree_stream *b = NULL;
    if (d->opts->cancel && atomic_load(d->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", DEPTH_MAX);
    if (before && after && digest_equal(before, after))
        return NULL;
    if (d->opts->progress && d->dirs++ % PROGRESS_DIRS == 0)
        d->opts->progress(d->opts->progress_ctx, d->dirs - 1);
    if (before)
        TRY(tree_stream_open(d->io, before, &a));
    if (after)
        TRY(tree_stream_open(d->io, after, &b));
    return diff_lists(d, a, b, depth);
}

struct err *diff_trees(struct repo_io *io, const struct digest *before,
                       const struct digest *after, const struct diff_opts *opts,
                       struct diff_result *out)
{
    struct diff d = {.io = io, .opts = opts, .out = out};
    *out = (struct diff_result){0};
    struct err *e = diff_dirs(&d, before, after, 0);
    buf_fini(&d.path);
    return e;
}
