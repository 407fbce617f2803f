/* `stillpoint group …`: what is cut together, and how. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/conf/schema.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"
#include "coordinator/ctl/cmd_cluster.h"
#include "coordinator/ctl/remote.h"

/* ---- the group file ---- */

struct group_file {
    char *group;
    char **partitions;
    size_t n_partitions;
    int consistency;
    int64_t prepare_timeout_ms, freeze_timeout_ms, hold_limit_ms;
    char *repository;
    bool drillable;
    struct group_wave *waves;
    size_t n_waves;
    char **required;
    size_t n_required;
};

struct group_wave {
    char **partitions;
    size_t n_partitions;
};

static const char *const consistency_names[] = {"strict", "relaxed", NULL};

static const struct schema_field wave_fields[] = {
    {"partitions", SCHEMA_STRS, .offset = offsetof(struct group_wave, partitions),
     .count = offsetof(struct group_wave, n_partitions), .required = true, .min = 1,
     .max = 2000},
};
static const struct schema wave_schema = {sizeof(struct group_wave), wave_fields,
                                          ARRAY_LEN(wave_fields)};

#define AT(member) .offset = offsetof(struct group_file, member)
static const struct schema_field fields[] = {
    {"group", SCHEMA_NAME, AT(group), .required = true},
    {"partitions", SCHEMA_STRS, AT(partitions),
     .count = offsetof(struct group_file, n_partitions), .required = true, .min = 1,
     .max = 2000},
    {"consistency", SCHEMA_ENUM, AT(consistency), .names = consistency_names,
     .fallback = "strict"},
    {"prepare_timeout", SCHEMA_DURATION, AT(prepare_timeout_ms), .fallback = "60s",
     .min = 1, .max = 3600000},
    {"freeze_timeout", SCHEMA_DURATION, AT(freeze_timeout_ms), .fallback = "5s", .min = 1,
     .max = 3600000},
    {"hold_limit", SCHEMA_DURATION, AT(hold_limit_ms), .fallback = "10s", .min = 100,
     .max = 60000},
    {"repository", SCHEMA_NAME, AT(repository), .required = true},
    {"drillable", SCHEMA_BOOL, AT(drillable)},
    {"waves", SCHEMA_OBJECTS, AT(waves), .count = offsetof(struct group_file, n_waves),
     .max = 16, .schema = &wave_schema},
    {"required", SCHEMA_STRS, AT(required),
     .count = offsetof(struct group_file, n_required), .max = 2000},
};
static const struct schema group_schema = {sizeof(struct group_file), fields,
                                           ARRAY_LEN(fields)};

static struct err *read_group(const char *path, struct group_file *out)
{
    AUTO(conf) struct conf *doc = NULL;
    TRY(conf_read(path, &doc));
    return schema_bind(doc, &group_schema, out);
}

static void print_group(const struct ctl *c, const Stillpoint__V1__GroupSpec *g)
{
    if (c->json) {
        remote_print_json(&g->base);
        return;
    }
    printf("group: %s\npartitions:\n", g->group);
    for (size_t i = 0; i < g->n_partitions; i++)
        printf("  - %s\n", g->partitions[i]);
    printf("consistency: %s\n",
           consistency_names[g->consistency ==
                             STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED]);
    for (size_t i = 0; i < g->n_required; i++)
        printf("%s  - %s\n", i == 0 ? "required:\n" : "", g->required[i]);
    printf("prepare_timeout: %lldms\nfreeze_timeout: %lldms\nhold_limit: %lldms\n",
           (long long)g->prepare_timeout_ms, (long long)g->freeze_timeout_ms,
           (long long)g->hold_limit_ms);
    if (g->n_waves > 0)
        printf("waves:\n");
    for (size_t i = 0; i < g->n_waves; i++)
        for (size_t k = 0; k < g->waves[i]->n_partitions; k++)
            printf("%s      - %s\n", k == 0 ? "  - partitions:\n" : "",
                   g->waves[i]->partitions[k]);
    printf("repository: %s\n%s# version %lld\n", g->repository,
           g->drillable ? "drillable: true\n" : "", (long long)g->version);
}

