#include "common/rpc/client.h"

#include "common/rpc/status.h"
#include "grpc/status.pb-c.h"
#include "tests/unit/proxy.h"
#include "tests/unit/rpc/world.h"

static int calls; /* that reached a handler */
static struct rpc_identity seen;
static struct rpc_call *kept;
static int cancels;

static void answer_2(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)ctx;
    calls++;
    seen = *rpc_call_peer(c);
    ck_assert_str_eq(((const Grpc__Health__V1__HealthCheckRequest *)req)->service, "set");
    Grpc__Health__V1__HealthCheckResponse r = answer_of(2);
    rpc_reply(c, &r.base);
}

static const struct rpc_method for_coordinators[] = {
    {"Check", RPC_COORDINATOR, answer_2},
    {0},
};

START_TEST(a_call_reaches_its_handler_and_comes_back)
{
    world_start(for_coordinators);
    int status = 0;
    ck_ok(ask("set", 10000, &status));
    ck_assert_int_eq(status, 2);
    ck_assert_int_eq(calls, 1);
    ck_assert_str_eq(seen.name, "coord-1");
    ck_assert_str_eq(seen.cluster, "demo");
    ck_assert_uint_eq(seen.role, RPC_COORDINATOR);
}
END_TEST

START_TEST(other_roles_are_refused_before_the_handler)
{
    static const char *const leaves[] = {"agent-node-2", "operator-ann"};
    world_serve("agent-node-1", for_coordinators, NULL);
    for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
        world_connect(leaves[i], RPC_AGENT, "node-1", rpc_server_port(server));
        ck_err(ask("set", 10000, NULL), ERR_DENIED);
        rpc_channel_free(channel);
        rpc_client_free(client);
    }
    channel = NULL;
    client = NULL;
    ck_assert_int_eq(calls, 0);
}
END_TEST

START_TEST(methods_that_nobody_registered_are_refused)
{
    world_start(for_coordinators);
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_opts opts = {.timeout_ms = 10000};
    ProtobufCMessage *reply;
    ck_err(rpc_call_sync(channel, HEALTH, "Watch", &req.base, &opts, &reply),
           ERR_INVALID);
}
END_TEST

/* A certificate of the right authority whose extensions are `alternatives` and `basic`.
 */
static void forge(const char *leaf, const char *alternatives, const char *basic)
{
    AUTO(str)
    char *command = mem_printf(
        "set -e; cd %s; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 "
        "-out %s.key 2>/dev/null; chmod 600 %s.key; printf "
        "'subjectAltName=%s\\nbasicConstraints=critical,%s\\nextendedKeyUsage=serverAuth,"
        "clientAuth\\n' > ext; openssl req -new -key %s.key -subj /O=x | openssl x509 "
        "-req "
        "-CA ca.pem -CAkey ca.key -days 1 -set_serial 7 -extfile ext -out %s.pem "
        "2>/dev/null",
        certs, leaf, leaf, alternatives, basic, leaf, leaf);
    shell(command);
}

