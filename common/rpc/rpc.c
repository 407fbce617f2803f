#include "common/rpc/rpc.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/obs/log.h"

enum { LOG_LINES_PER_S = 20 };

bool rpc_may_log(void)
{
    static atomic_long second;
    static atomic_int lines;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    if (atomic_exchange(&second, now.tv_sec) != now.tv_sec)
        atomic_store(&lines, 0);
    return atomic_fetch_add(&lines, 1) < LOG_LINES_PER_S;
}

static void to_our_log(gpr_log_func_args *args)
{
    if (args->severity != GPR_LOG_SEVERITY_ERROR)
        log_debug("grpc", "library", "message=\"%s\"", args->message);
    else if (rpc_may_log())
        log_warn("grpc", "library", "message=\"%s\"", args->message);
}

/* GRPC_VERBOSITY, GRPC_TRACE, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH and their like would let
 * the environment change what a daemon does. */
static void scrub_environment(void)
{
    for (size_t i = 0; environ && environ[i];) {
        const char *end = strchr(environ[i], '=');
        if (strncmp(environ[i], "GRPC_", 5) != 0 || !end) {
            i++;
            continue;
        }
        AUTO(str) char *name = mem_strndup(environ[i], (size_t)(end - environ[i]));
        unsetenv(name); /* moves the rest of environ down */
    }
}

void rpc_init(void)
{
    scrub_environment();
    signal(SIGPIPE, SIG_IGN);
    /* Some twenty threads that mostly sleep: an arena for each only fragments. */
    mallopt(M_ARENA_MAX, 2);
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    gpr_set_log_function(to_our_log);
    grpc_init();
}

void rpc_fini(void)
{
    grpc_shutdown_blocking();
}
