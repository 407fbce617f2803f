#include "common/rpc/client.h"

#include "grpc/reflection.pb-c.h"
#include "tests/unit/proxy.h"
#include "tests/unit/rpc/world.h"

/* Streams of health replies that carry numbers; TOTAL of them are more than all windows
 * and buffers on the way can hold. */
enum { TOTAL = 60000 };

static int sent, received, pauses, finished, writable_calls;
static struct rpc_call *kept;
static struct rpc_pending *pending;
static struct err *outcome;
static bool paused, was_cancelled;
static int pause_at = -1;

static void on_done(void *arg, struct err *e, const ProtobufCMessage *reply)
{
    (void)arg;
    ck_assert_ptr_null(reply);
    outcome = e;
    finished++;
    loop_stop(loop);
}

static bool on_message(void *arg, const ProtobufCMessage *msg)
{
    (void)arg;
    ck_assert(!paused);
    ck_assert_int_eq(((const Grpc__Health__V1__HealthCheckResponse *)msg)->status,
                     received);
    if (received++ != pause_at)
        return true;
    paused = true;
    pauses++;
    return false;
}

static void produce(void *arg)
{
    struct rpc_call *c = arg;
    writable_calls++;
    while (sent < TOTAL) {
        Grpc__Health__V1__HealthCheckResponse r = answer_of(sent++);
        if (!rpc_send(c, &r.base))
            return; /* until writable */
    }
    kept = NULL;
    rpc_end(c);
}

static void give_up(void *arg)
{
    was_cancelled = true;
    if (kept)
        rpc_end(kept);
    kept = NULL;
    loop_stop(arg);
}

static void count(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    kept = c;
    rpc_call_on_writable(c, produce, c);
    rpc_call_on_cancel(c, give_up, loop);
    produce(c);
}

static const struct rpc_method counting[] = {{"Watch", RPC_ANY_ROLE, count}, {0}};

static void watch(int64_t timeout_ms)
{
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_opts opts = {.timeout_ms = timeout_ms};
    pending = rpc_stream_start(channel, HEALTH, "Watch", &req.base, &opts, on_message,
                               on_done, NULL);
}

static void end_loop(void *arg)
{
    loop_stop(arg);
}

/* Runs the loop for as long as it takes to make no more progress. */
static void settle(void)
{
    static struct loop_timer timer;
    int before;
    do {
        before = sent;
        loop_timer_set(loop, &timer, 300, end_loop, loop);
        loop_run(loop);
    } while (sent != before);
}

START_TEST(a_stream_arrives_whole_and_in_order)
{
    world_start(counting);
    watch(0);
    loop_run(loop);
    ck_ok(outcome);
    ck_assert_int_eq(received, TOTAL);
    ck_assert_int_gt(writable_calls, 1);
}
END_TEST

START_TEST(a_reader_that_pauses_stops_the_sender)
{
    pause_at = 9;
    world_start(counting);
    watch(0);
    settle();
    ck_assert_int_eq(pauses, 1);
    ck_assert_int_eq(received, 10);
    ck_assert_msg(sent < TOTAL / 2, "%d were sent to nobody", sent);
    paused = false;
    rpc_stream_resume(pending);
    while (!finished)
        loop_run(loop);
    ck_ok(outcome);
    ck_assert_int_eq(received, TOTAL);
}
END_TEST

START_TEST(cancelling_a_paused_stream_ends_both_sides)
{
    pause_at = 0;
    world_start(counting);
    watch(0);
    settle();
    rpc_cancel(pending);
    while (!finished || !was_cancelled)
        loop_run(loop);
    ck_assert_int_eq(outcome->kind, ERR_CANCELLED);
    err_free(outcome);
    ck_assert_int_eq(received, 1);
}
END_TEST

START_TEST(a_deadline_ends_a_paused_stream)
{
    pause_at = 0;
    world_start(counting);
    watch(400);
    while (!finished || !was_cancelled)
        loop_run(loop);
    ck_assert_int_eq(outcome->kind, ERR_TIMEOUT);
    err_free(outcome);
}
END_TEST

/* A handler that ignores what rpc_send says. */
static void flood(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    kept = c;
    rpc_call_on_cancel(c, give_up, loop);
    for (int i = 0; i < 2 * RPC_SEND_LIMIT; i++) {
        Grpc__Health__V1__HealthCheckResponse r = answer_of(i);
        rpc_send(c, &r.base);
    }
}

