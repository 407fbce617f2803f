#include "coordinator/ctl/print_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/wire/convert.h"

static void print_time(const char *label, int64_t unix_ms)
{
    if (unix_ms == 0)
        return;
    time_t s = unix_ms / 1000;
    struct tm tm;
    gmtime_r(&s, &tm);
    char text[40];
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%-8s %s.%03d UTC\n", label, text, (int)(unix_ms % 1000));
}

double print_pause_ms(const Stillpoint__V1__Part *p)
{
    return p->proof ? (double)(p->proof->thawed_at_ns - p->proof->frozen_at_ns) / 1e6
                    : (double)p->pause_us / 1000;
}

static double seconds(const Stillpoint__V1__SetRecord *s)
{
    size_t n = s->n_moves;
    return n < 2 ? 0 : (double)(s->moves[n - 1]->unix_ms - s->moves[0]->unix_ms) / 1000;
}

void print_set(const Stillpoint__V1__SetRecord *s)
{
    printf("%-8s %s\n%-8s %s\n%-8s %s\n", "set", s->set, "group", s->group, "state",
           set_state_text(s->state));
    print_time("cut", s->cut_unix_ms);
    if (s->error[0])
        printf("%-8s %s\n", "error", s->error);
    if (s->drill)
        printf("%-8s %s%s%s\n", "drill", s->drill->name, s->drill->node[0] ? " on " : "",
               s->drill->node);
    if (s->seal_snapshot_id[0])
        printf("%-8s snapshot %.8s holds the record and its proofs\n", "seal",
               s->seal_snapshot_id);
    if (record_missing(s) > 0)
        printf("%-8s %zu of %zu partitions are not in this cut\n", "missing",
               record_missing(s), s->n_parts);
    printf("%-8s %.1f s\n\n", "took", seconds(s));
    printf("%-28s %-9s %9s %12s %12s  %s\n", "PARTITION", "STATE", "PAUSE ms", "READ",
           "STORED", "SNAPSHOT");
    for (size_t i = 0; i < s->n_parts; i++) {
        const Stillpoint__V1__Part *p = s->parts[i];
        AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
        printf("%-28s %-9s %9.1f %12lld %12lld  %.8s\n", name, part_state_text(p->state),
               print_pause_ms(p), (long long)p->bytes_read, (long long)p->bytes_stored,
               p->snapshot_id);
    }
    for (size_t i = 0; i < s->n_parts; i++)
        if (s->parts[i]->error[0])
            printf("\n%s/%s %s: %s\n", s->parts[i]->node, s->parts[i]->partition,
                   part_state_text(s->parts[i]->state), s->parts[i]->error);
}

void print_set_list(const Stillpoint__V1__ListSetsReply *r)
{
    printf("%-44s %-11s %5s %10s %12s %8s\n", "SET", "STATE", "PARTS", "PAUSE ms",
           "STORED", "SECONDS");
    for (size_t i = 0; i < r->n_sets; i++) {
        const Stillpoint__V1__SetRecord *s = r->sets[i];
        double worst = 0;
        long long stored = 0;
        for (size_t k = 0; k < s->n_parts; k++) {
            stored += s->parts[k]->bytes_stored;
            if (print_pause_ms(s->parts[k]) > worst)
                worst = print_pause_ms(s->parts[k]);
        }
        AUTO(str)
        char *parts =
            record_missing(s)
                ? mem_printf("%zu/%zu", s->n_parts - record_missing(s), s->n_parts)
                : mem_printf("%zu", s->n_parts);
        printf("%-44s %-11s %5s %10.1f %12lld %8.1f\n", s->set, set_state_text(s->state),
               parts, worst, stored, seconds(s));
    }
}

static void print_order(const Stillpoint__V1__SetRecord *s)
{
    const Stillpoint__V1__CutOrder *o = s->order;
    int64_t last = 0;
    for (size_t i = 0; i < o->n_answers; i++)
        if (o->answers[i]->frozen_at_ns > last)
            last = o->answers[i]->frozen_at_ns;
    if (o->commit_at_ns && last)
        printf("5. Coordinator %s signed that it sent the first Commit %.1f ms after the "
               "last of %zu\n   nodes had said that it was frozen.\n",
               o->coordinator, (double)(o->commit_at_ns - last) / 1e6, o->n_answers);
    else
        printf(
            "5. Coordinator %s took the set over and signed what the agents told it; it "
            "has not seen\n   the order of the answers itself.\n",
            o->coordinator);
}

