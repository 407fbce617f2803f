/* `stillpoint status`, `node list`, `partition list`, `audit list`: looking at a cluster.
 */
#include "coordinator/ctl/cmd_cluster.h"

#include <stdio.h>
#include <stdlib.h>

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
    printf("%-28s %-9s %-8s %s\n", "PARTITION", "QUIESCE", "CAPTURE", "PATH");
    for (size_t i = 0; i < r->n_partitions; i++) {
        const Stillpoint__V1__PartitionInfo *p = r->partitions[i];
        AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
        printf("%-28s %-9s %-8s %s%s%s\n", name, p->quiesce, p->capture, p->path,
               p->error[0] ? "  " : "", p->error);
    }
    return CTL_OK;
}

static int run_audit(struct ctl *c)
{
    Stillpoint__V1__ListAuditRequest req = STILLPOINT__V1__LIST_AUDIT_REQUEST__INIT;
    const char *from = ctl_value(c, "from");
    struct err *e = units_int(from ? from : "1", &req.from);
    if (e)
        return ctl_fail(c, err_wrap(e, "--from"), CTL_USAGE);
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = ask(c, "ListAudit", &req.base, &m);
    if (!m)
        return status;
    const Stillpoint__V1__ListAuditReply *r = (const void *)m;
    for (size_t i = 0; i < r->n_records; i++) {
        const Stillpoint__V1__AuditRecord *a = r->records[i];
        printf("%6lld  %-14s %-44s %s\n", (long long)a->number, a->action, a->object,
               a->actor);
    }
    if (r->broken[0])
        fprintf(stderr, "the chain is broken: %s\n", r->broken);
    return r->broken[0] ? CTL_FAILED : CTL_OK;
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
