/* What RPC servers and clients share: the library's start and end, TLS files, sizes.
 * There is no plaintext mode. The only door to gRPC is this folder. */
#ifndef COMMON_RPC_RPC_H
#define COMMON_RPC_RPC_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum {
    RPC_MESSAGE_BYTES = 4 << 20,  /* largest message, unless configured */
    RPC_STATUS_TEXT_BYTES = 1024, /* of an error's text on the wire; longer is cut */
};

/* Paths of PEM files; borrowed during the call they are given to. The key must not be
 * readable by others. */
struct rpc_tls {
    const char *ca;
    const char *cert; /* with one URI SAN, see identity.h */
    const char *key;
};

/* Once at start, after loop_signals (the library makes threads, which must not get the
 * loop's signals) and before other threads exist: removes GRPC_* from the environment,
 * sends the library's log to ours. */
void rpc_init(void);
/* At exit, after all servers and clients are freed. May block for seconds inside the
 * library: daemons just _exit(2) instead; tests for leaks call it. */
void rpc_fini(void);

/* False when lines that strangers cause (failed handshakes, refused calls) have become
 * too many in this second: they must not be able to fill the log. Any thread. */
bool rpc_may_log(void);

#endif
