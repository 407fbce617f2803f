#include "agent/guardian/doer_work.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/guardian/capture.h"
#include "agent/guardian/clock.h"
#include "agent/guardian/lookout.h"
#include "agent/guardian/place.h"
#include "agent/guardian/prepare.h"
#include "agent/guardian/quiesce.h"
#include "agent/guardian/urgency.h"
#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/obs/failpoint.h"
#include "common/obs/log.h"

#define NOT_IN_CALL (-1)

/* Three threads: the one that works; one that waits for the keeper's death, because the
 * first may hang in a call just then; and the lookout's. What they share is atomic or
 * fixed once armed. */
struct work {
    const struct config *config;
    struct doer_shared *shared;
    int socket, keeper_pidfd;
    struct lookout *lookout;
    struct prepare prepare;
    struct quiesce domains[HOLD_MAX_DOMAINS]; /* fixed before the first freeze */
    uint8_t order[HOLD_MAX_DOMAINS];          /* in which they were frozen */
    _Atomic unsigned n_order;
    _Atomic int in_call; /* the domain whose freeze call has not returned */
    _Atomic bool orphan; /* the keeper is dead: the watcher acts, the worker stops */
};

/* ---- When the keeper dies ---- */

static void thaw_one(struct work *w, unsigned domain)
{
    const struct quiesce *q = &w->domains[domain];
    if (!w->shared->may_be_frozen[domain])
        return;
    if (q->ops->thaw) {
        q->ops->thaw(q->thaw_fd);
        return;
    }
    struct command run;
    command_init(&run, q->part->quiesce.hook->thaw, q->part->quiesce.hook->n_thaw);
    log_err(LOG_LEVEL_ERROR, "doer", "thaw",
            command_run(&run, q->part->quiesce.timeout_ms));
}

static void *watch_keeper(void *arg)
{
    struct work *w = arg;
    struct pollfd p = {.fd = w->keeper_pidfd, .events = POLLIN};
    urgency_set(URGENCY_KEEP);
    while (poll(&p, 1, -1) < 1)
        ;
    w->orphan = true;
    int late = w->in_call;
    unsigned n = w->n_order;
    for (unsigned k = n; k-- > 0;)
        if ((int)w->order[k] != late)
            thaw_one(w, w->order[k]);
    /* A freeze call under way cannot be called back; what it did is undone as soon as it
     * returns. */
    while (w->in_call != NOT_IN_CALL)
        poll(NULL, 0, 2);
    for (unsigned k = w->n_order; k-- > 0;)
        if (k >= n || (int)w->order[k] == late)
            thaw_one(w, w->order[k]);
    log_warn("doer", "exit", "reason=\"the keeper died\"");
    _exit(0);
}

/* ---- Answers ---- */

static const char *op_name(int op)
{
    static const char *const names[] = {
        [HOLD_DO_ARM] = "ARM",         [HOLD_DO_FREEZE] = "FREEZE",
        [HOLD_DO_CAPTURE] = "CAPTURE", [HOLD_DO_RECHECK] = "RECHECK",
        [HOLD_DO_PUBLISH] = "PUBLISH", [HOLD_DO_REMOVE] = "REMOVE",
    };
    if (op >= 0 && op < (int)ARRAY_LEN(names))
        return names[op];
    return op == DOER_DROP ? "DROP" : "OTHER";
}

