#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "coordinator/admin/admin.h"

typedef Stillpoint__V1__GroupSpec GroupSpec;

enum {
    GROUP_NAME_MAX = 40, /* a set's name adds 22 */
    GROUP_HOLD_MIN_MS = 100,
    GROUP_HOLD_MAX_MS = 60000,
    GROUP_HOLD_MS = 10000,
    GROUP_FREEZE_MS = 5000,
    GROUP_PREPARE_MS = 60000,
    GROUP_TIMEOUT_MAX_MS = 3600000,
};

static struct err *check_range(const char *field, int64_t value, int64_t least,
                               int64_t most)
{
    if (value >= least && value <= most)
        return NULL;
    return err_new(ERR_INVALID, "field '%s': %lld ms is not %lld to %lld", field,
                   (long long)value, (long long)least, (long long)most);
}

/* In a strict group all are. */
static struct err *check_required(const GroupSpec *s)
{
    if (s->n_required > 0 &&
        s->consistency == STILLPOINT__V1__CONSISTENCY__CONSISTENCY_STRICT)
        return err_new(ERR_INVALID, "field 'required': of a strict group every partition "
                                    "is; say 'consistency: relaxed', or leave it out");
    for (size_t i = 0; i < s->n_required; i++) {
        bool found = false;
        for (size_t k = 0; k < s->n_partitions && !found; k++)
            found = strcmp(s->required[i], s->partitions[k]) == 0;
        if (!found)
            return err_new(ERR_INVALID,
                           "field 'required[%zu]': '%.160s' is none of the group's "
                           "partitions",
                           i, s->required[i]);
    }
    return NULL;
}

static struct err *check_waves(const GroupSpec *s)
{
    struct wave *waves = run_waves(s);
    struct err *e = waves_check(s->partitions, s->n_partitions, waves, s->n_waves);
    free(waves);
    return e;
}

/* Fills in what was left out, then refuses what cannot be. */
static struct err *complete(GroupSpec *s)
{
    char name[NAME_BYTES];
    TRY(name_copy(name, s->group, "field 'group':"));
    if (strlen(s->group) > GROUP_NAME_MAX)
        return err_new(ERR_INVALID,
                       "field 'group': '%s' has more than %d characters: the names of "
                       "its sets begin with it",
                       s->group, GROUP_NAME_MAX);
    TRY(name_copy(name, s->repository, "field 'repository':"));
    s->hold_limit_ms = s->hold_limit_ms ? s->hold_limit_ms : GROUP_HOLD_MS;
    s->freeze_timeout_ms = s->freeze_timeout_ms ? s->freeze_timeout_ms : GROUP_FREEZE_MS;
    s->prepare_timeout_ms =
        s->prepare_timeout_ms ? s->prepare_timeout_ms : GROUP_PREPARE_MS;
    TRY(check_range("hold_limit_ms", s->hold_limit_ms, GROUP_HOLD_MIN_MS,
                    GROUP_HOLD_MAX_MS));
    TRY(check_range("freeze_timeout_ms", s->freeze_timeout_ms, 1, GROUP_TIMEOUT_MAX_MS));
    TRY(check_range("prepare_timeout_ms", s->prepare_timeout_ms, 1,
                    GROUP_TIMEOUT_MAX_MS));
    if (s->consistency > STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED)
        return err_new(ERR_INVALID, "field 'consistency': unknown value %d",
                       (int)s->consistency);
    if (s->n_partitions == 0 || s->n_partitions > CUT_MAX_PARTS)
        return err_new(ERR_INVALID, "field 'partitions': %zu, 1 to %d are allowed",
                       s->n_partitions, CUT_MAX_PARTS);
    for (size_t i = 0; i < s->n_partitions; i++) {
        struct plan_part p;
        TRY_CTX(plan_parse_part(s->partitions[i], &p), "field 'partitions[%zu]'", i);
        for (size_t k = 0; k < i; k++)
            if (strcmp(s->partitions[i], s->partitions[k]) == 0)
                return err_new(ERR_INVALID,
                               "field 'partitions[%zu]': '%s' is listed twice", i,
                               s->partitions[i]);
    }
    TRY(check_required(s));
    return check_waves(s);
}

