#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/sorted.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "coordinator/shell/coord.h"

enum {
    NODES_RECORD_BYTES = 1 << 20, /* of one node's record: etcd takes 1.5 MiB */
    NODES_TEXT_BYTES = 256,
    NODES_PATH_BYTES = 4096,
};

static const char *node_key(const void *item)
{
    return ((const struct node_entry *)item)->record->node;
}

static size_t lower_bound(const struct coord *c, const char *name)
{
    return sorted_find(c->nodes, c->n_nodes, sizeof *c->nodes, node_key, name);
}

struct node_entry *node_find(const struct coord *c, const char *name)
{
    size_t i = lower_bound(c, name);
    return i < c->n_nodes && strcmp(c->nodes[i].record->node, name) == 0 ? &c->nodes[i]
                                                                         : NULL;
}

static bool quiesces(const Stillpoint__V1__PartitionInfo *p)
{
    return p->read_only || strcmp(p->quiesce, "none") != 0;
}

/* A domain of another node would lock that node's groups out. */
static struct err *check_own(const Stillpoint__V1__NodeRecord *r,
                             const Stillpoint__V1__PartitionInfo *p)
{
    size_t n = strlen(r->node);
    if (strncmp(p->domain, r->node, n) != 0 || p->domain[n] != '/')
        return err_new(ERR_INVALID, "field 'domain': '%.80s' does not begin with '%s/'",
                       p->domain, r->node);
    if (strcmp(p->node, r->node) != 0)
        return err_new(ERR_INVALID, "field 'node' of partition '%.80s': '%.80s'",
                       p->partition, p->node);
    return NULL;
}

static void make_printable(char **member, size_t most)
{
    AUTO(str) char *text = utf8_printable(*member, most);
    if (strcmp(text, *member) != 0)
        pb_set(member, text);
}

/* Operators' terminals show these. */
static void clean(Stillpoint__V1__NodeRecord *r)
{
    make_printable(&r->version, NODES_TEXT_BYTES);
    make_printable(&r->boot_id, NODES_TEXT_BYTES);
    make_printable(&r->address, ADDRESS_BYTES);
    for (size_t i = 0; i < r->n_repositories; i++)
        make_printable(&r->repositories[i], NODES_TEXT_BYTES);
    for (size_t i = 0; i < r->n_partitions; i++) {
        Stillpoint__V1__PartitionInfo *p = r->partitions[i];
        make_printable(&p->quiesce, NODES_TEXT_BYTES);
        make_printable(&p->capture, NODES_TEXT_BYTES);
        make_printable(&p->path, NODES_PATH_BYTES);
        make_printable(&p->error, NODES_PATH_BYTES);
        for (size_t k = 0; k < p->n_labels; k++) {
            make_printable(&p->labels[k]->key, NODES_TEXT_BYTES);
            make_printable(&p->labels[k]->value, NODES_TEXT_BYTES);
        }
    }
}

/* What the cores need of the record; validates what came over the wire. */
static struct err *info_from(const Stillpoint__V1__NodeRecord *r, struct node_info *out)
{
    TRY(name_copy(out->node.text, r->node, "field 'node':"));
    if (strlen(r->address) >= sizeof out->address || !strchr(r->address, ':'))
        return err_new(ERR_INVALID, "field 'address': '%.80s' is not host:port",
                       r->address);
    memcpy(out->address, r->address, strlen(r->address) + 1);
    if (r->n_partitions > CUT_MAX_PARTS)
        return err_new(ERR_LIMIT, "field 'partitions': %zu", r->n_partitions);
    out->parts = mem_array(r->n_partitions, sizeof *out->parts);
    out->n_parts = r->n_partitions;
    for (size_t i = 0; i < r->n_partitions; i++) {
        const Stillpoint__V1__PartitionInfo *p = r->partitions[i];
        struct part_info *to = &out->parts[i];
        TRY(name_copy(to->part.text, p->partition, "field 'partition':"));
        TRY(domain_copy(&to->domain, p->domain));
        TRY(check_own(r, p));
        if (strlen(p->path) >= sizeof to->path)
            return err_new(ERR_LIMIT, "field 'path': %zu bytes", strlen(p->path));
        memcpy(to->path, p->path, strlen(p->path) + 1);
        snprintf(to->error, sizeof to->error, "%s", p->error);
        to->quiesces = quiesces(p);
    }
    return NULL;
}

/* What keeps a node's partitions from being used stands in each of them that says nothing
 * of its own: lists, plans and checks read it there. */
static void judge(Stillpoint__V1__NodeRecord *r)
{
    AUTO(str) char *fault = registry_node_fault(r->protocol, r->clock_ahead_ms);
    for (size_t i = 0; fault && i < r->n_partitions; i++)
        if (!r->partitions[i]->error[0])
            pb_set(&r->partitions[i]->error, fault);
}

struct err *node_put(struct coord *c, Stillpoint__V1__NodeRecord *r, int64_t seen_ms)
{
    AUTO(wire) ProtobufCMessage *owned = &r->base;
    struct node_info info = {0};
    if (protobuf_c_message_get_packed_size(owned) > NODES_RECORD_BYTES)
        return err_new(ERR_LIMIT, "field 'node': a record of more than %d bytes",
                       NODES_RECORD_BYTES);
    judge(r);
    struct err *e = info_from(r, &info);
    if (!e)
        clean(r);
    if (!e)
        e = registry_put(&c->registry, &info, seen_ms);
    free(info.parts);
    TRY(e);
    size_t i = lower_bound(c, r->node);
    bool known = i < c->n_nodes && strcmp(c->nodes[i].record->node, r->node) == 0;
    if (!known) {
        mem_reserve((void **)&c->nodes, &c->cap_nodes, c->n_nodes, sizeof *c->nodes);
        memmove(&c->nodes[i + 1], &c->nodes[i], (c->n_nodes - i) * sizeof *c->nodes);
        c->n_nodes++;
        c->nodes[i] = (struct node_entry){0};
    } else {
        if (strcmp(c->nodes[i].record->address, r->address) != 0) {
            rpc_channel_free(c->nodes[i].channel);
            c->nodes[i].channel = NULL;
        }
        wire_free(&c->nodes[i].record->base);
    }
    c->nodes[i].record = (Stillpoint__V1__NodeRecord *)STEAL(owned);
    return NULL;
}

struct err *node_check_repository(const struct coord *c, const char *name,
                                  const char *repository)
{
    const struct node_entry *n = node_find(c, name);
    for (size_t i = 0; n && i < n->record->n_repositories; i++)
        if (strcmp(n->record->repositories[i], repository) == 0)
            return NULL;
    return err_new(ERR_CONFLICT,
                   "the agent's file on node '%s' has no repository '%s': add it under "
                   "'repositories' there and restart the agent",
                   name, repository);
}

struct err *node_channel(struct coord *c, const char *name, struct rpc_channel **out)
{
    struct node_entry *n = node_find(c, name);
    if (!n)
        return err_new(ERR_UNAVAILABLE, "node '%s' has not registered", name);
    if (!n->channel)
        n->channel = rpc_channel_new(c->client, n->record->address, RPC_AGENT, name);
    *out = n->channel;
    return NULL;
}

void nodes_free(struct coord *c)
{
    for (size_t i = 0; i < c->n_nodes; i++) {
        rpc_channel_free(c->nodes[i].channel);
        wire_free(&c->nodes[i].record->base);
        free(c->nodes[i].stored);
    }
    free(c->nodes);
    c->nodes = NULL;
    c->n_nodes = c->cap_nodes = 0;
}
