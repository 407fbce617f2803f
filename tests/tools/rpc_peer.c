/* A process that serves gRPC health and calls others, for the tests of connections in
 * number and of hostile peers:
 *
 *   rpc_peer CERTS LEAF PORT serve
 *   rpc_peer CERTS LEAF PORT call N PEER_PORT PEER_ROLE PEER_NAME
 *
 * Serves on 0.0.0.0:PORT (health for any role, reflection for operators) with CERTS/LEAF;
 * "call" also opens N connections, to PEER_PORT of 127.0.1.1, 127.0.1.2, ..., and makes
 * one call on each. Prints "ready" and, at SIGHUP, "ms <how long a call takes now>";
 * ends at SIGTERM. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/rpc/client.h"
#include "common/rpc/server.h"
#include "grpc/health.pb-c.h"

static struct loop *loop;
static struct rpc_server *server;
static struct rpc_client *client;
static struct rpc_channel **channels;
static int n_channels, n_answered;
static int64_t asked_ms;

static void die(struct err *e)
{
    if (!e)
        return;
    log_err(LOG_LEVEL_ERROR, "rpc_peer", "ends", e);
    exit(1);
}

static void on_answer(void *arg, struct err *e, const ProtobufCMessage *reply)
{
    (void)reply;
    die(e);
    if (arg)
        printf("ms %lld\n", (long long)(loop_now_ms() - asked_ms));
    else if (++n_answered == n_channels)
        puts("ready");
    fflush(stdout);
}

static void ask(int i, void *arg)
{
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_opts opts = {.timeout_ms = 20000};
    rpc_call_start(channels[i], &grpc__health__v1__health__descriptor, "Check", &req.base,
                   &opts, on_answer, arg);
}

static void on_signal(void *arg, int signo)
{
    (void)arg;
    asked_ms = loop_now_ms();
    if (signo == SIGHUP && n_channels > 0)
        ask(0, &asked_ms);
    if (signo != SIGHUP)
        loop_stop(loop);
}

static void serve(const struct rpc_tls *tls, const char *port)
{
    AUTO(str) char *listen = mem_printf("0.0.0.0:%s", port);
    struct rpc_server_conf conf = {.listen = listen, .cluster = "demo", .tls = *tls};
    die(rpc_server_new(loop, &conf, &server));
    die(rpc_server_start(server));
}

static void call(const struct rpc_tls *tls, char **argv)
{
    unsigned role = strcmp(argv[2], "agent") == 0 ? RPC_AGENT : RPC_COORDINATOR;
    struct rpc_client_conf conf = {.cluster = "demo", .tls = *tls};
    die(rpc_client_new(loop, &conf, &client));
    n_channels = atoi(argv[0]);
    channels = mem_array((size_t)n_channels, sizeof(struct rpc_channel *));
    for (int i = 0; i < n_channels; i++) {
        AUTO(str) char *address = mem_printf("127.0.1.%d:%s", i + 1, argv[1]);
        channels[i] = rpc_channel_new(client, address, role, argv[3]);
        ask(i, NULL);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 9) {
        fputs("rpc_peer CERTS LEAF PORT serve|call N PEER_PORT PEER_ROLE PEER_NAME\n",
              stderr);
        return 2;
    }
    die(loop_new(&loop));
    die(loop_signals(loop, on_signal, NULL)); /* before rpc_init makes threads */
    rpc_init();
    AUTO(str) char *ca = mem_printf("%s/ca.pem", argv[1]);
    AUTO(str) char *cert = mem_printf("%s/%s.pem", argv[1], argv[2]);
    AUTO(str) char *key = mem_printf("%s/%s.key", argv[1], argv[2]);
    struct rpc_tls tls = {ca, cert, key};
    serve(&tls, argv[3]);
    if (argc == 9)
        call(&tls, argv + 5);
    else
        puts("ready");
    fflush(stdout);
    loop_run(loop);
    for (int i = 0; i < n_channels; i++)
        rpc_channel_free(channels[i]);
    free(channels);
    rpc_client_free(client);
    rpc_server_free(server);
    loop_free(loop);
    return 0;
}
