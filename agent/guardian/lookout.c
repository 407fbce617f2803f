#include "agent/guardian/lookout.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/guardian/place.h"
#include "agent/guardian/writers.h"
#include "common/base/mem.h"

enum look { LOOK_NOT, LOOK_WANTED, LOOK_DONE };

struct lookout {
    const struct prepare *prepare;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    pid_t thread;   /* 0: not running yet */
    bool may_yield; /* it could take its turn again, having given it up */
    enum look state[HOLD_MAX_DOMAINS];
    struct err *found[HOLD_MAX_DOMAINS]; /* owned; NULL: nobody */
};

static struct err *look_at(const struct prepare *p, unsigned domain)
{
    for (unsigned i = 0; i < p->n_members; i++) {
        const struct config_partition *m = p->members[i];
        if (p->domain_of[i] == domain && m->quiesce.method == CONFIG_CGROUP)
            TRY(writers_check(m, place_domain_cgroup(p->config, m)));
    }
    return NULL;
}

/* The first domain in that state, or HOLD_MAX_DOMAINS. */
static unsigned find(const struct lookout *l, enum look state)
{
    unsigned i = 0;
    while (i < HOLD_MAX_DOMAINS && l->state[i] != state)
        i++;
    return i;
}

/* Without the right to be as urgent as it was, a thread that yields would do so for ever:
 * tried with the least that can be lost. */
static bool can_yield_and_return(void)
{
    int own = getpriority(PRIO_PROCESS, 0); /* the thread's */
    return setpriority(PRIO_PROCESS, 0, own + 1) == 0 &&
           setpriority(PRIO_PROCESS, 0, own) == 0;
}

static void *watch(void *arg)
{
    struct lookout *l = arg;
    pthread_mutex_lock(&l->mu);
    l->thread = gettid();
    l->may_yield = can_yield_and_return();
    for (;;) {
        unsigned i = find(l, LOOK_WANTED);
        if (i == HOLD_MAX_DOMAINS) {
            pthread_cond_wait(&l->changed, &l->mu);
            continue;
        }
        pthread_mutex_unlock(&l->mu);
        struct err *e = look_at(l->prepare, i);
        pthread_mutex_lock(&l->mu);
        l->found[i] = e;
        l->state[i] = LOOK_DONE;
        pthread_cond_broadcast(&l->changed);
    }
    return NULL;
}

struct lookout *lookout_new(const struct prepare *p)
{
    struct lookout *l = mem_zalloc(sizeof(*l));
    l->prepare = p;
    pthread_mutex_init(&l->mu, NULL);
    pthread_cond_init(&l->changed, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, l) != 0)
        abort();
    pthread_detach(thread);
    return l;
}

/* While something stands still, whoever freezes and captures comes first, here and in
 * other guardians; who is waited for takes its turn. */
static void yield(const struct lookout *l, bool others_first)
{
    if (l->may_yield)
        sched_setscheduler(l->thread, others_first ? SCHED_IDLE : SCHED_OTHER,
                           &(struct sched_param){0});
}

void lookout_begin(struct lookout *l, unsigned domain)
{
    pthread_mutex_lock(&l->mu);
    l->state[domain] = LOOK_WANTED;
    yield(l, true);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mu);
}

struct err *lookout_result(struct lookout *l, unsigned domain)
{
    struct err *e = NULL;
    pthread_mutex_lock(&l->mu);
    yield(l, false);
    while (l->state[domain] == LOOK_WANTED)
        pthread_cond_wait(&l->changed, &l->mu);
    if (l->state[domain] == LOOK_NOT) {
        e = err_new(ERR_CONFLICT, "the search for other writers ended with the process "
                                  "that made it; take the set again");
    } else if (l->found[domain]) {
        AUTO(str) char *text = err_text(l->found[domain]);
        e = err_new(l->found[domain]->kind, "%s", text);
    }
    pthread_mutex_unlock(&l->mu);
    return e;
}

void lookout_end(struct lookout *l)
{
    pthread_mutex_lock(&l->mu);
    yield(l, false);
    while (find(l, LOOK_WANTED) < HOLD_MAX_DOMAINS)
        pthread_cond_wait(&l->changed, &l->mu);
    for (unsigned i = 0; i < HOLD_MAX_DOMAINS; i++) {
        err_free(l->found[i]);
        l->found[i] = NULL;
        l->state[i] = LOOK_NOT;
    }
    pthread_mutex_unlock(&l->mu);
}
