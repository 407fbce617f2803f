/* Quiesce cgroup: the kernel stops every process of a control group and those below it
 * (cgroup v2 freezer). Nothing is flushed; what was written is in the page cache, which
 * btrfs snapshots, reflinks and copies see. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guardian/clock.h"
#include "agent/guardian/place.h"
#include "agent/guardian/quiesce.h"
#include "common/file/fd.h"
#include "common/base/mem.h"

#define MAX_TASKS 65536
#define MAX_DEPTH 32

/* ---- The processes ---- */

struct listing {
    struct quiesce_task *items;
    size_t n, cap;
};

/* Field 22 of stat; the name in field 2 may hold anything, ')' too. */
static bool read_start(int pid, uint64_t *out)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return false;
    text[n] = 0;
    const char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p && sscanf(p, " %" SCNu64, out) == 1;
}

static struct err *list_procs(int dir, struct listing *l)
{
    int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f)
        return err_os(errno, "read cgroup.procs");
    int pid;
    struct err *e = NULL;
    while (!e && fscanf(f, "%d", &pid) == 1) {
        if (l->n == MAX_TASKS) {
            e = err_new(ERR_LIMIT, "more than %d processes in the cgroup", MAX_TASKS);
            break;
        }
        mem_reserve((void **)&l->items, &l->cap, l->n, sizeof(*l->items));
        struct quiesce_task *t = &l->items[l->n++];
        t->pid = pid;
        if (!read_start(pid, &t->start))
            t->start = 0; /* gone: the comparison will tell */
    }
    fclose(f);
    return e;
}

static struct err *list_tree(int dir, int depth, struct listing *l)
{
    TRY(list_procs(dir, l));
    if (depth == MAX_DEPTH)
        return err_new(ERR_LIMIT, "cgroups are nested deeper than %d", MAX_DEPTH);
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d)
        return err_os(errno, "list cgroups");
    struct err *e = NULL;
    for (struct dirent *ent; !e && (ent = readdir(d));) {
        if (ent->d_type != DT_DIR || ent->d_name[0] == '.')
            continue;
        AUTO(fd)
        int sub = openat(dir, ent->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (sub >= 0)
            e = list_tree(sub, depth + 1, l);
    }
    closedir(d);
    return e;
}

