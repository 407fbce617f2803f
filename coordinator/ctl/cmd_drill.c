/* `stillpoint drill`: has a fault caused while a set is taken, and compares what came of
 * it with what is promised. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/conf/units.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"
#include "coordinator/ctl/cmd_cluster.h"
#include "coordinator/ctl/print_set.h"
#include "coordinator/ctl/remote.h"

enum {
    DRILL_POLL_US = 200000,
    DRILL_VERDICT_MS = 30000, /* promised, from the end of the fault on */
    DRILL_PAUSE_MS = 1000,    /* promised: beyond hold_limit */
    DRILL_WAIT_MS = 90000,
    DRILL_WAIT_MAX_MS = 3600000,
    DRILL_UPLOAD_MS = 3600000,
};

typedef Stillpoint__V1__SetRecord SetRecord;

struct drill {
    struct ctl *ctl;
    struct remote *remote;
    int64_t hold_limit_ms;
    int64_t wait_ms;  /* beyond a promise, and for what died to be there again */
    json_t *promises; /* owned; of the report */
    bool broken;
};

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* One line of the report. */
static void promise(struct drill *d, bool kept, const char *what, const char *promised,
                    const char *seen)
{
    d->broken |= !kept;
    json_array_append_new(d->promises,
                          json_pack("{s:s, s:s, s:s, s:b}", "promise", what, "promised",
                                    promised, "seen", seen, "kept", kept));
    if (!d->ctl->json)
        printf("%-6s %-34s %-22s %s\n", kept ? "kept" : "BROKEN", what, promised, seen);
    fflush(stdout);
}

/* ---- sets ---- */

static bool is_decided(const SetRecord *s)
{
    return s->state >= STILLPOINT__V1__SET_STATE__SET_CAPTURED;
}

static bool is_over(const SetRecord *s)
{
    return s->state >= STILLPOINT__V1__SET_STATE__SET_COMPLETE;
}

/* Of an aborted set the agents tell when they are back; proofs tell of the others. */
static bool has_pauses(const SetRecord *s)
{
    if (s->state != STILLPOINT__V1__SET_STATE__SET_ABORTED)
        return true;
    for (size_t i = 0; i < s->n_parts; i++)
        if (s->parts[i]->pause_us == 0)
            return false;
    return true;
}

/* Looks at the set until it is as wanted or the time is over; *out is as it was last
 * seen, NULL if it never was. The exit status after saying why, if the user has had
 * enough. */
static int await(struct drill *d, const char *id, bool (*wanted)(const SetRecord *),
                 int64_t within_ms, ProtobufCMessage **out)
{
    int64_t until_ms = now_ms() + within_ms;
    *out = NULL;
    for (;;) {
        ProtobufCMessage *m = NULL;
        Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
        req.set = (char *)id;
        err_free(remote_read(d->remote, "GetSet", &req.base, &m));
        if (m && *out)
            wire_free(*out);
        if (m)
            *out = m;
        if (atomic_load(&ctl_cancelled))
            return ctl_fail(d->ctl, err_new(ERR_CANCELLED, "set '%s' goes on", id),
                            CTL_INTERRUPTED);
        if ((m && wanted((const SetRecord *)m)) || now_ms() >= until_ms)
            return CTL_OK;
        usleep(DRILL_POLL_US);
    }
}

static char *milliseconds(double ms)
{
    return mem_printf("%.1f ms", ms);
}

static void report_pause(struct drill *d, const Stillpoint__V1__Part *p)
{
    double limit_ms = (double)(d->hold_limit_ms + DRILL_PAUSE_MS);
    double ms = print_pause_ms(p);
    AUTO(str) char *what = mem_printf("pause of %s/%s", p->node, p->partition);
    AUTO(str) char *most = mem_printf("at most %.0f ms", limit_ms);
    AUTO(str) char *seen = milliseconds(ms);
    AUTO(str) char *bound = mem_printf("at most %s", seen);
    if (ms <= 0)
        promise(d, false, what, most, "unknown: its agent has not told");
    else
        promise(d, ms <= limit_ms, what, most, p->pause_at_most ? bound : seen);
}

/* The state itself may be a later one by now. */
static const char *verdict_of(const SetRecord *s)
{
    return s->state == STILLPOINT__V1__SET_STATE__SET_ABORTED ? "ABORTED" : "CAPTURED";
}

static int report_verdict(struct drill *d, const SetRecord *begun, ProtobufCMessage **out)
{
    int64_t fault_ms = begun->drill ? begun->drill->fault_ms : 0;
    int64_t within_ms = DRILL_VERDICT_MS + fault_ms;
    int64_t from_ms = now_ms();
    int status = await(d, begun->set, is_decided, within_ms + d->wait_ms, out);
    if (status != CTL_OK)
        return status;
    const SetRecord *s = (const SetRecord *)*out;
    double took_ms = (double)(now_ms() - from_ms);
    bool decided = s && is_decided(s);
    AUTO(str)
    char *seen = decided ? mem_printf("%s after %.1f s", verdict_of(s), took_ms / 1000)
                         : mem_strdup("no verdict");
    AUTO(str)
    char *promised = mem_printf("within %.1f s", (double)within_ms / 1000);
    promise(d, decided && took_ms <= (double)within_ms, "CAPTURED or ABORTED", promised,
            seen);
    return CTL_OK;
}

