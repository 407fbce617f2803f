#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "coordinator/admin/admin.h"

typedef Stillpoint__V1__TaskRecord TaskRecord;

struct err *admin_set(struct coord *c, const char *id, struct set_entry **out)
{
    TRY(leader_check(c));
    *out = set_find(c, id);
    if (*out)
        return NULL;
    return err_new(ERR_NOT_FOUND,
                   "there is no set '%.80s': `stillpoint set list` shows all", id);
}

/* ---- create ---- */

static void on_begun(void *arg, struct err *e, const Stillpoint__V1__SetRecord *r)
{
    struct rpc_call *call = arg;
    if (e)
        rpc_fail(call, e);
    else
        rpc_reply(call, &r->base);
}

/* "<group>-<time>-<random>", or "<group>-<request id>", which makes a repetition find the
 * set that the first attempt created (I7). */
static struct err *make_id(const char *group, const char *request_id, struct set_id *out)
{
    char suffix[NAME_BYTES];
    if (request_id[0]) {
        TRY(name_copy(suffix, request_id, "field 'request_id':"));
    } else {
        uint8_t bytes[2];
        char hex[5];
        if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
            return err_new(ERR_IO, "no random numbers");
        hex_encode(bytes, sizeof bytes, hex);
        time_t now = time(NULL);
        struct tm tm;
        gmtime_r(&now, &tm);
        char when[32];
        strftime(when, sizeof when, "%Y%m%dt%H%M%Sz", &tm);
        snprintf(suffix, sizeof suffix, "%s-%s", when, hex);
    }
    AUTO(str) char *id = mem_printf("%s-%s", group, suffix);
    return name_copy(out->text, id, "field 'request_id': set");
}

static void begin_set(struct coord *c, struct rpc_call *call, const struct group_entry *g,
                      const struct set_id *id,
                      const Stillpoint__V1__CreateSetRequest *req)
{
    AUTO(str) char *actor = admin_actor(call);
    if (!req->drill[0]) {
        run_create(c, g, id->text, actor, NULL, on_begun, call);
        return;
    }
    Stillpoint__V1__Drill *drill = mem_alloc(sizeof *drill);
    stillpoint__v1__drill__init(drill);
    struct err *e = admin_drill(c, g, req, drill);
    if (e)
        rpc_fail(call, e);
    else
        run_create(c, g, id->text, actor, drill, on_begun, call);
    wire_free(&drill->base);
}

void admin_create_set(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__CreateSetRequest *req = (const void *)m;
    struct set_id id;
    struct err *e = leader_check(c);
    struct group_entry *g = e ? NULL : admin_group(c, req->group);
    if (!e && !g)
        e = err_new(ERR_NOT_FOUND,
                    "there is no group '%.80s': `stillpoint group list` shows "
                    "all",
                    req->group);
    if (!e && c->n_sets >= COORD_MAX_SETS)
        e = err_new(ERR_LIMIT, "%d sets are recorded already", COORD_MAX_SETS);
    if (!e)
        e = make_id(req->group, req->request_id, &id);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct set_entry *known = set_find(c, id.text);
    if (known && strcmp(known->record->group, req->group) != 0) {
        rpc_fail(call, err_new(ERR_CONFLICT, "set '%s' is of group '%s'", id.text,
                               known->record->group));
        return;
    }
    if (known) {
        rpc_reply(call, &known->record->base);
        return;
    }
    if (run_exists(c, id.text)) { /* two rounds of one set would share its locks */
        rpc_fail(call,
                 err_new(ERR_UNAVAILABLE, "set '%s' is being begun: ask again", id.text));
        return;
    }
    begin_set(c, call, g, &id, req);
}

/* ---- look ---- */