/* Borrows the file's names; the waves' messages are the caller's. */
static void fill_spec(const struct group_file *f, Stillpoint__V1__GroupSpec *spec)
{
    spec->group = f->group;
    spec->partitions = f->partitions;
    spec->n_partitions = f->n_partitions;
    spec->consistency = (Stillpoint__V1__Consistency)f->consistency;
    spec->prepare_timeout_ms = f->prepare_timeout_ms;
    spec->freeze_timeout_ms = f->freeze_timeout_ms;
    spec->hold_limit_ms = f->hold_limit_ms;
    spec->repository = f->repository;
    spec->drillable = f->drillable;
    spec->required = f->required;
    spec->n_required = f->n_required;
    for (size_t i = 0; i < f->n_waves; i++) {
        Stillpoint__V1__FreezeWave *w = mem_alloc(sizeof *w);
        stillpoint__v1__freeze_wave__init(w);
        w->partitions = f->waves[i].partitions;
        w->n_partitions = f->waves[i].n_partitions;
        *PB_APPEND(spec, waves) = w;
    }
}

static int run_apply(struct ctl *c)
{
    struct group_file f = {0};
    if (!ctl_has(c, "file"))
        return ctl_missing(c, "file");
    struct err *e = read_group(ctl_value(c, "file"), &f);
    if (e)
        return ctl_fail(c, e, CTL_USAGE);
    Stillpoint__V1__GroupSpec spec = STILLPOINT__V1__GROUP_SPEC__INIT;
    fill_spec(&f, &spec);
    Stillpoint__V1__ApplyGroupRequest req = STILLPOINT__V1__APPLY_GROUP_REQUEST__INIT;
    req.spec = &spec;
    AUTO(remote) struct remote *r = NULL;
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = remote_open(c, &r);
    if (status == CTL_OK)
        status = remote_call(r, "ApplyGroup", &req.base, &m);
    if (status == CTL_OK && c->json)
        print_group(c, (const void *)m);
    else if (status == CTL_OK)
        ctl_say(c, "group '%s' is at version %lld\n", f.group,
                (long long)((const Stillpoint__V1__GroupSpec *)m)->version);
    for (size_t i = 0; i < spec.n_waves; i++)
        free(spec.waves[i]);
    free(spec.waves);
    schema_release(&group_schema, &f);
    return status;
}

static int list_groups(struct ctl *c, ProtobufCMessage **m)
{
    AUTO(remote) struct remote *r = NULL;
    Stillpoint__V1__ListRequest req = STILLPOINT__V1__LIST_REQUEST__INIT;
    int status = remote_open(c, &r);
    return status == CTL_OK ? remote_call(r, "ListGroups", &req.base, m) : status;
}

static int run_list(struct ctl *c)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = list_groups(c, &m);
    if (status != CTL_OK)
        return status;
    const Stillpoint__V1__ListGroupsReply *r = (const void *)m;
    if (c->json) {
        remote_print_json(m);
        return CTL_OK;
    }
    if (r->n_groups == 0) {
        ctl_say(c, "no groups yet: `stillpoint group apply -f FILE` makes one\n");
        return CTL_OK;
    }
    printf("%-24s %-10s %-10s %s\n", "GROUP", "PARTITIONS", "HOLD ms", "REPOSITORY");
    for (size_t i = 0; i < r->n_groups; i++)
        printf("%-24s %-10zu %-10lld %s\n", r->groups[i]->group,
               r->groups[i]->n_partitions, (long long)r->groups[i]->hold_limit_ms,
               r->groups[i]->repository);
    return CTL_OK;
}

static int run_show(struct ctl *c)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = list_groups(c, &m);
    if (status != CTL_OK)
        return status;
    const Stillpoint__V1__ListGroupsReply *r = (const void *)m;
    for (size_t i = 0; i < r->n_groups; i++) {
        if (strcmp(r->groups[i]->group, c->args[0]) == 0) {
            print_group(c, r->groups[i]);
            return CTL_OK;
        }
    }
    return ctl_fail(c,
                    err_new(ERR_NOT_FOUND,
                            "there is no group '%s': `stillpoint group list` shows all",
                            c->args[0]),
                    CTL_FAILED);
}

static const struct ctl_option options[] = {REMOTE_OPTIONS, {0}};
static const struct ctl_option apply_options[] = {
    REMOTE_OPTIONS, {"file", "FILE", "the group file (YAML)", 'f'}, {0}};

const struct ctl_command ctl_group_commands[] = {
    {"group", "apply", "", "create or change a group", apply_options,
     "  stillpoint group apply -f ledger.yaml\n", 0, 0, run_apply},
    {"group", "list", "", "list the groups", options, "  stillpoint group list\n", 0, 0,
     run_list},
    {"group", "show", "GROUP", "show one group as a group file", options,
     "  stillpoint group show ledger\n", 1, 1, run_show},
    {0},
};
