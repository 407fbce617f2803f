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

/* What queues beside one another share. */
struct mover {
    struct loop *loop;
    grpc_completion_queue *cq;
    int event_fd;
    int n_threads;
    pthread_t threads[QUEUE_THREADS_MAX];
    int queues; /* that use it; loop thread only */

    pthread_mutex_t lock; /* guards first and last */
    pthread_cond_t ready;
    struct rpc_tag *first;
    struct rpc_tag *last;
};

struct rpc_queue {
    struct mover *mover;
    int armed; /* loop thread only */
};

static void push(struct mover *m, struct rpc_tag *t)
{
    t->next = NULL;
    pthread_mutex_lock(&m->lock);
    bool was_empty = !m->first;
    if (was_empty)
        m->first = t;
    else
        m->last->next = t;
    m->last = t;
    pthread_cond_signal(&m->ready);
    pthread_mutex_unlock(&m->lock);
    uint64_t one = 1;
    if (was_empty && write(m->event_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN); /* far above zero: the loop wakes anyway */
}

static void *run(void *arg)
{
    struct mover *m = arg;
    for (;;) {
        grpc_event ev =
            grpc_completion_queue_next(m->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (ev.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        assert(ev.type == GRPC_OP_COMPLETE);
        struct rpc_tag *t = ev.tag;
        TAG_ACQUIRE(t);
        t->ok = ev.success;
        if (t->decode)
            t->decode(t->owner);
        push(m, t);
    }
}

static void run_ready(struct mover *m)
{
    pthread_mutex_lock(&m->lock);
    struct rpc_tag *t = m->first;
    m->first = m->last = NULL;
    pthread_mutex_unlock(&m->lock);
    while (t) {
        struct rpc_tag *next = t->next; /* fn may free the owner, or arm the tag again */
        t->queue->armed--;
        t->fn(t->owner, t->ok);
        t = next;
    }
}

static void on_event(void *arg, uint32_t events)
{
    struct mover *m = arg;
    (void)events;
    uint64_t n;
    if (read(m->event_fd, &n, sizeof n) < 0)
        assert(errno == EAGAIN);
    run_ready(m);
}

void rpc_queue_wait(struct rpc_queue *q)
{
    struct mover *m = q->mover;
    pthread_mutex_lock(&m->lock);
    while (!m->first)
        pthread_cond_wait(&m->ready, &m->lock);
    pthread_mutex_unlock(&m->lock);
    run_ready(m);
}

static void start_threads(struct mover *m, int threads)
{
    /* Signals are the loop's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (; m->n_threads < threads; m->n_threads++) {
        int os = pthread_create(&m->threads[m->n_threads], NULL, run, m);
        assert(os == 0);
        pthread_setname_np(m->threads[m->n_threads], "rpc");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static struct rpc_queue *queue_of(struct mover *m)
{
    struct rpc_queue *q = mem_zalloc(sizeof *q);
    q->mover = m;
    m->queues++;
    return q;
}

struct err *rpc_queue_new(struct loop *loop, int threads, struct rpc_queue **out)
{
    assert(threads > 0 && threads <= QUEUE_THREADS_MAX);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_os(errno, "eventfd");
    struct mover *m = mem_zalloc(sizeof *m);
    m->loop = loop;
    m->event_fd = fd;
    struct err *e = loop_watch(loop, fd, EPOLLIN, on_event, m);
    if (e) {
        close(fd);
        free(m);
        return e;
    }
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->ready, NULL);
    m->cq = grpc_completion_queue_create_for_next(NULL);
    start_threads(m, threads);
    *out = queue_of(m);
    return NULL;
}

struct rpc_queue *rpc_queue_beside(struct rpc_queue *other)
{
    return queue_of(other->mover);
}

static void mover_free(struct mover *m)
{
    grpc_completion_queue_shutdown(m->cq);
    for (int i = 0; i < m->n_threads; i++)
        pthread_join(m->threads[i], NULL);
    grpc_completion_queue_destroy(m->cq);
    loop_unwatch(m->loop, m->event_fd);
    close(m->event_fd);
    pthread_cond_destroy(&m->ready);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void rpc_queue_free(struct rpc_queue *q)
{
    if (!q)
        return;
    assert(q->armed == 0);
    if (--q->mover->queues == 0)
        mover_free(q->mover);
    free(q);
}

grpc_completion_queue *rpc_queue_cq(struct rpc_queue *q)
{
    return q->mover->cq;
}

void rpc_tag_arm(struct rpc_queue *q, struct rpc_tag *t, void (*fn)(void *, bool),
                 void (*decode)(void *), void *owner)
{
    *t = (struct rpc_tag){.fn = fn, .decode = decode, .owner = owner, .queue = q};
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
