#include "coordinator/flow/plan.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/model/cut.h"

enum { PLAN_ERROR_BYTES = 1000 };

void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; p->parts && i < p->n_parts; i++)
        free(p->parts[i].error);
    free(p->parts);
    free(p->nodes);
    free(p->domains);
    free(p);
}

struct err *plan_parse_part(const char *text, struct plan_part *out)
{
    *out = (struct plan_part){0};
    const char *slash = strchr(text, '/');
    if (!slash)
        return err_new(ERR_INVALID, "partition '%.80s' is not of the form node/partition",
                       text);
    AUTO(str) char *node = mem_strndup(text, (size_t)(slash - text));
    TRY(name_copy(out->node.text, node, "node"));
    return name_copy(out->part.text, slash + 1, "partition");
}

/* What is wrong with several partitions, as one error of the gravest kind. */
struct faults {
    struct buf *text;
    enum err_kind kind;
    bool any;
};

static void fault(struct faults *f, enum err_kind kind, struct plan_part *p,
                  const char *why)
{
    p->error = mem_strdup(why);
    /* UNAVAILABLE invites the caller to wait, which cures none of the others. */
    if (!f->any || f->kind == ERR_UNAVAILABLE)
        f->kind = kind;
    if (f->text->len < PLAN_ERROR_BYTES)
        buf_printf(f->text, "%s%s/%s: %s", f->any ? "; " : "", p->node.text, p->part.text,
                   why);
    f->any = true;
}

static const struct part_info *find_part(const struct node_info *n,
                                         const struct part_id *id)
{
    for (size_t i = 0; i < n->n_parts; i++)
        if (strcmp(n->parts[i].part.text, id->text) == 0)
            return &n->parts[i];
    return NULL;
}

static void resolve(const struct registry *r, struct plan_part *p, bool strict,
                    int64_t now_ms, struct faults *f)
{
    const struct registry_node *node = registry_find(r, &p->node);
    if (!node) {
        fault(f, ERR_NOT_FOUND, p, "no agent of this node has ever registered");
        return;
    }
    const struct part_info *info = find_part(&node->info, &p->part);
    if (!info) {
        fault(f, ERR_NOT_FOUND, p, "the agent's file has no such partition");
        return;
    }
    if (!registry_is_connected(node, now_ms))
        fault(f, ERR_UNAVAILABLE, p, "its agent is away: start it or wait for it");
    else if (info->error[0])
        fault(f, ERR_CONFLICT, p, info->error);
    else if (strict && !info->quiesces)
        fault(
            f, ERR_CONFLICT, p,
            "quiesce 'none' cannot be part of a strict group: choose cgroup, fsfreeze or "
            "hook, or mark the partition read_only");
    p->domain = info->domain;
    memcpy(p->path, info->path, sizeof p->path);
}

static int by_part(const void *a, const void *b)
{
    const struct plan_part *x = a;
    const struct plan_part *y = b;
    int c = strcmp(x->node.text, y->node.text);
    return c ? c : strcmp(x->part.text, y->part.text);
}

static int by_domain(const void *a, const void *b)
{
    return strcmp(((const struct domain_id *)a)->text,
                  ((const struct domain_id *)b)->text);
}

static void list_nodes(struct plan *p, const struct registry *r)
{
    p->n_nodes = 0;
    for (size_t i = 0; i < p->n_parts; i++) {
        if (p->parts[i].error)
            continue;
        struct plan_node *last = p->n_nodes ? &p->nodes[p->n_nodes - 1] : NULL;
        if (!last || strcmp(last->node.text, p->parts[i].node.text) != 0) {
            last = &p->nodes[p->n_nodes++];
            last->node = p->parts[i].node;
            last->first = i;
            memcpy(last->address, registry_find(r, &last->node)->info.address,
                   sizeof last->address);
        }
        last->n = i - last->first + 1;
    }
}

static void list_domains(struct plan *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_parts; i++)
        if (!p->parts[i].error)
            p->domains[n++] = p->parts[i].domain;
    qsort(p->domains, n, sizeof *p->domains, by_domain);
    p->n_domains = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || by_domain(&p->domains[p->n_domains - 1], &p->domains[i]) != 0)
            p->domains[p->n_domains++] = p->domains[i];
}

struct err *plan_leave_out(struct plan *p, const struct registry *r,
                           const struct node_id *node, const char *why)
{
    for (size_t i = 0; i < p->n_parts; i++)
        if (!p->parts[i].error && strcmp(p->parts[i].node.text, node->text) == 0)
            p->parts[i].error = mem_strdup(why);
    list_nodes(p, r);
    list_domains(p);
    return p->n_nodes ? NULL : err_new(ERR_CONFLICT, "%s", why);
}

/* A part's names stand in the group's list, in the part and in its proof, its path once,
 * its domain in the proof and in the list of epochs. The rest are numbers, digests and
 * signatures; a node adds its certificates. */
size_t plan_record_bytes(const struct plan *p)
{
    enum { FIXED = 8192, PART = 1600, NODE = 2500 };
    size_t n = FIXED + p->n_parts * PART + p->n_nodes * NODE;
    for (size_t i = 0; i < p->n_parts; i++) {
        const struct plan_part *x = &p->parts[i];
        n += 3 * strlen(x->node.text) + 4 * strlen(x->part.text) + strlen(x->path) +
             2 * strlen(x->domain.text);
    }
    return n;
}

static struct err *resolve_all(const struct registry *r, struct plan *p,
                               const char *const *names, bool strict, int64_t now_ms)
{
    AUTO_BUF struct buf text;
    buf_init(&text);
    struct faults f = {.text = &text};
    bool all = true;
    for (size_t i = 0; i < p->n_parts; i++) {
        TRY(plan_parse_part(names[i], &p->parts[i]));
        resolve(r, &p->parts[i], strict, now_ms, &f);
        all = all && p->parts[i].error;
    }
    return f.any && (strict || all) ? err_new(f.kind, "%s", buf_text(&text)) : NULL;
}

struct err *plan_make(const struct registry *r, const char *const *names, size_t n,
                      bool strict, int64_t now_ms, struct plan **out)
{
    if (n == 0)
        return err_new(ERR_INVALID, "the group has no partitions");
    if (n > CUT_MAX_PARTS)
        return err_new(ERR_LIMIT, "the group has %zu partitions, at most %d are allowed",
                       n, CUT_MAX_PARTS);
    AUTO(plan) struct plan *p = mem_zalloc(sizeof *p);
    p->parts = mem_array(n, sizeof *p->parts);
    p->nodes = mem_array(n, sizeof *p->nodes);
    p->domains = mem_array(n, sizeof *p->domains);
    p->n_parts = n;
    TRY(resolve_all(r, p, names, strict, now_ms));
    qsort(p->parts, n, sizeof *p->parts, by_part);
    for (size_t i = 1; i < n; i++)
        if (by_part(&p->parts[i - 1], &p->parts[i]) == 0)
            return err_new(ERR_INVALID, "partition '%s/%s' is listed twice",
                           p->parts[i].node.text, p->parts[i].part.text);
    list_nodes(p, r);
    list_domains(p);
    if (plan_record_bytes(p) > PLAN_RECORD_BYTES)
        return err_new(ERR_LIMIT,
                       "the record of %zu partitions on %zu nodes might not fit etcd's "
                       "1.5 MiB: make several groups of them",
                       p->n_parts, p->n_nodes);
    *out = STEAL(p);
    return NULL;
}
