#include "agent/guardian/lookout.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "agent/guardian/place.h"
#include "agent/guardian/writers.h"
#include "common/base/mem.h"

/* How long who waits for a result leaves the processors to those who still freeze and
 * capture, here or in other guardians. */
enum { PATIENCE_MS = 250 };

enum look { LOOK_NOT, LOOK_WANTED, LOOK_DONE };

/* No lock: whoever holds one while it yields would keep a freeze waiting. */
struct lookout {
    const struct prepare *prepare;
    sem_t begun, looked;    /* one post for each; the states say what there is to do */
    _Atomic pid_t thread;   /* its own, once may_yield */
    _Atomic bool may_yield; /* it could take its turn again, having given it up */
    _Atomic enum look state[HOLD_MAX_DOMAINS];
    struct err *found[HOLD_MAX_DOMAINS]; /* owned; NULL: nobody. Of what is LOOK_DONE */
};

static void await(sem_t *s)
{
    while (sem_wait(s) != 0)
        ; /* a signal */
}

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
    l->thread = gettid();
    l->may_yield = can_yield_and_return(); /* only now may others use the id */
    for (;;) {
        unsigned i = find(l, LOOK_WANTED);
        if (i == HOLD_MAX_DOMAINS) {
            await(&l->begun);
            continue;
        }
        l->found[i] = look_at(l->prepare, i);
        l->state[i] = LOOK_DONE;
        sem_post(&l->looked);
    }
    return NULL;
}

struct lookout *lookout_new(const struct prepare *p)
{
    struct lookout *l = mem_zalloc(sizeof(*l));
    l->prepare = p;
    sem_init(&l->begun, 0, 0);
    sem_init(&l->looked, 0, 0);
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
    l->state[domain] = LOOK_WANTED;
    yield(l, true);
    sem_post(&l->begun);
}

static void wait_patiently(struct lookout *l, unsigned domain)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PATIENCE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (l->state[domain] == LOOK_WANTED &&
           (sem_clockwait(&l->looked, CLOCK_MONOTONIC, &until) == 0 || errno == EINTR))
        ;
    yield(l, false);
    while (l->state[domain] == LOOK_WANTED)
        await(&l->looked);
}

struct err *lookout_result(struct lookout *l, unsigned domain)
{
    wait_patiently(l, domain);
    if (l->state[domain] == LOOK_NOT)
        return err_new(ERR_CONFLICT,
                       "the search for other writers ended with the process "
                       "that made it; take the set again");
    if (!l->found[domain])
        return NULL;
    AUTO(str) char *text = err_text(l->found[domain]);
    return err_new(l->found[domain]->kind, "%s", text);
}

void lookout_end(struct lookout *l)
{
    yield(l, false);
    while (find(l, LOOK_WANTED) < HOLD_MAX_DOMAINS)
        await(&l->looked);
    for (unsigned i = 0; i < HOLD_MAX_DOMAINS; i++) {
        err_free(l->found[i]);
        l->found[i] = NULL;
        l->state[i] = LOOK_NOT;
    }
}
