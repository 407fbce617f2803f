#include "agent/guardian/place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/file/fd.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

/* ---- Filesystems ---- */

/* Filesystems whose writers are elsewhere, or whose freezing stops in user space. */
static bool type_is_network(long type)
{
    static const uint32_t types[] = {
        NFS_SUPER_MAGIC,         SMB_SUPER_MAGIC,   CIFS_SUPER_MAGIC,
        SMB2_SUPER_MAGIC,        V9FS_MAGIC,        FUSE_SUPER_MAGIC,
        AFS_SUPER_MAGIC,         AFS_FS_MAGIC,      CODA_SUPER_MAGIC,
        CEPH_SUPER_MAGIC,        OCFS2_SUPER_MAGIC, 0x01161970 /* gfs2 */,
        0x0bd00bd0 /* lustre */,
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if ((uint32_t)type == types[i])
            return true;
    return false;
}

struct err *place_of(const char *path, struct place *out)
{
    memset(out, 0, sizeof(*out));
    AUTO(fd)
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return err_new(ERR_INVALID, "'%s' is not a directory", path);
    struct stat st;
    struct statfs fs;
    if (fd < 0 || fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0)
        return err_os(errno, "look at '%s'", path);
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    out->btrfs = (uint32_t)fs.f_type == BTRFS_SUPER_MAGIC;
    out->network = type_is_network(fs.f_type);
    out->used_bytes = (int64_t)(fs.f_blocks - fs.f_bfree) * fs.f_bsize;
    out->free_bytes = (int64_t)fs.f_bavail * fs.f_bsize;
    if (!out->btrfs)
        return NULL;
    struct btrfs_ioctl_fs_info_args info = {0};
    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) != 0)
        return err_os(errno, "ask which btrfs '%s' lies on", path);
    memcpy(out->fsid, info.fsid, sizeof(out->fsid));
    return NULL;
}

struct err *place_of_nearest(const char *path, struct place *out)
{
    AUTO(str) char *at = mem_strdup(path);
    for (;;) {
        struct err *e = place_of(at[0] ? at : "/", out);
        if (!e || e->kind != ERR_NOT_FOUND || at[0] == 0)
            return e;
        err_free(e);
        *strrchr(at, '/') = 0;
    }
}

bool place_same_superblock(const struct place *a, const struct place *b)
{
    if (a->btrfs || b->btrfs)
        return a->btrfs && b->btrfs && memcmp(a->fsid, b->fsid, sizeof(a->fsid)) == 0;
    return a->dev == b->dev;
}

struct err *place_may_freeze(const char *path, const char *state_dir,
                             const char *guardian_socket)
{
    const struct {
        const char *path;
        const char *what;
    } needed[] = {
        {"/", "the root filesystem"},
        {state_dir, "the agent's state"},
        {guardian_socket, "the guardian's journal"},
        {"/var/log", "the system's logs"},
    };
    struct place target;
    TRY(place_of(path, &target));
    if (target.network)
        return err_new(ERR_INVALID,
                       "fsfreeze cannot pause the network or user-space filesystem at "
                       "'%s', which others write too; back it up on the machine that "
                       "serves it, or choose cgroup or hook",
                       path);
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        struct place other;
        AUTO(err) struct err *gone = place_of_nearest(needed[i].path, &other);
        /* A socket is no directory; what counts is the folder that holds it. */
        if (gone && gone->kind == ERR_INVALID) {
            AUTO(str) char *dir = mem_strdup(needed[i].path);
            *strrchr(dir, '/') = 0;
            err_free(gone);
            gone = place_of_nearest(dir, &other);
        }
        if (!gone && place_same_superblock(&target, &other))
            return err_new(ERR_INVALID,
                           "fsfreeze would freeze %s ('%s'), which must be written while "
                           "'%s' is frozen; choose quiesce cgroup or hook, or put the "
                           "partition on a filesystem of its own",
                           needed[i].what, needed[i].path, path);
    }
    struct stat log;
    if (fstat(STDERR_FILENO, &log) == 0 && S_ISREG(log.st_mode) &&
        log.st_dev == target.dev)
        return err_new(
            ERR_INVALID,
            "fsfreeze would freeze the file that this process logs to; send its "
            "output elsewhere, or choose quiesce cgroup or hook");
    return NULL;
}

/* ---- Mounts ---- */

