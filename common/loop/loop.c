#include "common/loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"

enum { LOOP_EVENTS = 64 };

struct post {
    loop_fn *fn;
    void *arg;
};

struct watch {
    int fd;
    loop_fd_fn *fn;
    void *arg;
    struct watch *next;
};

struct loop {
    int epoll_fd;
    int wake_fd;
    int signal_fd; /* -1 until loop_signals */
    loop_signal_fn *signal_fn;
    void *signal_arg;
    struct watch *watches;
    struct watch *dead; /* unwatched during this turn; freed at its end */
    struct loop_timer *timers;

    pthread_mutex_t lock; /* guards posts, n_posts, cap and stopping */
    struct post *posts;
    size_t n_posts;
    size_t cap;
    bool stopping;
};

int64_t loop_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t loop_now_ms(void)
{
    return loop_now_ns() / 1000000;
}

static void drain_wake(void *arg, uint32_t events)
{
    struct loop *l = arg;
    (void)events;
    uint64_t n;
    ssize_t got = read(l->wake_fd, &n, sizeof n);
    (void)got; /* EAGAIN: somebody drained it already */
}

static void wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t put = write(l->wake_fd, &one, sizeof one);
    (void)put; /* EAGAIN: the counter is far above zero, so the loop wakes anyway */
}

struct err *loop_new(struct loop **out)
{
    AUTO(loop) struct loop *l = mem_zalloc(sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    l->wake_fd = l->signal_fd = -1;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll_fd < 0)
        return err_os(errno, "epoll_create1");
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0)
        return err_os(errno, "eventfd");
    TRY(loop_watch(l, l->wake_fd, EPOLLIN, drain_wake, l));
    *out = STEAL(l);
    return NULL;
}

static void free_watches(struct watch **list)
{
    while (*list) {
        struct watch *w = *list;
        *list = w->next;
        free(w);
    }
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    free_watches(&l->watches);
    free_watches(&l->dead);
    if (l->signal_fd >= 0)
        close(l->signal_fd);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    pthread_mutex_destroy(&l->lock);
    free(l->posts);
    free(l);
}

void loop_post(struct loop *l, loop_fn *fn, void *arg)
{
    pthread_mutex_lock(&l->lock);
    mem_reserve((void **)&l->posts, &l->cap, l->n_posts, sizeof *l->posts);
    l->posts[l->n_posts++] = (struct post){fn, arg};
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

void loop_stop(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms, loop_fn *fn,
                    void *arg)
{
    assert(delay_ms >= 0);
    loop_timer_cancel(l, t);
    *t = (struct loop_timer){loop_now_ms() + delay_ms, fn, arg, NULL, 1};
    struct loop_timer **at = &l->timers;
    while (*at && (*at)->at_ms <= t->at_ms)
        at = &(*at)->next;
    t->next = *at;
    *at = t;
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    if (!t->armed)
        return;
    struct loop_timer **at = &l->timers;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->armed = 0;
}

struct err *loop_watch(struct loop *l, int fd, uint32_t epoll_events, loop_fd_fn *fn,
                       void *arg)
{
    struct watch *w = mem_zalloc(sizeof *w);
    *w = (struct watch){fd, fn, arg, l->watches};
    struct epoll_event ev = {.events = epoll_events, .data.ptr = w};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        int os = errno;
        free(w);
        return err_os(os, "watch descriptor %d", fd);
    }
    l->watches = w;
    return NULL;
}

void loop_unwatch(struct loop *l, int fd)
{
    struct watch **at = &l->watches;
    while (*at && (*at)->fd != fd)
        at = &(*at)->next;
    if (!*at)
        return;
    struct watch *w = *at;
    *at = w->next;
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    w->fn = NULL; /* an event of this turn may still point here */
    w->next = l->dead;
    l->dead = w;
}

static void on_signal(void *arg, uint32_t events)
{
    struct loop *l = arg;
    (void)events;
    struct signalfd_siginfo info;
    while (read(l->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        l->signal_fn(l->signal_arg, (int)info.ssi_signo);
}

struct err *loop_signals(struct loop *l, loop_signal_fn *fn, void *arg)
{
    assert(l->signal_fd < 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    l->signal_fn = fn;
    l->signal_arg = arg;
    l->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (l->signal_fd < 0)
        return err_os(errno, "signalfd");
    return loop_watch(l, l->signal_fd, EPOLLIN, on_signal, l);
}

static void fire_timers(struct loop *l)
{
    /* Only what is due now: a timer that re-arms itself with 0 must not starve the rest.
     */
    int64_t now = loop_now_ms();
    struct loop_timer *due = l->timers;
    struct loop_timer **end = &l->timers;
    while (*end && (*end)->at_ms <= now)
        end = &(*end)->next;
    size_t n = 0;
    for (struct loop_timer *t = due; t != *end; t = t->next)
        n++;
    for (; n > 0 && l->timers && l->timers->at_ms <= now; n--) {
        struct loop_timer *t = l->timers;
        l->timers = t->next;
        t->armed = 0;
        t->fn(t->arg);
    }
}

/* Returns false when the loop shall end. */
static bool run_posts(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    struct post *posts = l->posts;
    size_t n = l->n_posts;
    bool stopping = l->stopping;
    l->posts = NULL;
    l->n_posts = l->cap = 0;
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < n; i++)
        posts[i].fn(posts[i].arg);
    free(posts);
    return !stopping;
}

static int wait_ms(const struct loop *l)
{
    if (!l->timers)
        return -1;
    int64_t left = l->timers->at_ms - loop_now_ms();
    return left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
}

void loop_run(struct loop *l)
{
    while (run_posts(l)) {
        struct epoll_event evs[LOOP_EVENTS];
        int n = epoll_wait(l->epoll_fd, evs, LOOP_EVENTS, wait_ms(l));
        assert(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
            struct watch *w = evs[i].data.ptr;
            if (w->fn)
                w->fn(w->arg, evs[i].events);
        }
        free_watches(&l->dead);
        fire_timers(l);
    }
    pthread_mutex_lock(&l->lock);
    l->stopping = false; /* so that it can run again */
    pthread_mutex_unlock(&l->lock);
}