START_TEST(certificates_that_are_no_identity_are_refused_at_start)
{
    static const struct {
        const char *names, *basic;
    } bad[] = {
        {"URI:spiffe://demo/agent/a,URI:spiffe://demo/agent/b,DNS:a", "CA:FALSE"},
        {"DNS:a", "CA:FALSE"},
        {"URI:spiffe://demo/agent/a", "CA:TRUE"},
        {"URI:spiffe://demo/root/a", "CA:FALSE"},
        {"URI:spiffe://demo/agent/", "CA:FALSE"},
        {"URI:spiffe://demo/agent/a/b", "CA:FALSE"},
        {"URI:https://demo/agent/a", "CA:FALSE"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        forge("forged", bad[i].names, bad[i].basic);
        struct rpc_client_conf conf = {.cluster = "demo", .tls = certs_of("forged")};
        ck_err(rpc_client_new(loop, &conf, &client), ERR_DENIED);
    }
    struct rpc_client_conf conf = {.cluster = "other",
                                   .tls = certs_of("coordinator-coord-1")};
    ck_err(rpc_client_new(loop, &conf, &client), ERR_INVALID);
    conf.cluster = "demo";
    conf.tls.key = certs_of("agent-node-1").key;
    ck_err(rpc_client_new(loop, &conf, &client), ERR_INVALID);
    conf.tls.key = "/nonexistent";
    ck_err(rpc_client_new(loop, &conf, &client), ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_server_of_another_name_or_role_gets_no_request)
{
    world_serve("agent-node-1", for_coordinators, NULL);
    static const struct {
        unsigned roles;
        const char *name;
    } wrong[] = {{RPC_AGENT, "node-2"}, {RPC_COORDINATOR, "node-1"}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        world_connect("coordinator-coord-1", wrong[i].roles, wrong[i].name,
                      rpc_server_port(server));
        ck_err(ask("set", 10000, NULL), ERR_UNAVAILABLE);
        rpc_channel_free(channel);
        rpc_client_free(client);
    }
    channel = NULL;
    client = NULL;
    ck_assert_int_eq(calls, 0);
}
END_TEST

static void fail_as_asked(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)ctx;
    int kind = atoi(((const Grpc__Health__V1__HealthCheckRequest *)req)->service);
    rpc_fail(c, err_wrap(err_new((enum err_kind)kind, "cause %d é", kind), "outer"));
}

START_TEST(each_kind_of_error_survives_the_way)
{
    static const struct rpc_method methods[] = {{"Check", RPC_ANY_ROLE, fail_as_asked},
                                                {0}};
    world_start(methods);
    for (int kind = ERR_INVALID; kind <= ERR_IO; kind++) {
        char service[16], text[64];
        snprintf(service, sizeof service, "%d", kind);
        snprintf(text, sizeof text, "outer: cause %d é", kind);
        struct err *e = ask(service, 10000, NULL);
        ck_assert_ptr_nonnull(e);
        ck_assert_str_eq(err_kind_name(e->kind), err_kind_name((enum err_kind)kind));
        AUTO(str) char *whole = err_text(e);
        ck_assert_msg(strstr(whole, text), "%s", whole);
        err_free(e);
    }
}
END_TEST

/* A request that is no HealthCheckRequest: its first member is a number. */
START_TEST(malformed_requests_are_refused_by_name)
{
    world_start(for_coordinators);
    Stillpoint__Rpc__Status other = STILLPOINT__RPC__STATUS__INIT;
    other.code = 7;
    struct rpc_opts opts = {.timeout_ms = 10000};
    ProtobufCMessage *reply;
    struct err *e = rpc_call_sync(channel, HEALTH, "Check", &other.base, &opts, &reply);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_INVALID);
    AUTO(str) char *text = err_text(e);
    ck_assert_msg(strstr(text, "grpc.health.v1.HealthCheckRequest"), "%s", text);
    err_free(e);
    ck_err(ask("\xff\xfe", 10000, NULL), ERR_INVALID);
    ck_assert_int_eq(calls, 0);
}
END_TEST

START_TEST(a_request_above_the_limit_is_refused)
{
    world_start(for_coordinators);
    char *big = mem_alloc(RPC_MESSAGE_BYTES + 1);
    memset(big, 'x', RPC_MESSAGE_BYTES);
    big[RPC_MESSAGE_BYTES] = '\0';
    ck_err(ask(big, 20000, NULL), ERR_LIMIT);
    free(big);
    ck_assert_int_eq(calls, 0);
    ck_ok(ask("set", 10000, NULL));
}
END_TEST

START_TEST(nobody_listening_is_unavailable)
{
    world_connect("coordinator-coord-1", RPC_AGENT, "node-1", proxy_free_port());
    ck_err(ask("set", 10000, NULL), ERR_UNAVAILABLE);
}
END_TEST

static void note_cancel(void *arg)
{
    ck_assert_ptr_eq(arg, kept);
    ck_assert(rpc_call_is_cancelled(kept));
    cancels++;
    loop_stop(loop);
}

