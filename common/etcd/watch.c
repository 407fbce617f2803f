#include "common/etcd/watch.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/etcd/call.h"
#include "common/etcd/json.h"
#include "common/obs/log.h"

enum {
    CONNECT_MS = 1500,
    /* A stream that says nothing is opened anew: a member cut off from the others would
     * be silent for ever. */
    SILENCE_MS = 60000,
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 3000,
};

struct batch {
    struct etcd_event *events; /* own their kvs */
    size_t n, cap;
    int64_t revision;
};

struct etcd_watch {
    struct etcd *etcd;
    struct loop *loop;
    char *prefix;
    etcd_watch_fn *fn;
    void *arg;
    pthread_t thread;
    struct http *http;
    int event_fd; /* tells the loop of a batch */

    /* the thread's own */
    int64_t next_revision; /* 0: list first */
    size_t endpoint;
    struct buf line;
    struct err *broken; /* why the stream must end */
    bool is_created;    /* the stream stands */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct batch *batch; /* waiting for the loop, which then sets it to NULL */
    bool closing;
};

/* --- to the loop -------------------------------------------------------------------- */

static void batch_fini(struct batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        etcd_kv_fini(&b->events[i].kv);
    free(b->events);
    *b = (struct batch){0};
}

static struct etcd_event *batch_add(struct batch *b, enum etcd_event_kind kind)
{
    mem_reserve((void **)&b->events, &b->cap, b->n, sizeof *b->events);
    struct etcd_event *ev = &b->events[b->n++];
    *ev = (struct etcd_event){.kind = kind};
    return ev;
}

