#include "common/obs/fault.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

_Noreturn void fault_die(void)
{
    for (;;)
        kill(getpid(), SIGKILL);
}

/* Only calls that are safe in the child of a threaded process. */
static _Noreturn void wake_later(pid_t sleeper, int64_t ms)
{
    close_range(0, ~0U, 0);
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (clock_nanosleep(CLOCK_BOOTTIME, 0, &left, &left) == EINTR)
        ;
    kill(sleeper, SIGCONT);
    _exit(0);
}

struct err *fault_stand_still(int64_t ms)
{
    pid_t self = getpid();
    /* A child's child, so that nobody here has to wait for it later. _Fork, since what
     * libraries do at a fork is not wanted, and may wait for threads that are busy. */
    pid_t pid = _Fork();
    if (pid < 0)
        return err_os(errno, "start the process that wakes this one");
    if (pid == 0) {
        pid_t waker = _Fork();
        if (waker == 0)
            wake_later(self, ms);
        _exit(waker < 0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        return err_new(ERR_IO, "the process that wakes this one did not start");
    raise(SIGSTOP); /* this thread comes back only when all are awake */
    return NULL;
}
