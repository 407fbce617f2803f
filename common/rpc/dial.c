#include "common/rpc/dial.h"

#include <string.h>

#include "common/base/mem.h"

struct rpc_channel *rpc_dial(struct rpc_client *c, const char *peer, unsigned roles)
{
    const char *at = strchr(peer, '@');
    if (!at)
        return rpc_channel_new(c, peer, roles, NULL);
    AUTO(str) char *name = mem_strndup(peer, (size_t)(at - peer));
    return rpc_channel_new(c, at + 1, roles, name);
}
