/* `stillpoint status`, `node list`, `partition list`, `audit list`: looking at a cluster.
 */
#include "coordinator/ctl/cmd_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/conf/units.h"
#include "common/wire/wire.h"
#include "coordinator/ctl/remote.h"

static const struct ctl_option options[] = {REMOTE_OPTIONS, {0}};

/* Opens, calls, prints JSON if asked. With CTL_OK and *reply NULL it has been printed. */
static int ask(struct ctl *c, const char *method, const ProtobufCMessage *req,
               ProtobufCMessage **reply)
{
    AUTO(remote) struct remote *r = NULL;
    int status = remote_open(c, &r);
    if (status == CTL_OK)
        status = remote_call(r, method, req, reply);
    if (status == CTL_OK && c->json) {
        remote_print_json(*reply);
        wire_free(*reply);
        *reply = NULL;
    }
    return status;
}

static int run_status(struct ctl *c)
{
    Stillpoint__V1__StatusRequest req = STILLPOINT__V1__STATUS_REQUEST__INIT;
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = ask(c, "Status", &req.base, &m);
    if (!m)
        return status;
    const Stillpoint__V1__StatusReply *s = (const void *)m;
    printf("cluster      %s\n", s->cluster);
    printf("coordinator  %s, version %s, up %lld s\n", s->coordinator, s->version,
           (long long)s->uptime_ms / 1000);
    printf("leader       %s\n", s->leader[0] ? s->leader : "none known");
    printf("metadata     %s\n", s->etcd);
    printf("nodes        %d connected of %d\n", s->nodes_connected, s->nodes_known);
    printf("groups       %d\n", s->groups);
    printf("sets running %d\n", s->sets_running);
    return CTL_OK;
}

static int run_nodes(struct ctl *c)
{
    Stillpoint__V1__ListRequest req = STILLPOINT__V1__LIST_REQUEST__INIT;
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = ask(c, "ListNodes", &req.base, &m);
    if (!m)
        return status;
    const Stillpoint__V1__ListNodesReply *r = (const void *)m;
    if (r->n_nodes == 0) {
        ctl_say(c, "no agent has registered yet: its log says why\n");
        return CTL_OK;
    }
    printf("%-20s %-24s %-10s %s\n", "NODE", "ADDRESS", "STATE", "PARTITIONS");
    for (size_t i = 0; i < r->n_nodes; i++)
        printf("%-20s %-24s %-10s %zu\n", r->nodes[i]->node, r->nodes[i]->address,
               r->nodes[i]->connected ? "connected" : "away", r->nodes[i]->n_partitions);
    return CTL_OK;
}

static int run_partitions(struct ctl *c)
{
    Stillpoint__V1__ListRequest req = STILLPOINT__V1__LIST_REQUEST__INIT;
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = ask(c, "ListPartitions", &req.base, &m);
    if (!m)
        return status;
    const Stillpoint__V1__ListPartitionsReply *r = (const void *)m;
    if (r->n_partitions == 0) {
        ctl_say(c, "no partitions: name them in the agents' files\n");
        return CTL_OK;
    }
    printf("%-28s %-9s %-8s %s\n", "PARTITION", "QUIESCE", "CAPTURE", "PATH");
    for (size_t i = 0; i < r->n_partitions; i++) {
        const Stillpoint__V1__PartitionInfo *p = r->partitions[i];
        AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
        printf("%-28s %-9s %-8s %s%s%s\n", name, p->quiesce, p->capture, p->path,
               p->error[0] ? "  " : "", p->error);
    }
    return CTL_OK;
}

/* The chain as far as it has been listed: the coordinator checks the links within a page,
 * this one those between pages. */
struct chain {
    char last[65]; /* hash of the last record; "" before the first page */
    int64_t next;
    char broken[256];
};

static void print_record(const Stillpoint__V1__AuditRecord *a)
{
    printf("%6lld  %-14s %-44s %s\n", (long long)a->number, a->action, a->object,
           a->actor);
}

static void follow_chain(struct chain *k, const Stillpoint__V1__ListAuditReply *r)
{
    if (!k->broken[0] && r->broken[0])
        snprintf(k->broken, sizeof k->broken, "%s", r->broken);
    else if (!k->broken[0] && k->last[0] && strcmp(r->records[0]->previous, k->last) != 0)
        snprintf(k->broken, sizeof k->broken,
                 "record %lld does not follow the one before it", (long long)k->next);
    snprintf(k->last, sizeof k->last, "%s", r->records[r->n_records - 1]->hash);
    k->next += (int64_t)r->n_records;
}

static int run_audit(struct ctl *c)
{
    const char *from = ctl_value(c, "from");
    struct chain k = {0};
    struct err *e = units_int(from ? from : "1", &k.next);
    if (!e && k.next < 1)
        e = err_new(ERR_INVALID, "'%s' is no number above 0", from);
    if (e)
        return ctl_fail(c, err_wrap(e, "--from"), CTL_USAGE);
    AUTO(remote) struct remote *r = NULL;
    int status = remote_open(c, &r);
    while (status == CTL_OK) {
        Stillpoint__V1__ListAuditRequest req = STILLPOINT__V1__LIST_AUDIT_REQUEST__INIT;
        AUTO(wire) ProtobufCMessage *m = NULL;
        req.from = k.next;
        status = remote_call(r, "ListAudit", &req.base, &m);
        const Stillpoint__V1__ListAuditReply *page = (const void *)m;
        if (status != CTL_OK || page->n_records == 0)
            break;
        for (size_t i = 0; i < page->n_records; i++) {
            if (c->json)
                remote_print_json(&page->records[i]->base);
            else
                print_record(page->records[i]);
        }
        follow_chain(&k, page);
    }
    if (status == CTL_OK && k.broken[0])
        return ctl_fail(c, err_new(ERR_CORRUPT, "the chain is broken: %s", k.broken),
                        CTL_FAILED);
    return status;
}

static const struct ctl_option audit_options[] = {
    REMOTE_OPTIONS, {"from", "NUMBER", "begin with this record (default 1)", 0}, {0}};

const struct ctl_command ctl_cluster_commands[] = {
    {"status", "", "", "show the coordinator that answers, and what it knows", options,
     "  stillpoint status\n  stillpoint status --json\n", 0, 0, run_status},
    {"node", "list", "", "list the nodes whose agents have registered", options,
     "  stillpoint node list\n", 0, 0, run_nodes},
    {"partition", "list", "", "list what can be put into a group", options,
     "  stillpoint partition list --json\n", 0, 0, run_partitions},
    {"audit", "list", "", "list the audit chain and check its links", audit_options,
     "  stillpoint audit list --from 100\n", 0, 0, run_audit},
    {0},
};
