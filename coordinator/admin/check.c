/* What a set of a group would meet: asked of everybody (CheckGroup), or tried without a
 * capture (RehearseGroup). */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "coordinator/admin/admin.h"

static struct err *find_group(const struct coord *c, const char *name,
                              struct group_entry **out)
{
    TRY(leader_check(c));
    *out = admin_group(c, name);
    if (*out)
        return NULL;
    return err_new(ERR_NOT_FOUND,
                   "there is no group '%.80s': `stillpoint group list` shows all", name);
}

/* Says of each partition whether a set could be taken now, as planning would. */
void admin_check_group(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__GroupRequest *req = (const void *)m;
    struct err *e = leader_check(c);
    struct group_entry *g = e ? NULL : admin_group(c, req->group);
    if (!e && !g)
        e = err_new(ERR_NOT_FOUND,
                    "there is no group '%.80s': `stillpoint group list` shows all",
                    req->group);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__CheckGroupReply *r = mem_alloc(sizeof *r);
    stillpoint__v1__check_group_reply__init(r);
    for (size_t i = 0; i < g->spec->n_partitions; i++) {
        const char *name = g->spec->partitions[i];
        Stillpoint__V1__PartCheck *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_check__init(p);
        AUTO(plan) struct plan *plan = NULL;
        struct plan_part id;
        AUTO(err) struct err *bad = plan_parse_part(name, &id);
        if (!bad)
            bad = plan_make(&c->registry, &name, 1, true, loop_now_ms(), &plan);
        if (!bad)
            bad = node_check_repository(c, id.node.text, g->spec->repository);
        AUTO(str) char *text = bad ? err_text(bad) : mem_strdup("");
        pb_set(&p->node, id.node.text);
        pb_set(&p->partition, id.part.text);
        pb_set(&p->domain, plan ? plan->domains[0].text : "");
        pb_set(&p->error, text);
        *PB_APPEND(r, parts) = p;
    }
    rpc_reply(call, &r->base);
    wire_free(&r->base);
}

/* ---- RehearseGroup ---- */

static void on_rehearsed(void *arg, struct err *e, const Stillpoint__V1__SetRecord *d)
{
    struct rpc_call *call = arg;
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__RehearseReply *r = mem_alloc(sizeof *r);
    stillpoint__v1__rehearse_reply__init(r);
    pb_set(&r->rehearsal, d->set);
    r->frozen = !d->error[0];
    pb_set(&r->error, d->error);
    for (size_t i = 0; i < d->n_parts; i++) {
        Stillpoint__V1__PartRehearsed *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_rehearsed__init(p);
        pb_set(&p->node, d->parts[i]->node);
        pb_set(&p->partition, d->parts[i]->partition);
        p->predicted_pause_ms = d->parts[i]->predicted_pause_ms;
        p->pause_us = d->parts[i]->pause_us;
        p->pause_at_most = d->parts[i]->pause_at_most;
        *PB_APPEND(r, parts) = p;
    }
    rpc_reply(call, &r->base);
    wire_free(&r->base);
}

static struct err *rehearse(struct coord *c, struct rpc_call *call, const char *group)
{
    struct group_entry *g;
    uint8_t bytes[4];
    char hex[9];
    TRY(find_group(c, group, &g));
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return err_new(ERR_IO, "no random numbers");
    hex_encode(bytes, sizeof bytes, hex);
    AUTO(str) char *id = mem_printf("%s-rehearsal-%s", group, hex);
    AUTO(str) char *actor = admin_actor(call);
    run_rehearse(c, g, id, actor, on_rehearsed, call);
    return NULL;
}

void admin_rehearse_group(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct err *e = rehearse(ctx, call, ((const Stillpoint__V1__GroupRequest *)m)->group);
    if (e)
        rpc_fail(call, e);
}
