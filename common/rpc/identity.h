/* Who is at the other end: read from a certificate, never from a message. Any thread. */
#ifndef COMMON_RPC_IDENTITY_H
#define COMMON_RPC_IDENTITY_H

#include "common/base/attr.h"
#include "common/base/err.h"

/* Roles are bits, so that a method's table says which of them may call it. */
enum {
    RPC_COORDINATOR = 1,
    RPC_AGENT = 2,
    RPC_OPERATOR = 4,
    RPC_ANY_ROLE = 7,
};

enum { RPC_NAME_MAX = 253 }; /* of a cluster or a name: a DNS name's limit */

struct rpc_identity {
    unsigned role; /* exactly one of the bits above */
    char cluster[RPC_NAME_MAX + 1];
    char name[RPC_NAME_MAX + 1];
};

/* Reads `spiffe://<cluster>/coordinator|agent|operator/<name>` and nothing else: names
 * are 1 to 253 of [a-z0-9.-], beginning and ending with a letter or digit. INVALID
 * otherwise. */
struct err *rpc_identity_parse(const char *uri, struct rpc_identity *out) MUST_USE;

/* Its text, as rpc_identity_parse reads it; malloc. */
char *rpc_identity_text(const struct rpc_identity *id) MUST_USE;

/* Reads a leaf certificate (PEM, first one). DENIED unless it has exactly one URI SAN, a
 * valid identity, and is no certificate authority (CA:FALSE, no keyCertSign). */
struct err *rpc_identity_from_pem(const char *pem, size_t len,
                                  struct rpc_identity *out) MUST_USE;

/* "coordinator", "agent", "operator": static. For several bits, the lowest. */
const char *rpc_role_name(unsigned role);

#endif
