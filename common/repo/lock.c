#include "common/repo/lock.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"

/* restic's own figures. */
enum {
    WAIT_MS = 200, /* between writing a lock and looking for others */
    REFRESH_S = 5 * 60,
    STALE_S = 30 * 60,
    LOST_S = 22 * 60 + 30, /* without a refresh this long, stop writing */
};

struct repo_lock {
    struct repo *repo;
    struct repo_io *io; /* of the refreshing thread, once it runs */
    bool exclusive;
    struct digest id;
    pthread_t thread;
    bool running;
    pthread_mutex_t mu; /* guards stop */
    pthread_cond_t wake;
    bool stop;
    _Atomic int64_t fresh_s; /* boottime of the newest lock file */
};

static int64_t clock_s(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec;
}

static void ignore_hangup(void)
{
    struct sigaction old;
    if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        signal(SIGHUP, SIG_IGN);
}

static void own_hostname(char out[256])
{
    memset(out, 0, 256);
    gethostname(out, 255);
}

/* Writes a lock file and returns its id. */
static struct err *write_lock(struct repo_lock *l, struct digest *id)
{
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    struct timespec now;
    char host[256];
    clock_gettime(CLOCK_REALTIME, &now);
    own_hostname(host);
    buf_str(&json, "{\"time\":\"");
    go_time_format(&json, (struct go_time){now.tv_sec, (uint32_t)now.tv_nsec});
    buf_printf(&json,
               "\",\"exclusive\":%s,\"hostname\":", l->exclusive ? "true" : "false");
    go_json_string(&json, host, strlen(host));
    buf_printf(&json, ",\"username\":\"%s\",\"pid\":%d",
               geteuid() == 0 ? "root" : "stillpoint", (int)getpid());
    if (getuid())
        buf_printf(&json, ",\"uid\":%u", (unsigned)getuid());
    if (getgid())
        buf_printf(&json, ",\"gid\":%u", (unsigned)getgid());
    buf_char(&json, '}');
    repo_seal_file(l->io, json.data, json.len, &sealed, id);
    return repo_put_file(l->repo, REPO_LOCK, id, sealed.data, sealed.len);
}

static struct err *read_claim(struct repo_io *io, const struct digest *id,
                              struct lock_claim *out)
{
    AUTO_BUF struct buf json = {0};
    TRY(repo_read_file(io, REPO_LOCK, id, &json));
    json_t *o = json_loadb(json.data, json.len, 0, NULL);
    const char *time = json_string_value(json_object_get(o, "time"));
    const char *host = json_string_value(json_object_get(o, "hostname"));
    bool ok = time && go_time_parse(time, strlen(time), &out->time);
    out->exclusive = json_is_true(json_object_get(o, "exclusive"));
    out->pid = (long)json_integer_value(json_object_get(o, "pid"));
    snprintf(out->hostname, sizeof out->hostname, "%s", host ? host : "");
    json_decref(o);
    if (!ok)
        return err_new(ERR_CORRUPT, "a lock file is malformed");
    return NULL;
}

bool lock_claim_is_stale(const struct lock_claim *c, struct go_time now,
                         const char *hostname)
{
    if (now.sec - c->time.sec > STALE_S)
        return true;
    if (strcmp(c->hostname, hostname) != 0 || c->pid <= 0)
        return false;
    return kill((pid_t)c->pid, 0) && errno == ESRCH;
}

static struct err *check_other(struct repo_lock *l, const struct digest *id)
{
    struct lock_claim c;
    char host[256];
    struct err *e = read_claim(l->io, id, &c);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e); /* given back since the listing */
        return NULL;
    }
    TRY_CTX(e, "read a lock");
    if (!c.exclusive && !l->exclusive)
        return NULL;
    own_hostname(host);
    if (lock_claim_is_stale(&c, (struct go_time){clock_s(CLOCK_REALTIME), 0}, host))
        return NULL;
    return err_new(ERR_CONFLICT, "the repository is locked%s by process %ld on '%s'",
                   c.exclusive ? " exclusively" : "", c.pid, c.hostname);
}

static struct err *check_others(struct repo_lock *l, const struct digest *own)
{
    struct repo_file *files = NULL;
    size_t n = 0;
    struct err *e = NULL;
    TRY(repo_list(l->repo, REPO_LOCK, &files, &n));
    for (size_t i = 0; i < n && !e; i++)
        if (files[i].bytes && !(own && digest_equal(own, &files[i].id)))
            e = check_other(l, &files[i].id);
    free(files);
    return e;
}

/* New file first, then the old one goes: at no time is there none. */
static void refresh(struct repo_lock *l)
{
    struct digest fresh;
    struct err *e = write_lock(l, &fresh);
    if (!e) {
        err_free(repo_remove_file(l->repo, REPO_LOCK, &l->id));
        l->id = fresh;
        atomic_store(&l->fresh_s, clock_s(CLOCK_BOOTTIME));
    }
    /* Tried again next time; repo_lock_check tells when it is too late. */
    err_free(e);
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
        refresh(l);
        pthread_mutex_lock(&l->mu);
    }
    pthread_mutex_unlock(&l->mu);
    return NULL;
}

static struct repo_lock *lock_new(struct repo *r, bool exclusive)
{
    struct repo_lock *l = mem_zalloc(sizeof *l);
    pthread_condattr_t attr;
    l->repo = r;
    l->io = repo_io_new(r);
    l->exclusive = exclusive;
    pthread_mutex_init(&l->mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &attr);
    pthread_condattr_destroy(&attr);
    return l;
}

static void lock_drop(struct repo_lock *l)
{
    pthread_cond_destroy(&l->wake);
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

struct err *repo_lock(struct repo *r, bool exclusive, struct repo_lock **out)
{
    ignore_hangup();
    struct repo_lock *l = lock_new(r, exclusive);
    const struct timespec wait = {0, WAIT_MS * 1000000L};
    struct err *e = check_others(l, NULL);
    if (!e)
        e = write_lock(l, &l->id);
    if (e) {
        lock_drop(l);
        return err_wrap(e, "lock '%s'", repo_url(r));
    }
    /* Two processes that lock at the same instant see each other after the pause. */
    nanosleep(&wait, NULL);
    atomic_store(&l->fresh_s, clock_s(CLOCK_BOOTTIME));
    e = check_others(l, &l->id);
    if (!e)
        e = start_keeping(l);
    if (e) {
        repo_lock_free(l);
        return err_wrap(e, "lock '%s'", repo_url(r));
    }
    *out = l;
    return NULL;
}

struct err *repo_lock_check(struct repo_lock *l)
{
    if (clock_s(CLOCK_BOOTTIME) - atomic_load(&l->fresh_s) > LOST_S)
        return err_new(ERR_UNAVAILABLE, "the repository's lock could not be refreshed");
    return NULL;
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
    lock_drop(l);
}
