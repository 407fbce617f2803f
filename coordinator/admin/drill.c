/* AdminService: drills that an operator may ask for, and what is left of a set after one.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "coordinator/admin/admin.h"
#include "coordinator/flow/drill.h"
#include "stillpoint/v1/agent.pb-c.h"

enum { REMAINS_MS = 40000 }; /* an agent lists its captures */

/* ---- may it be? ---- */

/* The node whose agent is meant: the one that is named, or the group's first. */
static struct err *pick_node(const struct group_entry *g, const char *wanted, char **out)
{
    for (size_t i = 0; i < g->spec->n_partitions; i++) {
        struct plan_part p;
        TRY(plan_parse_part(g->spec->partitions[i], &p));
        if (wanted[0] && strcmp(wanted, p.node.text) != 0)
            continue;
        pb_set(out, p.node.text);
        return NULL;
    }
    return err_new(ERR_INVALID,
                   "field 'drill_node': group '%s' has nothing on node '%.80s'",
                   g->spec->group, wanted);
}

static struct err *check_consent(const struct coord *c, const struct group_entry *g,
                                 const Stillpoint__V1__CreateSetRequest *req)
{
    if (!c->conf->drills)
        return err_new(ERR_DENIED,
                       "the file of coordinator '%s' does not allow drills: add "
                       "'drills: true' and restart it",
                       c->conf->name);
    if (!g->spec->drillable)
        return err_new(
            ERR_DENIED,
            "group '%s' is not drillable: add 'drillable: true' to its file and "
            "apply it",
            g->spec->group);
    if (!req->drill_acknowledged)
        return err_new(
            ERR_INVALID,
            "field 'drill_acknowledged': drill '%s' stops the writers of group "
            "'%s' for up to its hold_limit and may kill daemons: say that you "
            "know (--yes)",
            req->drill, g->spec->group);
    return NULL;
}

struct err *admin_drill(const struct coord *c, const struct group_entry *g,
                        const Stillpoint__V1__CreateSetRequest *req,
                        Stillpoint__V1__Drill *out)
{
    const struct drill *d;
    TRY(drill_find(req->drill, &d));
    TRY(check_consent(c, g, req));
    pb_set(&out->name, d->name);
    out->fault_ms = drill_fault_ms(d, g->spec->hold_limit_ms, c->conf->lease_ms);
    if (!drill_is_on_agent(d)) {
        if (req->drill_node[0])
            return err_new(ERR_INVALID,
                           "field 'drill_node': drill '%s' is about the coordinator",
                           d->name);
        return NULL;
    }
    TRY(pick_node(g, req->drill_node, &out->node));
    const struct node_entry *n = node_find(c, out->node);
    if (n && n->record->drills)
        return NULL;
    return err_new(
        ERR_DENIED,
        "the agent's file on node '%s' does not allow drills: add 'drills: true' "
        "there and restart the agent",
        out->node);
}

void admin_list_drills(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    (void)m;
    (void)ctx;
    Stillpoint__V1__ListDrillsReply *r = mem_alloc(sizeof *r);
    stillpoint__v1__list_drills_reply__init(r);
    for (size_t i = 0; i < n_drills; i++) {
        Stillpoint__V1__DrillInfo *d = mem_alloc(sizeof *d);
        stillpoint__v1__drill_info__init(d);
        pb_set(&d->name, drills[i].name);
        pb_set(&d->summary, drills[i].summary);
        d->on_agent = drill_is_on_agent(&drills[i]);
        *PB_APPEND(r, drills) = d;
    }
    rpc_reply(call, &r->base);
    wire_free(&r->base);
}

/* ---- SetRemains ---- */

struct remains {
    struct coord *coord;
    struct rpc_call *call;
    char *set;                              /* owned */
    Stillpoint__V1__SetRemainsReply *reply; /* owned */
    struct meta_list locks;
    struct err *err; /* of reading them */
    bool looked;     /* it was done, in the term in which it was asked for */
    size_t waiting;
};

struct remains_node {
    struct remains *remains;
    char name[NAME_BYTES];
};

static void one_ended(struct remains *k)
{
    if (--k->waiting > 0)
        return;
    if (!k->err && !k->looked)
        k->err = err_new(ERR_UNAVAILABLE, "the coordinator stopped leading");
    if (k->err)
        rpc_fail(k->call, STEAL(k->err));
    else
        rpc_reply(k->call, &k->reply->base);
    wire_free(&k->reply->base);
    meta_list_fini(&k->locks);
    free(k->set);
    free(k);
}

static void read_locks(struct meta *m, void *arg)
{
    struct remains *k = arg;
    k->err = meta_scan(m, "locks/", &k->locks);
}

static void take_locks(struct coord *c, void *arg)
{
    struct remains *k = arg;
    (void)c;
    k->looked = true;
    for (size_t i = 0; !k->err && i < k->locks.n; i++)
        if (strcmp(k->locks.items[i].value, k->set) == 0)
            *PB_APPEND(k->reply, locks) = mem_strdup(k->locks.items[i].key);
}

/* In any case, and last. */
static void locks_ended(void *arg)
{
    one_ended(arg);
}

static void on_remains(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct remains_node *n = arg;
    struct remains *k = n->remains;
    const Stillpoint__V1__RemainsReply *said = (const void *)m;
    AUTO(err) struct err *owned = e;
    if (owned) {
        AUTO(str) char *text = err_text(owned);
        *PB_APPEND(k->reply, unknown) = mem_printf("%s: %s", n->name, text);
    }
    if (!owned && said->open)
        *PB_APPEND(k->reply, open) = mem_strdup(n->name);
    for (size_t i = 0; !owned && i < said->n_captures; i++)
        *PB_APPEND(k->reply, captures) = mem_printf("%s: %s", n->name, said->captures[i]);
    free(n);
    one_ended(k);
}

static void ask_node(struct remains *k, const char *name)
{
    struct rpc_channel *ch = NULL;
    struct remains_node *n = mem_zalloc(sizeof *n);
    n->remains = k;
    memcpy(n->name, name, strlen(name) + 1);
    struct err *e = node_channel(k->coord, name, &ch);
    if (e) {
        on_remains(n, e, NULL);
        return;
    }
    Stillpoint__V1__RemainsRequest req = STILLPOINT__V1__REMAINS_REQUEST__INIT;
    req.set = k->set;
    const struct rpc_opts opts = {.timeout_ms = REMAINS_MS};
    rpc_call_start(ch, &stillpoint__v1__agent_service__descriptor, "Remains", &req.base,
                   &opts, on_remains, n);
}

void admin_set_remains(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const char *id = ((const Stillpoint__V1__SetRequest *)m)->set;
    struct set_entry *s;
    struct err *e = admin_set(c, id, &s);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct remains *k = mem_zalloc(sizeof *k);
    k->coord = c;
    k->call = call;
    k->set = mem_strdup(id);
    k->reply = mem_alloc(sizeof *k->reply);
    stillpoint__v1__set_remains_reply__init(k->reply);
    k->waiting = 2; /* the locks, and this function */
    store_job(c, read_locks, take_locks, locks_ended, k);
    /* Parts ascend by node. */
    for (size_t i = 0; i < s->record->n_parts; i++) {
        const char *node = s->record->parts[i]->node;
        if (i > 0 && strcmp(node, s->record->parts[i - 1]->node) == 0)
            continue;
        k->waiting++;
        ask_node(k, node);
    }
    one_ended(k);
}
