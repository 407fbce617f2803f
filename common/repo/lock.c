#include "common/repo/lock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "common/base/mem.h"

/* restic's own figures. */
enum {
    WAIT_MS =
        200, /* between writing a lock and looking for others, where lists may lag */
    REFRESH_S = 5 * 60,
    LOST_S = 22 * 60 + 30, /* without a refresh this long, stop writing */
};

struct repo_lock {
    struct repo *repo;
    struct repo_io *io;      /* of the refreshing thread, once it runs */
    struct lock_claim claim; /* but for id and time, which each file has of its own */
    pthread_t thread;
    bool running;
    pthread_mutex_t mu; /* guards stop */
    pthread_cond_t wake;
    bool stop;
    pthread_mutex_t refreshing; /* guards id and the file it names, and io */
    struct digest id;
    int64_t wait_ms;         /* WAIT_MS or none */
    int64_t written_ms;      /* monotonic time of the first lock file */
    atomic_bool settled;     /* the verdict is known, and good */
    atomic_bool lost;        /* somebody removed our file */
    _Atomic int64_t fresh_s; /* boottime of the newest lock file */
};

static int64_t boottime_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec;
}

static void ignore_hangup(void)
{
    struct sigaction old;
    if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        signal(SIGHUP, SIG_IGN);
}

/* Writes a lock file and returns its id. */
static struct err *write_lock(struct repo_lock *l, struct digest *id)
{
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct timespec now;
    struct lock_claim claim = l->claim;
    clock_gettime(CLOCK_REALTIME, &now);
    claim.time = (struct go_time){now.tv_sec, (uint32_t)now.tv_nsec};
    lock_claim_write(&claim, &json);
    repo_seal_file(l->io, json.data, json.len, &sealed, id);
    return repo_put_file(l->repo, REPO_LOCK, id, sealed.data, sealed.len);
}

static struct err *check_other(const struct repo_lock *l, const struct lock_claim *c)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    bool both_reclaim = c->reclaims && l->claim.reclaims;
    if (!c->exclusive && !l->claim.exclusive && !both_reclaim)
        return NULL;
    /* Two that reclaim could lose data: there the clocks of two machines are not enough.
     */
    if (both_reclaim ? lock_claim_is_dead(c, &l->claim)
                     : lock_claim_is_stale(c, (struct go_time){now.tv_sec, 0}, &l->claim))
        return NULL;
    return err_new(ERR_CONFLICT, "the repository is locked%s by process %ld on '%s'",
                   c->exclusive   ? " exclusively"
                   : both_reclaim ? " for reclaiming"
                                  : "",
                   c->pid, c->hostname);
}

static struct err *check_others(struct repo_lock *l, bool have_own)
{
    struct lock_claim *list = NULL;
    size_t n = 0;
    struct err *e = NULL;
    bool seen = !have_own;
    TRY(lock_list(l->io, &list, &n));
    for (size_t i = 0; i < n && !e; i++) {
        if (have_own && lock_claim_same_holder(&list[i], &l->claim))
            seen = true;
        else
            e = check_other(l, &list[i]);
    }
    free(list);
    if (!e && !seen)
        return err_new(ERR_CONFLICT, "another process removed the lock just taken");
    return e;
}

static bool is_too_late(const struct repo_lock *l)
{
    return boottime_s() - atomic_load(&l->fresh_s) > LOST_S;
}

/* New file first, then the old one goes: at no time is there none. If somebody took the
 * old one away, or could have taken us for dead while this machine slept, they may have
 * relied on our being gone: then the lock is lost for good. */
static struct err *refresh(struct repo_lock *l)
{
    struct digest fresh;
    uint64_t bytes;
    struct err *e = repo_stat_file(l->repo, REPO_LOCK, &l->id, &bytes);
    if ((e && e->kind == ERR_NOT_FOUND) || is_too_late(l))
        atomic_store(&l->lost, true);
    TRY(e);
    if (atomic_load(&l->lost))
        return NULL;
    TRY(write_lock(l, &fresh));
    err_free(repo_remove_file(l->repo, REPO_LOCK, &l->id));
    l->id = fresh;
    atomic_store(&l->fresh_s, boottime_s());
    return NULL;
}

void repo_lock_refresh(struct repo_lock *l)
{
    pthread_mutex_lock(&l->refreshing);
    /* A failure is tried again next time; repo_lock_check tells when it is too late. */
    if (!atomic_load(&l->lost))
        err_free(refresh(l));
    pthread_mutex_unlock(&l->refreshing);
}

static void *keep_fresh(void *arg)
{
    struct repo_lock *l = arg;
    pthread_mutex_lock(&l->mu);
    while (!l->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += REFRESH_S;
        int waited = pthread_cond_timedwait(&l->wake, &l->mu, &until);
        if (waited != ETIMEDOUT || l->stop)
            continue;
        pthread_mutex_unlock(&l->mu);
        repo_lock_refresh(l);
        pthread_mutex_lock(&l->mu);
    }
    pthread_mutex_unlock(&l->mu);
    return NULL;
}

static struct repo_lock *lock_new(struct repo *r, enum lock_mode mode)
{
    struct repo_lock *l = mem_zalloc(sizeof *l);
    pthread_condattr_t attr;
    l->repo = r;
    l->io = repo_io_new(r);
    l->wait_ms = repo_is_coherent(r) ? 0 : WAIT_MS;
    lock_claim_own(&l->claim);
    l->claim.exclusive = mode == LOCK_EXCLUSIVE;
    l->claim.reclaims = mode == LOCK_RECLAIM;
    pthread_mutex_init(&l->mu, NULL);
    pthread_mutex_init(&l->refreshing, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &attr);
    pthread_condattr_destroy(&attr);
    return l;
}

