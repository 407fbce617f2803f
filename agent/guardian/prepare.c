#include "agent/guardian/prepare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guardian/capture.h"
#include "agent/guardian/clock.h"
#include "agent/guardian/dirty.h"
#include "agent/guardian/nested.h"
#include "agent/guardian/place.h"
#include "agent/guardian/writers.h"
#include "common/file/fd.h"
#include "common/base/mem.h"

struct err *prepare_domain(struct prepare *p, unsigned i)
{
    for (unsigned k = 0; k < p->n_members; k++)
        if (p->domain_of[k] == i)
            return quiesce_open(&p->domains[i], p->config, p->members[k]);
    return err_new(ERR_INVALID, "a domain without members");
}

/* Mounts, open files and exports are known by their real paths: none of those inside
 * would be seen to lie inside. */
static struct err *check_path(const struct config_partition *m)
{
    AUTO(str) char *real = realpath(m->path, NULL);
    if (!real || strcmp(real, m->path) == 0)
        return NULL; /* what is missing is told by others */
    return err_new(ERR_INVALID,
                   "path '%s' leads through a symbolic link; write '%s', or what is "
                   "mounted or open inside would not be found",
                   m->path, real);
}

/* The folder that a filesystem is mounted on is there when it is not. A snapshot of btrfs
 * is only made of what is a subvolume; files are copied of whatever is there. */
static struct err *check_filled(const struct config_partition *m)
{
    bool filled = m->capture.method == CONFIG_BTRFS;
    DIR *d = opendir(m->path);
    const struct dirent *entry;
    if (!d)
        return NULL; /* others tell why */
    while (!filled && (entry = readdir(d))) {
        AUTO(str) char *path = mem_printf("%s/%s", m->path, entry->d_name);
        filled = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                 strcmp(entry->d_name, "lost+found") != 0 &&
                 !config_path_within(m->capture.dir, path);
    }
    closedir(d);
    if (filled)
        return NULL;
    return err_new(ERR_CONFLICT,
                   "'%s' is empty: is its filesystem mounted? If it may be empty, put a "
                   "file there",
                   m->path);
}

/* Copies would hold the copies before them. */
static struct err *check_captures(const struct config_partition *m)
{
    AUTO(str) char *real = realpath(m->capture.dir, NULL);
    if (!real || !config_path_within(real, m->path) ||
        config_path_within(m->capture.dir, m->path))
        return NULL;
    return err_new(ERR_INVALID,
                   "capture dir '%s' leads through a symbolic link into the partition; "
                   "write '%s', so that captures are left out of captures",
                   m->capture.dir, real);
}

/* A frozen agent could not answer, and its guardian would wait for it. */
static struct err *check_agent(const struct prepare *p, const struct config_partition *m)
{
    AUTO(str) char *cgroup = place_cgroup_of(p->agent_pid);
    const char *target = place_domain_cgroup(p->config, m);
    if (cgroup && config_path_within(cgroup, target))
        return err_new(
            ERR_INVALID,
            "cgroup '%s' contains the agent itself (process %d); name a cgroup "
            "that holds the writers only",
            target, (int)p->agent_pid);
    return NULL;
}

/* A capture that writes to what this very set freezes blocks until the hold expires. */
static struct err *check_target(const struct prepare *p, const struct config_partition *m)
{
    struct place target, frozen;
    TRY(place_of(m->capture.dir, &target));
    for (unsigned i = 0; i < p->n_members; i++) {
        const struct config_partition *other = p->members[i];
        if (other->quiesce.method != CONFIG_FSFREEZE)
            continue;
        AUTO(err) struct err *gone = place_of(other->path, &frozen);
        if (!gone && place_same_superblock(&target, &frozen))
            return err_new(ERR_INVALID,
                           "capture dir '%s' lies on the filesystem that the set freezes "
                           "for partition '%s' ('%s'); choose a dir on another one",
                           m->capture.dir, other->name, other->path);
    }
    return NULL;
}

/* The first flush takes away what piled up; the second shows what a freeze would wait
 * for. */
static struct err *flush_twice(const struct prepare *p, const struct config_partition *m,
                               struct prepare_cost *out)
{
    const char *path = m->path;
    AUTO(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open '%s'", path);
    if (syncfs(fd) != 0)
        return err_os(errno, "flush '%s'", path);
    out->dirty_bytes = dirty_bytes(p->config, m);
    int64_t from_ns = clock_ns();
    if (syncfs(fd) != 0)
        return err_os(errno, "flush '%s'", path);
    out->flush_ms = (clock_ns() - from_ns) / 1000000;
    return NULL;
}

static struct err *check_pause(const struct prepare *p, int64_t pause_ms)
{
    if (p->hold_ms == 0 || pause_ms <= p->hold_ms / 2)
        return NULL;
    return err_new(
        ERR_CONFLICT,
        "the pause is expected to take %lld ms, more than half of the hold "
        "limit (%lld ms); raise hold_limit, choose capture btrfs or reflink, or "
        "wait until the disk is less busy",
        (long long)pause_ms, (long long)p->hold_ms);
}

struct err *prepare_member(struct prepare *p, unsigned i, struct prepare_cost *out)
{
    const struct config_partition *m = p->members[i];
    TRY(place_of(m->path, &p->at[i]));
    TRY(check_path(m));
    TRY(check_filled(m));
    TRY(nested_check(m));
    TRY(nested_check_served(m));
    if (m->quiesce.method == CONFIG_CGROUP) {
        TRY(check_agent(p, m));
        TRY(writers_check(m, place_domain_cgroup(p->config, m)));
    }
    TRY(capture_of(m->capture.method)->check(m, &out->capture_ms));
    TRY(check_captures(m));
    TRY(check_target(p, m));
    TRY(flush_twice(p, m, out));
    return check_pause(p, out->flush_ms + out->capture_ms);
}

struct err *prepare_open(const struct prepare *p, unsigned i, int *out)
{
    const char *path = p->members[i]->path;
    AUTO(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_os(errno, "open '%s'", path);
    if (st.st_dev != p->at[i].dev || st.st_ino != p->at[i].ino)
        return err_new(ERR_CONFLICT,
                       "'%s' is another folder than the one that was checked and paused: "
                       "it was replaced, or something was mounted there; take the set "
                       "again",
                       path);
    *out = fd_steal(&fd);
    return NULL;
}
