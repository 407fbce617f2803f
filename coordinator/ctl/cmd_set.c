/* `stillpoint set …`: taking sets and looking at them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"
#include "coordinator/ctl/cmd_cluster.h"
#include "coordinator/ctl/print_set.h"
#include "coordinator/ctl/remote.h"

enum { SET_POLL_US = 300000 };

typedef Stillpoint__V1__SetRecord SetRecord;

static int get_set(struct remote *r, const char *id, ProtobufCMessage **m)
{
    Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
    req.set = (char *)id;
    return remote_call(r, "GetSet", &req.base, m);
}

/* COMPLETE is success; a set that was not captured, lacks a part or is damaged is not. */
static int exit_of(const SetRecord *s)
{
    switch (s->state) {
    case STILLPOINT__V1__SET_STATE__SET_COMPLETE:
        return record_missing(s) ? CTL_PARTIAL : CTL_OK;
    case STILLPOINT__V1__SET_STATE__SET_DAMAGED:
        return CTL_PARTIAL;
    case STILLPOINT__V1__SET_STATE__SET_ABORTED:
    case STILLPOINT__V1__SET_STATE__SET_EXPIRED:
        return CTL_FAILED;
    default:
        return CTL_OK;
    }
}

/* ---- create ---- */

struct watch {
    const struct ctl *ctl;
    struct progress_view view;
    int status;
};

static bool on_event(void *arg, const ProtobufCMessage *m)
{
    struct watch *w = arg;
    const Stillpoint__V1__SetEvent *ev = (const void *)m;
    if (w->ctl->json)
        remote_print_json(m);
    else
        print_progress(&w->view, ev);
    w->status = exit_of(ev->record);
    return true; /* the server ends the stream when the set is final */
}

/* Names the set, so that asking again after a lost answer finds it instead of taking a
 * second. */
static char *request_id(void)
{
    uint16_t n = 0;
    if (getrandom(&n, sizeof n, 0) != (ssize_t)sizeof n)
        n = (uint16_t)getpid();
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    char when[32];
    strftime(when, sizeof when, "%Y%m%dt%H%M%Sz", &tm);
    return mem_printf("%s-%04x", when, n);
}

static int watch_set(struct ctl *c, struct remote *r, const char *id)
{
    struct watch w = {.ctl = c, .status = CTL_OK};
    Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
    req.set = (char *)id;
    int status = remote_watch(r, "WatchSet", &req.base, on_event, &w);
    print_progress_end(&w.view);
    if (status == CTL_INTERRUPTED)
        ctl_say(c, "set '%s' goes on: follow it with `stillpoint set watch %s`\n", id,
                id);
    if (status != CTL_OK)
        return status;
    AUTO(wire) ProtobufCMessage *m = NULL;
    status = get_set(r, id, &m);
    if (status != CTL_OK)
        return status;
    const SetRecord *s = (const void *)m;
    if (!c->json)
        print_set(s);
    return exit_of(s);
}

static int run_create(struct ctl *c)
{
    AUTO(remote) struct remote *r = NULL;
    AUTO(wire) ProtobufCMessage *m = NULL;
    AUTO(str) char *id = request_id();
    Stillpoint__V1__CreateSetRequest req = STILLPOINT__V1__CREATE_SET_REQUEST__INIT;
    req.group = (char *)c->args[0];
    req.request_id = id;
    int status = remote_open(c, &r);
    if (status == CTL_OK)
        status = remote_call(r, "CreateSet", &req.base, &m);
    if (status == CTL_INTERRUPTED)
        ctl_say(c, "the set may have been begun: see `stillpoint set show %s-%s`\n",
                c->args[0], id);
    if (status != CTL_OK)
        return status;
    const SetRecord *s = (const void *)m;
    if (ctl_has(c, "watch"))
        return watch_set(c, r, s->set);
    if (c->json)
        remote_print_json(m);
    else
        puts(s->set);
    return CTL_OK;
}

/* ---- look ---- */

static int run_list(struct ctl *c)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = remote_sets(c, &m);
    if (status != CTL_OK)
        return status;
    const Stillpoint__V1__ListSetsReply *all = (const void *)m;
    if (c->json)
        remote_print_json(m);
    else if (all->n_sets > 0)
        print_set_list(all);
    else
        ctl_say(c, "no sets yet: `stillpoint set create GROUP` takes one\n");
    if (all->more)
        ctl_say(c, "older sets are not listed; --group shows those of one group\n");
    return CTL_OK;
}

