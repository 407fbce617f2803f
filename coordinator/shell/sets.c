/* Sets and their tasks in the leader's memory, and what is next for each. */
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/sorted.h"
#include "common/obs/failpoint.h"
#include "common/obs/log.h"
#include "common/wire/pbjson.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "coordinator/shell/run.h"

typedef Stillpoint__V1__SetRecord SetRecord;
typedef Stillpoint__V1__TaskRecord TaskRecord;

enum {
    SETS_ERROR_BYTES = 2000, /* kept of what an agent says went wrong */
    SETS_KEEP_RESTORE_MS = 3600000,
    SETS_FORGET_AT_ONCE = 16, /* a sweep */
};

/* ---- the tables ---- */

static const char *set_key(const void *item)
{
    return (*(struct set_entry *const *)item)->record->set;
}

static size_t set_bound(const struct coord *c, const char *id)
{
    return sorted_find(c->sets, c->n_sets, sizeof *c->sets, set_key, id);
}

struct set_entry *set_find(const struct coord *c, const char *id)
{
    size_t i = set_bound(c, id);
    return i < c->n_sets && strcmp(c->sets[i]->record->set, id) == 0 ? c->sets[i] : NULL;
}

struct set_entry *set_insert(struct coord *c, SetRecord *r, const char *json,
                             int64_t mod_revision)
{
    size_t i = set_bound(c, r->set);
    mem_reserve((void **)&c->sets, &c->cap_sets, c->n_sets, sizeof(void *));
    memmove(&c->sets[i + 1], &c->sets[i], (c->n_sets - i) * sizeof(void *));
    struct set_entry *e = mem_zalloc(sizeof *e);
    e->record = r;
    e->json = mem_strdup(json);
    e->mod_revision = mod_revision;
    c->sets[i] = e;
    c->n_sets++;
    return e;
}

void set_replace(struct coord *c, struct set_entry *e, SetRecord *r, int64_t mod_revision)
{
    (void)c;
    char *json = set_json(e, r);
    free(e->json);
    e->json = json;
    wire_free(&e->record->base);
    e->record = r;
    e->mod_revision = mod_revision;
}

char *set_json(const struct set_entry *e, const SetRecord *r)
{
    char *json = NULL;
    const char *old = e ? e->json : "";
    struct err *bad = pbjson_merge(old, strlen(old), &r->base, &json);
    if (!bad)
        return json;
    /* What is stored is no JSON object: nothing of it can survive. */
    log_err(LOG_LEVEL_ERROR, "sets", "merge_failed", bad);
    return pbjson_encode(&r->base, 0);
}

void set_move(struct coord *c, SetRecord *r, Stillpoint__V1__SetState to)
{
    Stillpoint__V1__SetMove *m = mem_alloc(sizeof *m);
    stillpoint__v1__set_move__init(m);
    m->state = to;
    m->unix_ms = wall_ms();
    pb_set(&m->coordinator, c->conf->name);
    *PB_APPEND(r, moves) = m;
    r->state = to;
}

static const char *task_id(const void *item)
{
    return (*(struct task_entry *const *)item)->record->id;
}

static size_t task_bound(const struct coord *c, const char *id)
{
    return sorted_find(c->tasks, c->n_tasks, sizeof *c->tasks, task_id, id);
}

struct task_entry *task_find(const struct coord *c, const char *id)
{
    size_t i = task_bound(c, id);
    return i < c->n_tasks && strcmp(c->tasks[i]->record->id, id) == 0 ? c->tasks[i]
                                                                      : NULL;
}

struct task_entry *task_insert(struct coord *c, TaskRecord *r, int64_t mod_revision)
{
    size_t i = task_bound(c, r->id);
    mem_reserve((void **)&c->tasks, &c->cap_tasks, c->n_tasks, sizeof(void *));
    memmove(&c->tasks[i + 1], &c->tasks[i], (c->n_tasks - i) * sizeof(void *));
    struct task_entry *t = mem_zalloc(sizeof *t);
    t->record = r;
    t->mod_revision = mod_revision;
    t->claimed_ms = loop_now_ms();
    c->tasks[i] = t;
    c->n_tasks++;
    return t;
}

static void task_remove(struct coord *c, const char *id)
{
    size_t i = task_bound(c, id);
    if (i == c->n_tasks || strcmp(c->tasks[i]->record->id, id) != 0)
        return;
    wire_free(&c->tasks[i]->record->base);
    free(c->tasks[i]);
    memmove(&c->tasks[i], &c->tasks[i + 1], (c->n_tasks - i - 1) * sizeof(void *));
    c->n_tasks--;
}

