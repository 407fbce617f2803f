#include "common/etcd/embedded.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/etcd/selfsigned.h"
#include "common/obs/log.h"

enum {
    START_MS = 30000,
    PROBE_MS = 1000, /* one question whether it is healthy */
    PROBE_PAUSE_MS = 100,
    BACKOFF_MIN_MS = 200,
    BACKOFF_MAX_MS = 10000,
    SETTLED_MS = 60000, /* a child that lived so long starts the back-off anew */
    TERM_MS = 10000,
    ARGS = 32,
    NO_PROGRAM = 127, /* exit status of a child that could not exec */
};

struct etcd_embedded {
    char *binary;
    char *data_dir, *cert, *key;
    char *client_url, *peer_url;
    char *args[ARGS];
    pthread_t thread;
    int stop_fd; /* readable once stopping */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    pid_t pid;         /* 0: no child just now */
    int no_program_os; /* errno of the last exec that failed */
    bool stopping;
};

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* True when asked to stop meanwhile. */
static bool pause_until(struct etcd_embedded *em, int64_t until_ms)
{
    struct timespec until = {until_ms / 1000, until_ms % 1000 * 1000000};
    pthread_mutex_lock(&em->lock);
    while (!em->stopping &&
           pthread_cond_timedwait(&em->changed, &em->lock, &until) != ETIMEDOUT)
        continue;
    bool stopping = em->stopping;
    pthread_mutex_unlock(&em->lock);
    return stopping;
}

/* --- the child ---------------------------------------------------------------------- */

/* Between fork and exec: only what is safe in a process with other threads. */
static _Noreturn void become_etcd(const struct etcd_embedded *em, char **env,
                                  pid_t parent, int report_fd)
{
    sigset_t none;
    sigemptyset(&none);
    /* SIGKILL, since nobody would be left to insist. The setting survives the exec, and
     * its "parent" is the supervising thread, which lives until the child is gone. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvpe(em->binary, em->args, env);
    int os = errno;
    ssize_t put = write(report_fd, &os, sizeof os);
    (void)put; /* the exit status says it as well */
    _exit(NO_PROGRAM);
}

/* posix_spawn cannot set the parent-death signal, and an etcd that outlives its
 * supervisor would hold the data directory against the next one. */
static pid_t spawn(struct etcd_embedded *em, int *exec_os)
{
    /* ETCD_* would override the arguments. */
    char path[4096];
    char *env[] = {path, NULL};
    const char *now = getenv("PATH");
    snprintf(path, sizeof path, "PATH=%s", now ? now : "/usr/bin:/bin");
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) {
        *exec_os = errno;
        return -1;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become_etcd(em, env, parent, report[1]);
    *exec_os = pid < 0 ? errno : 0;
    close(report[1]);
    int os;
    if (pid > 0 && read(report[0], &os, sizeof os) == (ssize_t)sizeof os)
        *exec_os = os;
    close(report[0]);
    return pid;
}

static void set_pid(struct etcd_embedded *em, pid_t pid, int exec_os)
{
    pthread_mutex_lock(&em->lock);
    em->pid = pid;
    em->no_program_os = exec_os;
    pthread_mutex_unlock(&em->lock);
}

/* Polls for the child's end and, unless it is -1, stop_fd. */
static void wait_end(int pidfd, int stop_fd, int timeout_ms)
{
    struct pollfd fds[] = {{pidfd, POLLIN, 0}, {stop_fd, POLLIN, 0}};
    while (poll(fds, ARRAY_LEN(fds), timeout_ms) < 0 && errno == EINTR)
        continue;
}

/* Waits for the child's end, and asks for it when stopping. Returns its status. */
static int see_off(struct etcd_embedded *em, pid_t pid)
{
    int pidfd = pidfd_open(pid, 0);
    if (pidfd >= 0)
        wait_end(pidfd, em->stop_fd, -1);
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == 0) { /* so we are stopping */
        kill(pid, SIGTERM);
        if (pidfd >= 0)
            wait_end(pidfd, -1, TERM_MS);
        if (waitpid(pid, &status, WNOHANG) == 0) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
        }
    }
    if (pidfd >= 0)
        close(pidfd);
    return status;
}

