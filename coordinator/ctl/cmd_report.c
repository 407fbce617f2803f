/* `stillpoint report pauses`: how long sets have kept writers waiting, from the proofs in
 * their records. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "coordinator/ctl/cmd_cluster.h"
#include "coordinator/ctl/remote.h"

/* Stretches of one part's pause, in milliseconds. */
enum phase { PHASE_PAUSE, PHASE_TO_CAPTURE, PHASE_TO_THAW, PHASES };

static const char *const phase_names[PHASES] = {"pause", "to_capture", "to_thaw"};

/* All that is known of one partition. */
struct history {
    char *name; /* "node/partition"; owned */
    double *ms[PHASES];
    size_t n, cap[PHASES];
    int64_t predicted_ms; /* of the newest set */
};

struct report {
    struct history *items;
    size_t n, cap;
};

static void report_fini(struct report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->items[i].name);
        for (int k = 0; k < PHASES; k++)
            free(r->items[i].ms[k]);
    }
    free(r->items);
}

static struct history *history_of(struct report *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->items[i].name, name) == 0)
            return &r->items[i];
    mem_reserve((void **)&r->items, &r->cap, r->n, sizeof *r->items);
    r->items[r->n] = (struct history){.name = mem_strdup(name)};
    return &r->items[r->n++];
}

static void add_part(struct report *r, const Stillpoint__V1__Part *p)
{
    const Stillpoint__V1__Proof *f = p->proof;
    AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
    struct history *h = history_of(r, name);
    const double ms[PHASES] = {
        [PHASE_PAUSE] = (double)(f->thawed_at_ns - f->frozen_at_ns) / 1e6,
        [PHASE_TO_CAPTURE] = (double)(f->captured_at_ns - f->frozen_at_ns) / 1e6,
        [PHASE_TO_THAW] = (double)(f->thawed_at_ns - f->captured_at_ns) / 1e6,
    };
    if (h->n == 0) /* sets come newest first */
        h->predicted_ms = p->predicted_pause_ms;
    for (int k = 0; k < PHASES; k++) {
        mem_reserve((void **)&h->ms[k], &h->cap[k], h->n, sizeof(double));
        h->ms[k][h->n] = ms[k];
    }
    h->n++;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct history *)a)->name, ((const struct history *)b)->name);
}

/* Nearest rank: the smallest value that so many percent are not above. */
static double percentile(const double *sorted, size_t n, double percent)
{
    size_t rank = (size_t)ceil(percent / 100 * (double)n);
    return sorted[rank > 0 ? rank - 1 : 0];
}

static void print_json(const struct history *h)
{
    json_t *o =
        json_pack("{s:s, s:s, s:I, s:I}", "message_type", "pauses", "partition", h->name,
                  "sets", (json_int_t)h->n, "predicted_ms", (json_int_t)h->predicted_ms);
    for (int k = 0; k < PHASES; k++)
        json_object_set_new(o, phase_names[k],
                            json_pack("{s:f, s:f, s:f}", "p50_ms",
                                      percentile(h->ms[k], h->n, 50), "p99_ms",
                                      percentile(h->ms[k], h->n, 99), "max_ms",
                                      h->ms[k][h->n - 1]));
    ctl_print_json(o);
}

static void print_line(const struct history *h)
{
    printf("%-28s %5zu %9lld", h->name, h->n, (long long)h->predicted_ms);
    for (int k = 0; k < PHASES; k++)
        printf("  %8.1f %8.1f %8.1f", percentile(h->ms[k], h->n, 50),
               percentile(h->ms[k], h->n, 99), h->ms[k][h->n - 1]);
    putchar('\n');
}

static void print_report(const struct ctl *c, struct report *r)
{
    qsort(r->items, r->n, sizeof *r->items, by_name);
    if (!c->json) {
        printf("%-44s  %-26s  %-26s  %s\n", "milliseconds", "PAUSE", "FREEZE TO CAPTURE",
               "CAPTURE TO THAW");
        printf("%-28s %5s %9s", "PARTITION", "SETS", "PREDICTED");
        for (int k = 0; k < PHASES; k++)
            printf("  %8s %8s %8s", "p50", "p99", "max");
        putchar('\n');
    }
    for (size_t i = 0; i < r->n; i++) {
        for (int k = 0; k < PHASES; k++)
            qsort(r->items[i].ms[k], r->items[i].n, sizeof(double), by_value);
        (c->json ? print_json : print_line)(&r->items[i]);
    }
}

static int run_pauses(struct ctl *c)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    struct report report = {0};
    int status = remote_sets(c, &m);
    if (status != CTL_OK)
        return status;
    const Stillpoint__V1__ListSetsReply *all = (const void *)m;
    for (size_t i = 0; i < all->n_sets; i++)
        for (size_t k = 0; k < all->sets[i]->n_parts; k++)
            if (all->sets[i]->parts[k]->proof)
                add_part(&report, all->sets[i]->parts[k]);
    if (report.n > 0)
        print_report(c, &report);
    else
        ctl_say(c, "no captured sets yet: `stillpoint set create GROUP` takes one\n");
    if (all->more)
        ctl_say(c, "older sets are not counted; --group counts those of one group\n");
    report_fini(&report);
    return CTL_OK;
}

static const struct ctl_option options[] = {
    REMOTE_OPTIONS, {"group", "GROUP", "only sets of this group", 'g'}, {0}};

const struct ctl_command ctl_report_commands[] = {
    {"report", "pauses", "",
     "how long sets kept writers waiting: p50, p99, max per partition and phase", options,
     "  stillpoint report pauses --group ledger\n"
     "  stillpoint report pauses --json | jq 'select(.pause.p99_ms > 100)'\n",
     0, 0, run_pauses},
    {0},
};
