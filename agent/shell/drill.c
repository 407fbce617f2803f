/* AgentService.Drill and Remains: a fault on purpose, and what is left of a set after it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/shell/agent.h"
#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/obs/fault.h"
#include "common/obs/log.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"
#include "stillpoint/v1/agent.pb-c.h"

enum {
    DRILL_MAX_MS = 180000,
    DRILL_OPEN_MS = 5000,
    DRILL_LIST_MS = 30000,
};

/* ---- Drill ---- */

/* As long as the connection stands, its process lives, and the descriptor is of no other.
 */
static bool is_connected(const struct guard *g)
{
    struct pollfd p = {.fd = guard_fd(g), .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

static struct err *kill_guardian(const struct agent *a)
{
    pid_t pid;
    if (!a->guard_watch)
        return err_new(ERR_CONFLICT, "no guardian is connected");
    TRY(guard_process(a->guard_watch, &pid));
    AUTO(fd) int fd = pidfd_open(pid, 0);
    if (fd < 0)
        return err_os(errno, "open the guardian's process %d", (int)pid);
    if (!is_connected(a->guard_watch))
        return err_new(ERR_CONFLICT, "the guardian has just gone away by itself");
    if (pidfd_send_signal(fd, SIGKILL, NULL, 0) != 0)
        return err_os(errno, "kill the guardian's process %d", (int)pid);
    return NULL;
}

static struct err *check_drill(const struct agent *a,
                               const Stillpoint__V1__DrillRequest *req)
{
    struct set_id set;
    struct token token;
    TRY(name_copy(set.text, req->set, "field 'set':"));
    TRY(token_from_pb(req->token, &token));
    if (!a->conf->drills)
        return err_new(ERR_DENIED,
                       "the agent's file on node '%s' does not allow drills: "
                       "add 'drills: true' and restart the agent",
                       a->node.text);
    if (req->for_ms < 0 || req->for_ms > DRILL_MAX_MS)
        return err_new(ERR_INVALID, "field 'for_ms': %lld is not 0 to %d",
                       (long long)req->for_ms, DRILL_MAX_MS);
    return sessions_check_frozen(&a->sessions, &set, &token);
}

static struct err *perform(const struct agent *a, const Stillpoint__V1__DrillRequest *req)
{
    switch (req->fault) {
    case STILLPOINT__V1__DRILL_FAULT__DRILL_KILL_AGENT:
        fault_die();
    case STILLPOINT__V1__DRILL_FAULT__DRILL_PAUSE_AGENT:
        return fault_stand_still(req->for_ms);
    case STILLPOINT__V1__DRILL_FAULT__DRILL_KILL_GUARDIAN:
        return kill_guardian(a);
    default:
        return err_new(ERR_INVALID, "field 'fault': unknown value %d", (int)req->fault);
    }
}

void drill_serve(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct agent *a = ctx;
    const Stillpoint__V1__DrillRequest *req = (const void *)m;
    struct err *e = check_drill(a, req);
    if (!e) {
        log_warn("drill", "begins", "set=%s fault=%d for_ms=%lld", req->set,
                 (int)req->fault, (long long)req->for_ms);
        e = perform(a, req);
    }
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__DrillReply reply = STILLPOINT__V1__DRILL_REPLY__INIT;
    rpc_reply(call, &reply.base);
}

/* ---- Remains ---- */

struct remains_job {
    struct agent *agent;
    struct rpc_call *call;
    struct set_id set;
    Stillpoint__V1__RemainsReply *reply; /* owned */
    struct err *err;
};

static void take_page(struct remains_job *j, const struct guard_reply *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const struct guard_item *it = &r->items[i];
        struct capture_id mine;
        capture_id_make(&j->set, &it->part, &mine);
        if (strcmp(mine.text, it->capture.text) == 0 &&
            !work_needs_base(j->agent->conf, it->part.text, it->capture.text))
            *PB_APPEND(j->reply, captures) = mem_strdup(it->capture.text);
    }
}

static struct err *list_captures(struct remains_job *j)
{
    AUTO(guard) struct guard *g = NULL;
    TRY(guard_open(j->agent->conf->guardian_socket, DRILL_OPEN_MS, &g));
    const struct guard_reply *r;
    uint32_t from = 0;
    do {
        TRY(guard_list(g, from, DRILL_LIST_MS, &r));
        take_page(j, r);
        from += r->n;
    } while (r->n > 0 && from < r->total);
    return NULL;
}

static void run_remains(void *arg)
{
    struct remains_job *j = arg;
    j->err = list_captures(j);
}

static void end_remains(void *arg)
{
    struct remains_job *j = arg;
    j->agent->checks--;
    if (!j->agent->stopping && j->err)
        rpc_fail(j->call, STEAL(j->err));
    else if (!j->agent->stopping)
        rpc_reply(j->call, &j->reply->base);
    wire_free(&j->reply->base);
    err_free(j->err);
    free(j);
}

void remains_serve(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct agent *a = ctx;
    struct set_id set = {{0}};
    struct err *e = name_copy(set.text, ((const Stillpoint__V1__RemainsRequest *)m)->set,
                              "field 'set':");
    if (!e)
        e = check_room(a);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct remains_job *j = mem_zalloc(sizeof *j);
    *j = (struct remains_job){.agent = a, .call = call, .set = set};
    j->reply = mem_alloc(sizeof *j->reply);
    stillpoint__v1__remains_reply__init(j->reply);
    const struct session *s = sessions_find(&a->sessions, &set);
    j->reply->open = s && s->sm.state != SESSION_ABORTED;
    a->checks++;
    pool_submit(a->check_pool, run_remains, end_remains, j);
}
