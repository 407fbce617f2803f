#include "common/loop/pool.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/mem.h"

struct job {
    loop_fn *work;
    loop_fn *done;
    void *arg;
    struct job *next;
};

struct pool {
    struct loop *loop;
    int n_threads;
    int nice;
    pthread_t *threads;

    pthread_mutex_t lock; /* guards first, last and stopping */
    pthread_cond_t ready;
    struct job *first;
    struct job *last;
    bool stopping;
};

static struct job *take(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    while (!p->first && !p->stopping)
        pthread_cond_wait(&p->ready, &p->lock);
    struct job *j = p->stopping ? NULL : p->first;
    if (j) {
        p->first = j->next;
        if (!p->first)
            p->last = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    return j;
}

static void *run(void *arg)
{
    struct pool *p = arg;
    struct job *j;
    if (p->nice) /* a thread has its own on Linux; if it may not, all goes on as before */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), p->nice);
    while ((j = take(p)) != NULL) {
        j->work(j->arg);
        loop_post(p->loop, j->done, j->arg);
        free(j);
    }
    return NULL;
}

struct pool *pool_new(struct loop *loop, const char *name, int threads)
{
    return pool_new_nice(loop, name, threads, 0);
}

struct pool *pool_new_nice(struct loop *loop, const char *name, int threads, int nice)
{
    assert(threads > 0 && nice >= 0);
    struct pool *p = mem_zalloc(sizeof *p);
    p->loop = loop;
    p->nice = nice;
    p->n_threads = threads;
    p->threads = mem_array((size_t)threads, sizeof *p->threads);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->ready, NULL);
    /* Signals are the loop's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (int i = 0; i < threads; i++) {
        int os = pthread_create(&p->threads[i], NULL, run, p);
        assert(os == 0);
        pthread_setname_np(p->threads[i], name);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return p;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->ready);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    while (p->first) {
        struct job *j = p->first;
        p->first = j->next;
        loop_post(p->loop, j->done, j->arg);
        free(j);
    }
    pthread_cond_destroy(&p->ready);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}

void pool_submit(struct pool *p, loop_fn *work, loop_fn *done, void *arg)
{
    struct job *j = mem_zalloc(sizeof *j);
    *j = (struct job){work, done, arg, NULL};
    pthread_mutex_lock(&p->lock);
    if (p->last)
        p->last->next = j;
    else
        p->first = j;
    p->last = j;
    pthread_cond_signal(&p->ready);
    pthread_mutex_unlock(&p->lock);
}