static bool is_stopping(struct etcd_embedded *em)
{
    return pause_until(em, now_ms());
}

static void *supervise(void *arg)
{
    struct etcd_embedded *em = arg;
    int64_t backoff = BACKOFF_MIN_MS;
    while (!is_stopping(em)) {
        int64_t begun = now_ms();
        int exec_os;
        pid_t pid = spawn(em, &exec_os);
        set_pid(em, exec_os ? 0 : pid, exec_os);
        int status = pid > 0 ? see_off(em, pid) : 0;
        set_pid(em, 0, exec_os);
        if (is_stopping(em))
            break;
        log_warn("etcd", "embedded-ended", "status=%d errno=%d restart_in_ms=%lld",
                 status, exec_os, (long long)backoff);
        if (now_ms() - begun >= SETTLED_MS)
            backoff = BACKOFF_MIN_MS;
        pause_until(em, now_ms() + backoff);
        backoff = backoff * 2 < BACKOFF_MAX_MS ? backoff * 2 : BACKOFF_MAX_MS;
    }
    return NULL;
}

/* --- start -------------------------------------------------------------------------- */

static struct err *choose_port(int wanted, int *out)
{
    *out = wanted;
    if (wanted)
        return NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    struct err *e = NULL;
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        e = err_os(errno, "find a free port");
    if (fd >= 0)
        close(fd);
    *out = ntohs(a.sin_port);
    return e;
}

static void add_arg(struct etcd_embedded *em, char *arg)
{
    size_t i = 0;
    while (em->args[i])
        i++;
    assert(i + 1 < ARGS);
    em->args[i] = arg;
}

static void make_args(struct etcd_embedded *em)
{
    add_arg(em, mem_strdup("etcd"));
    add_arg(em, mem_strdup("--name=stillpoint"));
    add_arg(em, mem_printf("--data-dir=%s/member", em->data_dir));
    add_arg(em, mem_printf("--listen-client-urls=%s", em->client_url));
    add_arg(em, mem_printf("--advertise-client-urls=%s", em->client_url));
    add_arg(em, mem_printf("--listen-peer-urls=%s", em->peer_url));
    add_arg(em, mem_printf("--initial-advertise-peer-urls=%s", em->peer_url));
    add_arg(em, mem_printf("--initial-cluster=stillpoint=%s", em->peer_url));
    add_arg(em, mem_printf("--cert-file=%s", em->cert));
    add_arg(em, mem_printf("--key-file=%s", em->key));
    add_arg(em, mem_printf("--trusted-ca-file=%s", em->cert));
    add_arg(em, mem_strdup("--client-cert-auth=true"));
    add_arg(em, mem_printf("--peer-cert-file=%s", em->cert));
    add_arg(em, mem_printf("--peer-key-file=%s", em->key));
    add_arg(em, mem_printf("--peer-trusted-ca-file=%s", em->cert));
    add_arg(em, mem_strdup("--peer-client-cert-auth=true"));
    add_arg(em, mem_strdup("--auto-compaction-mode=periodic"));
    add_arg(em, mem_strdup("--auto-compaction-retention=1h"));
    add_arg(em, mem_strdup("--logger=zap"));
    add_arg(em, mem_strdup("--log-level=error"));
}

static struct err *prepare(struct etcd_embedded *em,
                           const struct etcd_embedded_conf *conf)
{
    const char *named = conf->binary ? conf->binary : getenv("ETCD_BIN");
    em->binary = mem_strdup(named && *named ? named : "etcd");
    em->data_dir = mem_strdup(conf->data_dir);
    em->cert = mem_printf("%s/etcd.pem", conf->data_dir);
    em->key = mem_printf("%s/etcd.key", conf->data_dir);
    if (mkdir(conf->data_dir, 0700) < 0 && errno != EEXIST)
        return err_os(errno, "create '%s'", conf->data_dir);
    if (chmod(conf->data_dir, 0700) < 0)
        return err_os(errno, "chmod '%s'", conf->data_dir);
    TRY(selfsigned_make(em->cert, em->key));
    int client_port, peer_port;
    TRY(choose_port(conf->client_port, &client_port));
    do
        TRY(choose_port(conf->peer_port, &peer_port));
    while (!conf->peer_port && peer_port == client_port);
    em->client_url = mem_printf("https://127.0.0.1:%d", client_port);
    em->peer_url = mem_printf("https://127.0.0.1:%d", peer_port);
    make_args(em);
    return NULL;
}

