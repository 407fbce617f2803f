#include "common/engine/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/repo/gotext.h"

/* Kernel limits (linux/limits.h). */
enum {
    LIST_MAX = XATTR_LIST_MAX,
    VALUE_MAX = XATTR_SIZE_MAX,
    NAMES_MAX = 4096,
    LIST_STEP = 32 << 10
};

struct name_of_id {
    uint32_t id;
    char *name; /* "" when unknown */
};

struct name_list {
    struct name_of_id *items;
    size_t n;
    size_t cap;
};

struct scan_names {
    struct name_list users;
    struct name_list groups;
};

struct scan_names *scan_names_new(void)
{
    return mem_zalloc(sizeof(struct scan_names));
}

static void name_list_fini(struct name_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].name);
    free(l->items);
    *l = (struct name_list){0};
}

void scan_names_free(struct scan_names *s)
{
    if (!s)
        return;
    name_list_fini(&s->users);
    name_list_fini(&s->groups);
    free(s);
}

static void look_up(uint32_t id, bool group, char *text, size_t n)
{
    char room[8192];
    struct passwd pw, *pw_found = NULL;
    struct group gr, *gr_found = NULL;
    text[0] = '\0';
    if (group && getgrgid_r(id, &gr, room, sizeof room, &gr_found) == 0 && gr_found)
        snprintf(text, n, "%s", gr.gr_name);
    if (!group && getpwuid_r(id, &pw, room, sizeof room, &pw_found) == 0 && pw_found)
        snprintf(text, n, "%s", pw.pw_name);
}

/* Borrowed name of an id; few distinct ids own all files of a host. */
static const char *name_of(struct name_list *l, uint32_t id, bool group)
{
    char text[256];
    for (size_t i = 0; i < l->n; i++)
        if (l->items[i].id == id)
            return l->items[i].name;
    look_up(id, group, text, sizeof text);
    if (l->n >= NAMES_MAX)
        name_list_fini(l);
    mem_reserve((void **)&l->items, &l->cap, l->n, sizeof *l->items);
    l->items[l->n] = (struct name_of_id){id, mem_strdup(text)};
    return l->items[l->n++].name;
}

const char *scan_user(struct scan_names *names, uint32_t uid)
{
    return name_of(&names->users, uid, false);
}

const char *scan_group(struct scan_names *names, uint32_t gid)
{
    return name_of(&names->groups, gid, true);
}

struct err *scan_open_dir(int at_fd, const char *name, int *out)
{
    *out = openat(at_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*out < 0)
        return err_os(errno, "open directory '%s'", name);
    return NULL;
}