/* Loop thread. */
static void on_batch(void *arg, uint32_t epoll_events)
{
    struct etcd_watch *w = arg;
    (void)epoll_events;
    uint64_t n;
    if (read(w->event_fd, &n, sizeof n) < 0)
        return;
    pthread_mutex_lock(&w->lock);
    struct batch *b = w->batch;
    pthread_mutex_unlock(&w->lock);
    if (!b)
        return;
    w->fn(w->arg, b->events, b->n, b->revision);
    pthread_mutex_lock(&w->lock);
    w->batch = NULL;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* Waits until the loop has seen the batch; false when closing. */
static bool deliver(struct etcd_watch *w, struct batch *b)
{
    pthread_mutex_lock(&w->lock);
    w->batch = b;
    uint64_t one = 1;
    if (write(w->event_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN);
    while (w->batch && !w->closing)
        pthread_cond_wait(&w->changed, &w->lock);
    bool seen = !w->batch;
    w->batch = NULL;
    pthread_mutex_unlock(&w->lock);
    return seen;
}

static bool is_closing(struct etcd_watch *w)
{
    pthread_mutex_lock(&w->lock);
    bool closing = w->closing;
    pthread_mutex_unlock(&w->lock);
    return closing;
}

static void pause_ms(struct etcd_watch *w, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&w->lock);
    while (!w->closing &&
           pthread_cond_timedwait(&w->changed, &w->lock, &until) != ETIMEDOUT)
        continue;
    pthread_mutex_unlock(&w->lock);
}

/* --- the list that a watch begins with ---------------------------------------------- */

static struct err *list(struct etcd_watch *w)
{
    struct etcd_range r;
    TRY(etcd_list(w->etcd, w->prefix, 0, 0, &r));
    struct batch b = {.revision = r.revision};
    batch_add(&b, ETCD_RESET);
    for (size_t i = 0; i < r.n; i++) {
        batch_add(&b, ETCD_PUT)->kv = r.kvs[i];
        r.kvs[i] = (struct etcd_kv){0};
    }
    batch_add(&b, ETCD_SYNCED);
    if (deliver(w, &b))
        w->next_revision = r.revision + 1;
    batch_fini(&b);
    etcd_range_fini(&r);
    return NULL;
}

/* --- the stream --------------------------------------------------------------------- */

static struct err *read_event(const json_t *o, struct batch *b)
{
    const char *type = json_string_value(json_object_get(o, "type"));
    bool is_delete = type && strcmp(type, "DELETE") == 0;
    if (type && !is_delete && strcmp(type, "PUT") != 0)
        return err_new(ERR_CORRUPT, "event of unknown type \"%s\"", type);
    struct etcd_event *ev = batch_add(b, is_delete ? ETCD_DELETE : ETCD_PUT);
    return etcd_read_kv(json_object_get(o, "kv"), &ev->kv);
}

static struct err *read_events(struct etcd_watch *w, const json_t *events,
                               struct batch *b)
{
    for (size_t i = 0; i < json_array_size(events); i++) {
        TRY(read_event(json_array_get(events, i), b));
        int64_t at = b->events[b->n - 1].kv.mod_revision;
        if (at < w->next_revision)
            return err_new(ERR_CORRUPT, "event of revision %lld came after %lld",
                           (long long)at, (long long)w->next_revision - 1);
        if (at > b->revision)
            b->revision = at;
    }
    return NULL;
}

static struct err *handle_events(struct etcd_watch *w, const json_t *events)
{
    struct batch b = {0};
    struct err *err = read_events(w, events, &b);
    if (!err && deliver(w, &b))
        w->next_revision = b.revision + 1;
    batch_fini(&b);
    return err;
}

static struct err *handle_cancel(struct etcd_watch *w, const json_t *result)
{
    int64_t compacted;
    TRY(etcd_get_number(result, "compact_revision", &compacted));
    if (compacted > 0) {
        w->next_revision = 0; /* what happened in between is lost: list again */
        return err_new(ERR_CONFLICT, "history before revision %lld is gone",
                       (long long)compacted);
    }
    const char *reason = json_string_value(json_object_get(result, "cancel_reason"));
    return err_new(ERR_UNAVAILABLE, "etcd ended the watch: %s", reason ? reason : "?");
}

static struct err *handle(struct etcd_watch *w, const char *text, size_t len)
{
    json_error_t why;
    AUTO(etcd_json) json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(o))
        return err_new(ERR_CORRUPT, "the stream is no JSON: %s", why.text);
    TRY(etcd_reply_error(o, ETCD_REPEATABLE));
    const json_t *result = json_object_get(o, "result");
    const json_t *events = json_object_get(result, "events");
    int64_t revision;
    TRY(etcd_get_number(json_object_get(result, "header"), "revision", &revision));
    if (json_is_true(json_object_get(result, "canceled")))
        return handle_cancel(w, result);
    if (json_is_true(json_object_get(result, "created")))
        w->is_created = true;
    else if (json_array_size(events) > 0)
        return handle_events(w, events);
    else if (revision >= w->next_revision)
        w->next_revision = revision + 1; /* progress: nothing was missed until there */
    return NULL;
}

/* The body as it arrives: whole lines are handled, the rest waits. */
static bool on_body(void *arg, const char *bytes, size_t n)
{
    struct etcd_watch *w = arg;
    while (n > 0 && !w->broken && !is_closing(w)) {
        const char *end = memchr(bytes, '\n', n);
        size_t take = end ? (size_t)(end - bytes) : n;
        buf_add(&w->line, bytes, take);
        if (w->line.len > ETCD_REPLY_BYTES)
            w->broken =
                err_new(ERR_LIMIT, "an event is larger than %d bytes", ETCD_REPLY_BYTES);
        else if (end && w->line.len > 0)
            w->broken = handle(w, w->line.data, w->line.len);
        if (end)
            buf_clear(&w->line);
        bytes += take + (end != NULL);
        n -= take + (end != NULL);
    }
    return !w->broken && !is_closing(w);
}

static char *watch_request(const struct etcd_watch *w)
{
    AUTO(etcd_json) json_t *body = json_object();
    json_t *create = json_object();
    json_object_set_new(body, "create_request", create);
    etcd_set_prefix(create, w->prefix);
    etcd_set_number(create, "start_revision", w->next_revision);
    json_object_set_new(create, "progress_notify", json_true());
    return json_dumps(body, JSON_COMPACT);
}

