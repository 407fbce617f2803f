#include "coordinator/admin/admin.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/wire/wire.h"

char *admin_actor(const struct rpc_call *call)
{
    return rpc_identity_text(rpc_call_peer(call));
}

struct group_entry *admin_group(const struct coord *c, const char *name)
{
    for (size_t i = 0; i < c->n_groups; i++)
        if (strcmp(c->groups[i]->spec->group, name) == 0)
            return c->groups[i];
    return NULL;
}

static bool is_connected(const struct coord *c, const char *node)
{
    struct node_id id;
    AUTO(err) struct err *bad = name_copy(id.text, node, "node");
    const struct registry_node *n = bad ? NULL : registry_find(&c->registry, &id);
    return n && registry_is_connected(n, loop_now_ms());
}

static int32_t count_connected(const struct coord *c)
{
    int32_t n = 0;
    for (size_t i = 0; i < c->n_nodes; i++)
        n += is_connected(c, c->nodes[i].record->node);
    return n;
}

/* Any coordinator answers this one: it is how an operator finds the leader. */
static void status(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    (void)m;
    Stillpoint__V1__StatusReply r = STILLPOINT__V1__STATUS_REPLY__INIT;
    AUTO(err) struct err *not_leading = leader_check(c);
    AUTO(str) char *why = not_leading ? err_text(not_leading) : mem_strdup("healthy");
    r.cluster = c->conf->cluster;
    r.coordinator = c->conf->name;
    r.leader = lead_is_leading(&c->lead) ? c->conf->name : c->lead.leader.text;
    r.version = (char *)STILLPOINT_VERSION;
    r.nodes_connected = count_connected(c);
    r.nodes_known = (int32_t)c->n_nodes;
    r.groups = (int32_t)c->n_groups;
    r.sets_running = (int32_t)runs_count(c);
    r.uptime_ms = loop_now_ms() - c->started_ms;
    r.etcd = why;
    rpc_reply(call, &r.base);
}

static void list_nodes(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    (void)m;
    struct err *e = leader_check(c);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__ListNodesReply r = STILLPOINT__V1__LIST_NODES_REPLY__INIT;
    r.nodes = mem_array(c->n_nodes, sizeof *r.nodes);
    r.n_nodes = c->n_nodes;
    for (size_t i = 0; i < c->n_nodes; i++) {
        r.nodes[i] = c->nodes[i].record;
        r.nodes[i]->connected = is_connected(c, r.nodes[i]->node);
    }
    rpc_reply(call, &r.base);
    free(r.nodes);
}

static void list_partitions(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    (void)m;
    struct err *e = leader_check(c);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__ListPartitionsReply r = STILLPOINT__V1__LIST_PARTITIONS_REPLY__INIT;
    for (size_t i = 0; i < c->n_nodes; i++)
        for (size_t k = 0; k < c->nodes[i].record->n_partitions; k++)
            *PB_APPEND(&r, partitions) = c->nodes[i].record->partitions[k];
    rpc_reply(call, &r.base);
    free(r.partitions);
}

struct err *admin_serve(struct coord *c)
{
    static const struct rpc_method methods[] = {
        {"Status", RPC_OPERATOR | RPC_COORDINATOR, status},
        {"ListNodes", RPC_OPERATOR, list_nodes},
        {"ListPartitions", RPC_OPERATOR, list_partitions},
        {"ApplyGroup", RPC_OPERATOR, admin_apply_group},
        {"ListGroups", RPC_OPERATOR, admin_list_groups},
        {"CheckGroup", RPC_OPERATOR, admin_check_group},
        {"RehearseGroup", RPC_OPERATOR, admin_rehearse_group},
        {"ListDrills", RPC_OPERATOR, admin_list_drills},
        {"SetRemains", RPC_OPERATOR, admin_set_remains},
        {"CreateSet", RPC_OPERATOR, admin_create_set},
        {"ListSets", RPC_OPERATOR, admin_list_sets},
        {"GetSet", RPC_OPERATOR, admin_get_set},
        {"WatchSet", RPC_OPERATOR, admin_watch_set},
        {"CancelSet", RPC_OPERATOR, admin_cancel_set},
        {"RestoreSet", RPC_OPERATOR, admin_restore_set},
        {"VerifySet", RPC_OPERATOR, admin_verify_set},
        {"ListTasks", RPC_OPERATOR, admin_list_tasks},
        {"ListAudit", RPC_OPERATOR, admin_list_audit},
        {NULL, 0, NULL},
    };
    return rpc_server_add(c->server, &stillpoint__v1__admin_service__descriptor, methods,
                          c);
}
