#include "common/engine/find.h"

#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/repo/tree_stream.h"

enum { DEPTH_MAX = 10000 };

/* Replaces *nd by its child `name`. */
static struct err *descend(struct repo_io *io, struct node *nd, const char *name,
                           const char *path)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *child = NULL;
    int order = -1;
    if (nd->type != NODE_DIR)
        return err_new(ERR_NOT_FOUND, "'%s' is not in the snapshot", path);
    TRY(tree_stream_open(io, &nd->subtree, &s));
    while (order < 0) {
        TRY(tree_stream_next(s, &child));
        order = child ? strcmp(child->name, name) : 1;
    }
    if (order > 0)
        return err_new(ERR_NOT_FOUND, "'%s' is not in the snapshot", path);
    node_fini(nd);
    *nd = *child;
    *child = (struct node){0};
    return NULL;
}

struct err *find_node(struct repo_io *io, const struct digest *tree, const char *path,
                      struct node *out)
{
    struct node nd = {.type = NODE_DIR, .has_subtree = true, .subtree = *tree};
    AUTO(str) char *copy = mem_strdup(path);
    char *rest = copy, *part;
    nd.mode = node_mode(S_IFDIR | 0755);
    while ((part = strsep(&rest, "/"))) {
        if (!*part)
            continue;
        struct err *e = descend(io, &nd, part, path);
        if (e) {
            node_fini(&nd);
            return e;
        }
    }
    *out = nd;
    return NULL;
}

struct listing {
    struct repo_io *io;
    bool recursive;
    find_visit *visit;
    void *ctx;
    struct buf path;
};

static struct err *list_tree(struct listing *l, const struct digest *tree, unsigned depth)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", DEPTH_MAX);
    TRY(tree_stream_open(l->io, tree, &s));
    for (;;) {
        TRY(tree_stream_next(s, &nd));
        if (!nd)
            return NULL;
        size_t length = l->path.len;
        buf_char(&l->path, '/');
        buf_str(&l->path, nd->name);
        TRY(l->visit(l->ctx, buf_text(&l->path), nd));
        if (l->recursive && nd->type == NODE_DIR)
            TRY(list_tree(l, &nd->subtree, depth + 1));
        l->path.len = length;
        l->path.data[length] = '\0';
    }
}

struct err *find_list(struct repo_io *io, const struct digest *tree, const char *path,
                      bool recursive, find_visit *visit, void *ctx)
{
    struct listing l = {io, recursive, visit, ctx, {0}};
    struct node nd = {0};
    TRY(find_node(io, tree, path, &nd));
    buf_str(&l.path, path);
    while (l.path.len && l.path.data[l.path.len - 1] == '/')
        l.path.data[--l.path.len] = '\0';
    struct err *e = NULL;
    if (l.path.len)
        e = visit(ctx, buf_text(&l.path), &nd);
    if (!e && nd.type == NODE_DIR)
        e = list_tree(&l, &nd.subtree, 0);
    node_fini(&nd);
    buf_fini(&l.path);
    return e;
}

struct search {
    struct repo_io *io;
    const struct find_query *query;
    struct idset *barren; /* NULL: paths matter, trees cannot be skipped */
    find_visit *visit;
    void *ctx;
    struct buf path;
    uint64_t found;
};

static bool is_match(const struct search *s, const struct node *nd)
{
    const struct find_query *q = s->query;
    int flags = q->ignore_case ? FNM_CASEFOLD : 0;
    if (q->type != NODE_NONE && q->type != nd->type)
        return false;
    for (size_t i = 0; i < q->patterns_n; i++) {
        bool whole = strchr(q->patterns[i], '/') != NULL;
        const char *text = whole ? buf_text(&s->path) : nd->name;
        if (fnmatch(q->patterns[i], text, flags | (whole ? FNM_PATHNAME : 0)) == 0)
            return true;
    }
    return false;
}

static struct err *search_tree(struct search *s, const struct digest *tree,
                               unsigned depth)
{
    AUTO(tree_stream) struct tree_stream *list = NULL;
    struct node *nd = NULL;
    uint64_t before = s->found;
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, "directories nest deeper than %d", DEPTH_MAX);
    if (s->barren && idset_has(s->barren, tree))
        return NULL;
    TRY(tree_stream_open(s->io, tree, &list));
    for (;;) {
        TRY(tree_stream_next(list, &nd));
        if (!nd)
            break;
        size_t length = s->path.len;
        buf_char(&s->path, '/');
        buf_str(&s->path, nd->name);
        if (is_match(s, nd)) {
            s->found++;
            TRY(s->visit(s->ctx, buf_text(&s->path), nd));
        }
        if (nd->type == NODE_DIR)
            TRY(search_tree(s, &nd->subtree, depth + 1));
        s->path.len = length;
        s->path.data[length] = '\0';
    }
    if (s->barren && s->found == before)
        idset_add(s->barren, tree);
    return NULL;
}

struct err *find_match(struct repo_io *io, const struct digest *tree,
                       const struct find_query *query, struct idset *barren,
                       find_visit *visit, void *ctx)
{
    struct search s = {io, query, barren, visit, ctx, {0}, 0};
    for (size_t i = 0; i < query->patterns_n; i++)
        if (strchr(query->patterns[i], '/'))
            s.barren = NULL;
    struct err *e = search_tree(&s, tree, 0);
    buf_fini(&s.path);
    return e;
}

static struct err *dump_node(struct repo_io *io, const struct node *nd, const char *path,
                             size_t limit, struct buf *out)
{
    size_t before = out->len;
    if (nd->type != NODE_FILE)
        return err_new(ERR_INVALID, "'%s' is not a file", path);
    for (size_t i = 0; i < nd->content_n; i++) {
        uint64_t bytes = 0;
        repo_has_blob(repo_io_repo(io), BLOB_DATA, &nd->content[i], &bytes);
        if (out->len - before + bytes > limit)
            return err_new(ERR_LIMIT, "'%s' is larger than %zu bytes", path, limit);
        TRY_CTX(repo_load_blob(io, BLOB_DATA, &nd->content[i], out), "'%s'", path);
    }
    return NULL;
}

struct err *find_dump(struct repo_io *io, const struct digest *tree, const char *path,
                      size_t limit, struct buf *out)
{
    struct node nd = {0};
    TRY(find_node(io, tree, path, &nd));
    struct err *e = dump_node(io, &nd, path, limit, out);
    node_fini(&nd);
    return e;
}