static struct err *stream(struct etcd_watch *w)
{
    size_t endpoint = w->endpoint % w->etcd->n_endpoints;
    AUTO(str) char *authorization = NULL;
    TRY(etcd_authorization(w->etcd, w->http, endpoint, &authorization));
    AUTO(str) char *url = mem_printf("%s/v3/watch", w->etcd->endpoints[endpoint]);
    AUTO(str) char *text = watch_request(w);
    /* With a leader only: a member that is cut off would show an old state as new. */
    const char *headers[] = {"Content-Type: application/json",
                             "Grpc-Metadata-hasleader: true", authorization, NULL};
    struct http_request req = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .body = text,
        .body_len = strlen(text),
        .is_repeatable = true,
        .connect_ms = CONNECT_MS,
        .idle_ms = SILENCE_MS,
        .on_body = on_body,
        .on_body_arg = w,
    };
    buf_clear(&w->line);
    w->is_created = false;
    struct http_reply reply;
    struct err *err = http_do(w->http, &req, &reply);
    /* An error reply has no newline at its end. */
    if (!err && w->line.len > 0)
        err = handle(w, w->line.data, w->line.len);
    if (w->broken) {
        err_free(err);
        err = STEAL(w->broken);
    }
    http_reply_fini(&reply);
    return err ? err : err_new(ERR_UNAVAILABLE, "'%s' ended the watch", url);
}

/* --- the thread --------------------------------------------------------------------- */

static struct err *once(struct etcd_watch *w)
{
    if (w->next_revision == 0)
        TRY(list(w));
    return is_closing(w) ? NULL : stream(w);
}

static void *run(void *arg)
{
    struct etcd_watch *w = arg;
    int64_t backoff = BACKOFF_MIN_MS;
    while (!is_closing(w)) {
        w->is_created = false;
        struct err *err = once(w);
        if (is_closing(w)) {
            err_free(err);
            break;
        }
        if (err && err->kind == ERR_DENIED)
            etcd_token_forget(w->etcd, w->endpoint % w->etcd->n_endpoints);
        bool compacted = err && err->kind == ERR_CONFLICT;
        log_err(LOG_LEVEL_WARN, "etcd", "watch-again", err);
        w->endpoint++;
        backoff = w->is_created ? BACKOFF_MIN_MS : backoff * 2;
        if (backoff > BACKOFF_MAX_MS)
            backoff = BACKOFF_MAX_MS;
        if (!compacted)
            pause_ms(w, backoff);
    }
    return NULL;
}

static void start_thread(struct etcd_watch *w)
{
    /* Signals are the loop's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int os = pthread_create(&w->thread, NULL, run, w);
    assert(os == 0);
    pthread_setname_np(w->thread, "etcd-watch");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void init_locks(struct etcd_watch *w)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&w->lock, NULL);
}

struct etcd_watch *etcd_watch_open(struct etcd *e, struct loop *loop, const char *prefix,
                                   etcd_watch_fn *fn, void *arg)
{
    struct etcd_watch *w = mem_zalloc(sizeof *w);
    w->etcd = e;
    w->loop = loop;
    w->prefix = mem_strdup(prefix);
    w->fn = fn;
    w->arg = arg;
    w->endpoint = atomic_load(&e->preferred);
    w->http = etcd_http_new(e);
    w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct err *err = w->event_fd < 0
                          ? err_os(errno, "eventfd")
                          : loop_watch(loop, w->event_fd, EPOLLIN, on_batch, w);
    assert(!err); /* no descriptors at start: nothing would work */
    init_locks(w);
    start_thread(w);
    return w;
}

void etcd_watch_close(struct etcd_watch *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    http_abort(w->http);
    pthread_join(w->thread, NULL);
    loop_unwatch(w->loop, w->event_fd);
    close(w->event_fd);
    http_free(w->http);
    buf_fini(&w->line);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->prefix);
    free(w);
}
