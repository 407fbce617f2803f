/* Keeps this node known to the coordinator that leads, and hears the verdicts on what is
 * still open here (PROTOCOL.md step 5.4). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/shell/agent.h"
#include "common/base/mem.h"
#include "common/obs/log.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"

static void send_register(void *arg);

struct rpc_channel *register_channel(struct agent *a)
{
    return a->channels[a->current];
}

void register_failed(struct agent *a)
{
    a->registered = false;
    a->current = (a->current + 1) % a->conf->n_coordinators;
}

static Stillpoint__V1__SessionState state_of(const struct session *s)
{
    switch (s->sm.state) {
    case SESSION_CAPTURED:
        return STILLPOINT__V1__SESSION_STATE__SESSION_CAPTURED;
    case SESSION_ABORTING:
    case SESSION_ABORTED:
        return STILLPOINT__V1__SESSION_STATE__SESSION_ABORTED;
    case SESSION_FROZEN:
    case SESSION_COMMITTING:
    case SESSION_JOURNALING:
        return STILLPOINT__V1__SESSION_STATE__SESSION_FROZEN;
    default:
        return STILLPOINT__V1__SESSION_STATE__SESSION_PREPARED;
    }
}

static Stillpoint__V1__RegisterRequest *request_of(struct agent *a)
{
    Stillpoint__V1__RegisterRequest *m = mem_alloc(sizeof *m);
    stillpoint__v1__register_request__init(m);
    m->node = service_describe(a);
    m->unix_ms = (int64_t)time(NULL) * 1000;
    for (size_t i = 0; i < a->sessions.n_sets; i++) {
        const struct session *s = a->sessions.sets[i];
        if (s->sm.state == SESSION_ABORTED)
            continue;
        Stillpoint__V1__OpenSet *o = mem_alloc(sizeof *o);
        stillpoint__v1__open_set__init(o);
        pb_set(&o->set, s->set.text);
        o->state = state_of(s);
        o->rehearsal = s->rehearsal;
        *PB_APPEND(m, open_sets) = o;
    }
    return m;
}

static void note_complete(struct agent *a, const struct set_id *set)
{
    const struct session *s = sessions_find(&a->sessions, set);
    if (s && s->sm.state == SESSION_CAPTURED && a->n_complete < SESSION_MAX_SETS)
        a->complete[a->n_complete++] = *set;
}

static void take_verdicts(struct agent *a, const Stillpoint__V1__RegisterReply *r)
{
    a->n_complete = 0;
    for (size_t i = 0; i < r->n_verdicts; i++) {
        struct session_event ev = {.kind = SESSION_EV_VERDICT};
        AUTO(err) struct err *bad = name_copy(ev.set.text, r->verdicts[i]->set, "set");
        if (!bad && r->verdicts[i]->state == STILLPOINT__V1__SET_STATE__SET_ABORTED)
            agent_feed(a, &ev);
        if (!bad && r->verdicts[i]->state == STILLPOINT__V1__SET_STATE__SET_COMPLETE)
            note_complete(a, &ev.set);
    }
}

/* Records of another incarnation say nothing about this agent's sets. */
static bool is_ours(const struct agent *a, const ProtobufCBinaryData *incarnation)
{
    static const uint8_t none[16];
    const uint8_t *pinned = a->sessions.fence.incarnation;
    return memcmp(pinned, none, sizeof none) == 0 ||
           (incarnation->len == sizeof none &&
            memcmp(pinned, incarnation->data, sizeof none) == 0);
}

/* The handshake's error speaks of certificates only; most often the clock is wrong. */
static void tell_clock(struct agent *a)
{
    AUTO(err) struct err *e = signer_check_time(a->signer, (int64_t)time(NULL) * 1000);
    if (e && !a->clock_told)
        log_err(LOG_LEVEL_ERROR, "register", "clock", err_new(e->kind, "%s", e->msg));
    a->clock_told = e != NULL;
}

static void on_registered(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct agent *a = arg;
    const Stillpoint__V1__RegisterReply *r = (const void *)m;
    a->registering = false;
    int64_t next_ms = AGENT_REGISTER_MS;
    if (a->stopping) {
        err_free(e);
        return;
    }
    if (e) {
        tell_clock(a);
        log_err(a->registered ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "register", "failed",
                err_wrap(e, "coordinator '%s'", a->conf->coordinators[a->current]));
        register_failed(a);
    } else {
        if (!a->registered)
            log_info("register", "done", "coordinator=%s",
                     a->conf->coordinators[a->current]);
        a->registered = true;
        next_ms = r->interval_ms > 100 ? r->interval_ms : 100;
        if (is_ours(a, &r->incarnation))
            take_verdicts(a, r);
        else
            log_error(
                "register", "foreign_incarnation",
                "the metadata store was replaced: rounds are refused until this agent "
                "adopts it");
        tasks_claim(a);
    }
    loop_timer_set(a->loop, &a->register_timer, next_ms, send_register, a);
}

static void send_register(void *arg)
{
    struct agent *a = arg;
    if (a->registering || a->stopping)
        return;
    a->registering = true;
    Stillpoint__V1__RegisterRequest *req = request_of(a);
    struct rpc_opts opts = {.timeout_ms = AGENT_CALL_MS};
    rpc_call_start(register_channel(a), &stillpoint__v1__worker_service__descriptor,
                   "RegisterNode", &req->base, &opts, on_registered, a);
    wire_free(&req->base);
}

void register_soon(struct agent *a)
{
    if (!a->registering && !a->stopping)
        loop_timer_set(a->loop, &a->register_timer, 0, send_register, a);
}

void register_start(struct agent *a)
{
    send_register(a);
}