void sets_free(struct coord *c)
{
    for (size_t i = 0; i < c->n_sets; i++) {
        wire_free(&c->sets[i]->record->base);
        free(c->sets[i]->json);
        free(c->sets[i]);
    }
    while (c->n_tasks)
        task_remove(c, c->tasks[0]->record->id);
    free(c->sets);
    free(c->tasks);
    c->sets = NULL;
    c->tasks = NULL;
    c->n_sets = c->cap_sets = c->cap_tasks = 0;
}

static void task_key(struct meta_key *k, const TaskRecord *r)
{
    meta_key(k, "tasks/%s/%s", r->node, r->id);
}

/* ---- writing a set, alone or with one of its tasks ---- */

/* A transaction under way: the copies that become memory when it is done. */
struct write {
    char *set; /* id, owned */
    SetRecord *record;
    bool had_record;  /* the set was locked by `writing` */
    TaskRecord *task; /* NULL: none */
    bool drop_task;   /* delete it instead */
};

static void drop_write(void *arg)
{
    struct write *w = arg;
    free(w->set);
    if (w->record)
        wire_free(&w->record->base);
    if (w->task)
        wire_free(&w->task->base);
    free(w);
}

static void adopt_task(struct coord *c, struct write *w, int64_t revision)
{
    if (w->drop_task) {
        task_remove(c, w->task->id);
        return;
    }
    struct task_entry *t = task_find(c, w->task->id);
    if (!t) {
        task_insert(c, STEAL(w->task), revision);
        return;
    }
    wire_free(&t->record->base);
    t->record = STEAL(w->task);
    t->mod_revision = revision;
    t->unstored = false;
}

/* Whatever the outcome, the record decides what is next; the sweep asks again. */
static void on_written(struct coord *c, struct meta_txn *t, void *arg)
{
    struct write *w = arg;
    struct set_entry *e = set_find(c, w->set);
    struct task_entry *task = w->task ? task_find(c, w->task->id) : NULL;
    if (e && w->had_record) /* another transaction of this set may be under way */
        e->writing = false;
    if (task)
        task->writing = false;
    if (meta_txn_outcome(t) == META_NOT_DONE && task && task->unstored)
        task_remove(c, w->task->id); /* the sweep creates it again */
    if (meta_txn_outcome(t) != META_DONE) {
        AUTO(str) char *text = meta_txn_error(t) ? err_text(meta_txn_error(t)) : NULL;
        log_warn("sets", "write_failed", "set=%s error=\"%s\"", w->set,
                 text ? text : "a compare failed");
        /* Unknown or conflicting: memory may be behind the store. Begin the term again.
         */
        if (meta_txn_outcome(t) != META_NOT_DONE)
            load_again(c);
        return;
    }
    int64_t revision = meta_txn_revision(t);
    if (w->record && e)
        set_replace(c, e, STEAL(w->record), revision);
    if (w->task)
        adopt_task(c, w, revision);
    if (!e)
        return;
    watch_notify(c, e);
    set_advance(c, e);
}

static void submit(struct coord *c, struct set_entry *e, struct write *w,
                   const char *actor, const char *action)
{
    struct meta_txn *t = meta_txn_new();
    struct meta_key k;
    if (w->record) {
        meta_key(&k, "sets/%s", w->set);
        AUTO(str) char *json = set_json(e, w->record);
        meta_txn_if_mod(t, &k, e->mod_revision);
        meta_txn_put(t, &k, json, 0);
        e->writing = true;
        w->had_record = true;
    }
    if (w->task) {
        struct task_entry *old = task_find(c, w->task->id);
        task_key(&k, w->task);
        meta_txn_if_mod(t, &k, old ? old->mod_revision : 0);
        AUTO(str) char *json = pbjson_encode(&w->task->base, 0);
        if (w->drop_task)
            meta_txn_delete(t, &k);
        else
            meta_txn_put(t, &k, json, 0);
        if (old)
            old->writing = true;
    }
    meta_txn_audit(t, actor, action, w->task ? w->task->id : w->set,
                   w->record ? set_state_text(e->record->state) : "",
                   w->record ? set_state_text(w->record->state)
                             : task_state_text(w->task->state));
    store_submit(c, t, on_written, drop_write, w);
}

