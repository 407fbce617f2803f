/* How a run begins: from a group to a plan, refused or not, to the draft of its record;
 * or from the record of a set that is taken over. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/order.h"
#include "common/obs/log.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "coordinator/shell/run.h"

struct wave *run_waves(const Stillpoint__V1__GroupSpec *spec)
{
    struct wave *waves = mem_array(spec->n_waves, sizeof *waves);
    for (size_t i = 0; i < spec->n_waves; i++)
        waves[i] =
            (struct wave){spec->waves[i]->partitions, spec->waves[i]->n_partitions};
    return waves;
}

static void find_waves(struct run *r)
{
    const Stillpoint__V1__GroupSpec *spec = r->draft->spec;
    struct wave *waves = run_waves(spec);
    for (size_t i = 0; i < r->n_parts; i++)
        r->parts[i].wave = waves_find(waves, spec->n_waves, r->draft->parts[i]->node,
                                      r->draft->parts[i]->partition);
    free(waves);
}

static struct run *run_new(struct coord *c, Stillpoint__V1__SetRecord *draft,
                           const char *actor)
{
    static uint64_t serial;
    struct run *r = mem_zalloc(sizeof *r);
    r->coord = c;
    r->serial = ++serial;
    r->draft = draft;
    r->actor = mem_strdup(actor);
    snprintf(r->set.text, sizeof r->set.text, "%s", draft->set);
    r->next = c->runs;
    c->runs = r;
    r->n_parts = draft->n_parts;
    r->parts = mem_array(draft->n_parts, sizeof *r->parts);
    r->part_errors = mem_array(draft->n_parts, sizeof *r->part_errors);
    find_waves(r);
    /* Parts ascend by node, so one node's stand together. */
    r->nodes = mem_array(draft->n_parts, sizeof *r->nodes);
    for (size_t i = 0; i < draft->n_parts; i++) {
        const char *node = draft->parts[i]->node;
        if (!run_is_planned(draft->parts[i]))
            continue;
        if (r->n_nodes == 0 || strcmp(r->nodes[r->n_nodes - 1].name, node) != 0)
            snprintf(r->nodes[r->n_nodes++].name, NAME_BYTES, "%s", node);
        struct run_node *last = &r->nodes[r->n_nodes - 1];
        if (last->n == 0)
            last->first = i;
        last->n = i - last->first + 1;
    }
    return r;
}

static Stillpoint__V1__SetRecord *new_record(const struct group_entry *g, const char *id,
                                             const struct plan *plan)
{
    Stillpoint__V1__SetRecord *d = mem_alloc(sizeof *d);
    stillpoint__v1__set_record__init(d);
    d->schema = 1;
    pb_set(&d->set, id);
    pb_set(&d->group, g->spec->group);
    d->spec = (Stillpoint__V1__GroupSpec *)pb_copy(&g->spec->base);
    d->created_unix_ms = wall_ms();
    for (size_t i = 0; i < plan->n_parts; i++) {
        Stillpoint__V1__Part *p = mem_alloc(sizeof *p);
        stillpoint__v1__part__init(p);
        pb_set(&p->node, plan->parts[i].node.text);
        pb_set(&p->partition, plan->parts[i].part.text);
        pb_set(&p->path, plan->parts[i].path);
        if (plan->parts[i].error) {
            p->state = STILLPOINT__V1__PART_STATE__PART_MISSING;
            AUTO(str)
            char *why = utf8_printable(plan->parts[i].error, ROUND_ERROR_BYTES);
            pb_set(&p->error, why);
        }
        *PB_APPEND(d, parts) = p;
    }
    return d;
}

/* Another group's run that has the domain; one that aborts gives it back soon. */
static const struct run *run_with(const struct coord *c, const struct domain_id *domain,
                                  const char *group)
{
    for (const struct run *r = c->runs; r; r = r->next) {
        bool ends = run_phase(r) == STILLPOINT__V1__SET_STATE__SET_ABORTED;
        if (ends || strcmp(r->draft->group, group) == 0)
            continue;
        for (size_t i = 0; i < r->n_domains; i++)
            if (strcmp(r->domains[i].text, domain->text) == 0)
                return r;
    }
    return NULL;
}

static struct err *check_overlap(const struct coord *c, const struct plan *plan,
                                 const char *group)
{
    for (size_t i = 0; i < plan->n_parts; i++) {
        const struct plan_part *p = &plan->parts[i];
        const struct run *r = p->error ? NULL : run_with(c, &p->domain, group);
        if (r)
            return err_new(ERR_CONFLICT,
                           "partition '%s/%s' is being captured in set '%s' of group "
                           "'%s': try again when that run is over",
                           p->node.text, p->part.text, r->set.text, r->draft->group);
    }
    return NULL;
}

