#include "common/rpc/queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/mem.h"

/* gRPC is not instrumented: tell the race detector that a tag orders its two ends. */
#if defined(__SANITIZE_THREAD__)
#define QUEUE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define QUEUE_TSAN 1
#endif
#endif
#ifdef QUEUE_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define TAG_ACQUIRE(t) __tsan_acquire(t)
#define TAG_RELEASE(t) __tsan_release(t)
#else
#define TAG_ACQUIRE(t) ((void)(t))
#define TAG_RELEASE(t) ((void)(t))
#endif

enum { QUEUE_THREADS_MAX = 8 };

struct rpc_queue {
    struct loop *loop;
    grpc_completion_queue *cq;
    int event_fd;
    int n_threads;
    pthread_t threads[QUEUE_THREADS_MAX];
    int armed; /* loop thread only */

    pthread_mutex_t lock; /* guards first and last */
    pthread_cond_t ready;
    struct rpc_tag *first;
    struct rpc_tag *last;
};

static void push(struct rpc_queue *q, struct rpc_tag *t)
{
    t->next = NULL;
    pthread_mutex_lock(&q->lock);
    bool was_empty = !q->first;
    if (was_empty)
        q->first = t;
    else
        q->last->next = t;
    q->last = t;
    pthread_cond_signal(&q->ready);
    pthread_mutex_unlock(&q->lock);
    uint64_t one = 1;
    if (was_empty && write(q->event_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN); /* far above zero: the loop wakes anyway */
}

static void *run(void *arg)
{
    struct rpc_queue *q = arg;
    for (;;) {
        grpc_event ev =
            grpc_completion_queue_next(q->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (ev.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        assert(ev.type == GRPC_OP_COMPLETE);
        struct rpc_tag *t = ev.tag;
        TAG_ACQUIRE(t);
        t->ok = ev.success;
        if (t->decode)
            t->decode(t->owner);
        push(q, t);
    }
}

static void run_ready(struct rpc_queue *q)
{
    pthread_mutex_lock(&q->lock);
    struct rpc_tag *t = q->first;
    q->first = q->last = NULL;
    pthread_mutex_unlock(&q->lock);
    while (t) {
        struct rpc_tag *next = t->next; /* fn may free the owner, or arm the tag again */
        q->armed--;
        t->fn(t->owner, t->ok);
        t = next;
    }
}

static void on_event(void *arg, uint32_t events)
{
    struct rpc_queue *q = arg;
    (void)events;
    uint64_t n;
    if (read(q->event_fd, &n, sizeof n) < 0)
        assert(errno == EAGAIN);
    run_ready(q);
}

void rpc_queue_wait(struct rpc_queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (!q->first)
        pthread_cond_wait(&q->ready, &q->lock);
    pthread_mutex_unlock(&q->lock);
    run_ready(q);
}

static void start_threads(struct rpc_queue *q, int threads)
{
    /* Signals are the loop's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (; q->n_threads < threads; q->n_threads++) {
        int os = pthread_create(&q->threads[q->n_threads], NULL, run, q);
        assert(os == 0);
        pthread_setname_np(q->threads[q->n_threads], "rpc");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct err *rpc_queue_new(struct loop *loop, int threads, struct rpc_queue **out)
{
    assert(threads > 0 && threads <= QUEUE_THREADS_MAX);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_os(errno, "eventfd");
    struct rpc_queue *q = mem_zalloc(sizeof *q);
    q->loop = loop;
    q->event_fd = fd;
    struct err *e = loop_watch(loop, fd, EPOLLIN, on_event, q);
    if (e) {
        close(fd);
        free(q);
        return e;
    }
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->ready, NULL);
    q->cq = grpc_completion_queue_create_for_next(NULL);
    start_threads(q, threads);
    *out = q;
    return NULL;
}

void rpc_queue_free(struct rpc_queue *q)
{
    if (!q)
        return;
    assert(q->armed == 0);
    grpc_completion_queue_shutdown(q->cq);
    for (int i = 0; i < q->n_threads; i++)
        pthread_join(q->threads[i], NULL);
    grpc_completion_queue_destroy(q->cq);
    loop_unwatch(q->loop, q->event_fd);
    close(q->event_fd);
    pthread_cond_destroy(&q->ready);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

grpc_completion_queue *rpc_queue_cq(struct rpc_queue *q)
{
    return q->cq;
}

void rpc_tag_arm(struct rpc_queue *q, struct rpc_tag *t, void (*fn)(void *, bool),
                 void (*decode)(void *), void *owner)
{
    *t = (struct rpc_tag){.fn = fn, .decode = decode, .owner = owner};
    q->armed++;
    TAG_RELEASE(t);
}

void rpc_batch(struct rpc_queue *q, grpc_call *call, const grpc_op *ops, size_t n,
               struct rpc_tag *t, void (*fn)(void *, bool), void (*decode)(void *),
               void *owner)
{
    rpc_tag_arm(q, t, fn, decode, owner);
    grpc_call_error rc = grpc_call_start_batch(call, ops, n, t, NULL);
    assert(rc == GRPC_CALL_OK);
}

int rpc_queue_armed(const struct rpc_queue *q)
{
    return q->armed;
}
