#include "agent/guardian/writers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guardian/mappings.h"
#include "agent/guardian/place.h"
#include "common/base/mem.h"

/* A process vanishes at any moment: whatever cannot be read is passed over. */

struct scan {
    const struct config_partition *part;
    struct place at;
    bool whole; /* the partition is all of its device number: st_dev decides */
    int pid;
    char file[4097]; /* the culprit */
};

/* A mount point, or the root of a subvolume: the folder above is on another device. */
static bool is_whole(const struct config_partition *p, const struct place *at)
{
    AUTO(str) char *above = mem_printf("%s/..", p->path);
    struct stat st;
    return strcmp(p->path, "/") == 0 || (stat(above, &st) == 0 && st.st_dev != at->dev);
}

static bool lies_inside(const struct scan *s, const char *path)
{
    size_t top = strcmp(s->part->path, "/") == 0 ? 0 : strlen(s->part->path);
    return config_path_within(path, s->part->path) &&
           !(path[top] && config_excludes(s->part, path + top));
}

/* ---- Descriptors ---- */

static bool fd_is_writable(int pid, const char *fd)
{
    char path[320], line[128];
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", pid, fd);
    FILE *f = fopen(path, "re");
    unsigned flags = 0;
    if (!f)
        return false;
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "flags: %o", &flags) == 1)
            break;
    fclose(f);
    return (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);
}

static bool fd_hits(struct scan *s, const char *fd)
{
    char path[320];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/fd/%s", s->pid, fd);
    if (stat(path, &st) != 0 || st.st_dev != s->at.dev || !S_ISREG(st.st_mode))
        return false;
    ssize_t n = readlink(path, s->file, sizeof(s->file) - 1);
    s->file[n > 0 ? n : 0] = 0;
    /* In another mount namespace the path reads differently; the device does not. */
    if (!lies_inside(s, s->file) &&
        (!s->whole || config_path_within(s->file, s->part->path)))
        return false;
    return fd_is_writable(s->pid, fd);
}

static bool fds_hit(struct scan *s)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", s->pid);
    DIR *d = opendir(path);
    if (!d)
        return false;
    bool hit = false;
    for (struct dirent *ent; !hit && (ent = readdir(d));)
        hit = ent->d_name[0] != '.' && fd_hits(s, ent->d_name);
    closedir(d);
    return hit;
}

/* ---- Mappings ---- */

/* The device that is shown there is the superblock's, which on btrfs is not st_dev; so
 * the path decides. */
static bool maps_here(const void *ctx, const char *path)
{
    return lies_inside(ctx, path);
}

static bool maps_hit(struct scan *s)
{
    return mappings_find(s->pid, MAPPINGS_ASK, maps_here, s, s->file, sizeof(s->file));
}

static struct err *refusal(const struct scan *s, const char *how, const char *cgroup)
{
    char path[64], comm[32] = "?";
    snprintf(path, sizeof(path), "/proc/%d/comm", s->pid);
    FILE *f = fopen(path, "re");
    if (f) {
        if (fgets(comm, sizeof(comm), f))
            comm[strcspn(comm, "\n")] = 0;
        fclose(f);
    }
    return err_new(
        ERR_CONFLICT,
        "process %d (%s) outside cgroup '%s' %s '%s'; move it into the cgroup, "
        "stop it, or choose quiesce fsfreeze or hook",
        s->pid, comm, cgroup, how, s->file);
}

static struct err *check_process(struct scan *s, const char *cgroup)
{
    AUTO(str) char *own = place_cgroup_of(s->pid);
    if (!own || config_path_within(own, cgroup))
        return NULL;
    if (fds_hit(s))
        return refusal(s, "has open for writing", cgroup);
    if (maps_hit(s))
        return refusal(s, "has mapped writable", cgroup);
    return NULL;
}

struct err *writers_check(const struct config_partition *p, const char *cgroup)
{
    struct scan s = {.part = p};
    TRY(place_of(p->path, &s.at));
    s.whole = is_whole(p, &s.at);
    DIR *d = opendir("/proc");
    if (!d)
        return err_os(errno, "open '/proc'");
    struct err *e = NULL;
    for (struct dirent *ent; !e && (ent = readdir(d));) {
        s.pid = (pid_t)strtol(ent->d_name, NULL, 10);
        if (s.pid > 0 && s.pid != getpid())
            e = check_process(&s, cgroup);
    }
    closedir(d);
    return e;
}