void admin_list_sets(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__ListRequest *req = (const void *)m;
    struct err *e = leader_check(c);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    size_t most =
        req->most > 0 && req->most < ADMIN_LIST_MAX ? (size_t)req->most : ADMIN_LIST_MAX;
    Stillpoint__V1__ListSetsReply r = STILLPOINT__V1__LIST_SETS_REPLY__INIT;
    size_t bytes = 0;
    for (size_t i = c->n_sets; i > 0 && !r.more; i--) {
        Stillpoint__V1__SetRecord *s = c->sets[i - 1]->record;
        if (req->group[0] && strcmp(req->group, s->group) != 0)
            continue;
        bytes += stillpoint__v1__set_record__get_packed_size(s);
        r.more = r.n_sets == most || (r.n_sets > 0 && bytes > ADMIN_LIST_BYTES);
        if (!r.more)
            *PB_APPEND(&r, sets) = s;
    }
    rpc_reply(call, &r.base);
    free(r.sets);
}

void admin_get_set(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct set_entry *s;
    struct err *e = admin_set(ctx, ((const Stillpoint__V1__SetRequest *)m)->set, &s);
    if (e)
        rpc_fail(call, e);
    else
        rpc_reply(call, &s->record->base);
}

void admin_cancel_set(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const char *id = ((const Stillpoint__V1__SetRequest *)m)->set;
    struct set_entry *s;
    struct err *e = admin_set(c, id, &s);
    AUTO(str) char *actor = admin_actor(call);
    if (!e && s->record->state != STILLPOINT__V1__SET_STATE__SET_ABORTED)
        e = run_cancel(c, id, actor);
    if (e)
        rpc_fail(call, e);
    else
        rpc_reply(call, &s->record->base);
}

void admin_list_tasks(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__SetRequest *req = (const void *)m;
    struct err *e = leader_check(c);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    Stillpoint__V1__TasksReply r = STILLPOINT__V1__TASKS_REPLY__INIT;
    for (size_t i = 0; i < c->n_tasks && r.n_tasks < ADMIN_LIST_MAX; i++)
        if (!req->set[0] || strcmp(c->tasks[i]->record->set, req->set) == 0)
            *PB_APPEND(&r, tasks) = c->tasks[i]->record;
    rpc_reply(call, &r.base);
    free(r.tasks);
}

/* ---- restore, verify: tasks that an operator asks for ---- */

static TaskRecord *asked_task(const struct set_entry *s, const Stillpoint__V1__Part *p,
                              Stillpoint__V1__TaskKind kind, const char *node)
{
    static int64_t last_ms; /* part of the id, so never twice the same */
    int64_t now_ms = wall_ms();
    last_ms = now_ms > last_ms ? now_ms : last_ms + 1;
    TaskRecord *t = mem_alloc(sizeof *t);
    stillpoint__v1__task_record__init(t);
    t->schema = 1;
    t->kind = kind;
    t->id = mem_printf("%s.%s-%llx.%s.%s", s->record->set,
                       task_kind_name((enum task_kind)kind), (unsigned long long)last_ms,
                       node, p->partition);
    pb_set(&t->set, s->record->set);
    pb_set(&t->group, s->record->group);
    pb_set(&t->node, node);
    pb_set(&t->partition, p->partition);
    pb_set(&t->path, p->path);
    pb_set(&t->repository, s->record->spec->repository);
    pb_set(&t->snapshot_id, p->snapshot_id);
    t->cut_unix_ms = s->record->cut_unix_ms;
    return t;
}

/* Remembers the task as not yet durable, starts to store it, adds it to the reply. */
static void ask_for(struct coord *c, TaskRecord *t, const char *actor,
                    Stillpoint__V1__TasksReply *r)
{
    *PB_APPEND(r, tasks) = (TaskRecord *)pb_copy(&t->base);
    struct task_entry *e = task_insert(c, (TaskRecord *)pb_copy(&t->base), 0);
    e->unstored = true;
    task_create(c, t, actor);
}

static bool is_named(const Stillpoint__V1__Part *p, const char *wanted)
{
    AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
    return !wanted[0] || strcmp(name, wanted) == 0;
}

