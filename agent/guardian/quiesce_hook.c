/* Quiesce hook: the operator's own commands pause and resume the application. Only its
 * word says that it is paused; an optional check is asked again after the capture. */
#include <errno.h>
#include <unistd.h>

#include "agent/guardian/clock.h"
#include "agent/guardian/quiesce.h"

static struct err *check_executable(const char *path)
{
    if (access(path, X_OK) != 0)
        return err_os(errno, "the hook command '%s' cannot be run", path);
    return NULL;
}

static struct err *hook_open(struct quiesce *q, const struct config *c)
{
    (void)c;
    const struct config_hook *h = q->part->quiesce.hook;
    TRY(check_executable(h->freeze[0]));
    TRY(check_executable(h->thaw[0]));
    return h->n_check ? check_executable(h->check[0]) : NULL;
}

static struct err *hook_freeze(struct quiesce *q, int64_t until_ms, bool *undo)
{
    const struct config_hook *h = q->part->quiesce.hook;
    struct command run;
    command_init(&run, h->freeze, h->n_freeze);
    int64_t left_ms = until_ms - clock_ms();
    if (left_ms > q->part->quiesce.timeout_ms)
        left_ms = q->part->quiesce.timeout_ms;
    /* Whatever it had done before it failed, the thaw command undoes. */
    *undo = true;
    return command_run(&run, left_ms);
}

static struct err *hook_recheck(struct quiesce *q)
{
    const struct config_hook *h = q->part->quiesce.hook;
    if (h->n_check == 0)
        return NULL;
    struct command run;
    command_init(&run, h->check, h->n_check);
    return command_run(&run, q->part->quiesce.timeout_ms);
}

const struct quiesce_ops quiesce_hook = {
    .name = "hook",
    .kind = HOLD_HOOK,
    .evidence = EVIDENCE_HOOK,
    .open = hook_open,
    .freeze = hook_freeze,
    .recheck = hook_recheck,
    .thaw = NULL,
};
