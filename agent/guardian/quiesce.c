#include "agent/guardian/quiesce.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct err *none_open(struct quiesce *q, const struct config *c)
{
    (void)q;
    (void)c;
    return NULL;
}

static struct err *none_freeze(struct quiesce *q, int64_t until_ms, bool *undo)
{
    (void)q;
    (void)until_ms;
    *undo = false;
    return NULL;
}

static struct err *none_recheck(struct quiesce *q)
{
    (void)q;
    return NULL;
}

static enum quiesce_thaw none_thaw(int thaw_fd)
{
    (void)thaw_fd;
    return QUIESCE_THAWED;
}

const struct quiesce_ops quiesce_none = {
    .name = "none",
    .kind = HOLD_NONE,
    .evidence = EVIDENCE_HOOK, /* the operator's word that nobody writes */
    .open = none_open,
    .freeze = none_freeze,
    .recheck = none_recheck,
    .thaw = none_thaw,
};

const struct quiesce_ops *quiesce_of(int method)
{
    static const struct quiesce_ops *const table[] = {
        [CONFIG_NONE] = &quiesce_none,
        [CONFIG_FSFREEZE] = &quiesce_fsfreeze,
        [CONFIG_CGROUP] = &quiesce_cgroup,
        [CONFIG_HOOK] = &quiesce_hook,
    };
    assert((size_t)method < ARRAY_LEN(table));
    return table[method];
}

const struct quiesce_ops *quiesce_by_name(const char *name)
{
    for (int method = CONFIG_NONE; method <= CONFIG_HOOK; method++)
        if (strcmp(quiesce_of(method)->name, name) == 0)
            return quiesce_of(method);
    return NULL;
}

struct err *quiesce_open(struct quiesce *q, const struct config *c,
                         const struct config_partition *part)
{
    *q = (struct quiesce){.ops = quiesce_of(part->quiesce.method),
                          .part = part,
                          .thaw_fd = -1,
                          .events_fd = -1};
    return q->ops->open(q, c);
}

void quiesce_close(struct quiesce *q)
{
    if (q->ops && q->thaw_fd >= 0)
        close(q->thaw_fd);
    if (q->ops && q->events_fd >= 0)
        close(q->events_fd);
    free(q->target);
    free(q->tasks);
    *q = (struct quiesce){.thaw_fd = -1, .events_fd = -1};
}

struct err *quiesce_thaw_target(const struct quiesce_ops *ops, const char *target,
                                int *thaw_fd)
{
    *thaw_fd = -1;
    if (ops == &quiesce_fsfreeze)
        *thaw_fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    else if (ops == &quiesce_cgroup)
        *thaw_fd = open(target, O_WRONLY | O_CLOEXEC);
    else
        return NULL;
    return *thaw_fd < 0 ? err_os(errno, "open '%s' to thaw it", target) : NULL;
}