static void lock_drop(struct repo_lock *l)
{
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->refreshing);
    pthread_mutex_destroy(&l->mu);
    repo_io_free(l->io);
    free(l);
}

static struct err *start_keeping(struct repo_lock *l)
{
    sigset_t all, old;
    /* The program's signals belong to its own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&l->thread, NULL, keep_fresh, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return err_os(rc, "start a thread");
    l->running = true;
    return NULL;
}

static int64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct err *gate(void *ctx)
{
    return repo_lock_settle(ctx);
}

struct err *repo_lock_begin(struct repo *r, enum lock_mode mode, struct repo_lock **out)
{
    ignore_hangup();
    struct repo_lock *l = lock_new(r, mode);
    int64_t looked_ms = monotonic_ms();
    struct err *e = check_others(l, false);
    if (!e)
        e = write_lock(l, &l->id);
    if (e) {
        lock_drop(l);
        return err_wrap(e, "lock '%s'", repo_url(r));
    }
    l->written_ms = monotonic_ms();
    atomic_store(&l->fresh_s, boottime_s());
    e = start_keeping(l);
    if (e) {
        repo_lock_free(l);
        return err_wrap(e, "lock '%s'", repo_url(r));
    }
    repo_set_session(r, l->claim.session);
    repo_set_gate(r, gate, l);
    /* Who came after that look saw our lock before his own wait was over, and gave up. If
     * writing it took so long, he may have seen none: then nothing may be read before the
     * verdict, since he may be done when that is looked for. Without a wait that is
     * always so, and the verdict at hand. */
    if (l->written_ms - looked_ms >= l->wait_ms / 2) {
        e = repo_lock_settle(l);
        if (e) {
            repo_lock_free(l);
            return e;
        }
    }
    *out = l;
    return NULL;
}

/* Two processes that lock at the same instant see each other after the pause. Where lists
 * do not lag there need be none: who does not see the other's lock began to look before
 * that was stored, so the other one, who looks after storing it, sees this one's. */
static struct err *settle(struct repo_lock *l)
{
    if (atomic_load(&l->settled))
        return NULL;
    if (atomic_load(&l->lost))
        return err_new(ERR_CONFLICT, "the lock was not obtained");
    int64_t left;
    while ((left = l->written_ms + l->wait_ms - monotonic_ms()) > 0)
        nanosleep(&(const struct timespec){0, left * 1000000}, NULL);
    struct err *e = check_others(l, true);
    atomic_store(e ? &l->lost : &l->settled, true);
    return e;
}

struct err *repo_lock_settle(struct repo_lock *l)
{
    if (atomic_load(&l->settled))
        return NULL;
    pthread_mutex_lock(&l->refreshing);
    struct err *e = settle(l);
    pthread_mutex_unlock(&l->refreshing);
    return e ? err_wrap(e, "lock '%s'", repo_url(l->repo)) : NULL;
}

struct err *repo_lock_as(struct repo *r, enum lock_mode mode, struct repo_lock **out)
{
    struct repo_lock *l = NULL;
    TRY(repo_lock_begin(r, mode, &l));
    struct err *e = repo_lock_settle(l);
    if (e) {
        repo_lock_free(l);
        return e;
    }
    *out = l;
    return NULL;
}

struct err *repo_lock(struct repo *r, bool exclusive, struct repo_lock **out)
{
    return repo_lock_as(r, exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED, out);
}

static struct err *look_for_others(struct repo_lock *l, struct repo_io *io, bool *alone)
{
    struct lock_claim *list = NULL;
    size_t n = 0;
    TRY(lock_list(io, &list, &n));
    for (size_t i = 0; i < n; i++)
        if (!lock_claim_same_holder(&list[i], &l->claim) &&
            !(list[i].session[0] && lock_claim_is_dead(&list[i], &l->claim)))
            *alone = false;
    free(list);
    return NULL;
}

/* Looks twice, and believes no clock but for our own dead: whoever `reclaim` would wait
 * for must not be overlooked here either (lock_watch.h). */
struct err *repo_lock_is_alone(struct repo_lock *l, bool *alone)
{
    const struct timespec wait = {0, WAIT_MS * 1000000L};
    AUTO(repo_io) struct repo_io *io = repo_io_new(l->repo);
    *alone = true;
    TRY(look_for_others(l, io, alone));
    if (!*alone)
        return NULL;
    nanosleep(&wait, NULL);
    return look_for_others(l, io, alone);
}

struct err *repo_lock_check(struct repo_lock *l)
{
    if (atomic_load(&l->lost))
        return err_new(ERR_UNAVAILABLE, "somebody removed the repository's lock");
    if (is_too_late(l))
        return err_new(ERR_UNAVAILABLE, "the repository's lock could not be refreshed");
    return NULL;
}

const struct lock_claim *repo_lock_claim(const struct repo_lock *l)
{
    return &l->claim;
}

void repo_lock_free(struct repo_lock *l)
{
    if (!l)
        return;
    if (l->running) {
        pthread_mutex_lock(&l->mu);
        l->stop = true;
        pthread_cond_signal(&l->wake);
        pthread_mutex_unlock(&l->mu);
        pthread_join(l->thread, NULL);
    }
    err_free(repo_remove_file(l->repo, REPO_LOCK, &l->id));
    repo_drop_gate(l->repo, l);
    lock_drop(l);
}
