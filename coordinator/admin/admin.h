/* AdminService: what operators ask of the coordinator. Loop thread only. */
#ifndef COORDINATOR_ADMIN_ADMIN_H
#define COORDINATOR_ADMIN_ADMIN_H

#include "coordinator/shell/coord.h"
#include "stillpoint/v1/admin.pb-c.h"

enum {
    ADMIN_LIST_MAX = 1000,
    ADMIN_LIST_BYTES = RPC_MESSAGE_BYTES * 3 / 4, /* of one reply's items */
};

/* groups.c */
rpc_handler admin_apply_group, admin_list_groups;
/* check.c */
rpc_handler admin_check_group, admin_rehearse_group;
/* drill.c */
rpc_handler admin_list_drills, admin_set_remains;
/* sets.c */
rpc_handler admin_create_set, admin_list_sets, admin_get_set, admin_cancel_set,
    admin_restore_set, admin_verify_set, admin_list_tasks;
/* watch.c */
rpc_handler admin_watch_set;
/* audit.c */
rpc_handler admin_list_audit;

/* "spiffe://cluster/operator/name" of the caller; the caller's (free). */
char *admin_actor(const struct rpc_call *call) MUST_USE;
/* Fills `out`, which is initialised, with the drill that a request asks for; DENIED where
 * somebody has not consented, INVALID, NOT_FOUND. */
struct err *admin_drill(const struct coord *c, const struct group_entry *g,
                        const Stillpoint__V1__CreateSetRequest *req,
                        Stillpoint__V1__Drill *out) MUST_USE;
/* *out is borrowed; NOT_FOUND, UNAVAILABLE. */
struct err *admin_set(struct coord *c, const char *id, struct set_entry **out) MUST_USE;
/* The group, or NULL. Borrowed. */
struct group_entry *admin_group(const struct coord *c, const char *name);

#endif
