#include "coordinator/ctl/cmd_mount.h"

#include <stdio.h>

#include "common/mount/mount.h"
#include "coordinator/ctl/repo_access.h"

const struct ctl_option cmd_mount_options[] = {
    REPO_OPTIONS,
    NO_LOCK_OPTION,
    CACHE_OPTION,
    {"allow-other", NULL, "let other users look, each as the files' modes permit", 0},
    {0},
};

static void say_ready(void *ctx)
{
    const struct ctl *c = ctx;
    if (c->json) {
        ctl_print_json(
            json_pack("{s:s, s:s}", "message_type", "mounted", "dir", c->args[0]));
        fflush(stdout);
    }
    ctl_say(c, "mounted on '%s'; end it with Ctrl-C or umount\n", c->args[0]);
}

int cmd_mount(struct ctl *c)
{
    AUTO_ACCESS struct repo_access a = {0};
    const struct mount_opts opts = {
        .dir = c->args[0],
        .allow_other = ctl_has(c, "allow-other"),
        .ready = say_ready,
        .ready_ctx = c,
    };
    int rc = repo_access_open(c, true, true, &a);
    if (rc)
        return rc;
    struct err *e = mount_run(a.repo, &opts);
    return e ? ctl_fail(c, e, CTL_FAILED) : CTL_OK;
}
