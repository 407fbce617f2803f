/* The schema that is linked into the program: which methods stream, and what reflection
 * hands out. Loop thread. */
#ifndef COMMON_RPC_DESCRIPTORS_H
#define COMMON_RPC_DESCRIPTORS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"

struct rpc_descriptors;

/* Reads the set that the build embeds (`stillpoint_descriptors`). */
struct rpc_descriptors *rpc_descriptors_new(void);
void rpc_descriptors_free(struct rpc_descriptors *d);

/* Does method "M" of "pkg.Service" read a stream? */
bool rpc_descriptors_reads_stream(const struct rpc_descriptors *d, const char *service,
                                  const char *method);

/* Index of the file called `name`, or that declares `symbol` (a message, enum, service
 * or method, fully qualified); -1 if none. */
int rpc_descriptors_by_name(const struct rpc_descriptors *d, const char *name);
int rpc_descriptors_by_symbol(const struct rpc_descriptors *d, const char *symbol);
/* The file and all that it imports, each once; `out` has room for every file
 * (rpc_descriptors_count). The bytes are borrowed. Returns how many. */
size_t rpc_descriptors_closure(const struct rpc_descriptors *d, int file,
                               ProtobufCBinaryData *out);
size_t rpc_descriptors_count(const struct rpc_descriptors *d);

#endif
