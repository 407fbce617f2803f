/* coordinator.yaml. Read once at start. */
#ifndef COORDINATOR_SHELL_CONFIG_H
#define COORDINATOR_SHELL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

struct config_etcd {
    char **endpoints; /* "http://127.0.0.1:2379" each; empty with embedded */
    size_t n_endpoints;
    bool embedded;         /* start and supervise one here */
    char *embedded_listen; /* "127.0.0.1:2379" */
    struct {
        char *ca, *cert, *key; /* NULL: plain HTTP, on loopback only */
    } tls;
};

struct config_coordinator {
    char *cluster, *name;
    char *listen; /* host:port of the services */
    struct {
        char *ca, *cert, *key;
    } tls;
    struct config_etcd etcd;
    char *state_dir;
    bool drills;      /* it may be killed, stopped or cut off on purpose */
    int64_t lease_ms; /* a leader that is gone is replaced after this long */
};

/* INVALID says file, line, column, key, why, and what to choose instead. */
struct err *config_coordinator_read(const char *path,
                                    struct config_coordinator **out) MUST_USE;
void config_coordinator_free(struct config_coordinator *c);
DEFINE_AUTO(config_coordinator, struct config_coordinator *, config_coordinator_free);

#endif
