/* stillpoint-coordinator: start, serve, stop. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/etcd/embedded.h"
#include "common/etcd/etcd.h"
#include "common/file/file.h"
#include "common/obs/daemon.h"
#include "common/obs/leaks.h"
#include "common/obs/log.h"
#include "common/obs/notify.h"
#include "coordinator/shell/coord.h"

enum { STOP_GRACE_MS = 3000 };

static void finish_stop(void *arg)
{
    struct coord *c = arg;
    loop_stop(c->loop);
}

static void on_signal(void *arg, int signo)
{
    struct coord *c = arg;
    static struct loop_timer grace;
    if (signo == SIGHUP || c->stopping)
        return;
    log_info("coordinator", "stopping", "signal=%d", signo);
    notify_stopping();
    leader_stop(c); /* the lease is revoked, so that another takes over at once */
    c->stopping = true;
    rpc_server_drain(c->server, finish_stop, c);
    loop_timer_set(c->loop, &grace, STOP_GRACE_MS, finish_stop, c);
}

static struct err *open_etcd(struct coord *c)
{
    const struct config_etcd *conf = &c->conf->etcd;
    const char *endpoints[ETCD_ENDPOINTS + 1] = {0};
    if (conf->embedded) {
        AUTO(str) char *dir = mem_printf("%s/etcd", c->conf->state_dir);
        TRY(etcd_embedded_start(&(struct etcd_embedded_conf){.data_dir = dir},
                                &c->embedded));
        return etcd_embedded_open(c->embedded, &c->etcd);
    }
    for (size_t i = 0; i < conf->n_endpoints && i < ETCD_ENDPOINTS; i++)
        endpoints[i] = conf->endpoints[i];
    return etcd_open(&(struct etcd_conf){.endpoints = endpoints,
                                         .ca = conf->tls.ca,
                                         .cert = conf->tls.cert,
                                         .key = conf->tls.key},
                     &c->etcd);
}

static struct err *start(struct coord *c)
{
    const struct rpc_tls tls = {c->conf->tls.ca, c->conf->tls.cert, c->conf->tls.key};
    TRY(name_copy(c->self.text, c->conf->name, "name"));
    TRY(file_mkdirs(c->conf->state_dir, 0700));
    TRY(loop_new(&c->loop));
    TRY(loop_signals(c->loop, on_signal, c));
    rpc_init();
    c->started_ms = loop_now_ms();
    registry_init(&c->registry);
    TRY_CTX(open_etcd(c), "etcd");
    TRY(signer_open(&tls, c->conf->cluster, &c->signer));
    TRY(trust_open(tls.ca, c->conf->cluster, &c->trust));
    TRY(file_boot_id(c->boot_id));
    c->meta = meta_new(c->etcd, c->conf->cluster);
    c->meta_pool = pool_new(c->loop, "store", 1);
    c->lease_pool = pool_new(c->loop, "lease", 1);
    TRY(rpc_client_new(c->loop,
                       &(struct rpc_client_conf){.cluster = c->conf->cluster, .tls = tls},
                       &c->client));
    TRY(rpc_server_new(c->loop,
                       &(struct rpc_server_conf){.listen = c->conf->listen,
                                                 .cluster = c->conf->cluster,
                                                 .tls = tls},
                       &c->server));
    TRY(worker_serve(c));
    TRY(admin_serve(c));
    TRY_CTX(rpc_server_start(c->server), "listen on '%s'", c->conf->listen);
    leader_start(c);
    return NULL;
}

static void stop(struct coord *c)
{
    runs_stop(c);
    watchers_end(c);
    rpc_server_free(c->server);
    rpc_client_free(c->client);
    pool_free(c->lease_pool);
    pool_free(c->meta_pool);
    etcd_embedded_stop(c->embedded);
    signer_close(c->signer);
    trust_close(c->trust);
}

static struct err *run(const char *path, bool check_only)
{
    struct coord *c = mem_zalloc(sizeof *c);
    TRY(config_coordinator_read(path, &c->conf));
    if (check_only)
        return NULL;
    TRY(start(c));
    log_info("coordinator", "started", "cluster=%s name=%s listen=%s port=%d",
             c->conf->cluster, c->conf->name, c->conf->listen,
             rpc_server_port(c->server));
    notify_ready(c->loop, "serving");
    loop_run(c->loop);
    stop(c);
    log_info("coordinator", "stopped", "name=%s", c->conf->name);
    leaks_report();
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct daemon self = {
        .name = "stillpoint-coordinator",
        .purpose = "Plans and drives consistent sets; one of several leads.",
        .default_config = "/etc/stillpoint/coordinator.yaml",
        .run = run,
    };
    int status = daemon_main(&self, argc, argv);
    /* gRPC's own shutdown may block for seconds; nothing is left to save. */
    fflush(NULL);
    _exit(status);
}