void print_proof(const Stillpoint__V1__SetRecord *s)
{
    printf("set %s is one instant:\n", s->set);
    printf("1. %zu freeze domains, each with an epoch drawn after it was frozen:\n",
           s->n_epochs);
    for (size_t i = 0; i < s->n_epochs; i++)
        printf("   %s\n", s->epochs[i]->domain);
    printf("2. Every part names the digest of all %zu epochs, which did not exist before "
           "the "
           "last\n   domain was frozen: so each capture came after every freeze.\n",
           s->n_epochs);
    printf("3. Every hold was unbroken from its freeze to its capture:\n");
    for (size_t i = 0; i < s->n_parts; i++) {
        const Stillpoint__V1__Proof *p = s->parts[i]->proof;
        if (part_is_missing(s, s->parts[i]))
            continue;
        printf("   %s/%s: captured %.1f ms after its freeze, thawed %.1f ms after that "
               "(%s)\n",
               p->node, p->partition, (double)(p->captured_at_ns - p->frozen_at_ns) / 1e6,
               (double)(p->thawed_at_ns - p->captured_at_ns) / 1e6,
               evidence_text(p->evidence));
    }
    printf("4. Each of these statements is signed with the key of its agent's "
           "certificate.\n");
    print_order(s);
    size_t missing = record_missing(s);
    printf(
        "So the instant at which the last domain was frozen is shown by all %zu parts%s"
        "\n",
        s->n_parts - missing, missing ? " that were captured." : ".");
    if (missing == 0)
        return;
    printf("The set is relaxed. The coordinator signed that these are missing:\n");
    for (size_t i = 0; i < s->n_parts; i++)
        if (part_is_missing(s, s->parts[i]))
            printf("   %s/%s: %s\n", s->parts[i]->node, s->parts[i]->partition,
                   s->parts[i]->error);
}

static void add_part(struct buf *b, const Stillpoint__V1__PartProgress *p, bool numbers)
{
    buf_printf(b, "%s/%s %s", p->node, p->partition, p->activity);
    if (numbers && p->bytes_read > 0)
        buf_printf(b, " %lld files, %.1f MiB read, %.1f MiB stored", (long long)p->files,
                   (double)p->bytes_read / 1048576, (double)p->bytes_stored / 1048576);
}

/* Lines that wrap or scroll away could not be drawn over. */
static void terminal_size(int *columns, int *rows)
{
    struct winsize w = {0};
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0;
    *columns = known && w.ws_col > 0 ? w.ws_col : 80;
    *rows = known && w.ws_row > 0 ? w.ws_row : 24;
}

static void draw(struct progress_view *v, const Stillpoint__V1__SetEvent *ev)
{
    int columns, rows;
    terminal_size(&columns, &rows);
    size_t room = rows > 4 ? (size_t)rows - 3 : 1;
    size_t shown = ev->n_progress < room ? ev->n_progress : room;
    if (v->drawn > 0)
        fprintf(stderr, "\033[%dA", v->drawn);
    fprintf(stderr, "\033[K%.*s  %s\n", columns > 20 ? columns - 14 : 6, ev->record->set,
            set_state_text(ev->phase));
    v->drawn = 1;
    for (size_t i = 0; i < shown; i++) {
        AUTO_BUF struct buf b;
        buf_init(&b);
        add_part(&b, ev->progress[i], true);
        fprintf(stderr, "\033[K  %.*s\n", columns > 4 ? columns - 3 : 1, buf_text(&b));
        v->drawn++;
    }
    if (shown < ev->n_progress) {
        fprintf(stderr, "\033[K  and %zu more\n", ev->n_progress - shown);
        v->drawn++;
    }
}

void print_progress(struct progress_view *v, const Stillpoint__V1__SetEvent *ev)
{
    const char *term = getenv("TERM");
    if (isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0) {
        draw(v, ev);
        return;
    }
    AUTO_BUF struct buf b;
    buf_init(&b);
    buf_printf(&b, "%s", set_state_text(ev->phase));
    for (size_t i = 0; i < ev->n_progress; i++) {
        buf_str(&b, i ? ", " : ": ");
        add_part(&b, ev->progress[i], false);
    }
    if (strncmp(v->last, buf_text(&b), sizeof v->last - 1) == 0)
        return;
    fprintf(stderr, "%s\n", buf_text(&b));
    snprintf(v->last, sizeof v->last, "%s", buf_text(&b));
}

void print_progress_end(struct progress_view *v)
{
    v->drawn = 0;
}
