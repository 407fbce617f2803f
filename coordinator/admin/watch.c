/* AdminService.WatchSet: the record and the live progress, each time something changes,
 * until the set is terminal. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "coordinator/admin/admin.h"
#include "coordinator/shell/run.h"

static const char *round_activity(const struct run *r, size_t node)
{
    bool done = r->round.nodes[node].done;
    if (r->round.nodes[node].out)
        return "left out";
    switch (r->round.sm.state) {
    case ROUND_PREPARING:
        return done ? "prepared" : "preparing";
    case ROUND_FREEZING:
        if (r->round.nodes[node].call == CALL_NONE) /* of a later wave */
            return "waiting";
        return done ? "frozen" : "freezing";
    case ROUND_CAPTURING:
        return done ? "captured" : "capturing";
    case ROUND_RECORDING:
    case ROUND_CAPTURED:
        return "captured";
    case ROUND_INSPECTING:
        return "inspecting";
    case ROUND_ABORTING:
    case ROUND_ABORTED:
        return "aborted";
    default:
        return "waiting";
    }
}

static void fill_round(const struct run *r, const char *node,
                       Stillpoint__V1__PartProgress *p)
{
    for (size_t i = 0; r->started && i < r->n_nodes; i++)
        if (strcmp(r->nodes[i].name, node) == 0)
            pb_set(&p->activity, round_activity(r, i));
}

static void fill_task(struct coord *c, const char *set, const Stillpoint__V1__Part *part,
                      Stillpoint__V1__PartProgress *p)
{
    static const char *const doing[] = {"uploading", "verifying"};
    for (int kind = TASK_UPLOAD; kind <= TASK_VERIFY; kind++) {
        AUTO(str)
        char *id = mem_printf("%s.%s.%s.%s", set, task_kind_name(kind), part->node,
                              part->partition);
        const struct task_entry *t = task_find(c, id);
        if (!t)
            continue;
        AUTO(str)
        char *waits = mem_printf("%s again after: %s", doing[kind], t->record->error);
        pb_set(&p->activity, t->record->error[0] ? waits : doing[kind]);
        p->files = t->record->files;
        p->bytes_read = t->record->bytes_read;
        p->bytes_stored = t->record->bytes_stored;
        return;
    }
}

static Stillpoint__V1__SetEvent *event_of(struct coord *c, const struct set_entry *e)
{
    Stillpoint__V1__SetEvent *ev = mem_alloc(sizeof *ev);
    stillpoint__v1__set_event__init(ev);
    ev->record = (Stillpoint__V1__SetRecord *)pb_copy(&e->record->base);
    ev->phase = e->run ? run_phase(e->run) : e->record->state;
    for (size_t i = 0; i < e->record->n_parts; i++) {
        const Stillpoint__V1__Part *part = e->record->parts[i];
        Stillpoint__V1__PartProgress *p = mem_alloc(sizeof *p);
        stillpoint__v1__part_progress__init(p);
        pb_set(&p->node, part->node);
        pb_set(&p->partition, part->partition);
        p->files = part->files;
        p->bytes_read = part->bytes_read;
        p->bytes_stored = part->bytes_stored;
        pb_set(&p->activity, part_state_text(part->state));
        if (e->run && run_is_planned(part))
            fill_round(e->run, part->node, p);
        else if (!e->run)
            fill_task(c, e->record->set, part, p);
        *PB_APPEND(ev, progress) = p;
    }
    return ev;
}

static void unlink_watcher(struct watcher *w)
{
    struct watcher **at = &w->coord->watchers;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
}

static void on_gone(void *arg)
{
    struct watcher *w = arg;
    unlink_watcher(w);
    rpc_end(w->call);
    free(w);
}

/* Returns whether the stream goes on. */
static bool send(struct watcher *w, struct set_entry *e)
{
    w->behind = w->slow;
    if (w->slow) /* it gets the newest state once it has read the older ones */
        return true;
    Stillpoint__V1__SetEvent *ev = event_of(w->coord, e);
    w->slow = !rpc_send(w->call, &ev->base);
    wire_free(&ev->base);
    return !set_state_is_terminal((enum set_state)e->record->state) || e->run;
}

void watch_notify(struct coord *c, struct set_entry *e)
{
    struct watcher *w = c->watchers;
    while (w) {
        struct watcher *next = w->next;
        if (strcmp(w->set, e->record->set) == 0 && !send(w, e))
            on_gone(w);
        w = next;
    }
}

static void on_writable(void *arg)
{
    struct watcher *w = arg;
    struct set_entry *e = set_find(w->coord, w->set);
    w->slow = false;
    if (e && w->behind && !send(w, e))
        on_gone(w);
}

void watchers_end(struct coord *c)
{
    while (c->watchers) {
        struct watcher *w = c->watchers;
        unlink_watcher(w);
        rpc_fail(w->call,
                 err_new(ERR_UNAVAILABLE, "the coordinator stopped leading: watch "
                                          "again"));
        free(w);
    }
}

void admin_watch_set(struct rpc_call *call, const ProtobufCMessage *m, void *ctx)
{
    struct coord *c = ctx;
    const Stillpoint__V1__SetRequest *req = (const void *)m;
    struct err *e = leader_check(c);
    struct set_entry *s = e ? NULL : set_find(c, req->set);
    if (!e && !s)
        e = err_new(ERR_NOT_FOUND,
                    "there is no set '%.80s': `stillpoint set list` shows all", req->set);
    size_t n = 0;
    for (struct watcher *w = c->watchers; w; w = w->next)
        n++;
    if (!e && n >= COORD_MAX_WATCHERS)
        e = err_new(ERR_LIMIT, "%d streams watch already", COORD_MAX_WATCHERS);
    if (e) {
        rpc_fail(call, e);
        return;
    }
    struct watcher *w = mem_zalloc(sizeof *w);
    w->call = call;
    w->coord = c;
    memcpy(w->set, s->record->set, strlen(s->record->set) + 1);
    w->next = c->watchers;
    c->watchers = w;
    if (!send(w, s)) {
        on_gone(w);
        return;
    }
    rpc_call_on_writable(call, on_writable, w);
    rpc_call_on_cancel(call, on_gone, w);
}