static void keep(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    calls++;
    kept = c;
    rpc_call_on_cancel(c, note_cancel, c);
}

static const struct rpc_method keeping[] = {{"Check", RPC_ANY_ROLE, keep}, {0}};

START_TEST(a_deadline_ends_both_sides)
{
    world_start(keeping);
    int64_t before = loop_now_ms();
    struct err *e = ask("set", 300, NULL);
    /* Either end may stop the loop first; the other's news is already on its way. */
    ck_assert_ptr_nonnull(e);
    ck_assert(e->kind == ERR_TIMEOUT || e->kind == ERR_CANCELLED);
    err_free(e);
    while (!cancels)
        loop_run(loop);
    int64_t took = loop_now_ms() - before;
    ck_assert_msg(took >= 250 && took < 5000, "%ld ms", (long)took);
    rpc_fail(kept, err_new(ERR_TIMEOUT, "too late"));
    ck_assert_int_eq(cancels, 1);
}
END_TEST

static struct err *got;
static void on_done(void *arg, struct err *e, const ProtobufCMessage *reply)
{
    ck_assert(!e || !reply);
    *(int *)arg += 1;
    err_free(got);
    got = e;
    loop_stop(loop);
}

static struct rpc_pending *begin(struct rpc_channel *ch, int64_t timeout_ms,
                                 struct rpc_call *parent, int *done)
{
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    req.service = (char *)(uintptr_t) "set";
    struct rpc_opts opts = {.timeout_ms = timeout_ms, .parent = parent};
    return rpc_call_start(ch, HEALTH, "Check", &req.base, &opts, on_done, done);
}

static void run_until(const int *flag)
{
    while (!*flag)
        loop_run(loop);
}

static void keep_and_stop(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    keep(c, req, ctx);
    loop_stop(loop);
}

static const struct rpc_method stopping[] = {{"Check", RPC_ANY_ROLE, keep_and_stop}, {0}};

START_TEST(a_cancellation_reaches_the_handler)
{
    world_start(stopping);
    int done = 0;
    struct rpc_pending *p = begin(channel, 60000, NULL, &done);
    run_until(&calls);
    rpc_cancel(p);
    run_until(&cancels);
    run_until(&done);
    ck_assert_int_eq(got->kind, ERR_CANCELLED);
    err_free(got);
    got = NULL;
    Grpc__Health__V1__HealthCheckResponse r = answer_of(1);
    rpc_reply(kept, &r.base); /* still ours to finish */
}
END_TEST

START_TEST(a_connection_that_breaks_after_sending_is_an_unknown_outcome)
{
    world_serve("agent-node-1", stopping, NULL);
    struct proxy proxy;
    proxy_start(&proxy, rpc_server_port(server));
    world_connect("coordinator-coord-1", RPC_AGENT, "node-1", proxy.port);
    int done = 0;
    begin(channel, 60000, NULL, &done);
    run_until(&calls);
    proxy_set(&proxy, PROXY_CUT);
    run_until(&done);
    ck_assert_msg(got->kind == ERR_TIMEOUT, "%s: %s", err_kind_name(got->kind),
                  err_text(got));
    err_free(got);
    run_until(&cancels);
    rpc_fail(kept, err_new(ERR_IO, "unheard"));
    proxy_stop(&proxy);
}
END_TEST

START_TEST(a_server_may_end_while_handlers_hold_calls)
{
    world_start(stopping);
    int done = 0;
    begin(channel, 60000, NULL, &done);
    run_until(&calls);
    rpc_server_free(server);
    server = NULL;
    ck_assert_int_eq(cancels, 1);
    ck_assert_str_eq(rpc_call_peer(kept)->name, "coord-1");
    Grpc__Health__V1__HealthCheckResponse r = answer_of(1);
    rpc_reply(kept, &r.base);
    run_until(&done);
    ck_assert_ptr_nonnull(got);
    err_free(got);
    got = NULL;
}
END_TEST

