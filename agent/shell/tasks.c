/* Work after the cut (PROTOCOL.md step 7.2): tasks are claimed, journaled as files, done,
 * and reported until the report is taken. A restart goes on with what the files say. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shell/agent.h"
#include "common/base/mem.h"
#include "common/file/file.h"
#include "common/obs/log.h"
#include "common/wire/convert.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"

enum { TASK_BYTES = 16 << 20 };
#define TASK_SUFFIX ".task"

static void start(struct held_task *t);
static void report(struct held_task *t);

/* ---- the journal of taken tasks ---- */

static char *file_of(const struct agent *a, const char *id)
{
    return mem_printf("%s/%s" TASK_SUFFIX, a->work_dir, id);
}

static struct err *write_task(const struct agent *a, const Stillpoint__V1__TaskRecord *r)
{
    AUTO(str) char *path = file_of(a, r->id);
    AUTO(str) char *json = pbjson_encode(&r->base, 0);
    return file_replace(path, json, strlen(json), 0600);
}

static bool is_safe_id(const char *id)
{
    return id[0] && id[0] != '.' && !strchr(id, '/') && strlen(id) < 240;
}

static struct held_task *hold(struct agent *a, Stillpoint__V1__TaskRecord *r)
{
    struct held_task *t = mem_zalloc(sizeof *t);
    t->agent = a;
    t->work.conf = a->conf;
    t->work.task = r;
    t->work.journal_dir = a->work_dir;
    t->begun_ms = loop_now_ms();
    t->next = a->tasks;
    a->tasks = t;
    return t;
}

static void let_go(struct held_task *t)
{
    struct agent *a = t->agent;
    struct held_task **at = &a->tasks;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    AUTO(str) char *path = file_of(a, t->work.task->id);
    log_err(LOG_LEVEL_WARN, "task", "forget_failed", file_remove(path));
    work_forget(a->work_dir, t->work.task->id);
    loop_timer_cancel(a->loop, &t->timer);
    wire_free(&t->work.task->base);
    free(t->work.superseded);
    free(t);
}

static struct err *resume_one(struct agent *a, const char *name)
{
    AUTO(str) char *path = mem_printf("%s/%s", a->work_dir, name);
    AUTO(str) char *json = NULL;
    size_t n = 0;
    TRY(file_read(path, TASK_BYTES, &json, &n));
    ProtobufCMessage *m = NULL;
    TRY(pbjson_decode(&stillpoint__v1__task_record__descriptor, json, n, 0, &m));
    struct held_task *t = hold(a, (Stillpoint__V1__TaskRecord *)m);
    log_info("task", "resumed", "task=%s", t->work.task->id);
    start(t);
    return NULL;
}

struct err *tasks_resume(struct agent *a)
{
    DIR *d = opendir(a->work_dir);
    if (!d)
        return err_os(errno, "open '%s'", a->work_dir);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        size_t n = strlen(e->d_name);
        size_t s = strlen(TASK_SUFFIX);
        if (n > s && strcmp(e->d_name + n - s, TASK_SUFFIX) == 0)
            log_err(LOG_LEVEL_ERROR, "task", "resume_failed", resume_one(a, e->d_name));
    }
    closedir(d);
    return NULL;
}

/* ---- doing ---- */

struct attempt {
    struct held_task *task;
    struct err *err;
};

static void run_attempt(void *arg)
{
    struct attempt *k = arg;
    k->err = work_run(&k->task->work);
}

static bool is_final(enum err_kind kind)
{
    return kind == ERR_INVALID || kind == ERR_DENIED || kind == ERR_CORRUPT ||
           kind == ERR_NOT_FOUND;
}

/* What goes away without this task's doing is waited for, however long it takes: a
 * repository out of reach, full, or locked by somebody's prune; a guardian that is away.
 * A capture that was not released would stay for ever. */
static bool is_worth_waiting(const struct held_task *t, enum err_kind kind)
{
    return t->work.task->kind == STILLPOINT__V1__TASK_KIND__TASK_RELEASE ||
           kind == ERR_UNAVAILABLE || kind == ERR_TIMEOUT || kind == ERR_NO_SPACE ||
           kind == ERR_CONFLICT;
}

/* True when the failure is the task's result: counts attempts. */
static bool gives_up(struct held_task *t, enum err_kind kind)
{
    t->attempts++;
    return is_final(kind) ||
           (t->attempts >= AGENT_MAX_ATTEMPTS && !is_worth_waiting(t, kind));
}

static void again(void *arg)
{
    start(arg);
}

