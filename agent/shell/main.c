/* stillpoint-agent: start, serve, stop. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/shell/agent.h"
#include "agent/shell/journal.h"
#include "common/base/mem.h"
#include "common/file/file.h"
#include "common/obs/failpoint.h"
#include "common/obs/daemon.h"
#include "common/obs/leaks.h"
#include "common/obs/log.h"
#include "common/obs/notify.h"
#include "common/rpc/dial.h"

enum { STOP_GRACE_MS = 3000 };

static void finish_stop(void *arg)
{
    struct agent *a = arg;
    loop_stop(a->loop);
}

static void on_signal(void *arg, int signo)
{
    struct agent *a = arg;
    static struct loop_timer grace;
    /* SIGHUP is what restic probes the holder of a lock with. */
    if (signo == SIGHUP || a->stopping)
        return;
    log_info("agent", "stopping", "signal=%d", signo);
    notify_stopping();
    a->stopping = true;
    tasks_stop(a);
    service_end_streams(a);
    rpc_server_drain(a->server, finish_stop, a);
    loop_timer_set(a->loop, &grace, STOP_GRACE_MS, finish_stop, a);
}

static void log_move(void *ctx, const struct sm *m, const char *from, const char *to)
{
    (void)ctx;
    const struct session *s = (const struct session *)m; /* sm is its first member */
    log_info(m->name, "moved", "set=%s from=%s to=%s", s->set.text, from, to);
    failpoint(m->name, to);
}

static struct err *load_journal(struct agent *a)
{
    sessions_init(&a->sessions, &a->node);
    a->sessions.observer = log_move;
    AUTO(str) char *text = NULL;
    size_t n = 0;
    struct err *e = file_read(a->journal_path, JOURNAL_BYTES, &text, &n);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e);
        a->no_journal = true;
        return NULL;
    }
    TRY(e);
    return journal_decode(text, n, &a->sessions);
}

static struct err *open_places(struct agent *a)
{
    a->journal_path = mem_printf("%s/sessions.json", a->conf->state_dir);
    a->work_dir = mem_printf("%s/tasks", a->conf->state_dir);
    TRY(file_mkdirs(a->conf->state_dir, 0700));
    TRY(file_mkdirs(a->work_dir, 0700));
    TRY(file_boot_id(a->boot_id));
    TRY_CTX(load_journal(a), "'%s'", a->journal_path);
    return NULL;
}

void agent_ready(struct agent *a)
{
    if (a->ready)
        return;
    a->ready = true;
    log_info("agent", "started", "cluster=%s node=%s listen=%s port=%d partitions=%zu",
             a->conf->cluster, a->node.text, a->conf->listen, rpc_server_port(a->server),
             a->conf->n_partitions);
    notify_ready(a->loop, "serving");
}

static struct err *serve(struct agent *a)
{
    const struct rpc_tls tls = {a->conf->tls.ca, a->conf->tls.cert, a->conf->tls.key};
    TRY(signer_open(&tls, a->conf->cluster, &a->signer));
    TRY(rpc_client_new(a->loop,
                       &(struct rpc_client_conf){.cluster = a->conf->cluster, .tls = tls},
                       &a->client));
    TRY(rpc_server_new(a->loop,
                       &(struct rpc_server_conf){.listen = a->conf->listen,
                                                 .cluster = a->conf->cluster,
                                                 .tls = tls,
                                                 .beside = a->client},
                       &a->server));
    TRY(service_add(a));
    TRY_CTX(rpc_server_start(a->server), "listen on '%s'", a->conf->listen);
    a->channels = mem_array(a->conf->n_coordinators, sizeof(void *));
    for (size_t i = 0; i < a->conf->n_coordinators; i++)
        a->channels[i] = rpc_dial(a->client, a->conf->coordinators[i], RPC_COORDINATOR);
    return NULL;
}

static struct err *start(struct agent *a)
{
    TRY(name_copy(a->node.text, a->conf->node, "node"));
    TRY(loop_new(&a->loop));
    TRY(loop_signals(a->loop, on_signal, a));
    rpc_init();
    TRY(open_places(a));
    a->guard_pool = pool_new(a->loop, "guard", 1);
    a->guard_side_pool = pool_new(a->loop, "undo", 1);
    a->journal_pool = pool_new(a->loop, "journal", 1);
    a->work_pool = pool_new_nice(a->loop, "work", AGENT_WORKERS, AGENT_WORK_NICE);
    a->check_pool = pool_new_nice(a->loop, "check", 1, AGENT_WORK_NICE);
    TRY(serve(a));
    struct session_acts acts;
    session_acts_init(&acts);
    sessions_restarted(&a->sessions, &acts);
    agent_perform(a, &acts);
    session_acts_fini(&acts);
    TRY(tasks_resume(a));
    register_start(a);
    link_start(a);
    return NULL;
}

static void stop(struct agent *a)
{
    rpc_server_free(a->server);
    for (size_t i = 0; i < a->conf->n_coordinators; i++)
        rpc_channel_free(a->channels[i]);
    rpc_client_free(a->client);
    pool_free(a->work_pool);
    pool_free(a->journal_pool);
    guard_close(a->guard);
    signer_close(a->signer);
}

static struct err *run(const char *path, bool check_only)
{
    struct agent *a = mem_zalloc(sizeof *a);
    TRY(config_read(path, &a->conf));
    if (check_only)
        return NULL;
    TRY(start(a));
    loop_run(a->loop);
    stop(a);
    log_info("agent", "stopped", "node=%s", a->node.text);
    leaks_report();
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct daemon self = {
        .name = "stillpoint-agent",
        .purpose = "Freezes and captures this node's partitions when a coordinator asks, "
                   "and uploads them.",
        .default_config = CONFIG_DEFAULT_PATH,
        .run = run,
    };
    int status = daemon_main(&self, argc, argv);
    /* gRPC's own shutdown may block for seconds; all that matters is durable. */
    fflush(NULL);
    _exit(status);
}