struct err *scan_open_file(int at_fd, const char *name, int *out, struct stat *st)
{
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    AUTO(fd) int fd = openat(at_fd, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(at_fd, name, flags);
    if (fd < 0)
        return err_os(errno, "open '%s'", name);
    if (fstat(fd, st))
        return err_os(errno, "look at '%s'", name);
    if (!S_ISREG(st->st_mode))
        return err_new(ERR_INVALID, "'%s' is not a regular file any more", name);
    *out = fd_steal(&fd);
    return NULL;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_add(struct buf *names, size_t *n, const char *s)
{
    buf_add(names, s, strlen(s) + 1);
    (*n)++;
}

struct err *scan_list(int dir_fd, struct buf *names, size_t *n)
{
    _Alignas(struct dirent64) char room[LIST_STEP];
    ssize_t got;
    if (lseek(dir_fd, 0, SEEK_SET) < 0)
        return err_os(errno, "list");
    while ((got = getdents64(dir_fd, room, sizeof room)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct dirent64 *entry = (const struct dirent64 *)(room + at);
            const char *s = entry->d_name;
            if (s[0] != '.' || (s[1] && (s[1] != '.' || s[2])))
                names_add(names, n, s);
            at += entry->d_reclen;
        }
    }
    return got < 0 ? err_os(errno, "list") : NULL;
}

struct err *scan_dir(int dir_fd, struct strings *out)
{
    AUTO_BUF struct buf names = {0};
    size_t n = 0;
    TRY(scan_list(dir_fd, &names, &n));
    const char *s = buf_text(&names);
    for (size_t i = 0; i < n; i++, s += strlen(s) + 1)
        strings_add(out, s);
    if (out->n)
        qsort(out->items, out->n, sizeof *out->items, by_bytes);
    return NULL;
}

/* Where an entry's attributes are reached: its descriptor, or a path that follows nothing
 * but the kernel's own link to the directory. */
struct attr_place {
    int fd;
    char *path;
};

static ssize_t list_attrs(const struct attr_place *p, char *room, size_t n)
{
    return p->fd >= 0 ? flistxattr(p->fd, room, n) : llistxattr(p->path, room, n);
}

static ssize_t get_attr(const struct attr_place *p, const char *name, void *room,
                        size_t n)
{
    return p->fd >= 0 ? fgetxattr(p->fd, name, room, n)
                      : lgetxattr(p->path, name, room, n);
}

static struct err *read_attrs(const struct attr_place *p, struct node *out)
{
    ssize_t n = list_attrs(p, NULL, 0);
    if (n == 0 || (n < 0 && (errno == ENOTSUP || errno == ENOSYS)))
        return NULL;
    if (n < 0)
        return err_os(errno, "list extended attributes");
    AUTO(str) char *names = mem_alloc(LIST_MAX + 1);
    AUTO(str) char *value = mem_alloc(VALUE_MAX);
    n = list_attrs(p, names, LIST_MAX);
    if (n < 0)
        return err_os(errno, "list extended attributes");
    names[n] = '\0';
    for (const char *s = names; s < names + n; s += strlen(s) + 1) {
        /* Its JSON would hold another name. */
        if (!go_utf8_valid(s, strlen(s)))
            return err_new(ERR_INVALID,
                           "the name of its extended attribute '%s' is not UTF-8, and no "
                           "repository can hold it: remove the attribute, or exclude the "
                           "file",
                           s);
        ssize_t got = get_attr(p, s, value, VALUE_MAX);
        if (got < 0 && errno == ENODATA)
            continue;
        if (got < 0)
            return err_os(errno, "read extended attribute '%s'", s);
        node_add_xattr(out, s, value, (size_t)got);
    }
    return NULL;
}

static struct err *read_target(int dir_fd, const char *name, struct node *out)
{
    char room[PATH_MAX + 1];
    ssize_t n = readlinkat(dir_fd, name, room, sizeof room - 1);
    if (n < 0)
        return err_os(errno, "read link");
    out->target = mem_strndup(room, (size_t)n);
    return NULL;
}

static struct go_time time_of(struct timespec t)
{
    return (struct go_time){t.tv_sec, (uint32_t)t.tv_nsec};
}

struct err *scan_extras(int dir_fd, const char *name, int fd, mode_t mode,
                        struct node *out)
{
    if (S_ISLNK(mode))
        TRY(read_target(dir_fd, name, out));
    AUTO(str)
    char *path = fd >= 0 ? NULL : mem_printf("/proc/self/fd/%d/%s", dir_fd, name);
    const struct attr_place place = {fd, path};
    return read_attrs(&place, out);
}

struct err *scan_node(struct scan_names *names, int dir_fd, const char *name, int fd,
                      const struct stat *st, struct node *out)
{
    const char *user = name_of(&names->users, st->st_uid, false);
    const char *group = name_of(&names->groups, st->st_gid, true);
    out->type = node_type_of(st->st_mode);
    out->name = mem_strdup(name);
    out->mode = node_mode(st->st_mode);
    out->mtime = time_of(st->st_mtim);
    out->atime = out->mtime; /* the real one would make every tree new */
    out->ctime = time_of(st->st_ctim);
    out->uid = st->st_uid;
    out->gid = st->st_gid;
    out->user = *user ? mem_strdup(user) : NULL;
    out->group = *group ? mem_strdup(group) : NULL;
    out->inode = st->st_ino;
    if (out->type != NODE_DIR && out->type != NODE_FIFO)
        out->links = st->st_nlink;
    if (out->type == NODE_DEV || out->type == NODE_CHARDEV)
        out->device = st->st_rdev;
    return scan_extras(dir_fd, name, fd, st->st_mode, out);
}

bool scan_is_excluded(const char *const *patterns, size_t n, const char *root,
                      const char *path, const char *name)
{
    AUTO(str) char *logical = n ? mem_printf("%s%s", root, path) : NULL;
    for (size_t i = 0; i < n; i++) {
        if (patterns[i][0] != '/' ? fnmatch(patterns[i], name, 0) == 0
                                  : fnmatch(patterns[i], path, FNM_PATHNAME) == 0 ||
                                        fnmatch(patterns[i], logical, FNM_PATHNAME) == 0)
            return true;
    }
    return false;
}
