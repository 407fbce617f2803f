#include "common/mount/mount.h"

#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/mount/inode.h"

enum { THREADS = 4, READ_AHEAD_KIB = 1024 };

/* Nothing ever changes: the kernel may remember as long as it likes. */
static const double for_ever = 86400.0;

struct mounted {
    struct inodes inodes;
    struct browse *browse;
    struct view *view;
};

/* An open directory. */
struct listing {
    const struct view *view;    /* or … */
    const struct dirlist *list; /* … borrowed from the cache */
};

static struct mounted *mounted_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct inode *inode_of(fuse_req_t req, fuse_ino_t ino)
{
    if (ino == FUSE_ROOT_ID)
        return &mounted_of(req)->inodes.root;
    return (struct inode *)(uintptr_t)ino;
}

/* What an error is to the reader of a file; damage is an I/O error. */
static int errno_of(const struct err *e)
{
    return e->kind == ERR_NOT_FOUND ? ENOENT : EIO;
}

static void reply_err(fuse_req_t req, struct err *e)
{
    fuse_reply_err(req, errno_of(e));
    err_free(e);
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mounted *m = mounted_of(req);
    struct inode *dir = inode_of(req, parent), *in = NULL;
    struct stat st;
    if (!S_ISDIR(dir->mode)) {
        fuse_reply_err(req, ENOTDIR);
        return;
    }
    struct err *e = inodes_look_up(&m->inodes, dir, name, &st, &in);
    if (e) {
        reply_err(req, e);
        return;
    }
    const struct fuse_entry_param entry = {
        .ino = (fuse_ino_t)(uintptr_t)in,
        .attr = st,
        .attr_timeout = for_ever,
        .entry_timeout = for_ever,
    };
    if (fuse_reply_entry(req, &entry))
        inodes_forget(&m->inodes, in, 1);
}

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t times)
{
    inodes_forget(&mounted_of(req)->inodes, inode_of(req, ino), times);
    fuse_reply_none(req);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    (void)fi;
    struct err *e = inodes_stat(&mounted_of(req)->inodes, inode_of(req, ino), &st);
    if (e)
        reply_err(req, e);
    else
        fuse_reply_attr(req, &st, for_ever);
}

/* Calls with an entry of a snapshot, or NULL; the reply is up to the callee. */
typedef void node_reply(fuse_req_t req, const struct dirlist_entry *e, const void *arg);
static void with_node(fuse_req_t req, fuse_ino_t ino, node_reply *reply, const void *arg)
{
    const struct inode *in = inode_of(req, ino);
    struct browse *b = mounted_of(req)->browse;
    const struct dirlist *list = NULL;
    struct dirlist_entry found;
    if (in->view) {
        reply(req, NULL, arg);
        return;
    }
    struct err *e = browse_list_get(b, &in->parent->dir->tree, &list);
    if (e) {
        reply_err(req, e);
        return;
    }
    reply(req, dirlist_find(list, in->name, &found) ? &found : NULL, arg);
    browse_list_put(b, list);
}

static void reply_target(fuse_req_t req, const struct dirlist_entry *e, const void *arg)
{
    const struct inode *in = arg;
    const char *target = e ? e->node.target : in->view ? in->view->target : NULL;
    if (target)
        fuse_reply_readlink(req, target);
    else
        fuse_reply_err(req, EINVAL);
}

static void do_readlink(fuse_req_t req, fuse_ino_t ino)
{
    with_node(req, ino, reply_target, inode_of(req, ino));
}

/* ---- attributes ---- */

struct asked {
    const char *name; /* NULL: the list of names */
    size_t room;
};

/* The answer to a caller that offers `room` bytes; 0 asks for the size. */
static void reply_bytes(fuse_req_t req, const void *data, size_t n, size_t room)
{
    if (!room)
        fuse_reply_xattr(req, n);
    else if (n > room)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, data, n);
}

static void reply_attr(fuse_req_t req, const struct dirlist_entry *e, const void *arg)
{
    const struct asked *a = arg;
    const char *at = e ? e->attrs : NULL;
    struct dirlist_attr attr;
    while (dirlist_next_attr(&at, &attr))
        if (strcmp(attr.name, a->name) == 0) {
            reply_bytes(req, attr.value, attr.n, a->room);
            return;
        }
    fuse_reply_err(req, ENODATA);
}

static void reply_attr_names(fuse_req_t req, const struct dirlist_entry *e,
                             const void *arg)
{
    const struct asked *a = arg;
    const char *at = e ? e->attrs : NULL;
    struct dirlist_attr attr;
    AUTO_BUF struct buf names = {0};
    while (dirlist_next_attr(&at, &attr))
        buf_add(&names, attr.name, strlen(attr.name) + 1);
    reply_bytes(req, buf_text(&names), names.len, a->room);
}

