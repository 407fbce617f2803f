/* `stillpoint group check`: what a set of a group would meet, and how long its writers
 * would stand still; with --rehearse they really do, without a capture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "coordinator/ctl/cmd_cluster.h"
#include "coordinator/ctl/remote.h"

enum { CHECK_WITHIN_MS = 3900000 }; /* the longest prepare_timeout, and some more */

typedef Stillpoint__V1__CheckGroupReply Reply;

static void print_part(const Stillpoint__V1__PartCheck *p)
{
    AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
    if (p->error[0]) {
        printf("refused %-28s %s\n", name, p->error);
        return;
    }
    printf("ready   %-28s %-8s %-8s %10.1f %8lld %10lld %10.1f %8lld\n", name, p->quiesce,
           p->capture, (double)p->dirty_bytes / 1048576, (long long)p->flush_ms,
           (long long)p->capture_ms, (double)p->round_trip_us / 1000,
           (long long)p->predicted_pause_ms);
}

static void print_check(const Reply *r)
{
    printf("%-7s %-28s %-8s %-8s %10s %8s %10s %10s %8s\n", "", "PARTITION", "QUIESCE",
           "CAPTURE", "DIRTY MiB", "FLUSH ms", "CAPTURE ms", "TRIP ms", "PAUSE ms");
    for (size_t i = 0; i < r->n_parts; i++)
        print_part(r->parts[i]);
}

/* Whether a set would be taken; says so. */
static bool is_ready(const struct ctl *c, const Reply *r)
{
    size_t without = 0;
    for (size_t i = 0; i < r->n_parts; i++)
        without += r->parts[i]->error[0] != '\0';
    if (c->json)
        return !r->error[0];
    if (r->error[0]) {
        printf("a set would be refused: %s\n", r->error);
        return false;
    }
    printf("a set would be taken");
    if (without > 0)
        printf(" without %zu of %zu partitions", without, r->n_parts);
    printf(": %lld ms expected of the %lld ms of hold_limit\n",
           (long long)r->predicted_pause_ms, (long long)r->hold_limit_ms);
    return true;
}

static const Stillpoint__V1__PartCheck *part_named(const Reply *r,
                                                   const Stillpoint__V1__PartRehearsed *p)
{
    for (size_t i = 0; i < r->n_parts; i++)
        if (strcmp(r->parts[i]->node, p->node) == 0 &&
            strcmp(r->parts[i]->partition, p->partition) == 0)
            return r->parts[i];
    return NULL;
}

static void print_rehearsal(const Reply *check, const Stillpoint__V1__RehearseReply *r)
{
    printf("\n%-36s %14s %14s %12s\n", "rehearsed, without a capture", "SET EXPECTED",
           "THIS EXPECTED", "MEASURED ms");
    for (size_t i = 0; i < r->n_parts; i++) {
        const Stillpoint__V1__PartRehearsed *p = r->parts[i];
        const Stillpoint__V1__PartCheck *said = part_named(check, p);
        AUTO(str) char *name = mem_printf("%s/%s", p->node, p->partition);
        AUTO(str)
        char *measured = p->pause_us == 0
                             ? mem_strdup("unknown")
                             : mem_printf("%s%.1f", p->pause_at_most ? "<= " : "",
                                          (double)p->pause_us / 1000);
        printf("%-36s %14lld %14lld %12s\n", name,
               said ? (long long)said->predicted_pause_ms : 0LL,
               said ? (long long)said->reach_ms : 0LL, measured);
    }
    if (r->frozen)
        printf("%s: all %zu partitions stood still at one instant\n", r->rehearsal,
               r->n_parts);
}

static int rehearse(struct ctl *c, struct remote *r, const Reply *check)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    Stillpoint__V1__GroupRequest req = STILLPOINT__V1__GROUP_REQUEST__INIT;
    req.group = (char *)c->args[0];
    int status = remote_call_within(r, CHECK_WITHIN_MS, "RehearseGroup", &req.base, &m);
    if (status != CTL_OK)
        return status;
    const Stillpoint__V1__RehearseReply *reply = (const void *)m;
    if (c->json)
        remote_print_json(m);
    else
        print_rehearsal(check, reply);
    if (reply->frozen)
        return CTL_OK;
    return ctl_fail(c, err_new(ERR_CONFLICT, "%s: %s", reply->rehearsal, reply->error),
                    CTL_FAILED);
}

static int run_check(struct ctl *c)
{
    AUTO(remote) struct remote *r = NULL;
    AUTO(wire) ProtobufCMessage *m = NULL;
    Stillpoint__V1__GroupRequest req = STILLPOINT__V1__GROUP_REQUEST__INIT;
    req.group = (char *)c->args[0];
    int status = remote_open(c, &r);
    if (status == CTL_OK)
        status = remote_call_within(r, CHECK_WITHIN_MS, "CheckGroup", &req.base, &m);
    if (status != CTL_OK)
        return status;
    if (c->json)
        remote_print_json(m);
    else
        print_check((const Reply *)m);
    if (!is_ready(c, (const Reply *)m)) {
        if (ctl_has(c, "rehearse"))
            ctl_say(c, "nothing was rehearsed\n");
        return CTL_FAILED;
    }
    return ctl_has(c, "rehearse") ? rehearse(c, r, (const Reply *)m) : CTL_OK;
}

static const struct ctl_option check_options[] = {
    REMOTE_OPTIONS,
    {"rehearse", NULL, "then freeze and thaw the group, and measure: its writers wait",
     0},
    {0}};

const struct ctl_command ctl_check_commands[] = {
    {"group", "check", "GROUP",
     "say whether a set could be taken now, what is in the way, how long it would pause",
     check_options,
     "  stillpoint group check ledger\n"
     "  stillpoint group check ledger --rehearse\n",
     1, 1, run_check},
    {0},
};
