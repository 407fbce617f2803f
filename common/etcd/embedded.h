/* An etcd of our own: a child process on loopback, started, watched and restarted by one
 * thread, for clusters with a single coordinator.
 *
 * Access: its client and peer ports want TLS with the one certificate that is generated
 * (self-signed, 20 years) into the data directory, mode 0700. Whoever can read that
 * directory can read and write the database; nobody else on the machine can. */
#ifndef COMMON_ETCD_EMBEDDED_H
#define COMMON_ETCD_EMBEDDED_H

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/etcd/etcd.h"

struct etcd_embedded;

struct etcd_embedded_conf {
    const char *data_dir; /* made if missing */
    const char *binary;   /* NULL: $ETCD_BIN, else "etcd" on PATH */
    int client_port;      /* on 127.0.0.1; 0: a free one */
    int peer_port;        /* likewise */
    int64_t start_ms;     /* to become healthy; 0: 30000 */
};

/* Returns once it is healthy; blocks. UNAVAILABLE: it did not become healthy. NOT_FOUND:
 * there is no such program. The child gets SIGKILL from the kernel should this process
 * die (etcd's files survive that); when it dies itself, it is started again, waiting 200
 * ms to 10 s between attempts. */
struct err *etcd_embedded_start(const struct etcd_embedded_conf *conf,
                                struct etcd_embedded **out) MUST_USE;
/* SIGTERM, and SIGKILL after 10 s; blocks until it is gone. */
void etcd_embedded_stop(struct etcd_embedded *em);
DEFINE_AUTO(etcd_embedded, struct etcd_embedded *, etcd_embedded_stop);

/* A client of it, as etcd_open. */
struct err *etcd_embedded_open(struct etcd_embedded *em, struct etcd **out) MUST_USE;
/* "https://127.0.0.1:<port>"; lives as long as em. */
const char *etcd_embedded_endpoint(const struct etcd_embedded *em);
/* Of the child just now; 0 between two. */
pid_t etcd_embedded_pid(struct etcd_embedded *em);

#endif
