/* What a new leader reads before it serves: everything, once; from then on it is the only
 * writer and its memory is the truth of its term. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "coordinator/shell/coord.h"

enum { LOAD_RETRY_MS = 1000 };

struct load {
    int64_t revision; /* of the leader key */
    struct meta_list nodes, groups, sets, tasks;
    uint8_t incarnation[16];
    struct err *err;
};

static struct err *read_all(struct meta *m, struct load *l)
{
    TRY(meta_incarnation(m, l->incarnation));
    TRY(meta_scan(m, "nodes/", &l->nodes));
    TRY(meta_scan(m, "groups/", &l->groups));
    TRY(meta_scan(m, "sets/", &l->sets));
    return meta_scan(m, "tasks/", &l->tasks);
}

static void work(struct meta *m, void *arg)
{
    struct load *l = arg;
    meta_lead(m, l->revision);
    l->err = read_all(m, l);
}

static void drop(void *arg)
{
    struct load *l = arg;
    meta_list_fini(&l->nodes);
    meta_list_fini(&l->groups);
    meta_list_fini(&l->sets);
    meta_list_fini(&l->tasks);
    err_free(l->err);
    free(l);
}

/* A record that cannot be read is a person's business; the others go on. */
static ProtobufCMessage *decode(const ProtobufCMessageDescriptor *d,
                                const struct meta_record *r)
{
    ProtobufCMessage *m = NULL;
    struct err *e = pbjson_decode(d, r->value, r->n, 0, &m);
    if (!e)
        return m;
    log_err(LOG_LEVEL_ERROR, "load", "bad_record", err_wrap(e, "key '%s'", r->key));
    return NULL;
}

static struct err *check_key(const struct meta_record *r, const char *prefix,
                             const char *name)
{
    char copy[NAME_BYTES];
    TRY(name_copy(copy, name, "name"));
    if (strncmp(r->key, prefix, strlen(prefix)) == 0 &&
        strcmp(r->key + strlen(prefix), name) == 0)
        return NULL;
    return err_new(ERR_CORRUPT, "the record says it is '%s'", name);
}

static struct err *check_group(const Stillpoint__V1__GroupSpec *g)
{
    char name[NAME_BYTES];
    if (!g)
        return err_new(ERR_CORRUPT, "'spec': missing");
    TRY(name_copy(name, g->repository, "'repository'"));
    if (g->n_partitions == 0 || g->n_partitions > CUT_MAX_PARTS)
        return err_new(ERR_CORRUPT, "'partitions': %zu", g->n_partitions);
    return NULL;
}

struct err *load_check_set(const Stillpoint__V1__SetRecord *s)
{
    char name[NAME_BYTES];
    TRY(name_copy(name, s->set, "'set'"));
    TRY(name_copy(name, s->group, "'group'"));
    TRY_CTX(check_group(s->spec), "set '%s'", s->set);
    if (s->n_parts == 0 || s->n_parts > CUT_MAX_PARTS)
        return err_new(ERR_CORRUPT, "set '%s' has %zu parts", s->set, s->n_parts);
    if (s->state > STILLPOINT__V1__SET_STATE__SET_DAMAGED)
        return err_new(ERR_CORRUPT, "set '%s' is in state %d", s->set, (int)s->state);
    size_t n_missing = 0;
    for (size_t i = 0; i < s->n_parts; i++) {
        TRY(name_copy(name, s->parts[i]->node, "'node'"));
        TRY(name_copy(name, s->parts[i]->partition, "'partition'"));
        if (s->parts[i]->state > STILLPOINT__V1__PART_STATE__PART_MISSING)
            return err_new(ERR_CORRUPT, "part %zu of set '%s' is in state %d", i, s->set,
                           (int)s->parts[i]->state);
        n_missing += s->parts[i]->state == STILLPOINT__V1__PART_STATE__PART_MISSING;
    }
    if (n_missing == s->n_parts)
        return err_new(ERR_CORRUPT, "set '%s' has none of its parts", s->set);
    return NULL;
}

static struct err *check_task(const Stillpoint__V1__TaskRecord *t, const char *key)
{
    char name[NAME_BYTES];
    TRY(name_copy(name, t->set, "'set'"));
    TRY(name_copy(name, t->node, "'node'"));
    AUTO(str) char *want = mem_printf("tasks/%s/%s", t->node, t->id);
    if (strcmp(want, key) != 0)
        return err_new(ERR_CORRUPT, "the record says it is '%s'", want);
    return NULL;
}

/* Takes `m` only if what is stored under the key can be worked with. */
static ProtobufCMessage *unless(struct err *bad, ProtobufCMessage *m,
                                const struct meta_record *r)
{
    if (!bad)
        return m;
    log_err(LOG_LEVEL_ERROR, "load", "bad_record", err_wrap(bad, "key '%s'", r->key));
    wire_free(m);
    return NULL;
}