static void do_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t room)
{
    const struct asked a = {name, room};
    with_node(req, ino, reply_attr, &a);
}

static void do_listxattr(fuse_req_t req, fuse_ino_t ino, size_t room)
{
    const struct asked a = {NULL, room};
    with_node(req, ino, reply_attr_names, &a);
}

/* ---- files ---- */

static void reply_open(fuse_req_t req, const struct dirlist_entry *found, const void *arg)
{
    struct fuse_file_info fi = *(const struct fuse_file_info *)arg;
    struct browse_file *f = NULL;
    if (!found || found->node.type != NODE_FILE) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    struct err *e = browse_open(mounted_of(req)->browse, &found->node, &f);
    if (e) {
        err_free(e);
        fuse_reply_err(req, EIO);
        return;
    }
    fi.fh = (uint64_t)(uintptr_t)f;
    fi.keep_cache = 1;
    if (fuse_reply_open(req, &fi))
        browse_close(f);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if ((fi->flags & O_ACCMODE) != O_RDONLY)
        fuse_reply_err(req, EROFS);
    else
        with_node(req, ino, reply_open, fi);
}

static void do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    browse_close((struct browse_file *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

/* Many small blobs, or the end: by a copy. */
static void read_copy(fuse_req_t req, struct browse_file *f, size_t n, off_t offset)
{
    AUTO(str) char *data = mem_alloc(n);
    size_t got = 0;
    struct err *e = browse_read(f, (uint64_t)offset, data, n, &got);
    if (e)
        fuse_reply_err(req, EIO);
    else
        fuse_reply_buf(req, data, got);
    err_free(e);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t n, off_t offset,
                    struct fuse_file_info *fi)
{
    struct browse_file *f = (struct browse_file *)(uintptr_t)fi->fh;
    struct browse_piece pieces[BROWSE_PIECES];
    struct iovec parts[BROWSE_PIECES];
    size_t count = 0;
    (void)ino;
    struct err *e = browse_hold(f, (uint64_t)offset, n, pieces, &count);
    if (e) {
        err_free(e);
        fuse_reply_err(req, EIO);
        return;
    }
    if (!count) {
        read_copy(req, f, n, offset);
        return;
    }
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct iovec){(char *)(uintptr_t)pieces[i].data, pieces[i].n};
    /* With the reply the file may be closed. */
    struct browse *b = mounted_of(req)->browse;
    fuse_reply_iov(req, parts, (int)count);
    browse_unhold(b, pieces, count);
}

/* ---- directories ---- */

static void do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct inode *in = inode_of(req, ino);
    struct listing *l = mem_zalloc(sizeof *l);
    struct err *e = NULL;
    if (in->dir)
        e = browse_list_get(mounted_of(req)->browse, &in->dir->tree, &l->list);
    else
        l->view = in->view;
    if (e) {
        free(l);
        reply_err(req, e);
        return;
    }
    fi->fh = (uint64_t)(uintptr_t)l;
    fi->keep_cache = 1;
    fi->cache_readdir = 1;
    if (fuse_reply_open(req, fi)) {
        browse_list_put(mounted_of(req)->browse, l->list);
        free(l);
    }
}

static void do_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct listing *l = (struct listing *)(uintptr_t)fi->fh;
    (void)ino;
    browse_list_put(mounted_of(req)->browse, l->list);
    free(l);
    fuse_reply_err(req, 0);
}

/* Entry `at` of a directory, after "." and "..". False: there is none. */
static bool entry_at(const struct inode *dir, const struct listing *l, size_t at,
                     const char **name, struct stat *st)
{
    if (at < 2) {
        const struct inode *in = at && dir->parent ? dir->parent : dir;
        *name = at ? ".." : ".";
        st->st_ino = in->number;
        st->st_mode = in->mode;
        return true;
    }
    at -= 2;
    if (l->list && at < l->list->n) {
        struct dirlist_entry e;
        dirlist_get(l->list, at, &e);
        *name = e.node.name;
        st->st_ino = inode_number(dir, &e.node);
        st->st_mode = inode_kind(e.node.type);
        return true;
    }
    if (l->view && at < l->view->n) {
        const struct view *v = l->view->items[at];
        *name = v->name;
        st->st_ino = inode_view_number(dir, v->name);
        st->st_mode = v->kind == VIEW_LINK ? S_IFLNK : S_IFDIR;
        return true;
    }
    return false;
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t room, off_t offset,
                       struct fuse_file_info *fi)
{
    const struct listing *l = (const struct listing *)(uintptr_t)fi->fh;
    const struct inode *dir = inode_of(req, ino);
    AUTO(str) char *data = mem_alloc(room);
    struct stat st = {0};
    const char *name;
    size_t used = 0;
    for (size_t at = (size_t)offset; entry_at(dir, l, at, &name, &st); at++) {
        size_t n =
            fuse_add_direntry(req, data + used, room - used, name, &st, (off_t)(at + 1));
        if (n > room - used)
            break;
        used += n;
    }
    fuse_reply_buf(req, data, used);
}