static struct write *write_new(const char *set)
{
    struct write *w = mem_zalloc(sizeof *w);
    w->set = mem_strdup(set);
    return w;
}

static char *own_actor(const struct coord *c)
{
    return mem_printf("spiffe://%s/coordinator/%s", c->conf->cluster, c->conf->name);
}

void task_create(struct coord *c, TaskRecord *r, const char *actor)
{
    struct write *w = write_new(r->set);
    w->task = r;
    submit(c, NULL, w, actor, "task.create");
}

/* ---- what is next ---- */

/* set.json as it goes into the repository, and beside it who says so. */
static void fill_seal(const struct coord *c, const SetRecord *r, TaskRecord *t)
{
    AUTO(str) char *json = pbjson_encode(&r->base, PBJSON_PRETTY);
    AUTO(str) char *seal = NULL;
    pb_set_bytes(&t->content, json, strlen(json));
    AUTO(err) struct err *e = witness_seal(c->signer, json, strlen(json), &seal);
    if (e) /* the key has signed before: the record is stored, and `set prove` names this
            */
        log_err(LOG_LEVEL_ERROR, "set", "not_signed", e);
    else
        pb_set_bytes(&t->seal, seal, strlen(seal));
}

/* Whoever took part may store the set's record. */
static size_t first_part(const SetRecord *r)
{
    size_t i = 0;
    while (i + 1 < r->n_parts && !run_is_planned(r->parts[i]))
        i++;
    return i;
}

static TaskRecord *task_for(const struct coord *c, const SetRecord *r,
                            const struct tasks_need *need)
{
    TaskRecord *t = mem_alloc(sizeof *t);
    stillpoint__v1__task_record__init(t);
    const Stillpoint__V1__Part *p =
        r->parts[need->part < 0 ? first_part(r) : (size_t)need->part];
    t->schema = 1;
    t->kind = (Stillpoint__V1__TaskKind)need->kind;
    pb_set(&t->set, r->set);
    pb_set(&t->group, r->group);
    pb_set(&t->node, p->node);
    pb_set(&t->repository, r->spec->repository);
    t->cut_unix_ms = r->cut_unix_ms;
    if (need->part < 0) {
        t->id = mem_printf("%s.%s", r->set, task_kind_name(need->kind));
        fill_seal(c, r, t);
        return t;
    }
    t->id = mem_printf("%s.%s.%s.%s", r->set, task_kind_name(need->kind), p->node,
                       p->partition);
    pb_set(&t->partition, p->partition);
    pb_set(&t->path, p->path);
    pb_set(&t->capture, p->capture);
    pb_set(&t->snapshot_id, p->snapshot_id);
    return t;
}

static void create_needed(struct coord *c, const SetRecord *r,
                          const struct tasks_next *next)
{
    AUTO(str) char *actor = own_actor(c);
    for (size_t i = 0; i < next->n_needs; i++) {
        int part = next->needs[i].part;
        if (next->needs[i].kind == TASK_RELEASE && !r->parts[part]->capture[0])
            continue; /* released before */
        TaskRecord *t = task_for(c, r, &next->needs[i]);
        if (task_find(c, t->id)) {
            wire_free(&t->base);
            continue;
        }
        struct task_entry *e = task_insert(c, (TaskRecord *)pb_copy(&t->base), 0);
        e->unstored = true; /* claimed only once it is durable */
        task_create(c, t, actor);
    }
}

void set_advance(struct coord *c, struct set_entry *e)
{
    if (e->writing || e->run)
        return;
    const SetRecord *r = e->record;
    enum part_state *parts = mem_array(r->n_parts, sizeof *parts);
    for (size_t i = 0; i < r->n_parts; i++)
        parts[i] = (enum part_state)r->parts[i]->state;
    struct tasks_view view = {(enum set_state)r->state, parts, r->n_parts,
                              r->seal_snapshot_id[0] != '\0'};
    struct tasks_next next = {.needs = mem_array(2 * r->n_parts + 1, sizeof *next.needs)};
    tasks_decide(&view, &next);
    if (next.state != view.state) {
        struct write *w = write_new(r->set);
        w->record = (SetRecord *)pb_copy(&r->base);
        set_move(c, w->record, (Stillpoint__V1__SetState)next.state);
        log_info("set", "moved", "set=%s from=%s to=%s", r->set, set_state_text(r->state),
                 set_state_text(w->record->state));
        failpoint("set", set_state_text(w->record->state));
        AUTO(str) char *actor = own_actor(c);
        submit(c, e, w, actor, "set.move");
    } else {
        create_needed(c, r, &next);
    }
    free(parts);
    free(next.needs);
}