static ProtobufCMessage *read_set(const struct meta_record *r)
{
    ProtobufCMessage *m = decode(&stillpoint__v1__set_record__descriptor, r);
    const Stillpoint__V1__SetRecord *s = (const void *)m;
    struct err *bad = m ? check_key(r, "sets/", s->set) : NULL;
    if (m && !bad)
        bad = load_check_set(s);
    return m ? unless(bad, m, r) : NULL;
}

static ProtobufCMessage *read_group(const struct meta_record *r)
{
    ProtobufCMessage *m = decode(&stillpoint__v1__group_spec__descriptor, r);
    const Stillpoint__V1__GroupSpec *g = (const void *)m;
    struct err *bad = m ? check_key(r, "groups/", g->group) : NULL;
    if (m && !bad)
        bad = check_group(g);
    return m ? unless(bad, m, r) : NULL;
}

static void take_nodes(struct coord *c, struct meta_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        ProtobufCMessage *m =
            decode(&stillpoint__v1__node_record__descriptor, &l->items[i]);
        if (!m)
            continue;
        AUTO(str) char *name = mem_strdup(((Stillpoint__V1__NodeRecord *)m)->node);
        /* Known, but not connected until it registers here. */
        log_err(LOG_LEVEL_ERROR, "load", "bad_node",
                node_put(c, (Stillpoint__V1__NodeRecord *)m,
                         loop_now_ms() - REGISTRY_GONE_MS));
        struct node_entry *n = node_find(c, name);
        if (n && !n->stored)
            n->stored = mem_strdup(l->items[i].value);
    }
}

static void take_groups(struct coord *c, struct meta_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        ProtobufCMessage *m = read_group(&l->items[i]);
        if (!m)
            continue;
        struct group_entry *g = mem_zalloc(sizeof *g);
        g->spec = (Stillpoint__V1__GroupSpec *)m;
        g->mod_revision = l->items[i].mod_revision;
        mem_reserve((void **)&c->groups, &c->cap_groups, c->n_groups, sizeof(void *));
        c->groups[c->n_groups++] = g;
    }
}

static void take_sets(struct coord *c, struct load *l)
{
    for (size_t i = 0; i < l->sets.n; i++) {
        const struct meta_record *r = &l->sets.items[i];
        ProtobufCMessage *m = read_set(r);
        if (m)
            set_insert(c, (Stillpoint__V1__SetRecord *)m, r->value, r->mod_revision);
    }
    for (size_t i = 0; i < l->tasks.n; i++) {
        const struct meta_record *r = &l->tasks.items[i];
        ProtobufCMessage *m = decode(&stillpoint__v1__task_record__descriptor, r);
        m = m ? unless(check_task((const void *)m, r->key), m, r) : NULL;
        if (m)
            task_insert(c, (Stillpoint__V1__TaskRecord *)m, r->mod_revision);
    }
}

static void again(void *arg)
{
    struct coord *c = arg;
    if (lead_is_leading(&c->lead) && !c->loaded)
        load_begin(c);
}

static void done(struct coord *c, void *arg)
{
    struct load *l = arg;
    if (l->err) {
        log_err(LOG_LEVEL_WARN, "load", "will_retry", STEAL(l->err));
        loop_timer_set(c->loop, &c->load_timer, LOAD_RETRY_MS, again, c);
        return;
    }
    memcpy(c->incarnation, l->incarnation, sizeof c->incarnation);
    take_nodes(c, &l->nodes);
    take_groups(c, &l->groups);
    take_sets(c, l);
    c->loaded = true;
    log_info("load", "done", "groups=%zu sets=%zu tasks=%zu nodes=%zu", c->n_groups,
             c->n_sets, c->n_tasks, c->n_nodes);
    for (size_t i = 0; i < c->n_sets; i++) {
        if (c->sets[i]->record->state == STILLPOINT__V1__SET_STATE__SET_PREPARING)
            run_recover(c, c->sets[i]);
        else
            set_advance(c, c->sets[i]);
    }
}

void load_begin(struct coord *c)
{
    struct load *l = mem_zalloc(sizeof *l);
    l->revision = c->lead.revision;
    store_job(c, work, done, drop, l);
}

void load_again(struct coord *c)
{
    c->term++;
    c->loaded = false;
    runs_stop(c);
    load_forget(c);
    load_begin(c);
}

void load_forget(struct coord *c)
{
    loop_timer_cancel(c->loop, &c->load_timer);
    sets_free(c);
    for (size_t i = 0; i < c->n_groups; i++) {
        wire_free(&c->groups[i]->spec->base);
        free(c->groups[i]);
    }
    free(c->groups);
    c->groups = NULL;
    c->n_groups = c->cap_groups = 0;
}
