/* stillpoint-guardian: thaws what an earlier one left frozen, then serves the agent. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/guardian/freezelog.h"
#include "agent/guardian/keeper.h"
#include "agent/guardian/urgency.h"
#include "agent/shell/config.h"
#include "common/base/mem.h"
#include "common/obs/daemon.h"
#include "common/obs/log.h"
#include "common/obs/notify.h"

#define DYING_MS 1000   /* how long a keeper that was killed is waited for */
#define ORPHANS_MS 2000 /* how long doers of a dead keeper are waited for */
#define BACKLOG 8

/* The folder of a path, made if it is not there. */
static struct err *make_dir(const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return err_os(errno, "make '%s'", path);
    return NULL;
}

/* Opens dir/name and locks it, unless somebody else has it for as long as this. */
static struct err *lock_file(const char *dir, const char *name, int patience_ms, int *fd,
                             bool *locked)
{
    AUTO(str) char *path = mem_printf("%s/%s", dir, name);
    *fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*fd < 0)
        return err_os(errno, "open '%s'", path);
    for (int waited_ms = 0;; waited_ms += 10) {
        *locked = flock(*fd, LOCK_EX | LOCK_NB) == 0;
        if (!*locked && errno != EWOULDBLOCK)
            return err_os(errno, "lock '%s'", path);
        if (*locked || waited_ms >= patience_ms)
            return NULL;
        poll(NULL, 0, 10);
    }
}

/* Doers whose keeper died thaw what they hold and exit. One that hangs in a freeze call
 * will still undo it when that returns; it is not waited for longer than this. */
static struct err *wait_for_orphans(const char *dir, int *life_lock)
{
    bool locked;
    TRY(lock_file(dir, "doers.lock", ORPHANS_MS, life_lock, &locked));
    if (!locked)
        log_warn("guardian", "orphans",
                 "error=\"an earlier guardian's doer still lives\"");
    return NULL;
}

/* Only root may connect; the folder and the mode say so, and SO_PEERCRED again. */
static struct err *listen_at(const char *path, int *out)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path))
        return err_new(ERR_INVALID, "guardian_socket '%s' is longer than %zu bytes", path,
                       sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_os(errno, "make a socket");
    *out = fd;
    unlink(path);
    mode_t old = umask(0177);
    int failed = bind(fd, (struct sockaddr *)&a, sizeof(a));
    int os = errno;
    umask(old);
    if (failed || listen(fd, BACKLOG) != 0)
        return err_os(failed ? os : errno, "listen at '%s'", path);
    return NULL;
}

static void block_stops(void)
{
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* Recovery comes before everything that could fail. */
static struct err *start(const struct config *c, const char *runtime, int *life_lock)
{
    bool alone;
    int keeper_lock; /* kept open, and locked, until the process ends */
    /* One that was killed lives on for a moment; what it froze must not wait for a
     * second start. */
    TRY(lock_file(runtime, "keeper.lock", DYING_MS, &keeper_lock, &alone));
    if (!alone)
        return err_new(ERR_CONFLICT, "another guardian runs already ('%s/keeper.lock')",
                       runtime);
    freezelog_recover(c, runtime);
    TRY(wait_for_orphans(runtime, life_lock));
    unsigned left = 0;
    for (int i = 0; i < 10; i++) {
        left = freezelog_recover(c, runtime);
        if (left == 0)
            return NULL;
        poll(NULL, 0, 100);
    }
    log_error("guardian", "recover",
              "error=\"%u domains could not be thawed; see above\"", left);
    return NULL;
}

static struct err *serve(const struct config *c)
{
    AUTO(str) char *folder = mem_strdup(c->guardian_socket);
    *strrchr(folder, '/') = 0;
    AUTO(str) char *runtime = mem_printf("%s/guardian", folder);
    TRY(make_dir(folder[0] ? folder : "/", 0755));
    TRY(make_dir(runtime, 0700));
    int life_lock = -1, listen_fd = -1;
    TRY(start(c, runtime, &life_lock));
    TRY(listen_at(c->guardian_socket, &listen_fd));
    TRY(keeper_init(c, runtime, listen_fd, life_lock));
    notify_ready(NULL, "serving");
    log_info("guardian", "ready", "node=%s partitions=%zu", c->node, c->n_partitions);
    keeper_run();
    notify_stopping();
    unlink(c->guardian_socket);
    return NULL;
}

static struct err *run(const char *path, bool check_only)
{
    AUTO(config) struct config *c = NULL;
    TRY(config_read(path, &c));
    if (check_only)
        return NULL;
    log_never_wait(); /* a journal that hangs must not keep writers waiting */
    urgency_init();
    block_stops();
    return serve(c);
}

int main(int argc, char **argv)
{
    static const struct daemon self = {
        .name = "stillpoint-guardian",
        .purpose =
            "Freezes, captures and thaws what the configuration names, on behalf of the "
            "agent on\nthis machine, and thaws it whatever happens to the agent or to "
            "itself.",
        .default_config = CONFIG_DEFAULT_PATH,
        .run = run,
    };
    return daemon_main(&self, argc, argv);
}