static void say(struct work *w, struct doer_result *r, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = r, .iov_len = sizeof(*r)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    failpoint("done", op_name(r->op));
    while (sendmsg(w->socket, &msg, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

/* Puts the outcome into *r; takes the error over. */
static void conclude(struct doer_result *r, struct err *e)
{
    r->ok = e == NULL;
    if (!e)
        return;
    AUTO(str) char *text = err_text(e);
    r->kind = e->kind;
    snprintf(r->text, sizeof(r->text), "%s", text);
    err_free(e);
}

static void finish(struct work *w, int op, unsigned index, struct err *e)
{
    struct doer_result r = {.op = op, .index = index, .at_ns = clock_ns()};
    conclude(&r, e);
    say(w, &r, -1);
}

/* ---- Requests ---- */

static void do_resolve(struct work *w, const struct doer_request *q)
{
    for (unsigned i = 0; i < q->n; i++) {
        const struct config_partition *p = &w->config->partitions[q->parts[i]];
        struct doer_result r = {.op = DOER_MEMBER, .index = i};
        r.hold_kind = quiesce_of(p->quiesce.method)->kind;
        conclude(&r, place_domain(w->config, p, &r.domain));
        say(w, &r, -1);
    }
    finish(w, DOER_RESOLVE, 0, NULL);
}

/* Opens every domain and hands the keeper what it will thaw it with. */
static void arm_domains(struct work *w)
{
    for (unsigned i = 0; i < w->prepare.n_domains; i++) {
        struct doer_result r = {.op = DOER_DOMAIN, .index = i};
        conclude(&r, prepare_domain(&w->prepare, i));
        if (!r.ok)
            quiesce_close(&w->domains[i]);
        if (w->domains[i].target)
            snprintf(r.target, sizeof(r.target), "%s", w->domains[i].target);
        say(w, &r, w->domains[i].thaw_fd);
    }
}

static struct err *arm_member(struct work *w, unsigned i, struct prepare_cost *cost)
{
    /* Already said by its domain's result. */
    uint16_t domain = w->prepare.domain_of[i];
    if (domain >= w->prepare.n_domains || w->domains[domain].ops == NULL)
        return err_new(ERR_CONFLICT, "its domain could not be opened");
    return prepare_member(&w->prepare, i, cost);
}

static void do_arm(struct work *w, const struct doer_request *q)
{
    lookout_end(w->lookout);
    w->prepare = (struct prepare){.config = w->config,
                                  .n_members = q->n,
                                  .n_domains = q->n_domains,
                                  .domains = w->domains,
                                  .agent_pid = q->agent_pid,
                                  .hold_ms = q->hold_ms};
    w->n_order = 0;
    for (unsigned i = 0; i < q->n; i++) {
        w->prepare.members[i] = &w->config->partitions[q->parts[i]];
        w->prepare.domain_of[i] = q->domain_of[i];
    }
    arm_domains(w);
    for (unsigned i = 0; i < q->n; i++) {
        struct doer_result r = {.op = DOER_MEMBER, .index = i};
        struct prepare_cost cost = {0};
        conclude(&r, arm_member(w, i, &cost));
        r.flush_ms = cost.flush_ms;
        r.capture_ms = cost.capture_ms;
        r.dirty_bytes = cost.dirty_bytes;
        say(w, &r, -1);
    }
    finish(w, HOLD_DO_ARM, 0, NULL);
}

static void do_freeze(struct work *w, const struct doer_request *q)
{
    struct quiesce *d = &w->domains[q->index];
    struct doer_result r = {.op = HOLD_DO_FREEZE, .index = q->index};
    w->order[w->n_order] = (uint8_t)q->index;
    w->in_call = (int)q->index;
    w->n_order++;
    struct err *e = w->orphan ? err_new(ERR_CANCELLED, "the keeper died")
                              : d->ops->freeze(d, q->until_ms, &r.undo);
    w->in_call = NOT_IN_CALL;
    while (w->orphan)
        pause(); /* the watcher ends this process */
    r.undo |= e == NULL;
    r.at_ns = clock_ns();
    if (!e) /* writers that opened since Prepare */
        lookout_begin(w->lookout, q->index);
    conclude(&r, e);
    say(w, &r, -1);
}

static struct err *capture(const struct work *w, const struct doer_request *q, bool *made)
{
    AUTO(fd) int source = -1;
    TRY(prepare_open(&w->prepare, q->index, &source));
    return capture_take(&w->config->partitions[q->part], source, q->id, made);
}

static void do_capture(struct work *w, const struct doer_request *q)
{
    struct doer_result r = {.op = q->op, .index = q->index};
    conclude(&r, capture(w, q, &r.undo));
    r.at_ns = clock_ns();
    say(w, &r, -1);
}

/* The domain is thawed: only now may the search for other writers be waited for. */
static struct err *publish(struct work *w, const struct doer_request *q)
{
    const struct config_partition *p = &w->config->partitions[q->part];
    if (p->quiesce.method == CONFIG_CGROUP)
        TRY(lookout_result(w->lookout, w->prepare.domain_of[q->index]));
    return capture_publish(p, q->id);
}

struct listing {
    struct work *work;
    uint16_t part;
};

/* Ids end with the partition's name: that tells apart those that share a folder. */
static uint16_t owner_of(const struct config *c, uint16_t part, const char *id)
{
    const char *dir = c->partitions[part].capture.dir;
    size_t n = strlen(id);
    for (size_t i = 0; i < c->n_partitions; i++) {
        size_t k = strlen(c->partitions[i].name);
        if (strcmp(c->partitions[i].capture.dir, dir) == 0 && n > k &&
            id[n - k - 1] == '.' && strcmp(id + n - k, c->partitions[i].name) == 0)
            return (uint16_t)i;
    }
    return part;
}

static struct err *say_capture(void *ctx, const char *id, bool partial)
{
    const struct listing *l = ctx;
    struct doer_result r = {.op = DOER_CAPTURE,
                            .ok = true,
                            .part = owner_of(l->work->config, l->part, id),
                            .partial = partial};
    snprintf(r.id, sizeof(r.id), "%s", id);
    say(l->work, &r, -1);
    return NULL;
}

/* Folders are shared by partitions that say so: each is listed once. */
static bool dir_was_listed(const struct config *c, size_t part)
{
    for (size_t i = 0; i < part; i++)
        if (strcmp(c->partitions[i].capture.dir, c->partitions[part].capture.dir) == 0)
            return true;
    return false;
}

static void do_list(struct work *w)
{
    struct err *e = NULL;
    for (size_t i = 0; !e && i < w->config->n_partitions; i++) {
        struct listing l = {.work = w, .part = (uint16_t)i};
        if (!dir_was_listed(w->config, i))
            e = capture_each(&w->config->partitions[i], say_capture, &l);
    }
    finish(w, DOER_LIST, 0, e);
}

/* Writers wait for some of it. A snapshot takes a moment; a whole copy would keep
 * everybody else from a processor. */
static enum urgency urgency_of(const struct work *w, const struct doer_request *q)
{
    const struct config_partition *p = &w->config->partitions[q->part];
    switch (q->op) {
    case HOLD_DO_FREEZE:
    case HOLD_DO_RECHECK:
        return URGENCY_HOLD;
    case HOLD_DO_CAPTURE:
        return p->capture.method == CONFIG_BTRFS ? URGENCY_HOLD : URGENCY_COPY;
    case HOLD_DO_ARM:
    case DOER_RESOLVE:
        return URGENCY_COPY;
    default:
        return URGENCY_CHORE;
    }
}

static void serve(struct work *w, const struct doer_request *q)
{
    const struct config_partition *p = &w->config->partitions[q->part];
    urgency_set(urgency_of(w, q));
    failpoint("doer", op_name(q->op));
    switch (q->op) {
    case DOER_RESOLVE:
        do_resolve(w, q);
        break;
    case HOLD_DO_ARM:
        do_arm(w, q);
        break;
    case HOLD_DO_FREEZE:
        do_freeze(w, q);
        break;
    case HOLD_DO_CAPTURE:
        do_capture(w, q);
        break;
    case HOLD_DO_RECHECK:
        finish(w, q->op, q->index,
               w->domains[q->index].ops->recheck(&w->domains[q->index]));
        break;
    case HOLD_DO_PUBLISH:
        finish(w, q->op, q->index, publish(w, q));
        break;
    case HOLD_DO_REMOVE:
        finish(w, q->op, q->index, capture_remove(p, q->id, q->named));
        break;
    case DOER_DROP:
        finish(w, q->op, q->index, capture_remove(p, q->id, true));
        break;
    case DOER_LIST:
        do_list(w);
        break;
    }
}

/* Forgets the domains of the last hold; nothing of it is frozen any more. */
static void reset(struct work *w)
{
    lookout_end(w->lookout);
    w->n_order = 0;
    for (unsigned i = 0; i < w->prepare.n_domains; i++)
        quiesce_close(&w->domains[i]);
    w->prepare.n_domains = 0;
}

void doer_work(const struct config *config, struct doer_shared *shared, int socket,
               int keeper_pidfd)
{
    static struct work w;
    w = (struct work){.config = config,
                      .shared = shared,
                      .socket = socket,
                      .keeper_pidfd = keeper_pidfd,
                      .in_call = NOT_IN_CALL};
    urgency_set(URGENCY_COPY); /* the threads' too */
    w.lookout = lookout_new(&w.prepare);
    /* Deep trees hold two descriptors for each folder above. */
    struct rlimit files = {.rlim_cur = 16384, .rlim_max = 16384};
    setrlimit(RLIMIT_NOFILE, &files);
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, watch_keeper, &w) != 0)
        abort();
    struct doer_request q;
    for (;;) {
        ssize_t n = recv(socket, &q, sizeof(q), 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
        if (n != (ssize_t)sizeof(q))
            continue;
        if (q.op == DOER_RESET)
            reset(&w);
        serve(&w, &q);
    }
    for (;;)
        pause(); /* the keeper is gone: the watcher ends this process */
}
