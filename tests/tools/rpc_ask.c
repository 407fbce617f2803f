/* One unary call with any certificate and any request, for tests of what services refuse:
 *
 *   rpc_ask CA CERT KEY PEER SERVICE METHOD [JSON]
 *
 * PEER is "host:port" or "name@host:port"; SERVICE is AdminService, WorkerService or
 * AgentService. JSON is the request; without it, it is read from stdin. Prints "OK" and
 * the reply as JSON, or the error's kind and text; exit status 0 whenever the server
 * answered, 1 when there was no answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/rpc/dial.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "stillpoint/v1/admin.pb-c.h"
#include "stillpoint/v1/agent.pb-c.h"
#include "stillpoint/v1/worker.pb-c.h"

enum { ASK_MS = 15000 };

static const ProtobufCServiceDescriptor *const services[] = {
    &stillpoint__v1__admin_service__descriptor,
    &stillpoint__v1__worker_service__descriptor,
    &stillpoint__v1__agent_service__descriptor,
};

static void die(struct err *e)
{
    if (!e)
        return;
    AUTO(str) char *text = err_text(e);
    fprintf(stderr, "rpc_ask: %s\n", text);
    exit(2);
}

static void read_stdin(struct buf *out)
{
    char chunk[65536];
    ssize_t n;
    while ((n = read(STDIN_FILENO, chunk, sizeof chunk)) > 0)
        buf_add(out, chunk, (size_t)n);
}

static const ProtobufCServiceDescriptor *service_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(services); i++)
        if (strcmp(services[i]->short_name, name) == 0)
            return services[i];
    die(err_new(ERR_INVALID, "no service '%s'", name));
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 7 && argc != 8) {
        fputs("rpc_ask CA CERT KEY PEER SERVICE METHOD [JSON]\n", stderr);
        return 2;
    }
    const ProtobufCServiceDescriptor *sd = service_named(argv[5]);
    const ProtobufCMethodDescriptor *md =
        protobuf_c_service_descriptor_get_method_by_name(sd, argv[6]);
    if (!md)
        die(err_new(ERR_INVALID, "no method '%s'", argv[6]));
    AUTO_BUF struct buf json;
    buf_init(&json);
    if (argc == 8)
        buf_str(&json, argv[7]);
    else
        read_stdin(&json);
    ProtobufCMessage *req = NULL;
    die(pbjson_decode(md->input, buf_text(&json), json.len, PBJSON_STRICT, &req));
    struct loop *loop = NULL;
    struct rpc_client *client = NULL;
    rpc_init();
    die(loop_new(&loop));
    const struct rpc_client_conf conf = {.cluster = "lab",
                                         .tls = {argv[1], argv[2], argv[3]}};
    die(rpc_client_new(loop, &conf, &client));
    unsigned roles = strcmp(argv[5], "AgentService") == 0 ? RPC_AGENT : RPC_COORDINATOR;
    struct rpc_channel *ch = rpc_dial(client, argv[4], roles);
    const struct rpc_opts opts = {.timeout_ms = ASK_MS};
    ProtobufCMessage *reply = NULL;
    struct err *e = rpc_call_sync(ch, sd, argv[6], req, &opts, &reply);
    wire_free(req);
    AUTO(str) char *text = e ? err_text(e) : pbjson_encode(reply, 0);
    printf("%s %s\n", e ? err_kind_name(e->kind) : "OK", text);
    fflush(stdout);
    _exit(e && (e->kind == ERR_TIMEOUT || e->kind == ERR_UNAVAILABLE));
}
