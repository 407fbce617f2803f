#include "agent/guardian/lookout.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/guardian/place.h"
#include "agent/guardian/writers.h"
#include "common/base/mem.h"

/* While something stands still, whoever freezes and captures comes first. */
enum { NICE_FROZEN = 10, NICE_WAITED_FOR = 0 };

enum look { LOOK_NOT, LOOK_WANTED, LOOK_DONE };

struct lookout {
    const struct prepare *prepare;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    pid_t thread; /* 0: not running yet */
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

static void *watch(void *arg)
{
    struct lookout *l = arg;
    pthread_mutex_lock(&l->mu);
    l->thread = gettid();
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

/* A thread's own on Linux. Failing, it only takes its turn as any other. */
static void be_nice(const struct lookout *l, int nice)
{
    if (l->thread)
        setpriority(PRIO_PROCESS, (id_t)l->thread, nice);
}

void lookout_begin(struct lookout *l, unsigned domain)
{
    pthread_mutex_lock(&l->mu);
    l->state[domain] = LOOK_WANTED;
    be_nice(l, NICE_FROZEN);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mu);
}

struct err *lookout_result(struct lookout *l, unsigned domain)
{
    struct err *e = NULL;
    pthread_mutex_lock(&l->mu);
    be_nice(l, NICE_WAITED_FOR);
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
    be_nice(l, NICE_WAITED_FOR);
    while (find(l, LOOK_WANTED) < HOLD_MAX_DOMAINS)
        pthread_cond_wait(&l->changed, &l->mu);
    for (unsigned i = 0; i < HOLD_MAX_DOMAINS; i++) {
        err_free(l->found[i]);
        l->found[i] = NULL;
        l->state[i] = LOOK_NOT;
    }
    pthread_mutex_unlock(&l->mu);
}