/* A set that went well because nothing happened to it proves nothing. */
static void report_fault(struct drill *d, const SetRecord *s)
{
    if (s && s->drill && s->drill->error[0])
        promise(d, false, "the fault", "caused", s->drill->error);
}

static int report_pauses(struct drill *d, const char *id)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    int status = await(d, id, has_pauses, d->wait_ms, &m);
    const SetRecord *s = (const SetRecord *)m;
    for (size_t i = 0; status == CTL_OK && s && i < s->n_parts; i++)
        report_pause(d, s->parts[i]);
    return status;
}

/* ---- afterwards ---- */

/* Names a set as somebody would who does not know of the drill. */
static struct err *create(struct drill *d, const Stillpoint__V1__CreateSetRequest *req,
                          ProtobufCMessage **out)
{
    int64_t until_ms = now_ms() + d->wait_ms;
    for (;;) {
        struct err *e = remote_read(d->remote, "CreateSet", &req->base, out);
        /* The same id finds the set that a lost answer was about. */
        bool again = e && (e->kind == ERR_UNAVAILABLE || e->kind == ERR_CONFLICT ||
                           e->kind == ERR_TIMEOUT);
        if (!again || now_ms() >= until_ms || atomic_load(&ctl_cancelled))
            return e;
        err_free(e);
        usleep(DRILL_POLL_US);
    }
}

static int report_next(struct drill *d, char **id)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    AUTO(wire) ProtobufCMessage *last = NULL;
    Stillpoint__V1__CreateSetRequest req = STILLPOINT__V1__CREATE_SET_REQUEST__INIT;
    AUTO(str) char *request = mem_printf("after-%llx", (unsigned long long)now_ms());
    req.group = (char *)d->ctl->args[1];
    req.request_id = request;
    AUTO(err) struct err *e = create(d, &req, &m);
    if (e) {
        AUTO(str) char *text = err_text(e);
        promise(d, false, "the next set", "COMPLETE", text);
        return CTL_OK;
    }
    *id = mem_strdup(((const SetRecord *)m)->set);
    int status = await(d, *id, is_over, DRILL_UPLOAD_MS, &last);
    if (status != CTL_OK)
        return status;
    const SetRecord *s = (const SetRecord *)last;
    AUTO(str)
    char *seen = s ? mem_printf("%s%s%s", set_state_text(s->state),
                                s->error[0] ? ": " : "", s->error)
                   : mem_strdup("nobody tells");
    promise(d, s && s->state == STILLPOINT__V1__SET_STATE__SET_COMPLETE, "the next set",
            "COMPLETE", seen);
    return CTL_OK;
}

static void add_names(struct buf *b, const char *what, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%s %s", b->len ? ", " : "", what, names[i]);
}

/* What is left of one set, as text; empty: nothing. */
static void look_for_remains(struct drill *d, const char *id, struct buf *out)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
    req.set = (char *)id;
    AUTO(err) struct err *e = remote_read(d->remote, "SetRemains", &req.base, &m);
    if (e) {
        AUTO(str) char *text = err_text(e);
        buf_printf(out, "%s", text);
        return;
    }
    const Stillpoint__V1__SetRemainsReply *r = (const void *)m;
    add_names(out, "lock", r->locks, r->n_locks);
    add_names(out, "capture", r->captures, r->n_captures);
    add_names(out, "open on", r->open, r->n_open);
    add_names(out, "unknown:", r->unknown, r->n_unknown);
}

static int report_remains(struct drill *d, const char *const ids[], size_t n)
{
    int64_t until_ms = now_ms() + d->wait_ms;
    for (;;) {
        AUTO_BUF struct buf left;
        buf_init(&left);
        for (size_t i = 0; i < n; i++)
            if (ids[i])
                look_for_remains(d, ids[i], &left);
        if (atomic_load(&ctl_cancelled))
            return ctl_fail(d->ctl, err_new(ERR_CANCELLED, "interrupted"),
                            CTL_INTERRUPTED);
        if (left.len == 0 || now_ms() >= until_ms) {
            promise(d, left.len == 0, "nothing left behind", "no lock, capture, session",
                    left.len ? buf_text(&left) : "nothing");
            return CTL_OK;
        }
        usleep(DRILL_POLL_US);
    }
}

/* ---- the command ---- */

static int find_hold_limit(struct drill *d)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    Stillpoint__V1__ListRequest req = STILLPOINT__V1__LIST_REQUEST__INIT;
    int status = remote_call(d->remote, "ListGroups", &req.base, &m);
    if (status != CTL_OK)
        return status;
    const Stillpoint__V1__ListGroupsReply *r = (const void *)m;
    for (size_t i = 0; i < r->n_groups; i++)
        if (strcmp(r->groups[i]->group, d->ctl->args[1]) == 0)
            d->hold_limit_ms = r->groups[i]->hold_limit_ms;
    return CTL_OK; /* CreateSet names a group that is not there */
}