static struct err *check_repositories(const struct coord *c, struct plan *plan,
                                      const char *repository, bool strict)
{
    for (size_t i = 0; i < plan->n_nodes;) {
        struct node_id node = plan->nodes[i].node;
        AUTO(err) struct err *e = node_check_repository(c, node.text, repository);
        if (!e) {
            i++;
            continue;
        }
        if (strict)
            return STEAL(e);
        AUTO(str) char *why = err_text(e);
        TRY(plan_leave_out(plan, &c->registry, &node, why)); /* the next one is at i */
    }
    return NULL;
}

/* The order is the group's: what is wrong with it is no matter of one node, even of a
 * relaxed group. */
static struct err *check_order(const struct plan *plan,
                               const Stillpoint__V1__GroupSpec *s)
{
    struct order_part *parts = mem_array(plan->n_parts, sizeof *parts);
    struct wave *waves = run_waves(s);
    struct err *e = NULL;
    for (size_t i = 0; i < plan->n_nodes && !e && s->n_waves > 1; i++) {
        const struct plan_node *node = &plan->nodes[i];
        size_t n = 0;
        for (size_t k = node->first; k < node->first + node->n; k++) {
            const struct plan_part *p = &plan->parts[k];
            if (!p->error)
                parts[n++] = (struct order_part){
                    p->part.text, &p->domain,
                    waves_find(waves, s->n_waves, p->node.text, p->part.text)};
        }
        e = order_check(node->node.text, parts, n);
    }
    free(waves);
    free(parts);
    return e;
}

/* What a relaxed group requires is planned as strictly as ever. */
static struct err *check_required(const struct coord *c,
                                  const Stillpoint__V1__GroupSpec *s)
{
    AUTO(plan) struct plan *p = NULL;
    TRY_CTX(plan_make(&c->registry, (const char *const *)s->required, s->n_required, true,
                      loop_now_ms(), &p),
            "required");
    return check_repositories(c, p, s->repository, true);
}

struct err *run_plan(const struct coord *c, const Stillpoint__V1__GroupSpec *s,
                     struct plan **out)
{
    bool strict = s->consistency == STILLPOINT__V1__CONSISTENCY__CONSISTENCY_STRICT;
    if (runs_count(c) >= COORD_MAX_RUNS)
        return err_new(ERR_LIMIT, "%d sets are being taken already", COORD_MAX_RUNS);
    if (s->n_required > 0)
        TRY(check_required(c, s));
    TRY(plan_make(&c->registry, (const char *const *)s->partitions, s->n_partitions,
                  strict, loop_now_ms(), out));
    TRY(check_repositories(c, *out, s->repository, strict));
    TRY_CTX(check_order(*out, s), "waves");
    return check_overlap(c, *out, s->group);
}

static void run_begin(struct coord *c, const struct group_entry *g, const char *set_id,
                      const char *actor, const Stillpoint__V1__Drill *drill,
                      bool rehearsal, run_begun_fn *on_begun, void *arg)
{
    AUTO(plan) struct plan *plan = NULL;
    struct err *e = run_plan(c, g->spec, &plan);
    if (e) {
        on_begun(arg, err_wrap(e, "group '%s'", g->spec->group), NULL);
        return;
    }
    struct run *r = run_new(c, new_record(g, set_id, plan), actor);
    r->rehearsal = rehearsal;
    if (drill) {
        r->draft->drill = (Stillpoint__V1__Drill *)pb_copy(&drill->base);
        AUTO(err) struct err *none = drill_find(drill->name, &r->drill);
        assert(!none);
    }
    r->begun = on_begun;
    r->begun_arg = arg;
    r->domains = STEAL(plan->domains);
    r->n_domains = plan->n_domains;
    run_lock(r);
}

void run_create(struct coord *c, const struct group_entry *g, const char *set_id,
                const char *actor, const Stillpoint__V1__Drill *drill,
                run_begun_fn *on_begun, void *arg)
{
    run_begin(c, g, set_id, actor, drill, false, on_begun, arg);
}

void run_rehearse(struct coord *c, const struct group_entry *g, const char *id,
                  const char *actor, run_begun_fn *over, void *arg)
{
    run_begin(c, g, id, actor, NULL, true, over, arg);
}

void run_recover(struct coord *c, struct set_entry *e)
{
    AUTO(str)
    char *actor =
        mem_printf("spiffe://%s/coordinator/%s", c->conf->cluster, c->conf->name);
    struct run *r =
        run_new(c, (Stillpoint__V1__SetRecord *)pb_copy(&e->record->base), actor);
    r->recovering = true;
    e->run = r;
    log_info("round", "takes_over", "set=%s from=%s", r->set.text,
             e->record->coordinator);
    run_lock(r);
}
