/* The PEM files of a process, read and checked before gRPC sees them, because gRPC would
 * only say that something is wrong. */
#ifndef COMMON_RPC_TLS_H
#define COMMON_RPC_TLS_H

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/rpc/identity.h"
#include "common/rpc/rpc.h"

struct rpc_pems {
    char *ca;
    char *cert;
    char *key;
    struct rpc_identity self;
};

/* INVALID: no such thing in the file, key and certificate do not match, the key is
 * readable by others, the identity belongs to another cluster. */
struct err *rpc_pems_load(const struct rpc_tls *tls, const char *cluster,
                          struct rpc_pems *out) MUST_USE;
/* Wipes the key. A zeroed struct is fine. */
void rpc_pems_fini(struct rpc_pems *p);

#endif
