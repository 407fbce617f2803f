/* An error's way over the wire: kind ⇄ gRPC status code, and the exact kind in the
 * trailer `grpc-status-details-bin` (google.rpc.Status with an ErrorInfo). Pure. */
#ifndef COMMON_RPC_STATUS_H
#define COMMON_RPC_STATUS_H

#include <grpc/grpc.h>

#include "common/base/err.h"

#define RPC_DETAILS_KEY "grpc-status-details-bin"

struct rpc_status {
    grpc_status_code code;
    char *text;    /* UTF-8, at most RPC_STATUS_TEXT_BYTES */
    void *details; /* the trailer's value */
    size_t details_len;
};

/* NULL gives OK. `e` stays the caller's. */
void rpc_status_from_err(const struct err *e, struct rpc_status *out);
void rpc_status_fini(struct rpc_status *s);

/* The error that a client makes of what it received; NULL for OK. `details` may be NULL;
 * bad ones are ignored. `was_sent`: may the request have left? Decides what an
 * UNAVAILABLE without details means. */
struct err *rpc_status_to_err(grpc_status_code code, const char *text, size_t text_len,
                              const void *details, size_t details_len,
                              int was_sent) MUST_USE;

#endif