static int by_pid(const void *a, const void *b)
{
    const struct quiesce_task *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct err *list_tasks(const char *folder, struct listing *l)
{
    *l = (struct listing){0};
    AUTO(fd) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_os(errno, "open '%s'", folder);
    struct err *e = list_tree(dir, 0, l);
    if (e) {
        free(l->items);
        return err_wrap(e, "list the processes of '%s'", folder);
    }
    if (l->n)
        qsort(l->items, l->n, sizeof(*l->items), by_pid);
    return NULL;
}

static bool same_tasks(const struct quiesce *q, const struct listing *l)
{
    if (q->n_tasks != l->n)
        return false;
    for (size_t i = 0; i < l->n; i++)
        if (q->tasks[i].pid != l->items[i].pid || q->tasks[i].start != l->items[i].start)
            return false;
    return true;
}

/* ---- Its state ---- */

struct events {
    bool populated, frozen;
};

static struct err *read_events(int fd, struct events *out)
{
    char text[256];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    if (n < 0)
        return err_os(errno, "read cgroup.events");
    text[n] = 0;
    out->populated = strstr(text, "populated 1") != NULL;
    out->frozen = strstr(text, "frozen 1") != NULL;
    return NULL;
}

static char *folder_of(const char *freeze_file)
{
    return mem_strndup(freeze_file, (size_t)(strrchr(freeze_file, '/') - freeze_file));
}

static struct err *cgroup_open(struct quiesce *q, const struct config *c)
{
    AUTO(str) char *mount = NULL;
    TRY(place_cgroup_mount(&mount));
    const char *cgroup = place_domain_cgroup(c, q->part);
    AUTO(str) char *own = place_own_cgroup();
    if (own && config_path_within(own, cgroup))
        return err_new(ERR_INVALID,
                       "cgroup '%s' contains the guardian itself ('%s'), which could not "
                       "thaw any more; name a cgroup that holds the writers only",
                       cgroup, own);
    q->target = mem_printf("%s%s/cgroup.freeze", mount, cgroup);
    AUTO(str) char *events = mem_printf("%s%s/cgroup.events", mount, cgroup);
    q->thaw_fd = open(q->target, O_WRONLY | O_CLOEXEC);
    q->events_fd = open(events, O_RDONLY | O_CLOEXEC);
    if (q->thaw_fd < 0 || q->events_fd < 0)
        return err_os(errno, "open cgroup '%s' ('%s'); is the service running?", cgroup,
                      q->target);
    struct events now;
    TRY(read_events(q->events_fd, &now));
    if (now.frozen)
        return err_new(ERR_CONFLICT,
                       "cgroup '%s' is frozen already, by somebody else; thaw it first",
                       cgroup);
    if (!now.populated)
        return err_new(ERR_CONFLICT,
                       "cgroup '%s' holds no process: start the service, or mark the "
                       "partition read_only with quiesce none",
                       cgroup);
    return NULL;
}

static struct err *wait_frozen(struct quiesce *q, int64_t until_ms)
{
    struct events now = {0};
    for (;;) {
        TRY(read_events(q->events_fd, &now));
        int64_t left_ms = until_ms - clock_ms();
        if (now.frozen)
            break;
        if (left_ms <= 0)
            return err_new(ERR_TIMEOUT,
                           "'%s' was not frozen in time; a process of it is blocked in "
                           "the kernel, perhaps on another frozen filesystem",
                           q->target);
        struct pollfd p = {.fd = q->events_fd, .events = POLLPRI};
        /* Short: the kernel delays the notice of quick changes. */
        poll(&p, 1, left_ms < 5 ? (int)left_ms : 5);
    }
    if (!now.populated)
        return err_new(ERR_CONFLICT, "'%s' holds no process any more", q->target);
    return NULL;
}

static struct err *cgroup_freeze(struct quiesce *q, int64_t until_ms, bool *undo)
{
    *undo = true;
    if (pwrite(q->thaw_fd, "1", 1, 0) != 1)
        return err_os(errno, "freeze '%s'", q->target);
    TRY(wait_frozen(q, until_ms));
    AUTO(str) char *folder = folder_of(q->target);
    struct listing l;
    TRY(list_tasks(folder, &l));
    free(q->tasks);
    q->tasks = l.items;
    q->n_tasks = l.n;
    return NULL;
}

static struct err *cgroup_recheck(struct quiesce *q)
{
    struct events now;
    TRY(read_events(q->events_fd, &now));
    if (!now.frozen || !now.populated)
        return err_new(ERR_CONFLICT, "'%s' did not stay frozen", q->target);
    AUTO(str) char *folder = folder_of(q->target);
    struct listing l;
    TRY(list_tasks(folder, &l));
    bool same = same_tasks(q, &l);
    free(l.items);
    if (!same)
        return err_new(ERR_CONFLICT, "processes entered or left '%s' while it was frozen",
                       folder);
    return NULL;
}

static enum quiesce_thaw cgroup_thaw(int thaw_fd)
{
    if (pwrite(thaw_fd, "0", 1, 0) == 1)
        return QUIESCE_THAWED;
    return errno == ENODEV ? QUIESCE_NOT_FROZEN : QUIESCE_THAW_FAILED;
}

const struct quiesce_ops quiesce_cgroup = {
    .name = "cgroup",
    .kind = HOLD_CGROUP,
    .evidence = EVIDENCE_KERNEL,
    .open = cgroup_open,
    .freeze = cgroup_freeze,
    .recheck = cgroup_recheck,
    .thaw = cgroup_thaw,
};
