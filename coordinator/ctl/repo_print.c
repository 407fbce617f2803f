#include "coordinator/ctl/repo_print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static json_t *texts_json(const struct strings *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++)
        json_array_append_new(list, json_string(s->items[i]));
    return list;
}

json_t *repo_snapshot_json(const struct snapshot *s)
{
    AUTO_BUF struct buf time = {0};
    char id[65], tree[65];
    digest_hex(&s->id, id);
    digest_hex(&s->tree, tree);
    go_time_format(&time, s->time);
    json_t *o = json_pack("{s:s, s:s%, s:s, s:s, s:s, s:o, s:o}", "id", id, "short_id",
                          id, (size_t)8, "time", buf_text(&time), "tree", tree,
                          "hostname", s->hostname, "paths", texts_json(&s->paths), "tags",
                          texts_json(&s->tags));
    return o ? o : json_object();
}

void repo_snapshot_line(const struct snapshot *s, struct buf *out)
{
    AUTO_BUF struct buf time = {0};
    char id[65];
    digest_hex(&s->id, id);
    go_time_format(&time, s->time);
    buf_printf(out, "%.8s  %.19s  %-16s %s", id, buf_text(&time), s->hostname,
               s->paths.n ? s->paths.items[0] : "");
    for (size_t i = 0; i < s->tags.n; i++)
        buf_printf(out, "%s%s", i ? "," : "  ", s->tags.items[i]);
}

/* Names may hold any byte: what a terminal would obey is quoted. */
static void print_problem(const struct ctl *c, const struct problem *p)
{
    AUTO(str) char *item = repo_printable(p->path);
    AUTO(str) char *text = repo_printable(p->text);
    if (c->json)
        ctl_print_json(json_pack("{s:s, s:{s:s}, s:s}", "message_type", "error", "error",
                                 "message", text, "item", item));
    else
        fprintf(stderr, "%s: %s\n", item, p->text);
}

void repo_print_problems(const struct ctl *c, const struct problems *p)
{
    for (size_t i = 0; i < p->n; i++)
        print_problem(c, &p->items[i]);
    if (p->total > p->n)
        ctl_say(c, "… and %" PRIu64 " more\n", p->total - p->n);
}

char *repo_printable(const char *path)
{
    struct buf b = {0};
    go_quote(&b, path, strlen(path));
    return buf_steal(&b);
}

bool repo_is_wanted(const struct ctl *c, const struct snapshot *s)
{
    const char *host = ctl_value(c, "host");
    const char *path = ctl_value(c, "path");
    const char **tags = NULL;
    size_t n = ctl_values(c, "tag", &tags);
    bool wanted = (!host || strcmp(host, s->hostname) == 0) &&
                  (!path || strings_has(&s->paths, path));
    for (size_t i = 0; i < n; i++)
        wanted = wanted && strings_has(&s->tags, tags[i]);
    free(tags);
    return wanted;
}

static struct err *find_named(const struct ctl *c, struct repo_io *io, int first,
                              struct snapshot **out, size_t *n)
{
    size_t count = (size_t)(c->args_n - first);
    struct snapshot *list = mem_array(count, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        struct err *e = repo_find_snapshot(io, c->args[first + (int)i], &list[i]);
        if (e) {
            repo_free_snapshots(list, i);
            return e;
        }
    }
    *out = list;
    *n = count;
    return NULL;
}

struct err *repo_chosen(const struct ctl *c, struct repo_io *io, int first,
                        struct snapshot **out, size_t *n)
{
    struct snapshot *all = NULL;
    size_t count = 0, used = 0;
    if (c->args_n > first)
        return find_named(c, io, first, out, n);
    TRY(repo_snapshots(io, &all, &count));
    for (size_t i = 0; i < count; i++) {
        if (repo_is_wanted(c, &all[i]))
            all[used++] = all[i];
        else
            snapshot_fini(&all[i]);
    }
    *out = all;
    *n = used;
    return NULL;
}

/* A number with one of the units, each with its factor; ends with a NULL name. */
struct unit {
    const char *name;
    uint64_t factor;
};

static struct err *read_number(const char *option, const char *text,
                               const struct unit *units, const char *example,
                               uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    bool digits = end != text && text[0] >= '0' && text[0] <= '9';
    for (; units->name && digits && !errno; units++)
        if (strcmp(end, units->name) == 0 && v <= UINT64_MAX / units->factor) {
            *out = v * units->factor;
            return NULL;
        }
    return err_new(ERR_INVALID, "--%s '%s' is not a number like %s", option, text,
                   example);
}

struct err *repo_read_bytes(const char *option, const char *text, uint64_t *out)
{
    static const struct unit units[] = {{"", 1},
                                        {"KiB", UINT64_C(1) << 10},
                                        {"MiB", UINT64_C(1) << 20},
                                        {"GiB", UINT64_C(1) << 30},
                                        {"TiB", UINT64_C(1) << 40},
                                        {0}};
    return read_number(option, text, units, "64MiB", out);
}

struct err *repo_read_seconds(const char *option, const char *text, uint64_t *out)
{
    static const struct unit units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {0}};
    return read_number(option, text, units, "90s or 10m", out);
}
