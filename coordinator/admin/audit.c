/* AdminService.ListAudit: the chain, with its links checked on the way. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "coordinator/admin/admin.h"

struct look {
    struct rpc_call *call;
    int64_t from;
    int most;
    struct meta_list list;
    struct err *err;
};

static void drop_look(void *arg)
{
    struct look *l = arg;
    if (l->call)
        rpc_fail(l->call, err_new(ERR_UNAVAILABLE, "the coordinator stopped leading"));
    meta_list_fini(&l->list);
    err_free(l->err);
    free(l);
}

static void work_look(struct meta *m, void *arg)
{
    struct look *l = arg;
    l->err = meta_audit(m, l->from, l->most, &l->list);
}

/* The first thing wrong with this link, or NULL; malloc'd. */
static char *fault_of(const Stillpoint__V1__AuditRecord *r, int64_t number,
                      const char *previous)
{
    if (r->number != number)
        return mem_printf("record %lld says it is %lld", (long long)number,
                          (long long)r->number);
    if (previous && strcmp(r->previous, previous) != 0)
        return mem_printf("record %lld does not follow the one before it",
                          (long long)number);
    Stillpoint__V1__AuditRecord bare = *r;
    bare.hash = (char *)protobuf_c_empty_string;
    AUTO(str) char *json = pbjson_encode(&bare.base, 0);
    char hash[65];
    meta_audit_hash(r->previous, json, hash);
    return strcmp(hash, r->hash) == 0
               ? NULL
               : mem_printf("record %lld was changed", (long long)number);
}

static void add_record(Stillpoint__V1__ListAuditReply *reply,
                       const struct meta_record *kv, int64_t number)
{
    ProtobufCMessage *m = NULL;
    AUTO(err)
    struct err *bad =
        pbjson_decode(&stillpoint__v1__audit_record__descriptor, kv->value, kv->n, 0, &m);
    AUTO(str) char *fault = bad ? err_text(bad) : NULL;
    if (!bad) {
        size_t n = reply->n_records;
        fault = fault_of((const void *)m, number, n ? reply->records[n - 1]->hash : NULL);
        *PB_APPEND(reply, records) = (Stillpoint__V1__AuditRecord *)m;
    }
    if (fault && !reply->broken[0])
        pb_set(&reply->broken, fault);
}

static void done_look(struct coord *c, void *arg)
{
    struct look *l = arg;
    (void)c;
    if (l->err) {
        rpc_fail(STEAL(l->call), STEAL(l->err));
        return;
    }
    Stillpoint__V1__ListAuditReply *reply = mem_alloc(sizeof *reply);
    stillpoint__v1__list_audit_reply__init(reply);
    for (size_t i = 0; i < l->list.n; i++)
        add_record(reply, &l->list.items[i], l->from + (int64_t)i);
    rpc_reply(STEAL(l->call), &reply->base);
    wire_free(&reply->base);
}

void admin_list_audit(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__ListAuditRequest *req = (const void *)m;
    struct err *e = leader_check(c);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct look *l = mem_zalloc(sizeof *l);
    l->call = call;
    l->from = req->from > 0 ? req->from : 1;
    l->most = req->most > 0 && req->most < ADMIN_LIST_MAX ? req->most : ADMIN_LIST_MAX;
    store_job(c, work_look, done_look, drop_look, l);
}
