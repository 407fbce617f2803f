/* Real etcd members on loopback, without TLS, for the tests of the client. */
#ifndef TESTS_UNIT_ETCD_WORLD_H
#define TESTS_UNIT_ETCD_WORLD_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/etcd/etcd.h"
#include "common/http/http.h"
#include "common/loop/loop.h"
#include "tests/unit/proxy.h"
#include "tests/unit/suite.h"

enum { MEMBERS = 3 };

static char world_dir[64];
static struct member {
    pid_t pid;
    int client_port, peer_port;
} members[MEMBERS];
static int n_members;

static inline void member_run(int i, const char *cluster)
{
    const char *binary = getenv("ETCD_BIN");
    struct member *m = &members[i];
    char *args[] = {
        mem_strdup("etcd"),
        mem_printf("--name=m%d", i),
        mem_printf("--data-dir=%s/m%d", world_dir, i),
        mem_printf("--listen-client-urls=http://127.0.0.1:%d", m->client_port),
        mem_printf("--advertise-client-urls=http://127.0.0.1:%d", m->client_port),
        mem_printf("--listen-peer-urls=http://127.0.0.1:%d", m->peer_port),
        mem_printf("--initial-advertise-peer-urls=http://127.0.0.1:%d", m->peer_port),
        mem_printf("--initial-cluster=%s", cluster),
        mem_strdup("--heartbeat-interval=50"),
        mem_strdup("--election-timeout=500"),
        NULL,
    };
    m->pid = fork();
    ck_assert_int_ge(m->pid, 0);
    if (m->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(null, 2);
        execvp(binary ? binary : "etcd", args);
        _exit(127);
    }
    for (int k = 0; args[k]; k++)
        free(args[k]);
}

static inline struct etcd *world_open(int port, int64_t timeout_ms)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
    const char *endpoints[] = {url, NULL};
    struct etcd_conf conf = {.endpoints = endpoints, .timeout_ms = timeout_ms};
    struct etcd *e;
    ck_ok(etcd_open(&conf, &e));
    return e;
}

static inline void world_wait(struct etcd *e)
{
    struct err *err = NULL;
    for (int i = 0; i < 600; i++) {
        err_free(err);
        err = etcd_health(e);
        if (!err)
            return;
        struct timespec moment = {0, 50 * 1000000};
        nanosleep(&moment, NULL);
    }
    ck_abort_msg("etcd did not come up: %s", err_text(err));
}

/* Starts n members of one cluster and waits until each is healthy. */
static inline void world_up(int n)
{
    http_init();
    strcpy(world_dir, "/tmp/stillpoint-etcd-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(world_dir));
    n_members = n;
    AUTO_BUF struct buf cluster;
    buf_init(&cluster);
    for (int i = 0; i < n; i++) {
        members[i].client_port = proxy_free_port();
        members[i].peer_port = proxy_free_port();
        buf_printf(&cluster, "%sm%d=http://127.0.0.1:%d", i ? "," : "", i,
                   members[i].peer_port);
    }
    for (int i = 0; i < n; i++)
        member_run(i, buf_text(&cluster));
    for (int i = 0; i < n; i++) {
        AUTO(etcd) struct etcd *e = world_open(members[i].client_port, 2000);
        world_wait(e);
    }
}

static inline void member_kill(int i)
{
    if (members[i].pid <= 0)
        return;
    kill(members[i].pid, SIGKILL);
    waitpid(members[i].pid, NULL, 0);
    members[i].pid = 0;
}

static inline void world_down(void)
{
    for (int i = 0; i < n_members; i++)
        member_kill(i);
    AUTO(str) char *command = mem_printf("rm -rf %s", world_dir);
    ck_assert_int_eq(system(command), 0);
}

#endif
