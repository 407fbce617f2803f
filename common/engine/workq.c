#include "common/engine/workq.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>

#include "common/base/mem.h"

enum { WORKERS_MAX = 16 };

struct seat {
    struct workq *queue;
    unsigned number;
    pthread_t thread;
};

struct workq {
    workq_job *run;
    void *ctx;
    struct seat seats[WORKERS_MAX];
    unsigned workers;   /* threads that started */
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t filled;
    pthread_cond_t emptied;
    void **ring;
    size_t depth;
    size_t head;
    size_t count;   /* waiting jobs */
    size_t running; /* jobs being done */
    bool closed;
};

static void *work(void *arg)
{
    struct seat *seat = arg;
    struct workq *q = seat->queue;
    pthread_mutex_lock(&q->mu);
    for (;;) {
        while (!q->count && !q->closed)
            pthread_cond_wait(&q->filled, &q->mu);
        if (!q->count)
            break;
        void *job = q->ring[q->head];
        q->head = (q->head + 1) % q->depth;
        q->count--;
        q->running++;
        pthread_cond_broadcast(&q->emptied);
        pthread_mutex_unlock(&q->mu);
        q->run(q->ctx, seat->number, job);
        pthread_mutex_lock(&q->mu);
        q->running--;
        pthread_cond_broadcast(&q->emptied);
    }
    pthread_mutex_unlock(&q->mu);
    return NULL;
}

struct err *workq_new(unsigned workers, size_t depth, workq_job *run, void *ctx,
                      struct workq **out)
{
    AUTO(workq) struct workq *q = mem_zalloc(sizeof *q);
    sigset_t all, old;
    q->run = run;
    q->ctx = ctx;
    q->depth = depth;
    q->ring = mem_array(depth, sizeof *q->ring);
    pthread_mutex_init(&q->mu, NULL);
    pthread_cond_init(&q->filled, NULL);
    pthread_cond_init(&q->emptied, NULL);
    /* Signals belong to the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = 0;
    while (!rc && q->workers < workers && q->workers < WORKERS_MAX) {
        struct seat *seat = &q->seats[q->workers];
        *seat = (struct seat){.queue = q, .number = q->workers};
        rc = pthread_create(&seat->thread, NULL, work, seat);
        q->workers += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!q->workers)
        return err_os(rc, "start a thread");
    *out = STEAL(q);
    return NULL;
}

void workq_push(struct workq *q, void *job)
{
    pthread_mutex_lock(&q->mu);
    while (q->count == q->depth)
        pthread_cond_wait(&q->emptied, &q->mu);
    q->ring[(q->head + q->count) % q->depth] = job;
    q->count++;
    pthread_cond_signal(&q->filled);
    pthread_mutex_unlock(&q->mu);
}

void workq_drain(struct workq *q)
{
    pthread_mutex_lock(&q->mu);
    while (q->count || q->running)
        pthread_cond_wait(&q->emptied, &q->mu);
    pthread_mutex_unlock(&q->mu);
}

void workq_free(struct workq *q)
{
    if (!q)
        return;
    pthread_mutex_lock(&q->mu);
    q->closed = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->mu);
    for (unsigned i = 0; i < q->workers; i++)
        pthread_join(q->seats[i].thread, NULL);
    pthread_cond_destroy(&q->filled);
    pthread_cond_destroy(&q->emptied);
    pthread_mutex_destroy(&q->mu);
    free(q->ring);
    free(q);
}

unsigned workq_workers(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 2;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned)n;
}