static int run_show(struct ctl *c)
{
    AUTO(remote) struct remote *r = NULL;
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = remote_open(c, &r);
    if (status == CTL_OK)
        status = get_set(r, c->args[0], &m);
    if (status != CTL_OK)
        return status;
    if (c->json)
        remote_print_json(m);
    else
        print_set((const void *)m);
    return CTL_OK;
}

static int run_cancel(struct ctl *c)
{
    AUTO(remote) struct remote *r = NULL;
    AUTO(wire) ProtobufCMessage *m = NULL;
    Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
    req.set = (char *)c->args[0];
    int status = remote_open(c, &r);
    if (status == CTL_OK)
        status = remote_call(r, "CancelSet", &req.base, &m);
    if (status != CTL_OK)
        return status;
    if (c->json)
        remote_print_json(m);
    else
        ctl_say(c, "set '%s' is being aborted: `stillpoint set show %s` tells when\n",
                c->args[0], c->args[0]);
    return CTL_OK;
}

static int run_watch(struct ctl *c)
{
    AUTO(remote) struct remote *r = NULL;
    int status = remote_open(c, &r);
    return status == CTL_OK ? watch_set(c, r, c->args[0]) : status;
}

/* ---- tasks that are asked for: verify, restore ---- */

static const Stillpoint__V1__TaskRecord *task_in(const Stillpoint__V1__TasksReply *all,
                                                 const char *id)
{
    for (size_t i = 0; i < all->n_tasks; i++)
        if (strcmp(all->tasks[i]->id, id) == 0)
            return all->tasks[i];
    return NULL;
}

/* Counts those still under way; says of each that has ended how. A verify that went well
 * is forgotten by the coordinator: absent means done. */
static size_t still_running(const struct ctl *c, const Stillpoint__V1__TasksReply *asked,
                            const Stillpoint__V1__TasksReply *now, bool *told,
                            int *status)
{
    size_t n = 0;
    for (size_t i = 0; i < asked->n_tasks; i++) {
        const Stillpoint__V1__TaskRecord *t = task_in(now, asked->tasks[i]->id);
        if (t && t->state < STILLPOINT__V1__TASK_STATE__TASK_DONE) {
            n++;
            continue;
        }
        if (told[i])
            continue;
        told[i] = true;
        ctl_status_end(c);
        bool failed = t && t->state == STILLPOINT__V1__TASK_STATE__TASK_FAILED;
        if (failed)
            *status = CTL_PARTIAL;
        const Stillpoint__V1__TaskRecord *shown = t ? t : asked->tasks[i];
        if (c->json)
            remote_print_json(&shown->base);
        else
            printf("%s %s/%s%s%s%s%s\n", failed ? "failed" : "done  ", shown->node,
                   shown->partition, shown->target[0] ? " → " : "", shown->target,
                   failed ? ": " : "", failed ? t->error : "");
    }
    return n;
}

/* One line on a terminal: how far the tasks are that have not ended. */
static void show_progress(const struct ctl *c, const Stillpoint__V1__TasksReply *asked,
                          const Stillpoint__V1__TasksReply *now)
{
    long long files = 0, bytes = 0;
    size_t open = 0;
    const char *waiting = NULL;
    for (size_t i = 0; i < asked->n_tasks; i++) {
        const Stillpoint__V1__TaskRecord *t = task_in(now, asked->tasks[i]->id);
        if (!t || t->state >= STILLPOINT__V1__TASK_STATE__TASK_DONE)
            continue;
        open++;
        files += t->files;
        bytes += t->bytes_read;
        if (t->state == STILLPOINT__V1__TASK_STATE__TASK_PENDING)
            waiting = t->node;
    }
    if (open > 0)
        ctl_status(c, "%zu of %zu under way: %lld files, %.1f MiB%s%s%s", open,
                   asked->n_tasks, files, (double)bytes / 1048576,
                   waiting ? "; waiting for the agent of '" : "", waiting ? waiting : "",
                   waiting ? "'" : "");
}

