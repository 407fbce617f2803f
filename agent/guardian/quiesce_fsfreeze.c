/* Quiesce fsfreeze: the kernel blocks every write to one filesystem (FIFREEZE). It
 * outlives the process that asked, and it cannot be told how long. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/guardian/clock.h"
#include "agent/guardian/place.h"
#include "agent/guardian/quiesce.h"
#include "common/base/mem.h"

#define PROBE_MS 1000

/* Removing an attribute that does not exist asks for write access and changes nothing: it
 * returns at once unless the filesystem is frozen, and then blocks beyond the reach of
 * signals. Hence a process of its own, which is left behind if need be. */
static struct err *probe_foreign_freeze(const struct quiesce *q)
{
    pid_t pid = fork();
    if (pid < 0)
        return err_os(errno, "start a probe of '%s'", q->part->path);
    if (pid == 0) {
        /* Left behind, it must keep nothing else open, the lock of the doers least. */
        dup2(q->thaw_fd, STDIN_FILENO);
        close_range(1, ~0U, 0);
        fremovexattr(STDIN_FILENO, "user.stillpoint.probe");
        _exit(0);
    }
    for (int64_t until_ms = clock_ms() + PROBE_MS; clock_ms() < until_ms;) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return NULL;
        poll(NULL, 0, 2);
    }
    kill(pid, SIGKILL);
    return err_new(
        ERR_CONFLICT,
        "a write to '%s' did not return within %d ms: the filesystem is frozen "
        "by somebody else (fsfreeze -u '%s' ends that) or its disk hangs",
        q->part->path, PROBE_MS, q->part->path);
}

static struct err *fsfreeze_open(struct quiesce *q, const struct config *c)
{
    TRY(place_may_freeze(q->part->path, c->state_dir, c->guardian_socket));
    q->target = mem_strdup(q->part->path);
    q->thaw_fd = open(q->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (q->thaw_fd < 0)
        return err_os(errno, "open '%s'", q->target);
    return probe_foreign_freeze(q);
}

static struct err *fsfreeze_freeze(struct quiesce *q, int64_t until_ms, bool *undo)
{
    (void)until_ms; /* nothing stops the flush inside */
    *undo = false;
    if (ioctl(q->thaw_fd, FIFREEZE, 0) == 0)
        return NULL;
    if (errno == EBUSY)
        return err_new(ERR_CONFLICT, "'%s' was frozen by somebody else meanwhile",
                       q->target);
    if (errno == EOPNOTSUPP)
        return err_new(
            ERR_INVALID,
            "the filesystem at '%s' cannot be frozen; choose quiesce cgroup or "
            "hook",
            q->target);
    return err_os(errno, "freeze '%s'", q->target);
}

/* The kernel does not tell whether a filesystem is frozen, but the thaw does. */
static struct err *fsfreeze_recheck(struct quiesce *q)
{
    (void)q;
    return NULL;
}

static enum quiesce_thaw fsfreeze_thaw(int thaw_fd)
{
    if (ioctl(thaw_fd, FITHAW, 0) == 0)
        return QUIESCE_THAWED;
    return errno == EINVAL ? QUIESCE_NOT_FROZEN : QUIESCE_THAW_FAILED;
}

const struct quiesce_ops quiesce_fsfreeze = {
    .name = "fsfreeze",
    .kind = HOLD_FSFREEZE,
    .evidence = EVIDENCE_KERNEL_CURRENT,
    .open = fsfreeze_open,
    .freeze = fsfreeze_freeze,
    .recheck = fsfreeze_recheck,
    .thaw = fsfreeze_thaw,
};