struct apply {
    struct coord *coord;
    struct rpc_call *call;
    GroupSpec *spec;
};

static void drop_apply(void *arg)
{
    struct apply *a = arg;
    a->coord->applying = false;
    if (a->call)
        rpc_fail(a->call,
                 err_new(ERR_TIMEOUT, "the coordinator stopped leading; look with "
                                      "`stillpoint group show`"));
    if (a->spec)
        wire_free(&a->spec->base);
    free(a);
}

static void on_applied(struct coord *c, struct meta_txn *t, void *arg)
{
    struct apply *a = arg;
    struct group_entry *g = admin_group(c, a->spec->group);
    if (meta_txn_outcome(t) != META_DONE) {
        bool unknown = meta_txn_outcome(t) == META_UNKNOWN;
        AUTO(str)
        char *why = meta_txn_error(t) ? err_text(meta_txn_error(t))
                                      : mem_strdup("a compare failed");
        rpc_fail(STEAL(a->call),
                 err_new(unknown ? ERR_TIMEOUT : ERR_UNAVAILABLE,
                         "the group could not be stored: apply it again (%s)", why));
        if (meta_txn_outcome(t) != META_NOT_DONE)
            load_again(c);
        return;
    }
    if (!g) {
        g = mem_zalloc(sizeof *g);
        mem_reserve((void **)&c->groups, &c->cap_groups, c->n_groups, sizeof(void *));
        c->groups[c->n_groups++] = g;
    } else {
        wire_free(&g->spec->base);
    }
    g->mod_revision = meta_txn_revision(t);
    g->spec = STEAL(a->spec);
    rpc_reply(STEAL(a->call), &g->spec->base);
}

static struct err *begin_apply(struct coord *c, struct rpc_call *call,
                               const GroupSpec *spec)
{
    TRY(leader_check(c));
    if (!spec)
        return err_new(ERR_INVALID, "field 'spec': missing");
    AUTO(wire) ProtobufCMessage *copy = pb_copy(&spec->base);
    GroupSpec *s = (GroupSpec *)copy;
    TRY(complete(s));
    struct group_entry *g = admin_group(c, s->group);
    /* Two at once would compare the same revision, and the loser's conflict would make
     * this coordinator doubt all it knows. */
    if (c->applying)
        return err_new(ERR_UNAVAILABLE, "another group is being written: try again");
    if (!g && c->n_groups >= COORD_MAX_GROUPS)
        return err_new(ERR_LIMIT, "there are %d groups already", COORD_MAX_GROUPS);
    s->schema = 1;
    s->version = g ? g->spec->version + 1 : 1;
    struct meta_key k;
    meta_key(&k, "groups/%s", s->group);
    AUTO(str) char *json = pbjson_encode(copy, 0);
    AUTO(str) char *before = g ? pbjson_encode(&g->spec->base, 0) : mem_strdup("");
    AUTO(str) char *actor = admin_actor(call);
    struct meta_txn *t = meta_txn_new();
    meta_txn_if_mod(t, &k, g ? g->mod_revision : 0);
    meta_txn_put(t, &k, json, 0);
    meta_txn_audit(t, actor, "group.apply", s->group, before, json);
    c->applying = true;
    struct apply *a = mem_zalloc(sizeof *a);
    a->coord = c;
    a->call = call;
    a->spec = (GroupSpec *)STEAL(copy);
    store_submit(c, t, on_applied, drop_apply, a);
    return NULL;
}

void admin_apply_group(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    const Stillpoint__V1__ApplyGroupRequest *req = (const void *)m;
    struct err *e = begin_apply(ctx, call, req->spec);
    if (e)
        rpc_fail(call, e);
}

void admin_list_groups(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    (void)m;
    struct err *e = leader_check(c);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__ListGroupsReply r = STILLPOINT__V1__LIST_GROUPS_REPLY__INIT;
    for (size_t i = 0; i < c->n_groups; i++)
        *PB_APPEND(&r, groups) = c->groups[i]->spec;
    rpc_reply(call, &r.base);
    free(r.groups);
}
