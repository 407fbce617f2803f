#include "agent/guardian/nested.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/guardian/place.h"
#include "common/file/fd.h"
#include "common/base/mem.h"

/* ---- Mounts ---- */

static struct err *check_mount(void *ctx, const struct place_mount *m)
{
    const struct config_partition *p = ctx;
    size_t top = strcmp(p->path, "/") == 0 ? 0 : strlen(p->path);
    if (!config_path_within(m->point, p->path) || m->point[top] == 0 ||
        config_excludes(p, m->point + top))
        return NULL;
    return err_new(
        ERR_INVALID,
        "a %s filesystem is mounted inside, at '%s', and would be missing; add "
        "'%s' to exclude, and make it a partition of its own if it matters",
        m->type, m->point, m->point + top);
}

/* ---- Subvolumes ---- */

/* A partition's place among the subvolumes. */
struct subvolume {
    const struct config_partition *part;
    int fd;             /* of the partition */
    uint64_t tree;      /* of the subvolume that it lies in */
    const char *inside; /* where in it: "" or "a/b/"; borrowed */
};

/* The path of folder `dirid` within the subvolume: "" or "a/b/". */
static struct err *folder_path(const struct subvolume *s, uint64_t dirid, char **out)
{
    struct btrfs_ioctl_ino_lookup_args args = {.treeid = s->tree, .objectid = dirid};
    if (ioctl(s->fd, BTRFS_IOC_INO_LOOKUP, &args) != 0)
        return err_os(errno, "find a folder of the subvolume of '%s'", s->part->path);
    args.name[sizeof(args.name) - 1] = 0;
    *out = mem_strdup(args.name);
    return NULL;
}

static struct err *check_subvolume(const struct subvolume *s,
                                   const struct btrfs_root_ref *ref, size_t bytes)
{
    size_t len = le16toh(ref->name_len), top = strlen(s->inside);
    if (bytes < sizeof(*ref) || bytes - sizeof(*ref) < len)
        return err_new(ERR_CORRUPT, "the kernel gave a short subvolume entry");
    AUTO(str) char *folder = NULL;
    TRY(folder_path(s, le64toh(ref->dirid), &folder));
    if (strncmp(folder, s->inside, top) != 0)
        return NULL; /* beside the partition */
    AUTO(str) char *name = mem_strndup((const char *)(ref + 1), len);
    AUTO(str) char *rel = mem_printf("/%s%s", folder + top, name);
    if (config_excludes(s->part, rel))
        return NULL;
    return err_new(
        ERR_INVALID,
        "the btrfs subvolume '%s%s' lies inside and would be an empty folder in "
        "the snapshot; add '%s' to exclude, and make it a partition of its own "
        "if it matters",
        s->part->path, rel, rel);
}

/* One page of the answer of TREE_SEARCH; moves the key behind it. */
static struct err *check_page(const struct subvolume *s,
                              struct btrfs_ioctl_search_args *args)
{
    const char *at = args->buf;
    for (uint32_t i = 0; i < args->key.nr_items; i++) {
        struct btrfs_ioctl_search_header head;
        memcpy(&head, at, sizeof(head));
        at += sizeof(head);
        if (head.type == BTRFS_ROOT_REF_KEY && head.objectid == s->tree)
            TRY(check_subvolume(s, (const struct btrfs_root_ref *)at, head.len));
        at += head.len;
        args->key.min_offset = head.offset + 1;
    }
    return NULL;
}

static struct err *search(const struct subvolume *s)
{
    struct btrfs_ioctl_search_args args = {.key = {.tree_id = BTRFS_ROOT_TREE_OBJECTID,
                                                   .min_objectid = s->tree,
                                                   .max_objectid = s->tree,
                                                   .max_offset = UINT64_MAX,
                                                   .max_transid = UINT64_MAX,
                                                   .min_type = BTRFS_ROOT_REF_KEY,
                                                   .max_type = BTRFS_ROOT_REF_KEY}};
    do {
        args.key.nr_items = 4096;
        if (ioctl(s->fd, BTRFS_IOC_TREE_SEARCH, &args) != 0)
            return err_os(errno, "list the subvolumes inside '%s'", s->part->path);
        TRY(check_page(s, &args));
    } while (args.key.nr_items > 0);
    return NULL;
}

static struct err *check_subvolumes(const struct config_partition *p, uint64_t ino)
{
    AUTO(fd) int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open '%s'", p->path);
    struct btrfs_ioctl_ino_lookup_args own = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &own) != 0)
        return err_os(errno, "ask which subvolume '%s' lies in", p->path);
    struct subvolume s = {.part = p, .fd = fd, .tree = own.treeid};
    AUTO(str) char *inside = NULL;
    TRY(folder_path(&s, ino, &inside));
    s.inside = inside;
    return search(&s);
}

struct err *nested_check(const struct config_partition *p)
{
    TRY(place_each_mount(check_mount, (void *)p));
    struct place at;
    TRY(place_of(p->path, &at));
    return at.btrfs ? check_subvolumes(p, at.ino) : NULL;
}

/* ---- What is served from inside ---- */

static struct err *check_loop(const struct config_partition *p, const char *device)
{
    AUTO(str) char *path = mem_printf("/sys/block/%s/loop/backing_file", device);
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL; /* not set up */
    char file[4097];
    bool got = fgets(file, sizeof(file), f) != NULL;
    fclose(f);
    if (!got)
        return NULL;
    file[strcspn(file, "\n")] = 0;
    if (!config_path_within(file, p->path))
        return NULL;
    return err_new(
        ERR_INVALID,
        "loop device /dev/%s is backed by '%s', and what is written through it "
        "is not stopped; detach it (losetup -d /dev/%s) or keep that file "
        "elsewhere",
        device, file, device);
}

static struct err *check_loops(const struct config_partition *p)
{
    DIR *d = opendir("/sys/block");
    if (!d)
        return NULL; /* no block devices to see in this container */
    struct err *e = NULL;
    for (struct dirent *ent; !e && (ent = readdir(d));)
        if (strncmp(ent->d_name, "loop", 4) == 0)
            e = check_loop(p, ent->d_name);
    closedir(d);
    return e;
}

/* "/path\tclient(options)…", one export a line. */
static struct err *check_exports(const struct config_partition *p)
{
    FILE *f = fopen("/proc/fs/nfsd/exports", "re");
    if (!f)
        return NULL; /* no NFS server */
    char *line = NULL;
    size_t cap = 0;
    struct err *e = NULL;
    while (!e && getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\t \n")] = 0;
        if (line[0] == '/' && (config_path_within(line, p->path) ||
                               (config_path_within(p->path, line) && line[1])))
            e = err_new(ERR_INVALID,
                        "NFS exports '%s', and writes of its clients are not stopped by "
                        "quiesce on this machine; unexport it (exportfs -u), or choose "
                        "quiesce fsfreeze",
                        line);
    }
    free(line);
    fclose(f);
    return e;
}

struct err *nested_check_served(const struct config_partition *p)
{
    TRY(check_loops(p));
    /* A frozen filesystem stops the NFS server's writes like everybody's. */
    return p->quiesce.method == CONFIG_FSFREEZE ? NULL : check_exports(p);
}