static void do_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    /* Larger requests: less work for each byte. */
    conn->max_readahead = 4 << 20;
}

static const struct fuse_lowlevel_ops operations = {
    .init = do_init,
    .lookup = do_lookup,
    .forget = do_forget,
    .getattr = do_getattr,
    .readlink = do_readlink,
    .getxattr = do_getxattr,
    .listxattr = do_listxattr,
    .open = do_open,
    .read = do_read,
    .release = do_release,
    .opendir = do_opendir,
    .readdir = do_readdir,
    .releasedir = do_releasedir,
};

/* ---- the whole ---- */

/* The kernel reads ahead 128 KiB at most unless told otherwise, which only root may: more
 * means fewer requests. Nothing depends on it. */
static void read_ahead_more(const char *dir)
{
    AUTO(str) char *real = realpath(dir, NULL);
    AUTO(str) char *line = NULL;
    char device[32] = "", path[96];
    size_t room = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (real && f && getline(&line, &room, f) > 0) {
        char number[32], where[4096];
        if (sscanf(line, "%*s %*s %31s %*s %4095s", number, where) == 2 &&
            strcmp(where, real) == 0)
            memcpy(device, number, sizeof device);
    }
    if (f)
        fclose(f);
    snprintf(path, sizeof path, "/sys/class/bdi/%s/read_ahead_kb", device);
    f = *device ? fopen(path, "we") : NULL;
    if (!f)
        return;
    fprintf(f, "%d", READ_AHEAD_KIB);
    fclose(f);
}

static struct err *serve(struct fuse_session *se, const struct mount_opts *opts)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    /* libfuse takes these only where nobody else has. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    if (fuse_set_signal_handlers(se)) {
        fuse_loop_cfg_destroy(config);
        return err_new(ERR_IO, "signals cannot be handled");
    }
    read_ahead_more(opts->dir);
    if (opts->ready)
        opts->ready(opts->ready_ctx);
    fuse_loop_cfg_set_max_threads(config, THREADS);
    int rc = fuse_session_loop_mt(se, config);
    fuse_loop_cfg_destroy(config);
    fuse_remove_signal_handlers(se);
    /* Positive: the signal that ended it. */
    return rc < 0 ? err_os(-rc, "serve") : NULL;
}

static struct err *mount_session(struct mounted *m, const struct mount_opts *opts)
{
    char name[] = "stillpoint", flag[] = "-o";
    char plain[] =
        "ro,nodev,nosuid,default_permissions,fsname=stillpoint,subtype=stillpoint";
    char open[] = "allow_other";
    char *argv[] = {name, flag, plain, flag, open, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(opts->allow_other ? 5 : 3, argv);
    struct fuse_session *se = fuse_session_new(&args, &operations, sizeof operations, m);
    if (!se)
        return err_new(ERR_IO, "libfuse makes no session");
    struct err *e = NULL;
    if (fuse_session_mount(se, opts->dir))
        e = err_new(ERR_IO, "'%s' cannot be mounted on", opts->dir);
    if (!e) {
        e = serve(se, opts);
        fuse_session_unmount(se);
    }
    fuse_session_destroy(se);
    fuse_opt_free_args(&args);
    return e;
}

static struct err *check_place(const char *dir)
{
    struct stat st;
    if (access("/dev/fuse", F_OK))
        return err_new(ERR_UNAVAILABLE,
                       "there is no /dev/fuse: load the kernel's module 'fuse', or give "
                       "the container that device");
    if (access("/dev/fuse", R_OK | W_OK))
        return err_os(errno, "open /dev/fuse");
    if (stat(dir, &st))
        return err_os(errno, "'%s'", dir);
    if (!S_ISDIR(st.st_mode))
        return err_new(ERR_INVALID, "'%s' is not a directory", dir);
    return NULL;
}

struct err *mount_run(struct repo *r, const struct mount_opts *opts)
{
    struct mounted m = {0};
    struct snapshot *list = NULL;
    size_t n = 0;
    TRY(check_place(opts->dir));
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    TRY(repo_snapshots(io, &list, &n));
    m.view = view_new(list, n);
    repo_free_snapshots(list, n);
    struct err *e = browse_new(r, &m.browse);
    if (!e) {
        inodes_init(&m.inodes, m.browse, m.view);
        e = mount_session(&m, opts);
        inodes_fini(&m.inodes);
    }
    browse_free(m.browse);
    view_free(m.view);
    return e;
}