static int wait_for(struct ctl *c, struct remote *r, const char *set,
                    const Stillpoint__V1__TasksReply *asked)
{
    bool *told = mem_array(asked->n_tasks, sizeof *told);
    int result = CTL_OK;
    for (;;) {
        AUTO(wire) ProtobufCMessage *m = NULL;
        Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
        req.set = (char *)set;
        int status = remote_call(r, "ListTasks", &req.base, &m);
        if (status != CTL_OK)
            result = status;
        if (status != CTL_OK ||
            still_running(c, asked, (const void *)m, told, &result) == 0)
            break;
        show_progress(c, asked, (const void *)m);
        if (atomic_load(&ctl_cancelled)) {
            ctl_status_end(c);
            ctl_say(c, "the tasks go on: see `stillpoint set show %s`\n", set);
            result = CTL_INTERRUPTED;
            break;
        }
        usleep(SET_POLL_US);
    }
    free(told);
    return result;
}

/* Whoever asked for the whole set is told what there is not of it. */
static int tell_missing(struct ctl *c, struct remote *r, const char *set)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = get_set(r, set, &m);
    const SetRecord *s = (const void *)m;
    for (size_t i = 0; s && i < s->n_parts; i++) {
        const Stillpoint__V1__Part *p = s->parts[i];
        if (!part_is_missing(s, p))
            continue;
        ctl_say(c, "%s/%s is missing in this set: %s\n", p->node, p->partition, p->error);
        status = CTL_PARTIAL;
    }
    return status;
}

static int ask_and_wait(struct ctl *c, const char *method, const ProtobufCMessage *req)
{
    AUTO(remote) struct remote *r = NULL;
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = remote_open(c, &r);
    if (status == CTL_OK)
        status = remote_call(r, method, req, &m);
    if (status == CTL_OK)
        status = wait_for(c, r, c->args[0], (const void *)m);
    if (status == CTL_OK && !ctl_value(c, "partition"))
        status = tell_missing(c, r, c->args[0]);
    return status;
}

static int run_verify(struct ctl *c)
{
    Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
    req.set = (char *)c->args[0];
    return ask_and_wait(c, "VerifySet", &req.base);
}

static int run_restore(struct ctl *c)
{
    Stillpoint__V1__RestoreSetRequest req = STILLPOINT__V1__RESTORE_SET_REQUEST__INIT;
    if (!ctl_has(c, "target"))
        return ctl_missing(c, "target");
    req.set = (char *)c->args[0];
    req.target = (char *)ctl_value(c, "target");
    if (ctl_value(c, "partition"))
        req.partition = (char *)ctl_value(c, "partition");
    if (ctl_value(c, "node"))
        req.node = (char *)ctl_value(c, "node");
    return ask_and_wait(c, "RestoreSet", &req.base);
}

static const struct ctl_option options[] = {REMOTE_OPTIONS, {0}};
static const struct ctl_option create_options[] = {
    REMOTE_OPTIONS, {"watch", NULL, "show progress until the set is COMPLETE", 'w'}, {0}};
static const struct ctl_option list_options[] = {
    REMOTE_OPTIONS, {"group", "GROUP", "only sets of this group", 'g'}, {0}};
static const struct ctl_option restore_options[] = {
    REMOTE_OPTIONS,
    {"target", "DIR", "a directory below what the agents' files permit (restore_dirs)",
     't'},
    {"partition", "NODE/PARTITION", "only this one", 'P'},
    {"node", "NODE", "to this node instead of where it came from", 'n'},
    {0}};

const struct ctl_command ctl_set_commands[] = {
    {"set", "create", "GROUP", "take a consistent set now", create_options,
     "  stillpoint set create ledger --watch\n", 1, 1, run_create},
    {"set", "list", "", "list sets, newest first", list_options,
     "  stillpoint set list --group ledger\n", 0, 0, run_list},
    {"set", "show", "SET", "show one set with each partition's pause", options,
     "  stillpoint set show ledger-20260101t000000z-1a2b\n", 1, 1, run_show},
    {"set", "watch", "SET", "follow a set until it is COMPLETE", options,
     "  stillpoint set watch ledger-20260101t000000z-1a2b\n", 1, 1, run_watch},
    {"set", "cancel", "SET", "end a run that has not been recorded yet", options,
     "  stillpoint set cancel ledger-20260101t000000z-1a2b\n", 1, 1, run_cancel},
    {"set", "verify", "SET", "check again that every blob of the set is stored", options,
     "  stillpoint set verify ledger-20260101t000000z-1a2b\n", 1, 1, run_verify},
    {"set", "restore", "SET", "restore a set, or one partition of it", restore_options,
     "  stillpoint set restore ledger-20260101t000000z-1a2b --target /var/restore/r1\n",
     1, 1, run_restore},
    {0},
};
