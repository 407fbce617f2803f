#include "common/engine/compare.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/find.h"
#include "common/engine/scan.h"
#include "common/repo/tree_stream.h"

struct comparison {
    struct repo_io *io;
    const struct check_compare *opts;
    struct buf path;  /* below opts->dir */
    struct buf piece; /* bytes of a file that one blob covers */
};

static struct err *differs(const struct comparison *c, const char *how)
{
    return err_new(ERR_CORRUPT, "'%s' %s", buf_text(&c->path), how);
}

static struct err *read_exactly(int fd, char *to, size_t n, bool *whole)
{
    while (n) {
        ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_os(errno, "read");
        if (got == 0)
            break;
        to += got;
        n -= (size_t)got;
    }
    *whole = n == 0;
    return NULL;
}

/* The blobs' lengths cut the file; each piece must hash to its blob's id. */
static struct err *compare_content(struct comparison *c, int fd, const struct node *nd)
{
    for (size_t i = 0; i < nd->content_n; i++) {
        uint64_t bytes = 0;
        struct digest id;
        bool whole = false;
        if (c->opts->cancel && atomic_load(c->opts->cancel))
            return err_new(ERR_CANCELLED, "cancelled");
        if (!repo_has_blob(repo_io_repo(c->io), BLOB_DATA, &nd->content[i], &bytes))
            return differs(c, "has a blob that is not in the index");
        buf_clear(&c->piece);
        char *room = buf_room(&c->piece, bytes);
        TRY_CTX(read_exactly(fd, room, bytes, &whole), "'%s'", buf_text(&c->path));
        hash_bytes(room, bytes, &id);
        if (!whole || !digest_equal(&id, &nd->content[i]))
            return differs(c, "has other content than the snapshot");
    }
    return NULL;
}

static struct err *compare_file(struct comparison *c, int dir_fd, const struct node *nd)
{
    struct stat st;
    AUTO(fd) int fd = -1;
    TRY(scan_open_file(dir_fd, nd->name, &fd, &st));
    if ((uint64_t)st.st_size != nd->size)
        return err_new(ERR_CORRUPT,
                       "'%s' has %" PRIu64 " bytes, in the snapshot %" PRIu64,
                       buf_text(&c->path), (uint64_t)st.st_size, nd->size);
    return c->opts->content ? compare_content(c, fd, nd) : NULL;
}

static struct err *compare_dir(struct comparison *c, const struct digest *tree, int fd);

static struct err *compare_node(struct comparison *c, int dir_fd, const struct node *nd,
                                const struct stat *st)
{
    if (node_type_of(st->st_mode) != nd->type)
        return differs(c, "has another type than in the snapshot");
    if (nd->mode != node_mode(st->st_mode) || nd->uid != st->st_uid ||
        nd->gid != st->st_gid)
        return differs(c, "has another mode or owner than in the snapshot");
    if (nd->type == NODE_FILE)
        return compare_file(c, dir_fd, nd);
    if (nd->type != NODE_DIR)
        return NULL;
    AUTO(fd) int fd = -1;
    TRY(scan_open_dir(dir_fd, nd->name, &fd));
    return compare_dir(c, &nd->subtree, fd);
}

/* `nd`: what the snapshot has of that name, or NULL. */
static struct err *compare_entry(struct comparison *c, int dir_fd, const char *name,
                                 const struct node *nd)
{
    struct stat st;
    const struct check_compare *o = c->opts;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_os(errno, "look at '%s'", buf_text(&c->path));
    if (!nd &&
        (S_ISSOCK(st.st_mode) ||
         scan_is_excluded(o->excludes, o->excludes_n, o->path, buf_text(&c->path), name)))
        return NULL;
    if (!nd)
        return differs(c, "is not in the snapshot");
    return compare_node(c, dir_fd, nd, &st);
}

/* Both are sorted by name. */
static struct err *compare_entries(struct comparison *c, int dir_fd,
                                   struct tree_stream *s, const struct strings *entries)
{
    struct node *nd = NULL;
    TRY(tree_stream_next(s, &nd));
    for (size_t i = 0; i < entries->n; i++) {
        const char *name = entries->items[i];
        int order = nd ? strcmp(nd->name, name) : 1;
        size_t length = c->path.len;
        if (order < 0)
            break;
        buf_char(&c->path, '/');
        buf_str(&c->path, name);
        TRY(compare_entry(c, dir_fd, name, order == 0 ? nd : NULL));
        c->path.len = length;
        c->path.data[length] = '\0';
        if (order == 0)
            TRY(tree_stream_next(s, &nd));
    }
    return nd ? differs(c, "lacks entries that are in the snapshot") : NULL;
}

static struct err *compare_dir(struct comparison *c, const struct digest *tree, int fd)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct strings entries = {0};
    TRY(tree_stream_open(c->io, tree, &s));
    struct err *e = scan_dir(fd, &entries);
    if (!e)
        e = compare_entries(c, fd, s, &entries);
    strings_fini(&entries);
    return e;
}

static struct err *compare_top(struct comparison *c, const struct node *nd)
{
    AUTO(fd) int fd = -1;
    if (nd->type != NODE_DIR)
        return err_new(ERR_CORRUPT, "'%s' is not a directory in the snapshot",
                       c->opts->path);
    fd = open(c->opts->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open directory '%s'", c->opts->dir);
    return compare_dir(c, &nd->subtree, fd);
}

struct err *compare_tree(struct repo_io *io, const struct digest *tree,
                         const struct check_compare *opts)
{
    struct comparison c = {.io = io, .opts = opts};
    struct node nd = {0};
    TRY(find_node(io, tree, opts->path, &nd));
    struct err *e = compare_top(&c, &nd);
    node_fini(&nd);
    buf_fini(&c.path);
    buf_fini(&c.piece);
    return e;
}