/* What a person can do about a failure that is final. */
static struct err *advise(const Stillpoint__V1__TaskRecord *r, struct err *e)
{
    bool reads = r->kind == STILLPOINT__V1__TASK_KIND__TASK_VERIFY;
    if (e->kind == ERR_NO_SPACE && r->kind == STILLPOINT__V1__TASK_KIND__TASK_RESTORE)
        return err_wrap(e, "the target's disk is full: free space and restore again");
    if (e->kind == ERR_NO_SPACE)
        return err_wrap(e, "repository '%s' is full: free space there", r->repository);
    if (e->kind == ERR_CORRUPT && reads)
        return err_wrap(e, "the stored part is damaged: create a new set; `stillpoint "
                           "repo check --read-data` names what else is");
    return e;
}

static void finish(struct held_task *t, struct err *e)
{
    Stillpoint__V1__TaskRecord *r = t->work.task;
    AUTO(err) struct err *owned = e ? advise(r, e) : NULL;
    r->state = owned ? STILLPOINT__V1__TASK_STATE__TASK_FAILED
                     : STILLPOINT__V1__TASK_STATE__TASK_DONE;
    r->elapsed_ms = loop_now_ms() - t->begun_ms;
    AUTO(str) char *text = owned ? err_text(owned) : mem_strdup("");
    pb_set(&r->error, text);
    log_line(owned ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "task", owned ? "failed" : "done",
             "task=%s ms=%lld%s%s%s", r->id, (long long)r->elapsed_ms,
             owned ? " error=\"" : "", text, owned ? "\"" : "");
    t->finished = true;
    if (t->work.superseded)
        link_drop(t->agent, r->partition, t->work.superseded);
    service_progress(t->agent, t);
    report(t);
}

static void end_attempt(void *arg)
{
    struct attempt *k = arg;
    struct held_task *t = k->task;
    struct err *e = k->err;
    free(k);
    if (t->agent->stopping) {
        err_free(e);
        return; /* its file brings it back */
    }
    if (!e || gives_up(t, e->kind)) {
        finish(t, e);
        return;
    }
    int doublings =
        t->attempts - 1 < AGENT_RETRY_DOUBLINGS ? t->attempts - 1 : AGENT_RETRY_DOUBLINGS;
    int64_t wait = (int64_t)AGENT_RETRY_MS << doublings;
    e = advise(t->work.task, e);
    AUTO(str) char *text = err_text(e);
    pb_set(&t->work.task->error, text); /* progress reports carry it to who watches */
    log_err(LOG_LEVEL_WARN, "task", "will_retry", err_wrap(e, "%s", t->work.task->id));
    loop_timer_set(t->agent->loop, &t->timer, wait, again, t);
}

static void drop_capture(void *arg)
{
    struct attempt *k = arg;
    struct agent *a = k->task->agent;
    const Stillpoint__V1__TaskRecord *r = k->task->work.task;
    struct guard_part part = {0};
    k->err = name_copy(part.part.text, r->partition, "partition");
    if (!k->err && (!is_safe_id(r->capture) || strlen(r->capture) >= CAPTURE_BYTES))
        k->err = err_new(ERR_INVALID, "capture '%.80s'", r->capture);
    if (k->err)
        return;
    memcpy(part.capture.text, r->capture, strlen(r->capture) + 1);
    if (work_needs_base(a->conf, r->partition, r->capture))
        return; /* it goes once another has taken its place */
    k->err = agent_guard_side(a);
    if (!k->err)
        k->err = guard_drop(a->guard_side, &part, 1, AGENT_CALL_MS);
    agent_guard_side_check(a);
}

static void end_drop(void *arg)
{
    struct attempt *k = arg;
    struct session_event ev = {.kind = SESSION_EV_RELEASE};
    const Stillpoint__V1__TaskRecord *r = k->task->work.task;
    AUTO(err) struct err *bad = name_copy(ev.set.text, r->set, "set");
    if (!k->err && !bad && !k->task->agent->stopping)
        agent_feed(k->task->agent, &ev);
    end_attempt(k);
}

static void start(struct held_task *t)
{
    struct attempt *k = mem_zalloc(sizeof *k);
    k->task = t;
    if (t->work.task->kind == STILLPOINT__V1__TASK_KIND__TASK_RELEASE)
        pool_submit(t->agent->guard_side_pool, drop_capture, end_drop, k);
    else
        pool_submit(t->agent->work_pool, run_attempt, end_attempt, k);
}

/* ---- reporting ---- */

static void report_again(void *arg)
{
    report(arg);
}