/* Mount points are written with \040 for a blank, and so on. */
static void unescape(char *s)
{
    char *to = s;
    while (*s) {
        if (s[0] == '\\' && s[1] && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    *to = 0;
}

/* "36 35 98:0 /root /point opts tags... - type source superopts" */
static bool parse_mount(char *line, struct place_mount *out)
{
    char *save = NULL;
    char *field[5];
    for (size_t i = 0; i < ARRAY_LEN(field); i++) {
        field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (!field[i])
            return false;
    }
    char *word;
    do
        word = strtok_r(NULL, " ", &save);
    while (word && strcmp(word, "-") != 0);
    char *type = word ? strtok_r(NULL, " ", &save) : NULL;
    if (!type)
        return false;
    unescape(field[3]);
    unescape(field[4]);
    *out = (struct place_mount){.root = field[3], .point = field[4], .type = type};
    return true;
}

struct err *place_each_mount(place_mount_fn *fn, void *ctx)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return err_os(errno, "open '/proc/self/mountinfo'");
    char *line = NULL;
    size_t cap = 0;
    struct err *e = NULL;
    while (!e && getline(&line, &cap, f) > 0) {
        struct place_mount m;
        if (parse_mount(line, &m))
            e = fn(ctx, &m);
    }
    free(line);
    fclose(f);
    return e;
}

/* ---- Control groups ---- */

static struct err *note_cgroup_mount(void *ctx, const struct place_mount *m)
{
    char **found = ctx;
    if (!*found && strcmp(m->type, "cgroup2") == 0 && strcmp(m->root, "/") == 0)
        *found = mem_strdup(m->point);
    return NULL;
}

struct err *place_cgroup_mount(char **out)
{
    AUTO(str) char *found = NULL;
    TRY(place_each_mount(note_cgroup_mount, &found));
    if (!found)
        return err_new(ERR_NOT_FOUND, "no cgroup2 filesystem is mounted");
    *out = STEAL(found);
    return NULL;
}

char *place_cgroup_of(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char *line = NULL, *found = NULL;
    size_t cap = 0;
    while (!found && getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::", 3) == 0)
            found = mem_strdup(line + 3);
    }
    free(line);
    fclose(f);
    return found;
}

char *place_own_cgroup(void)
{
    return place_cgroup_of(getpid());
}

const char *place_domain_cgroup(const struct config *c, const struct config_partition *p)
{
    const char *top = p->quiesce.cgroup;
    for (size_t i = 0; i < c->n_partitions; i++) {
        const struct config_partition *other = &c->partitions[i];
        if (other->quiesce.method == CONFIG_CGROUP &&
            config_path_within(top, other->quiesce.cgroup))
            top = other->quiesce.cgroup;
    }
    return top;
}

/* ---- Domains ---- */

static struct err *domain_of_superblock(const struct config_partition *p, char **out)
{
    struct place at;
    TRY(place_of(p->path, &at));
    if (!at.btrfs) {
        *out = mem_printf("fsfreeze:%u:%u", major(at.dev), minor(at.dev));
        return NULL;
    }
    const uint8_t *u = at.fsid;
    *out = mem_printf("fsfreeze:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                      "%02x%02x%02x%02x%02x%02x",
                      u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10],
                      u[11], u[12], u[13], u[14], u[15]);
    return NULL;
}

struct err *place_domain(const struct config *c, const struct config_partition *p,
                         struct domain_id *out)
{
    AUTO(str) char *what = NULL;
    switch (p->quiesce.method) {
    case CONFIG_FSFREEZE:
        TRY(domain_of_superblock(p, &what));
        break;
    case CONFIG_CGROUP:
        what = mem_printf("cgroup:%s", place_domain_cgroup(c, p));
        break;
    case CONFIG_HOOK:
        what = mem_printf("hook:%s", p->name);
        break;
    default:
        what = mem_printf("none:%s", p->name);
    }
    AUTO(str) char *full = mem_printf("%s/%s", c->node, what);
    if (strlen(full) < sizeof(out->text))
        return domain_copy(out, full);
    /* A path too long for the name; its digest is as unique. */
    struct digest d;
    char hex[65];
    hash_bytes(what, strlen(what), &d);
    digest_hex(&d, hex);
    AUTO(str) char *brief = mem_printf("%s/cgroup:sha256:%s", c->node, hex);
    return domain_copy(out, brief);
}