START_TEST(a_client_that_ends_answers_its_calls)
{
    world_start(stopping);
    int done = 0;
    begin(channel, 60000, NULL, &done);
    run_until(&calls);
    rpc_channel_free(channel);
    rpc_client_free(client);
    channel = NULL;
    client = NULL;
    ck_assert_int_eq(done, 1);
    ck_assert_int_eq(got->kind, ERR_CANCELLED);
    err_free(got);
    got = NULL;
    run_until(&cancels);
    rpc_fail(kept, err_new(ERR_CANCELLED, "gone"));
}
END_TEST

/* --- calls made by handlers --------------------------------------------------------- */

static int64_t inner_deadline_ms;
static char inner_trace[64];
static int inner_done, outer_done;
static struct rpc_call *outer;

/* "set" from outside asks once more, on behalf of the first call. */
static void relay(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    if (!outer) {
        outer = c;
        begin(channel, 60000, c, &inner_done);
        return;
    }
    kept = c;
    inner_deadline_ms = rpc_call_deadline_ms(c);
    snprintf(inner_trace, sizeof inner_trace, "%s", rpc_call_traceparent(c));
    loop_stop(loop);
}

static const struct rpc_method relaying[] = {{"Check", RPC_ANY_ROLE, relay}, {0}};

START_TEST(deadline_trace_and_cancellation_go_on_to_inner_calls)
{
    static const char trace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    world_start(relaying);
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_opts opts = {.timeout_ms = 8000, .traceparent = trace};
    struct rpc_pending *p =
        rpc_call_start(channel, HEALTH, "Check", &req.base, &opts, on_done, &outer_done);
    while (!kept)
        loop_run(loop);
    ck_assert_msg(inner_deadline_ms > 4000 && inner_deadline_ms <= 8000, "%ld",
                  (long)inner_deadline_ms);
    ck_assert_str_eq(inner_trace, trace);
    rpc_call_on_cancel(kept, note_cancel, kept);
    rpc_cancel(p);
    run_until(&cancels);
    run_until(&inner_done);
    run_until(&outer_done);
    rpc_fail(kept, err_new(ERR_CANCELLED, "inner"));
    rpc_fail(outer, err_new(ERR_CANCELLED, "outer"));
    err_free(got);
    got = NULL;
}
END_TEST

/* --- many --------------------------------------------------------------------------- */

enum { FAN = 500 };
static int fan_done, fan_failed, fan_until = FAN;

static void fan_in(void *arg, struct err *e, const ProtobufCMessage *reply)
{
    (void)reply;
    ck_assert_ptr_eq(arg, &fan_done);
    fan_failed += e != NULL;
    err_free(e);
    if (++fan_done == fan_until)
        loop_stop(loop);
}

static void start_fan(void)
{
    for (int i = 0; i < FAN; i++) {
        Grpc__Health__V1__HealthCheckRequest req =
            GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
        req.service = (char *)(uintptr_t) "set";
        struct rpc_opts opts = {.timeout_ms = 30000};
        rpc_call_start(channel, HEALTH, "Check", &req.base, &opts, fan_in, &fan_done);
    }
}

START_TEST(five_hundred_calls_at_once_all_come_back)
{
    world_start(for_coordinators);
    start_fan();
    loop_run(loop);
    ck_assert_int_eq(fan_done, FAN);
    ck_assert_int_eq(fan_failed, 0);
    ck_assert_int_eq(calls, FAN);
}
END_TEST

START_TEST(one_packed_request_serves_many_calls)
{
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    req.service = (char *)(uintptr_t) "set";
    struct rpc_opts opts = {.timeout_ms = 30000};
    world_start(for_coordinators);
    fan_until = 20;
    struct rpc_packed *packed = rpc_packed_new(&req.base);
    for (int i = 0; i < fan_until; i++)
        rpc_call_start_packed(channel, HEALTH, "Check", packed, &opts, fan_in, &fan_done);
    rpc_packed_free(packed);
    loop_run(loop);
    ck_assert_int_eq(calls, fan_until);
    ck_assert_int_eq(fan_failed, 0);
}
END_TEST

