/* A cluster of one process for the tests of RPC: certificates, a server, a client and the
 * loop that both run on. Checks are of the health service, whose handlers each test
 * brings along. */
#ifndef TESTS_UNIT_RPC_WORLD_H
#define TESTS_UNIT_RPC_WORLD_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/rpc/client.h"
#include "common/rpc/server.h"
#include "common/wire/wire.h"
#include "grpc/health.pb-c.h"
#include "tests/unit/suite.h"

#define HEALTH (&grpc__health__v1__health__descriptor)

static char certs[64];

static inline void shell(const char *command)
{
    int rc = system(command);
    ck_assert_msg(rc == 0, "%s", command);
}

/* Before the tests fork, in main. */
static inline void certs_make(void)
{
    strcpy(certs, "/tmp/stillpoint-rpc-XXXXXX");
    if (!mkdtemp(certs))
        abort();
    AUTO(str)
    char *command = mem_printf("set -e; D=%s; C=deploy/certs; $C init $D demo;"
                               "$C issue $D coordinator coord-1;"
                               "$C issue $D agent node-1; $C issue $D agent node-2;"
                               "$C issue $D operator ann",
                               certs);
    if (system(command) != 0)
        abort();
}

static inline void certs_remove(void)
{
    AUTO(str) char *command = mem_printf("rm -rf %s", certs);
    if (system(command) != 0)
        abort();
}

/* Paths of a leaf's files; leaked, as tests end soon. */
static inline struct rpc_tls certs_of(const char *leaf)
{
    static char paths[8][3][128];
    static int used;
    char(*p)[128] = paths[used++ % 8];
    snprintf(p[0], 128, "%s/ca.pem", certs);
    snprintf(p[1], 128, "%s/%s.pem", certs, leaf);
    snprintf(p[2], 128, "%s/%s.key", certs, leaf);
    return (struct rpc_tls){p[0], p[1], p[2]};
}

static struct loop *loop;
static struct rpc_server *server;
static struct rpc_client *client;
static struct rpc_channel *channel;

static inline void world_serve(const char *leaf, const struct rpc_method *methods,
                               const struct rpc_server_conf *limits)
{
    struct rpc_server_conf conf = limits ? *limits : (struct rpc_server_conf){0};
    conf.listen = "127.0.0.1:0";
    conf.cluster = "demo";
    conf.tls = certs_of(leaf);
    ck_ok(rpc_server_new(loop, &conf, &server));
    if (methods)
        ck_ok(rpc_server_add(server, HEALTH, methods, NULL));
    ck_ok(rpc_server_start(server));
}

static inline void world_connect(const char *leaf, unsigned roles, const char *name,
                                 int port)
{
    struct rpc_client_conf conf = {.cluster = "demo", .tls = certs_of(leaf)};
    ck_ok(rpc_client_new(loop, &conf, &client));
    AUTO(str) char *address = mem_printf("127.0.0.1:%d", port);
    channel = rpc_channel_new(client, address, roles, name);
}

/* An agent that serves and a coordinator that calls it. */
static inline void world_start(const struct rpc_method *methods)
{
    world_serve("agent-node-1", methods, NULL);
    world_connect("coordinator-coord-1", RPC_AGENT, "node-1", rpc_server_port(server));
}

static inline void world_setup(void)
{
    rpc_init();
    ck_ok(loop_new(&loop));
}

static inline void world_teardown(void)
{
    rpc_channel_free(channel);
    rpc_client_free(client);
    rpc_server_free(server);
    loop_free(loop);
    rpc_fini();
}

static inline struct err *ask(const char *service, int64_t timeout_ms, int *status)
{
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    req.service = (char *)(uintptr_t)service;
    struct rpc_opts opts = {.timeout_ms = timeout_ms};
    AUTO(wire) ProtobufCMessage *reply = NULL;
    TRY(rpc_call_sync(channel, HEALTH, "Check", &req.base, &opts, &reply));
    if (status)
        *status = ((Grpc__Health__V1__HealthCheckResponse *)reply)->status;
    return NULL;
}

/* A reply of Check or Watch. */
static inline Grpc__Health__V1__HealthCheckResponse answer_of(int status)
{
    Grpc__Health__V1__HealthCheckResponse r =
        GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    r.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    return r;
}

static inline int world_main(const char *name, TCase *tc)
{
    certs_make();
    tcase_add_checked_fixture(tc, world_setup, world_teardown);
    tcase_set_timeout(tc, 60);
    int rc = suite_main(name, tc);
    certs_remove();
    return rc;
}

#endif