static struct etcd_embedded *new_embedded(void)
{
    struct etcd_embedded *em = mem_zalloc(sizeof *em);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&em->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&em->lock, NULL);
    em->stop_fd = eventfd(0, EFD_CLOEXEC);
    return em;
}

static void embedded_free(struct etcd_embedded *em)
{
    for (size_t i = 0; em->args[i]; i++)
        free(em->args[i]);
    if (em->stop_fd >= 0)
        close(em->stop_fd);
    free(em->binary);
    free(em->data_dir);
    free(em->cert);
    free(em->key);
    free(em->client_url);
    free(em->peer_url);
    pthread_cond_destroy(&em->changed);
    pthread_mutex_destroy(&em->lock);
    free(em);
}

static void start_thread(struct etcd_embedded *em)
{
    /* Signals are the loop's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int os = pthread_create(&em->thread, NULL, supervise, em);
    assert(os == 0);
    pthread_setname_np(em->thread, "etcd-keeper");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static struct err *open_client(struct etcd_embedded *em, int64_t timeout_ms,
                               struct etcd **out)
{
    const char *endpoints[] = {em->client_url, NULL};
    struct etcd_conf conf = {.endpoints = endpoints,
                             .ca = em->cert,
                             .cert = em->cert,
                             .key = em->key,
                             .timeout_ms = timeout_ms};
    return etcd_open(&conf, out);
}

static struct err *wait_healthy(struct etcd_embedded *em, int64_t until_ms)
{
    AUTO(etcd) struct etcd *probe = NULL;
    TRY(open_client(em, PROBE_MS, &probe));
    for (;;) {
        struct err *e = etcd_health(probe);
        if (!e)
            return NULL;
        pthread_mutex_lock(&em->lock);
        int os = em->no_program_os;
        pthread_mutex_unlock(&em->lock);
        if (os || now_ms() >= until_ms) {
            struct err *why = os ? err_os(os, "run '%s'", em->binary)
                                 : err_wrap(e, "embedded etcd is not healthy");
            if (os)
                err_free(e);
            else
                why->kind = ERR_UNAVAILABLE;
            return why;
        }
        err_free(e);
        pause_until(em, now_ms() + PROBE_PAUSE_MS);
    }
}

struct err *etcd_embedded_start(const struct etcd_embedded_conf *conf,
                                struct etcd_embedded **out)
{
    struct etcd_embedded *em = new_embedded();
    struct err *e = em->stop_fd < 0 ? err_os(errno, "eventfd") : prepare(em, conf);
    if (e) {
        embedded_free(em);
        return e;
    }
    start_thread(em);
    e = wait_healthy(em, now_ms() + (conf->start_ms ? conf->start_ms : START_MS));
    if (e) {
        etcd_embedded_stop(em);
        return e;
    }
    log_info("etcd", "embedded-runs", "endpoint=%s data=%s", em->client_url,
             em->data_dir);
    *out = em;
    return NULL;
}

void etcd_embedded_stop(struct etcd_embedded *em)
{
    if (!em)
        return;
    pthread_mutex_lock(&em->lock);
    em->stopping = true;
    pthread_cond_broadcast(&em->changed);
    pthread_mutex_unlock(&em->lock);
    uint64_t one = 1;
    ssize_t put = write(em->stop_fd, &one, sizeof one);
    assert(put == sizeof one);
    pthread_join(em->thread, NULL);
    embedded_free(em);
}

struct err *etcd_embedded_open(struct etcd_embedded *em, struct etcd **out)
{
    return open_client(em, 0, out);
}

const char *etcd_embedded_endpoint(const struct etcd_embedded *em)
{
    return em->client_url;
}

pid_t etcd_embedded_pid(struct etcd_embedded *em)
{
    pthread_mutex_lock(&em->lock);
    pid_t pid = em->pid;
    pthread_mutex_unlock(&em->lock);
    return pid;
}
