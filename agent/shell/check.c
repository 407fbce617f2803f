/* AgentService.Check: has the guardian look at partitions as for a Prepare, over a
 * connection of its own, so that neither rounds nor their undoing wait for its flushes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shell/agent.h"
#include "common/base/mem.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"
#include "stillpoint/v1/agent.pb-c.h"

enum {
    CHECK_OPEN_MS = 5000,
    CHECK_ARM_MS = 600000, /* how long is the coordinator's business */
    CHECK_END_MS = 10000,
};

struct check_job {
    struct agent *agent;
    struct rpc_call *call;
    struct part_id *parts; /* owned */
    size_t n;
    int64_t hold_ms;
    struct guard_reply *reply; /* owned copy */
    struct err *err;
};

static void job_free(struct check_job *j)
{
    free(j->parts);
    free(j->reply);
    err_free(j->err);
    free(j);
}

/* Never used by a set: it has no token, and the guardian freezes nothing for it. */
static struct set_id probe_id(void)
{
    struct set_id id;
    snprintf(id.text, sizeof id.text, "check-%lld", (long long)loop_now_ns());
    return id;
}

static struct err *look(struct check_job *j)
{
    AUTO(guard) struct guard *g = NULL;
    const struct set_id id = probe_id();
    const struct token none = {.revision = 0};
    const struct guard_reply *r;
    TRY(guard_open(j->agent->conf->guardian_socket, CHECK_OPEN_MS, &g));
    TRY(guard_arm(g, &id, &none, true, j->hold_ms, j->parts, j->n, CHECK_ARM_MS, &r));
    j->reply = mem_dup(r, GUARD_REPLY_BYTES(r->n));
    return guard_abort(g, &id, &none, CHECK_END_MS, &r);
}

static void run_job(void *arg)
{
    struct check_job *j = arg;
    j->err = look(j);
}

static void answer(struct check_job *j)
{
    Stillpoint__V1__PrepareReply *m = mem_alloc(sizeof *m);
    stillpoint__v1__prepare_reply__init(m);
    for (uint32_t i = 0; i < j->reply->n; i++) {
        const struct guard_item *it = &j->reply->items[i];
        Stillpoint__V1__PartPrepared *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_prepared__init(p);
        pb_set(&p->partition, it->part.text);
        pb_set(&p->domain, it->domain.text);
        p->predicted_pause_ms = it->pause_ms;
        p->flush_ms = it->flush_ms;
        p->dirty_bytes = it->dirty_bytes;
        if (it->kind != GUARD_OK)
            pb_set(&p->error, it->text);
        *PB_APPEND(m, parts) = p;
    }
    rpc_reply(j->call, &m->base);
    wire_free(&m->base);
}

static void job_done(void *arg)
{
    struct check_job *j = arg;
    j->agent->checks--;
    if (!j->agent->stopping && j->err)
        rpc_fail(j->call, STEAL(j->err));
    else if (!j->agent->stopping)
        answer(j);
    job_free(j);
}

struct err *check_room(const struct agent *a)
{
    if (a->checks < AGENT_MAX_CHECKS)
        return NULL;
    return err_new(ERR_LIMIT, "%d checks wait already: try again", a->checks);
}

static struct err *begin(struct agent *a, const Stillpoint__V1__CheckRequest *req,
                         struct part_id *parts)
{
    TRY(check_room(a));
    for (size_t i = 0; i < req->n_partitions; i++) {
        const struct config_partition *p;
        TRY(service_partition(a, req->partitions, i, &p));
        TRY(name_copy(parts[i].text, p->name, "partition"));
    }
    return NULL;
}

void check_serve(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct agent *a = ctx;
    const Stillpoint__V1__CheckRequest *req = (const void *)m;
    struct err *e = NULL;
    struct part_id *parts = NULL;
    if (req->n_partitions == 0 || req->n_partitions > SESSION_MAX_PARTS)
        e = err_new(ERR_INVALID, "field 'partitions': %zu, 1 to %d are allowed",
                    req->n_partitions, SESSION_MAX_PARTS);
    else if (req->hold_limit_ms < 100 || req->hold_limit_ms > 60000)
        e = err_new(ERR_INVALID, "field 'hold_limit_ms': %lld is not 100 to 60000",
                    (long long)req->hold_limit_ms);
    if (!e) {
        parts = mem_array(req->n_partitions, sizeof *parts);
        e = begin(a, req, parts);
    }
    if (e) {
        free(parts);
        rpc_fail(call, e);
        return;
    }
    struct check_job *j = mem_zalloc(sizeof *j);
    *j = (struct check_job){.agent = a,
                            .call = call,
                            .parts = parts,
                            .n = req->n_partitions,
                            .hold_ms = req->hold_limit_ms};
    a->checks++;
    pool_submit(a->check_pool, run_job, job_done, j);
}