START_TEST(a_flood_that_nobody_reads_is_ended)
{
    static const struct rpc_method methods[] = {{"Watch", RPC_ANY_ROLE, flood}, {0}};
    pause_at = 0;
    world_start(methods);
    watch(0);
    while (!was_cancelled)
        loop_run(loop);
    paused = false;
    pause_at = -1;
    if (!finished)
        rpc_stream_resume(pending);
    while (!finished)
        loop_run(loop);
    ck_assert_ptr_nonnull(outcome);
    ck_assert_msg(outcome->kind == ERR_LIMIT, "%s", err_text(outcome));
    err_free(outcome);
}
END_TEST

static void fail_late(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    for (int i = 0; i < 3; i++) {
        Grpc__Health__V1__HealthCheckResponse r = answer_of(i);
        rpc_send(c, &r.base);
    }
    rpc_fail(c, err_new(ERR_STALE_TOKEN, "a newer one"));
}

START_TEST(a_stream_may_end_in_an_error)
{
    static const struct rpc_method methods[] = {{"Watch", RPC_ANY_ROLE, fail_late}, {0}};
    world_start(methods);
    watch(0);
    loop_run(loop);
    ck_assert_int_eq(outcome->kind, ERR_STALE_TOKEN);
    ck_assert_int_le(received, 3);
    err_free(outcome);
}
END_TEST

/* --- health ------------------------------------------------------------------------- */

static int states[8];
static int n_states, want_states;

static bool on_state(void *arg, const ProtobufCMessage *msg)
{
    (void)arg;
    ck_assert_int_lt(n_states, 8);
    states[n_states++] = ((const Grpc__Health__V1__HealthCheckResponse *)msg)->status;
    if (n_states == want_states)
        loop_stop(loop);
    return true;
}

static void watch_health(const char *service)
{
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    req.service = (char *)(uintptr_t)service;
    struct rpc_opts opts = {0};
    rpc_stream_start(channel, HEALTH, "Watch", &req.base, &opts, on_state, on_done, NULL);
}

static void await_states(int n)
{
    want_states = n;
    while (n_states < n)
        loop_run(loop);
}

START_TEST(health_is_checked)
{
    world_start(NULL);
    int status = 0;
    ck_ok(ask("", 5000, &status));
    ck_assert_int_eq(status, 1);
    ck_err(ask("stillpoint.v1.Admin", 5000, NULL), ERR_NOT_FOUND);
    rpc_server_set_health(server, "stillpoint.v1.Admin", false);
    ck_ok(ask("stillpoint.v1.Admin", 5000, &status));
    ck_assert_int_eq(status, 2);
}
END_TEST

static int drained;
static void on_drained(void *arg)
{
    (void)arg;
    drained++;
    loop_stop(loop);
}