static struct rpc_call *held[FAN];
static int n_held;

static void hold(struct rpc_call *c, const ProtobufCMessage *req, void *ctx)
{
    (void)req;
    (void)ctx;
    held[n_held++] = c;
}

START_TEST(calls_above_the_limit_are_refused_not_queued)
{
    static const struct rpc_method methods[] = {{"Check", RPC_ANY_ROLE, hold}, {0}};
    struct rpc_server_conf limits = {.max_calls = 10, .max_streams = FAN};
    world_serve("agent-node-1", methods, &limits);
    world_connect("coordinator-coord-1", RPC_AGENT, "node-1", rpc_server_port(server));
    start_fan();
    fan_until = FAN - 10;
    loop_run(loop);
    ck_assert_int_eq(n_held, 10);
    ck_assert_int_eq(fan_failed, FAN - 10);
    fan_until = FAN;
    Grpc__Health__V1__HealthCheckResponse r = answer_of(1);
    while (n_held > 0)
        rpc_reply(held[--n_held], &r.base);
    loop_run(loop);
    ck_assert_int_eq(fan_failed, FAN - 10);
}
END_TEST

START_TEST(a_taken_port_is_refused)
{
    world_start(for_coordinators);
    struct rpc_server *second;
    AUTO(str) char *listen = mem_printf("127.0.0.1:%d", rpc_server_port(server));
    struct rpc_server_conf conf = {
        .listen = listen, .cluster = "demo", .tls = certs_of("agent-node-1")};
    ck_ok(rpc_server_new(loop, &conf, &second));
    ck_err(rpc_server_start(second), ERR_UNAVAILABLE);
    rpc_server_free(second);
}
END_TEST

START_TEST(registrations_without_roles_or_method_are_refused)
{
    static const struct rpc_method unknown[] = {{"Chekc", RPC_AGENT, answer_2}, {0}};
    static const struct rpc_method open[] = {{"Check", 0, answer_2}, {0}};
    struct rpc_server_conf conf = {
        .listen = "127.0.0.1:0", .cluster = "demo", .tls = certs_of("agent-node-1")};
    ck_ok(rpc_server_new(loop, &conf, &server));
    ck_err(rpc_server_add(server, HEALTH, unknown, NULL), ERR_INVALID);
    ck_err(rpc_server_add(server, HEALTH, open, NULL), ERR_INVALID);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("unary");
    tcase_add_test(tc, a_call_reaches_its_handler_and_comes_back);
    tcase_add_test(tc, other_roles_are_refused_before_the_handler);
    tcase_add_test(tc, methods_that_nobody_registered_are_refused);
    tcase_add_test(tc, certificates_that_are_no_identity_are_refused_at_start);
    tcase_add_test(tc, a_server_of_another_name_or_role_gets_no_request);
    tcase_add_test(tc, each_kind_of_error_survives_the_way);
    tcase_add_test(tc, malformed_requests_are_refused_by_name);
    tcase_add_test(tc, a_request_above_the_limit_is_refused);
    tcase_add_test(tc, nobody_listening_is_unavailable);
    tcase_add_test(tc, a_deadline_ends_both_sides);
    tcase_add_test(tc, a_cancellation_reaches_the_handler);
    tcase_add_test(tc, a_connection_that_breaks_after_sending_is_an_unknown_outcome);
    tcase_add_test(tc, a_server_may_end_while_handlers_hold_calls);
    tcase_add_test(tc, a_client_that_ends_answers_its_calls);
    tcase_add_test(tc, deadline_trace_and_cancellation_go_on_to_inner_calls);
    tcase_add_test(tc, five_hundred_calls_at_once_all_come_back);
    tcase_add_test(tc, one_packed_request_serves_many_calls);
    tcase_add_test(tc, calls_above_the_limit_are_refused_not_queued);
    tcase_add_test(tc, a_taken_port_is_refused);
    tcase_add_test(tc, registrations_without_roles_or_method_are_refused);
    return world_main("unary", tc);
}