static struct err *check_restorable(const struct coord *c, const struct set_entry *s)
{
    if (c->n_tasks + s->record->n_parts > COORD_MAX_TASKS)
        return err_new(ERR_LIMIT, "%zu tasks are recorded, at most %d", c->n_tasks,
                       COORD_MAX_TASKS);
    Stillpoint__V1__SetState state = s->record->state;
    if (state == STILLPOINT__V1__SET_STATE__SET_COMPLETE ||
        state == STILLPOINT__V1__SET_STATE__SET_DAMAGED)
        return NULL;
    return err_new(ERR_CONFLICT,
                   "set '%s' is %s: only COMPLETE sets can be restored or "
                   "verified",
                   s->record->set, set_state_text(state));
}

static struct err *restore(struct coord *c, struct rpc_call *call,
                           const Stillpoint__V1__RestoreSetRequest *req,
                           Stillpoint__V1__TasksReply *r)
{
    struct set_entry *s;
    TRY(admin_set(c, req->set, &s));
    TRY(check_restorable(c, s));
    if (req->target[0] != '/')
        return err_new(ERR_INVALID, "field 'target': '%.200s' is not an absolute path",
                       req->target);
    if (req->node[0] && !node_find(c, req->node))
        return err_new(ERR_NOT_FOUND,
                       "there is no node '%.80s': `stillpoint node list` shows all",
                       req->node);
    AUTO(str) char *actor = admin_actor(call);
    for (size_t i = 0; i < s->record->n_parts; i++) {
        const Stillpoint__V1__Part *p = s->record->parts[i];
        if (!is_named(p, req->partition) || !p->snapshot_id[0])
            continue;
        TaskRecord *t = asked_task(s, p, STILLPOINT__V1__TASK_KIND__TASK_RESTORE,
                                   req->node[0] ? req->node : p->node);
        AUTO(str)
        char *target = mem_printf("%s/%s/%s", req->target, p->node, p->partition);
        pb_set(&t->target, target);
        ask_for(c, t, actor, r);
    }
    if (r->n_tasks > 0)
        return NULL;
    for (size_t i = 0; i < s->record->n_parts; i++) {
        const Stillpoint__V1__Part *p = s->record->parts[i];
        if (req->partition[0] && is_named(p, req->partition) &&
            part_is_missing(s->record, p))
            return err_new(ERR_NOT_FOUND,
                           "partition '%s' is missing in set '%s' (%s): restore it from "
                           "another set",
                           req->partition, req->set, p->error);
    }
    return err_new(ERR_NOT_FOUND, "set '%s' has no stored part '%.160s'", req->set,
                   req->partition);
}

static struct err *verify(struct coord *c, struct rpc_call *call,
                          const Stillpoint__V1__SetRequest *req,
                          Stillpoint__V1__TasksReply *r)
{
    struct set_entry *s;
    TRY(admin_set(c, req->set, &s));
    TRY(check_restorable(c, s));
    AUTO(str) char *actor = admin_actor(call);
    for (size_t i = 0; i < s->record->n_parts; i++) {
        const Stillpoint__V1__Part *p = s->record->parts[i];
        if (p->snapshot_id[0])
            ask_for(c, asked_task(s, p, STILLPOINT__V1__TASK_KIND__TASK_VERIFY, p->node),
                    actor, r);
    }
    return NULL;
}

static void finish(struct rpc_call *call, struct err *e, Stillpoint__V1__TasksReply *r)
{
    if (e)
        rpc_fail(call, e);
    else
        rpc_reply(call, &r->base);
    for (size_t i = 0; i < r->n_tasks; i++)
        wire_free(&r->tasks[i]->base);
    free(r->tasks);
}

void admin_restore_set(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    Stillpoint__V1__TasksReply r = STILLPOINT__V1__TASKS_REPLY__INIT;
    finish(call, restore(ctx, call, (const void *)m, &r), &r);
}

void admin_verify_set(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    Stillpoint__V1__TasksReply r = STILLPOINT__V1__TASKS_REPLY__INIT;
    finish(call, verify(ctx, call, (const void *)m, &r), &r);
}
