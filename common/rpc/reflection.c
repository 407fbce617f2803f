#include <string.h>

#include "common/base/mem.h"
#include "common/rpc/server_internal.h"
#include "grpc/reflection.pb-c.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest request;
typedef Grpc__Reflection__V1__ServerReflectionResponse response;
#define ASKED(name)                                                                      \
    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define ANSWER(name)                                                                     \
    GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

static bool send_error(struct rpc_call *call, response *r, int code, const char *text)
{
    Grpc__Reflection__V1__ErrorResponse e = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    e.error_code = code;
    e.error_message = (char *)(uintptr_t)text;
    r->message_response_case = ANSWER(ERROR_RESPONSE);
    r->error_response = &e;
    return rpc_send(call, &r->base);
}

static bool send_files(const struct rpc_server *s, struct rpc_call *call, response *r,
                       int file)
{
    if (file < 0)
        return send_error(call, r, GRPC_STATUS_NOT_FOUND, "not found");
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    files.file_descriptor_proto =
        mem_array(rpc_descriptors_count(s->descriptors), sizeof(ProtobufCBinaryData));
    files.n_file_descriptor_proto =
        rpc_descriptors_closure(s->descriptors, file, files.file_descriptor_proto);
    r->message_response_case = ANSWER(FILE_DESCRIPTOR_RESPONSE);
    r->file_descriptor_response = &files;
    bool more = rpc_send(call, &r->base);
    free(files.file_descriptor_proto);
    return more;
}

static bool send_services(const struct rpc_server *s, struct rpc_call *call, response *r)
{
    Grpc__Reflection__V1__ListServiceResponse list =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1__ServiceResponse *items =
        mem_array(s->n_services, sizeof *items);
    list.service = mem_array(s->n_services, sizeof *list.service);
    list.n_service = s->n_services;
    for (size_t i = 0; i < s->n_services; i++) {
        grpc__reflection__v1__service_response__init(&items[i]);
        items[i].name = (char *)(uintptr_t)s->services[i];
        list.service[i] = &items[i];
    }
    r->message_response_case = ANSWER(LIST_SERVICES_RESPONSE);
    r->list_services_response = &list;
    bool more = rpc_send(call, &r->base);
    free(items);
    free(list.service);
    return more;
}

/* False when the peer is slow. */
static bool answer(const struct rpc_server *s, struct rpc_call *call, const request *ask)
{
    response r = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    r.valid_host = ask->host;
    r.original_request = (request *)(uintptr_t)ask;
    switch (ask->message_request_case) {
    case ASKED(LIST_SERVICES):
        return send_services(s, call, &r);
    case ASKED(FILE_BY_FILENAME):
        return send_files(s, call, &r,
                          rpc_descriptors_by_name(s->descriptors, ask->file_by_filename));
    case ASKED(FILE_CONTAINING_SYMBOL):
        return send_files(
            s, call, &r,
            rpc_descriptors_by_symbol(s->descriptors, ask->file_containing_symbol));
    default:
        /* proto3 has no extensions. */
        return send_error(call, &r, GRPC_STATUS_UNIMPLEMENTED, "not supported");
    }
}

static void next_request(struct rpc_call *call, const ProtobufCMessage *msg, void *arg);

static void give_up(void *arg)
{
    rpc_end(arg);
}

static void ask_again(void *arg)
{
    rpc_call_on_cancel(arg, NULL, NULL);
    rpc_recv(arg, next_request, NULL);
}

static void next_request(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
    (void)arg;
    if (!msg || rpc_call_is_cancelled(call))
        rpc_end(call);
    else if (answer(call->server, call, (const request *)msg))
        rpc_recv(call, next_request, NULL);
    else
        rpc_call_on_cancel(call, give_up, call); /* until ask_again */
}

static void info(struct rpc_call *call, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    rpc_call_on_writable(call, ask_again, call);
    rpc_recv(call, next_request, NULL);
}

struct err *rpc_reflection_bind(struct rpc_server *s)
{
    static const struct rpc_method methods[] = {
        {"ServerReflectionInfo", RPC_OPERATOR, info},
        {0},
    };
    const ProtobufCServiceDescriptor *sd =
        &grpc__reflection__v1__server_reflection__descriptor;
    TRY(rpc_server_bind(s, sd->name, sd, methods, s, true));
    return rpc_server_bind(s, "grpc.reflection.v1alpha.ServerReflection", sd, methods, s,
                           true);
}
