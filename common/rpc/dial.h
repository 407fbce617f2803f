/* Peers as configuration files name them. Loop thread. */
#ifndef COMMON_RPC_DIAL_H
#define COMMON_RPC_DIAL_H

#include "common/rpc/client.h"

/* A channel to "host:port", whose certificate must name the host, or to "name@host:port",
 * whose certificate must name `name` (for addresses, which certificates of nodes do not
 * carry). */
struct rpc_channel *rpc_dial(struct rpc_client *c, const char *peer, unsigned roles);

#endif