/* What a restore came to is kept for whoever asked, not for ever. */
static bool is_outdated(const struct task_entry *t)
{
    return t->record->kind == STILLPOINT__V1__TASK_KIND__TASK_RESTORE &&
           t->record->state >= STILLPOINT__V1__TASK_STATE__TASK_DONE && !t->writing &&
           loop_now_ms() - t->claimed_ms > SETS_KEEP_RESTORE_MS;
}

void set_store(struct coord *c, struct set_entry *e, SetRecord *changed,
               const char *action)
{
    if (e->writing) {
        wire_free(&changed->base);
        return;
    }
    AUTO(str) char *actor = own_actor(c);
    struct write *w = write_new(changed->set);
    w->record = changed;
    submit(c, e, w, actor, action);
}

static void forget_outdated(struct coord *c)
{
    AUTO(str) char *actor = own_actor(c);
    int n = 0;
    for (size_t i = 0; i < c->n_tasks && n < SETS_FORGET_AT_ONCE; i++) {
        if (!is_outdated(c->tasks[i]))
            continue;
        struct write *w = write_new(c->tasks[i]->record->set);
        w->task = (TaskRecord *)pb_copy(&c->tasks[i]->record->base);
        w->drop_task = true;
        submit(c, NULL, w, actor, "task.forget");
        n++;
    }
}

void sets_sweep(struct coord *c)
{
    for (size_t i = 0; i < c->n_sets; i++)
        set_advance(c, c->sets[i]);
    forget_outdated(c);
}

/* ---- an agent's word ---- */

static Stillpoint__V1__Part *find_part(SetRecord *r, const TaskRecord *t)
{
    for (size_t i = 0; i < r->n_parts; i++)
        if (strcmp(r->parts[i]->node, t->node) == 0 &&
            strcmp(r->parts[i]->partition, t->partition) == 0)
            return r->parts[i];
    return NULL;
}

/* A task that failed for good damages its part; a restore is a reader and damages
 * nothing. */
static void apply_failure(struct coord *c, SetRecord *r, const TaskRecord *t)
{
    Stillpoint__V1__Part *p = find_part(r, t);
    if (p && t->kind != STILLPOINT__V1__TASK_KIND__TASK_RELEASE)
        p->state = STILLPOINT__V1__PART_STATE__PART_FAILED;
    if (p)
        pb_set(&p->error, t->error);
    pb_set(&r->error, t->error);
    if (p && r->state == STILLPOINT__V1__SET_STATE__SET_COMPLETE &&
        p->state == STILLPOINT__V1__PART_STATE__PART_FAILED)
        set_move(c, r,
                 STILLPOINT__V1__SET_STATE__SET_DAMAGED); /* found by a later verify */
}

static void apply_success(SetRecord *r, const TaskRecord *t)
{
    Stillpoint__V1__Part *p = find_part(r, t);
    switch (t->kind) {
    case STILLPOINT__V1__TASK_KIND__TASK_UPLOAD:
        if (!p || p->state >= STILLPOINT__V1__PART_STATE__PART_STORED)
            return; /* proofs and part ids never change once recorded (I4) */
        p->state = STILLPOINT__V1__PART_STATE__PART_STORED;
        pb_set(&p->snapshot_id, t->snapshot_id);
        pb_set(&p->tree_id, t->tree_id);
        p->files = t->files;
        p->bytes_read = t->bytes_read;
        p->bytes_stored = t->bytes_stored;
        p->upload_ms = t->elapsed_ms;
        return;
    case STILLPOINT__V1__TASK_KIND__TASK_VERIFY:
        if (p && p->state == STILLPOINT__V1__PART_STATE__PART_STORED)
            p->state = STILLPOINT__V1__PART_STATE__PART_VERIFIED;
        return;
    case STILLPOINT__V1__TASK_KIND__TASK_SEAL:
        pb_set(&r->seal_snapshot_id, t->snapshot_id);
        return;
    case STILLPOINT__V1__TASK_KIND__TASK_RELEASE:
        if (p)
            pb_set(&p->capture, "");
        return;
    default:
        return;
    }
}