START_TEST(health_is_watched_until_the_server_drains)
{
    world_start(NULL);
    watch_health("lead");
    await_states(1);
    rpc_server_set_health(server, "lead", true);
    await_states(2);
    rpc_server_set_health(server, "lead", true); /* no change, no news */
    rpc_server_set_health(server, "other", true);
    rpc_server_set_health(server, "lead", false);
    await_states(3);
    rpc_server_set_health(server, "lead", true);
    await_states(4);
    rpc_server_drain(server, on_drained, NULL);
    while (!finished || !drained)
        loop_run(loop);
    ck_ok(outcome);
    static const int expected[] = {3, 1, 2, 1, 2};
    ck_assert_int_eq(n_states, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(states[i], expected[i]);
}
END_TEST

/* --- drain -------------------------------------------------------------------------- */

static void answer_when_told(void *arg)
{
    Grpc__Health__V1__HealthCheckResponse r = answer_of(1);
    rpc_reply(arg, &r.base);
}

static struct loop_timer answer_timer;

static void drain_now(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    rpc_server_drain(server, on_drained, NULL);
    loop_timer_set(loop, &answer_timer, 100, answer_when_told, c);
}

START_TEST(a_drain_waits_for_the_calls_there_are)
{
    static const struct rpc_method methods[] = {{"Check", RPC_ANY_ROLE, drain_now}, {0}};
    world_start(methods);
    int status = 0;
    struct err *e = ask("", 20000, &status);
    /* The drain's end may stop the synchronous call's loop: then the reply was there. */
    ck_assert_msg(!e || e->kind == ERR_CANCELLED, "%s", err_text(e));
    err_free(e);
    while (!drained)
        loop_run(loop);
    e = ask("", 2000, &status);
    ck_assert_ptr_nonnull(e);
    err_free(e);
}
END_TEST

/* --- reflection --------------------------------------------------------------------- */

#define REFLECTION (&grpc__reflection__v1__server_reflection__descriptor)
typedef Grpc__Reflection__V1__ServerReflectionRequest reflect_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflect_response;

static char listed[2048];
static size_t n_files;
static int error_code;

static bool on_reflection(void *arg, const ProtobufCMessage *msg)
{
    (void)arg;
    const reflect_response *r = (const reflect_response *)msg;
    switch (r->message_response_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE:
        for (size_t i = 0; i < r->list_services_response->n_service; i++) {
            strcat(listed, r->list_services_response->service[i]->name);
            strcat(listed, "\n");
        }
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE:
        n_files = r->file_descriptor_response->n_file_descriptor_proto;
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE:
        error_code = r->error_response->error_code;
        break;
    default:
        ck_abort_msg("unexpected answer");
    }
    return true;
}

static void reflect(const ProtobufCServiceDescriptor *sd, reflect_request *req)
{
    struct rpc_opts opts = {.timeout_ms = 5000};
    n_files = 0;
    error_code = 0;
    finished = 0;
    rpc_stream_start(channel, sd, "ServerReflectionInfo", &req->base, &opts,
                     on_reflection, on_done, NULL);
    while (!finished)
        loop_run(loop);
}

static void reflect_symbol(const char *symbol)
{
    reflect_request req = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    req.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
    req.file_containing_symbol = (char *)(uintptr_t)symbol;
    reflect(REFLECTION, &req);
    ck_ok(outcome);
}

START_TEST(operators_learn_the_services)
{
    world_serve("agent-node-1", NULL, NULL);
    world_connect("operator-ann", RPC_AGENT, "node-1", rpc_server_port(server));
    ProtobufCServiceDescriptor old = *REFLECTION;
    old.name = "grpc.reflection.v1alpha.ServerReflection";
    const ProtobufCServiceDescriptor *const both[] = {REFLECTION, &old};
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        reflect_request req = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
        req.message_request_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
        req.list_services = (char *)(uintptr_t) "";
        listed[0] = '\0';
        reflect(both[i], &req);
        ck_ok(outcome);
        ck_assert_ptr_nonnull(strstr(listed, "grpc.health.v1.Health\n"));
        ck_assert_ptr_nonnull(strstr(listed, "grpc.reflection.v1alpha.ServerReflection"));
    }
    reflect_symbol("grpc.health.v1.Health.Watch");
    ck_assert_uint_eq(n_files, 1);
    reflect_symbol("grpc.health.v1.HealthCheckResponse.ServingStatus");
    ck_assert_uint_eq(n_files, 1);
    reflect_symbol("stillpoint.v1.SetRecord");
    ck_assert_uint_ge(n_files, 1);
    reflect_symbol("grpc.health.v1.Healt");
    ck_assert_int_eq(error_code, 5);
}
END_TEST

START_TEST(others_do_not)
{
    world_start(NULL);
    reflect_request req = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    reflect(REFLECTION, &req);
    ck_assert_int_eq(outcome->kind, ERR_DENIED);
    err_free(outcome);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("stream");
    tcase_add_test(tc, a_stream_arrives_whole_and_in_order);
    tcase_add_test(tc, a_reader_that_pauses_stops_the_sender);
    tcase_add_test(tc, cancelling_a_paused_stream_ends_both_sides);
    tcase_add_test(tc, a_deadline_ends_a_paused_stream);
    tcase_add_test(tc, a_flood_that_nobody_reads_is_ended);
    tcase_add_test(tc, a_stream_may_end_in_an_error);
    tcase_add_test(tc, health_is_checked);
    tcase_add_test(tc, health_is_watched_until_the_server_drains);
    tcase_add_test(tc, a_drain_waits_for_the_calls_there_are);
    tcase_add_test(tc, operators_learn_the_services);
    tcase_add_test(tc, others_do_not);
    return world_main("stream", tc);
}
