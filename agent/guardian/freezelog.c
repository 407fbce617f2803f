#include "agent/guardian/freezelog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/obs/log.h"

#define MAX_SLOTS 16 /* of files looked for when recovering */
#define MARK_FROZEN 'F'
#define MARK_NOTHING '-'

static char *path_of(const char *dir, unsigned slot)
{
    return mem_printf("%s/hold-%u", dir, slot);
}

struct err *freezelog_open(struct freezelog *l, const char *dir, unsigned slot)
{
    assert(slot < MAX_SLOTS && l->fd < 0);
    AUTO(str) char *path = path_of(dir, slot);
    l->end = 0;
    l->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    return l->fd < 0 ? err_os(errno, "create '%s'", path) : NULL;
}

struct err *freezelog_add(struct freezelog *l, unsigned i, const struct quiesce_ops *ops,
                          const char *what)
{
    assert(i < HOLD_MAX_DOMAINS);
    AUTO(str) char *line = mem_printf("%c %s %s\n", MARK_NOTHING, ops->name, what);
    ssize_t n = pwrite(l->fd, line, strlen(line), l->end);
    if (n != (ssize_t)strlen(line))
        return err_os(n < 0 ? errno : ENOSPC, "write the freeze journal");
    l->state_at[i] = l->end;
    l->end += n;
    return NULL;
}

struct err *freezelog_mark(struct freezelog *l, unsigned i, bool may_be_frozen)
{
    assert(l->fd >= 0);
    char mark = may_be_frozen ? MARK_FROZEN : MARK_NOTHING;
    if (pwrite(l->fd, &mark, 1, l->state_at[i]) != 1)
        return err_os(errno, "write the freeze journal");
    return NULL;
}

void freezelog_close(struct freezelog *l, const char *dir, unsigned slot)
{
    if (l->fd < 0)
        return;
    close(l->fd);
    l->fd = -1;
    AUTO(str) char *path = path_of(dir, slot);
    unlink(path);
}

/* ---- After a crash ---- */

static struct err *run_thaw_hook(const struct config *c, const char *name)
{
    const struct config_partition *p = config_partition(c, name);
    if (!p || !p->quiesce.hook)
        return err_new(ERR_NOT_FOUND,
                       "partition '%s' has no hook any more; resume its application by "
                       "hand",
                       name);
    struct command run;
    command_init(&run, p->quiesce.hook->thaw, p->quiesce.hook->n_thaw);
    return command_run(&run, p->quiesce.timeout_ms);
}

static struct err *thaw_target(const struct quiesce_ops *ops, const char *what)
{
    int fd;
    struct err *e = quiesce_thaw_target(ops, what, &fd);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e); /* the cgroup or mount is gone, and its freeze with it */
        return NULL;
    }
    TRY(e);
    enum quiesce_thaw result = ops->thaw(fd);
    int os = errno;
    if (fd >= 0)
        close(fd);
    return result == QUIESCE_THAW_FAILED ? err_os(os, "thaw '%s'", what) : NULL;
}

/* One line without its newline. True when there is nothing (more) to do. */
static bool recover_line(const struct config *c, char *line)
{
    char *method = line + 2;
    char *what = strlen(line) > 2 ? strchr(method, ' ') : NULL;
    if (line[0] != MARK_FROZEN || !what)
        return true;
    *what++ = 0;
    const struct quiesce_ops *ops = quiesce_by_name(method);
    if (!ops)
        return true;
    struct err *e = ops->thaw ? thaw_target(ops, what) : run_thaw_hook(c, what);
    if (!e) {
        log_warn("guardian", "recovered", "method=%s thawed=\"%s\"", method, what);
        return true;
    }
    log_err(LOG_LEVEL_ERROR, "guardian", "recover", e);
    return false;
}

static unsigned recover_file(const struct config *c, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    char *lines[HOLD_MAX_DOMAINS];
    unsigned n = 0, failed = 0;
    char *line = NULL;
    size_t cap = 0;
    while (n < HOLD_MAX_DOMAINS && getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\n")] = 0;
        lines[n++] = mem_strdup(line);
    }
    free(line);
    fclose(f);
    while (n-- > 0) {
        failed += !recover_line(c, lines[n]);
        free(lines[n]);
    }
    if (failed == 0)
        unlink(path);
    return failed;
}

unsigned freezelog_recover(const struct config *c, const char *dir)
{
    unsigned failed = 0;
    for (unsigned slot = 0; slot < MAX_SLOTS; slot++) {
        AUTO(str) char *path = path_of(dir, slot);
        failed += recover_file(c, path);
    }
    return failed;
}