static void progress(struct coord *c, struct task_entry *t, const TaskRecord *said)
{
    AUTO(str) char *error = utf8_printable(said->error, SETS_ERROR_BYTES);
    pb_set(&t->record->error, error);
    t->record->files = said->files;
    t->record->bytes_read = said->bytes_read;
    t->record->bytes_stored = said->bytes_stored;
    struct set_entry *e = set_find(c, t->record->set);
    if (e)
        watch_notify(c, e);
}

static TaskRecord *final_task(const struct task_entry *t, const TaskRecord *said)
{
    TaskRecord *r = (TaskRecord *)pb_copy(&t->record->base);
    r->state = said->state;
    AUTO(str) char *error = utf8_printable(said->error, SETS_ERROR_BYTES);
    pb_set(&r->error, error);
    if (said->snapshot_id[0])
        pb_set(&r->snapshot_id, said->snapshot_id);
    if (said->tree_id[0])
        pb_set(&r->tree_id, said->tree_id);
    r->files = said->files;
    r->bytes_read = said->bytes_read;
    r->bytes_stored = said->bytes_stored;
    r->elapsed_ms = said->elapsed_ms;
    pb_set_bytes(&r->content, NULL, 0);
    return r;
}

static bool is_id(const char *text)
{
    struct digest d;
    return digest_parse(text, &d);
}

/* What a final report must say, whoever sent it: it becomes part of the set's record. */
static struct err *check_report(const TaskRecord *said, Stillpoint__V1__TaskKind kind)
{
    if (said->state < STILLPOINT__V1__TASK_STATE__TASK_RUNNING ||
        said->state > STILLPOINT__V1__TASK_STATE__TASK_FAILED)
        return err_new(ERR_INVALID,
                       "field 'task.state': %d is not RUNNING, DONE or FAILED",
                       (int)said->state);
    if (said->files < 0 || said->bytes_read < 0 || said->bytes_stored < 0 ||
        said->elapsed_ms < 0)
        return err_new(ERR_INVALID, "field 'task': a count below 0");
    if (said->state != STILLPOINT__V1__TASK_STATE__TASK_DONE)
        return NULL;
    bool stores = kind == STILLPOINT__V1__TASK_KIND__TASK_UPLOAD ||
                  kind == STILLPOINT__V1__TASK_KIND__TASK_SEAL;
    if (stores && !is_id(said->snapshot_id))
        return err_new(ERR_INVALID, "field 'task.snapshot_id': '%.80s' is no snapshot",
                       said->snapshot_id);
    if (kind == STILLPOINT__V1__TASK_KIND__TASK_UPLOAD && !is_id(said->tree_id))
        return err_new(ERR_INVALID, "field 'task.tree_id': '%.80s' is no tree",
                       said->tree_id);
    return NULL;
}

struct err *task_report(struct coord *c, const char *node, const TaskRecord *said)
{
    struct task_entry *t = task_find(c, said->id);
    if (!t) /* it was final and has been forgotten: the repetition changes nothing (I7) */
        return NULL;
    if (strcmp(t->record->node, node) != 0)
        return err_new(ERR_DENIED, "task '%s' belongs to node '%s'", said->id,
                       t->record->node);
    TRY(check_report(said, t->record->kind));
    t->claimed_ms = loop_now_ms();
    if (t->record->state >= STILLPOINT__V1__TASK_STATE__TASK_DONE)
        return NULL;
    struct set_entry *e = set_find(c, t->record->set);
    if (said->state < STILLPOINT__V1__TASK_STATE__TASK_DONE) {
        progress(c, t, said);
        return NULL;
    }
    if (t->writing || t->unstored || (e && (e->writing || e->run)))
        return err_new(ERR_UNAVAILABLE, "set '%s' is being written: report again",
                       t->record->set);
    bool good = said->state == STILLPOINT__V1__TASK_STATE__TASK_DONE;
    struct write *w = write_new(t->record->set);
    w->task = final_task(t, said);
    bool reader = t->record->kind == STILLPOINT__V1__TASK_KIND__TASK_RESTORE;
    if (e && !reader) {
        w->record = (SetRecord *)pb_copy(&e->record->base);
        if (good)
            apply_success(w->record, w->task);
        else
            apply_failure(c, w->record, w->task);
        w->drop_task = good; /* the set's record says all that matters */
    }
    AUTO(str) char *actor = mem_printf("spiffe://%s/agent/%s", c->conf->cluster, node);
    log_info("task", "reported", "task=%s state=%s", said->id,
             task_state_text(said->state));
    submit(c, e, w, actor, good ? "task.done" : "task.fail");
    return NULL;
}
