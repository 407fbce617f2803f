#include "coordinator/flow/registry.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/sorted.h"
#include "common/base/version.h"

void registry_init(struct registry *r)
{
    *r = (struct registry){0};
}

void registry_fini(struct registry *r)
{
    for (size_t i = 0; i < r->n_nodes; i++)
        free(r->nodes[i].info.parts);
    free(r->nodes);
    *r = (struct registry){0};
}

static const char *node_key(const void *item)
{
    return ((const struct registry_node *)item)->info.node.text;
}

static size_t lower_bound(const struct registry *r, const struct node_id *node)
{
    return sorted_find(r->nodes, r->n_nodes, sizeof *r->nodes, node_key, node->text);
}

static bool is_at(const struct registry *r, size_t i, const struct node_id *node)
{
    return i < r->n_nodes && strcmp(r->nodes[i].info.node.text, node->text) == 0;
}

struct err *registry_put(struct registry *r, struct node_info *info, int64_t now_ms)
{
    size_t i = lower_bound(r, &info->node);
    if (is_at(r, i, &info->node)) {
        free(r->nodes[i].info.parts);
    } else {
        if (r->n_nodes == REGISTRY_MAX_NODES)
            return err_new(ERR_LIMIT, "more than %d nodes", REGISTRY_MAX_NODES);
        mem_reserve((void **)&r->nodes, &r->cap, r->n_nodes, sizeof *r->nodes);
        memmove(&r->nodes[i + 1], &r->nodes[i], (r->n_nodes - i) * sizeof *r->nodes);
        r->n_nodes++;
    }
    r->nodes[i] = (struct registry_node){.info = *info, .seen_ms = now_ms};
    info->parts = NULL;
    info->n_parts = 0;
    return NULL;
}

const struct registry_node *registry_find(const struct registry *r,
                                          const struct node_id *node)
{
    size_t i = lower_bound(r, node);
    return is_at(r, i, node) ? &r->nodes[i] : NULL;
}

/* The largest unit that tells enough. */
static char *clock_fault(int64_t off_ms, const char *way)
{
    static const struct {
        int64_t ms;
        const char *name;
    } units[] = {{86400000, "days"}, {3600000, "hours"}, {60000, "minutes"}};
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(units) && off_ms < 2 * units[i].ms)
        i++;
    return mem_printf(
        "the node's clock is %lld %s %s the coordinator's: set it, and keep "
        "it right with chrony or ntpd",
        (long long)(off_ms / units[i].ms), units[i].name, way);
}

char *registry_node_fault(int protocol, int64_t clock_ahead_ms)
{
    if (protocol < STILLPOINT_PROTOCOL)
        return mem_printf("its agent speaks protocol %d, this coordinator %d: install "
                          "the coordinator's version on the node",
                          protocol > 0 ? protocol : 1, STILLPOINT_PROTOCOL);
    if (clock_ahead_ms > REGISTRY_CLOCK_MS)
        return clock_fault(clock_ahead_ms, "ahead of");
    if (clock_ahead_ms < -REGISTRY_CLOCK_MS)
        return clock_fault(-clock_ahead_ms, "behind");
    return NULL;
}

bool registry_is_connected(const struct registry_node *n, int64_t now_ms)
{
    return now_ms - n->seen_ms < REGISTRY_GONE_MS;
}