static int begin(struct drill *d, ProtobufCMessage **out)
{
    Stillpoint__V1__CreateSetRequest req = STILLPOINT__V1__CREATE_SET_REQUEST__INIT;
    AUTO(str) char *id = mem_printf("drill-%llx", (unsigned long long)now_ms());
    req.group = (char *)d->ctl->args[1];
    req.request_id = id;
    req.drill = (char *)d->ctl->args[0];
    req.drill_acknowledged = ctl_has(d->ctl, "yes");
    if (ctl_value(d->ctl, "node"))
        req.drill_node = (char *)ctl_value(d->ctl, "node");
    int status = remote_call(d->remote, "CreateSet", &req.base, out);
    if (status != CTL_OK || d->ctl->json)
        return status;
    const SetRecord *s = (const SetRecord *)*out;
    printf("set %s: drill %s%s%s\n", s->set, d->ctl->args[0],
           s->drill && s->drill->node[0] ? " on node " : "",
           s->drill ? s->drill->node : "");
    return CTL_OK;
}

static int conclude(struct drill *d, const SetRecord *s)
{
    if (d->ctl->json)
        ctl_print_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:O}", "message_type",
                                 "drill", "drill", d->ctl->args[0], "group", s->group,
                                 "set", s->set, "error", s->error, "kept", !d->broken,
                                 "promises", d->promises));
    else if (s->error[0])
        printf("the set says: %s\n", s->error);
    ctl_say(d->ctl, d->broken ? "a promise was broken: the logs of this time say more\n"
                              : "every promise was kept\n");
    return d->broken ? CTL_FAILED : CTL_OK;
}

static int drill(struct drill *d)
{
    AUTO(wire) ProtobufCMessage *begun = NULL;
    AUTO(wire) ProtobufCMessage *decided = NULL;
    AUTO(str) char *next = NULL;
    int status = find_hold_limit(d);
    if (status == CTL_OK)
        status = begin(d, &begun);
    const SetRecord *first = (const SetRecord *)begun;
    if (status == CTL_OK)
        status = report_verdict(d, first, &decided);
    if (status == CTL_OK)
        report_fault(d, (const SetRecord *)decided);
    if (status == CTL_OK)
        status = report_pauses(d, first->set);
    if (status == CTL_OK)
        status = report_next(d, &next);
    if (status == CTL_OK)
        status = report_remains(d, (const char *const[]){first->set, next}, 2);
    if (status != CTL_OK)
        return status;
    return conclude(d, decided ? (const SetRecord *)decided : first);
}

static int list(struct ctl *c, struct remote *r)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    Stillpoint__V1__ListRequest req = STILLPOINT__V1__LIST_REQUEST__INIT;
    int status = remote_call(r, "ListDrills", &req.base, &m);
    if (status != CTL_OK)
        return status;
    const Stillpoint__V1__ListDrillsReply *all = (const void *)m;
    if (c->json)
        remote_print_json(m);
    for (size_t i = 0; !c->json && i < all->n_drills; i++)
        printf("%-22s %s\n", all->drills[i]->name, all->drills[i]->summary);
    return CTL_OK;
}

static int run_list(struct ctl *c)
{
    AUTO(remote) struct remote *r = NULL;
    int status = remote_open(c, &r);
    return status == CTL_OK ? list(c, r) : status;
}

static int read_wait(struct drill *d)
{
    const char *text = ctl_value(d->ctl, "wait");
    struct err *e = text ? units_duration(text, &d->wait_ms) : NULL;
    if (!e && (d->wait_ms < 1 || d->wait_ms > DRILL_WAIT_MAX_MS))
        e = err_new(ERR_INVALID, "'%s' is not 1ms to 1h", text);
    return e ? ctl_fail(d->ctl, err_wrap(e, "--wait"), CTL_USAGE) : CTL_OK;
}

static int run_drill(struct ctl *c)
{
    AUTO(remote) struct remote *r = NULL;
    int status = remote_open(c, &r);
    if (status != CTL_OK)
        return status;
    struct drill d = {
        .ctl = c, .remote = r, .wait_ms = DRILL_WAIT_MS, .promises = json_array()};
    status = read_wait(&d);
    if (status == CTL_OK)
        status = drill(&d);
    json_decref(d.promises);
    return status;
}

static const struct ctl_option list_options[] = {REMOTE_OPTIONS, {0}};
static const struct ctl_option run_options[] = {
    REMOTE_OPTIONS,
    {"node", "NODE", "whose agent or guardian (default: the group's first)", 'n'},
    {"wait", "TIME",
     "for what died to be there again, and for what is late (default 90s)", 'w'},
    {"yes", NULL, "I know that its writers wait and that daemons die", 'y'},
    {0}};

const struct ctl_command ctl_drill_commands[] = {
    {"drill", "list", "", "list the faults that can be caused", list_options,
     "  stillpoint drill list\n", 0, 0, run_list},
    {"drill", "", "NAME GROUP",
     "cause a fault while a set is taken, and report what came of the promises",
     run_options, "  stillpoint drill kill-agent-frozen rehearsals --yes\n", 2, 2,
     run_drill},
    {0},
};
