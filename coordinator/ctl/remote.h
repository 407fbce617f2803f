/* What the cluster commands share: the connection to whichever coordinator leads. */
#ifndef COORDINATOR_CTL_REMOTE_H
#define COORDINATOR_CTL_REMOTE_H

#include <protobuf-c/protobuf-c.h>

#include "common/rpc/client.h"
#include "coordinator/ctl/command.h"
#include "stillpoint/v1/admin.pb-c.h"

#define REMOTE_OPTIONS                                                                   \
    {                                                                                    \
        "config", "FILE",                                                                \
            "how to reach the coordinators (default "                                    \
            "/etc/stillpoint/client.yaml, or $STILLPOINT_CONFIG)",                       \
            'c'                                                                          \
    }

struct remote;

/* Reads the client's file and gets ready to call. CTL_OK, or the exit status after saying
 * why. */
int remote_open(const struct ctl *c, struct remote **out);
void remote_close(struct remote *r);
DEFINE_AUTO(remote, struct remote *, remote_close);

/* Calls a method of AdminService at the coordinator that leads, trying one after the
 * other. The reply is the caller's (wire_free). CTL_OK, or the exit status after saying
 * why. */
int remote_call(struct remote *r, const char *method, const ProtobufCMessage *req,
                ProtobufCMessage **reply);
/* The same for what may take longer than the usual minute. */
int remote_call_within(struct remote *r, int64_t timeout_ms, const char *method,
                       const ProtobufCMessage *req, ProtobufCMessage **reply);
/* The same for reads while coordinators may be dead or asleep: one that says nothing for
 * a few seconds is passed over, and the error is the caller's. */
struct err *remote_read(struct remote *r, const char *method, const ProtobufCMessage *req,
                        ProtobufCMessage **reply) MUST_USE;
/* The same for a stream, until it ends or `on_message` says false. A stream that breaks
 * is begun again at the coordinator that leads now. */
int remote_watch(struct remote *r, const char *method, const ProtobufCMessage *req,
                 rpc_message_fn *on_message, void *arg);

/* Opens, and lists the sets, those of --group if it is given; newest first. *reply as
 * above, a ListSetsReply. */
int remote_sets(const struct ctl *c, ProtobufCMessage **reply);

/* What the client's file says of its cluster; *ca and *cluster are malloc. */
struct err *remote_authority(const struct ctl *c, char **ca, char **cluster) MUST_USE;

/* One line of JSON on stdout. */
void remote_print_json(const ProtobufCMessage *m);

#endif