static void on_reported(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct held_task *t = arg;
    struct agent *a = t->agent;
    (void)m;
    t->reporting = false;
    if (a->stopping) {
        err_free(e);
        return;
    }
    if (!e) {
        let_go(t);
        tasks_claim(a);
        return;
    }
    if (e->kind == ERR_DENIED || e->kind == ERR_INVALID) {
        log_err(LOG_LEVEL_ERROR, "task", "report_refused", e);
        let_go(t);
        return;
    }
    log_err(LOG_LEVEL_DEBUG, "task", "report_failed", e);
    loop_timer_set(a->loop, &t->timer, AGENT_RETRY_MS, report_again, t);
}

static void report(struct held_task *t)
{
    struct agent *a = t->agent;
    Stillpoint__V1__ReportRequest req = STILLPOINT__V1__REPORT_REQUEST__INIT;
    req.node = a->node.text;
    req.task = t->work.task;
    struct rpc_opts opts = {.timeout_ms = AGENT_CALL_MS};
    t->reporting = true;
    rpc_call_start(register_channel(a), &stillpoint__v1__worker_service__descriptor,
                   "Report", &req.base, &opts, on_reported, t);
}

static void ignore(void *arg, struct err *e, const ProtobufCMessage *m)
{
    (void)arg;
    (void)m;
    err_free(e);
}

/* Progress of what is still being done; a lost one is replaced by the next. */
static void report_progress(struct held_task *t)
{
    struct agent *a = t->agent;
    const Stillpoint__V1__TaskRecord *r = t->work.task;
    Stillpoint__V1__TaskRecord now = STILLPOINT__V1__TASK_RECORD__INIT;
    now.id = r->id;
    now.error = r->error;
    now.state = STILLPOINT__V1__TASK_STATE__TASK_RUNNING;
    now.files = atomic_load(&t->work.files);
    now.bytes_read = atomic_load(&t->work.bytes_read);
    now.bytes_stored = atomic_load(&t->work.bytes_stored);
    Stillpoint__V1__ReportRequest req = STILLPOINT__V1__REPORT_REQUEST__INIT;
    req.node = a->node.text;
    req.task = &now;
    struct rpc_opts opts = {.timeout_ms = AGENT_CALL_MS};
    rpc_call_start(register_channel(a), &stillpoint__v1__worker_service__descriptor,
                   "Report", &req.base, &opts, ignore, NULL);
    service_progress(a, t);
}

/* ---- claiming ---- */

static void claim_later(void *arg)
{
    tasks_claim(arg);
}

static void take(struct agent *a, const Stillpoint__V1__TaskRecord *r)
{
    if (!is_safe_id(r->id)) {
        log_error("task", "bad_id", "task=%.100s", r->id);
        return;
    }
    for (struct held_task *t = a->tasks; t; t = t->next)
        if (strcmp(t->work.task->id, r->id) == 0)
            return;
    struct err *e = write_task(a, r);
    if (e) { /* not taken: the coordinator offers it again */
        log_err(LOG_LEVEL_ERROR, "task", "journal_failed", e);
        return;
    }
    log_info("task", "taken", "task=%s", r->id);
    start(hold(a, (Stillpoint__V1__TaskRecord *)pb_copy(&r->base)));
}

static void on_claimed(void *arg, struct err *e, const ProtobufCMessage *m)
{
    struct agent *a = arg;
    const Stillpoint__V1__ClaimReply *reply = (const void *)m;
    a->claiming = false;
    if (a->stopping) {
        err_free(e);
        return;
    }
    for (size_t i = 0; !e && i < reply->n_tasks; i++)
        take(a, reply->tasks[i]);
    log_err(LOG_LEVEL_DEBUG, "task", "claim_failed", e);
    loop_timer_set(a->loop, &a->claim_timer, AGENT_CLAIM_MS, claim_later, a);
}

void tasks_claim(struct agent *a)
{
    if (a->claiming || a->stopping || !a->registered)
        return;
    int32_t held = 0;
    Stillpoint__V1__ClaimRequest req = STILLPOINT__V1__CLAIM_REQUEST__INIT;
    for (struct held_task *t = a->tasks; t; t = t->next) {
        *PB_APPEND(&req, running) = t->work.task->id;
        held += !t->finished;
        if (!t->finished)
            report_progress(t);
    }
    req.node = a->node.text;
    req.most = AGENT_MAX_TASKS - held;
    if (req.most > 0) {
        struct rpc_opts opts = {.timeout_ms = AGENT_CALL_MS};
        a->claiming = true;
        rpc_call_start(register_channel(a), &stillpoint__v1__worker_service__descriptor,
                       "Claim", &req.base, &opts, on_claimed, a);
    } else {
        loop_timer_set(a->loop, &a->claim_timer, AGENT_CLAIM_MS, claim_later, a);
    }
    free(req.running);
}

void tasks_stop(struct agent *a)
{
    for (struct held_task *t = a->tasks; t; t = t->next)
        atomic_store(&t->work.cancel, true);
}
