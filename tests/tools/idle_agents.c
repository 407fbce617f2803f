/* Many idle agents in one process, each with a certificate and a connection of its own:
 *
 *   idle_agents PKI COORDINATOR N [PARTITIONS]
 *
 * Registers idle-1 … idle-N (PKI/agent-idle-N.pem) with so many partitions (1) every
 * three seconds and asks for tasks every second, as agents do. Prints "ready" once all
 * have registered; ends at SIGTERM, or with status 1 at the first error. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/obs/log.h"
#include "common/rpc/dial.h"
#include "common/wire/convert.h"
#include "stillpoint/v1/worker.pb-c.h"

enum { REGISTER_MS = 3000, CLAIM_MS = 1000, CALL_MS = 20000 };

struct idler {
    char *name;
    struct rpc_client *client;
    struct rpc_channel *channel;
    struct loop_timer register_timer, claim_timer;
    bool registered;
};

static struct loop *loop;
static int n_idlers, n_registered, n_parts = 1;

static void die(struct err *e)
{
    if (!e)
        return;
    log_err(LOG_LEVEL_ERROR, "idle_agents", "ends", e);
    _exit(1);
}

static void send_claim(void *arg);
static void send_register(void *arg);

static void on_claimed(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct idler *k = arg;
    (void)m;
    die(e);
    loop_timer_set(loop, &k->claim_timer, CLAIM_MS, send_claim, k);
}

static void send_claim(void *arg)
{
    struct idler *k = arg;
    Stillpoint__V1__ClaimRequest req = STILLPOINT__V1__CLAIM_REQUEST__INIT;
    req.node = k->name;
    req.most = 1;
    const struct rpc_opts opts = {.timeout_ms = CALL_MS};
    rpc_call_start(k->channel, &stillpoint__v1__worker_service__descriptor, "Claim",
                   &req.base, &opts, on_claimed, k);
}

static void on_registered(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct idler *k = arg;
    (void)m;
    die(e);
    if (!k->registered && ++n_registered == n_idlers) {
        puts("ready");
        fflush(stdout);
    }
    if (!k->registered)
        send_claim(k);
    k->registered = true;
    loop_timer_set(loop, &k->register_timer, REGISTER_MS, send_register, k);
}

static void send_register(void *arg)
{
    struct idler *k = arg;
    Stillpoint__V1__PartitionInfo *parts = mem_array((size_t)n_parts, sizeof *parts);
    Stillpoint__V1__PartitionInfo **list = mem_array((size_t)n_parts, sizeof *list);
    char *repositories[] = {(char *)"main"};
    for (int i = 0; i < n_parts; i++) {
        stillpoint__v1__partition_info__init(&parts[i]);
        parts[i].node = k->name;
        parts[i].partition = mem_printf("data-%d", i);
        parts[i].path = (char *)"/srv/data";
        parts[i].quiesce = (char *)"cgroup";
        parts[i].capture = (char *)"btrfs";
        parts[i].domain = mem_printf("%s/cgroup:/idle-%d", k->name, i);
        list[i] = &parts[i];
    }
    Stillpoint__V1__NodeRecord node = STILLPOINT__V1__NODE_RECORD__INIT;
    node.schema = 1;
    node.node = k->name;
    node.address = (char *)"127.0.0.1:9";
    node.partitions = list;
    node.n_partitions = (size_t)n_parts;
    node.repositories = repositories;
    node.n_repositories = 1;
    node.protocol = STILLPOINT_PROTOCOL;
    Stillpoint__V1__RegisterRequest req = STILLPOINT__V1__REGISTER_REQUEST__INIT;
    req.node = &node;
    const struct rpc_opts opts = {.timeout_ms = CALL_MS};
    rpc_call_start(k->channel, &stillpoint__v1__worker_service__descriptor,
                   "RegisterNode", &req.base, &opts, on_registered, k);
    for (int i = 0; i < n_parts; i++) {
        free(parts[i].partition);
        free(parts[i].domain);
    }
    free(parts);
    free(list);
}

static void start(struct idler *k, int number, char **argv)
{
    k->name = mem_printf("idle-%d", number);
    AUTO(str) char *ca = mem_printf("%s/ca.pem", argv[1]);
    AUTO(str) char *cert = mem_printf("%s/agent-%s.pem", argv[1], k->name);
    AUTO(str) char *key = mem_printf("%s/agent-%s.key", argv[1], k->name);
    const struct rpc_client_conf conf = {.cluster = "lab", .tls = {ca, cert, key}};
    die(rpc_client_new(loop, &conf, &k->client));
    k->channel = rpc_dial(k->client, argv[2], RPC_COORDINATOR);
    /* Spread over the interval, as agents that were not all started at once. */
    loop_timer_set(loop, &k->register_timer, (int64_t)REGISTER_MS * number / n_idlers,
                   send_register, k);
}

static void on_signal(void *arg, int signo)
{
    (void)arg;
    (void)signo;
    loop_stop(loop);
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5) {
        fputs("idle_agents PKI COORDINATOR N [PARTITIONS]\n", stderr);
        return 2;
    }
    die(loop_new(&loop));
    die(loop_signals(loop, on_signal, NULL));
    rpc_init();
    n_idlers = atoi(argv[3]);
    if (argc == 5)
        n_parts = atoi(argv[4]);
    struct idler *idlers = mem_array((size_t)n_idlers, sizeof *idlers);
    for (int i = 0; i < n_idlers; i++)
        start(&idlers[i], i + 1, argv);
    loop_run(loop);
    _exit(0);
}
