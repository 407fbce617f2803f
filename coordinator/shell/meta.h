/* The metadata store as the coordinator uses it: records under one prefix, and
 * transactions that compare the leader key and append to the audit chain by themselves
 * (I3, I9). Blocking: for the one thread of its pool, which keeps writes in order.
 * proto/RECORDS.md has the keys. */
#ifndef COORDINATOR_SHELL_META_H
#define COORDINATOR_SHELL_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/model/ids.h"

enum {
    META_KEY_BYTES = 512,
    META_TXN_OPS =
        120, /* etcd allows 128 of each kind; the rest is for audit and leader */
    META_SCAN_PAGE = 500,
};

struct etcd;
struct meta;

/* A key below the cluster's prefix: meta_key(k, "sets/%s", id). */
struct meta_key {
    char text[META_KEY_BYTES];
};
void meta_key(struct meta_key *out, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* `etcd` is borrowed and must outlive it. */
struct meta *meta_new(struct etcd *etcd, const char *cluster);
void meta_free(struct meta *m);

/* ---- leadership: not fenced by the leader key, since they make it ---- */

/* A lease of ttl_ms; *granted_ms is what etcd gave. */
struct err *meta_grant(struct meta *m, int64_t ttl_ms, int64_t *lease,
                       int64_t *granted_ms) MUST_USE;
/* *ttl_ms 0: the lease is dead. */
struct err *meta_keepalive(struct meta *m, int64_t lease, int64_t *ttl_ms) MUST_USE;
void meta_revoke(struct meta *m, int64_t lease);
/* Creates the leader key, or finds that it is ours or whose it is. */
struct err *meta_campaign(struct meta *m, int64_t lease, const struct node_id *self,
                          bool *won, int64_t *revision, struct node_id *leader) MUST_USE;
/* From now on every transaction compares the leader key's create_revision with this, and
 * the audit head is read again. */
void meta_lead(struct meta *m, int64_t revision);
/* The cluster's incarnation, created at random if there is none. */
struct err *meta_incarnation(struct meta *m, uint8_t out[16]) MUST_USE;

/* ---- transactions ---- */

enum meta_outcome {
    META_DONE,
    META_CONFLICT, /* a compare failed: certainly not done */
    META_UNKNOWN,  /* may have been done: read back */
    META_NOT_DONE, /* certainly not done: may be tried again */
};

/* Built on the loop thread, run on the store's thread, read on the loop again. */
struct meta_txn;
struct meta_txn *meta_txn_new(void);
void meta_txn_free(struct meta_txn *t);
DEFINE_AUTO(meta_txn, struct meta_txn *, meta_txn_free);
/* Compares: the key's mod_revision (0: it does not exist); the key's create_revision. */
void meta_txn_if_mod(struct meta_txn *t, const struct meta_key *k, int64_t mod_revision);
void meta_txn_if_create(struct meta_txn *t, const struct meta_key *k, int64_t revision);
void meta_txn_put(struct meta_txn *t, const struct meta_key *k, const char *value,
                  int64_t lease);
void meta_txn_delete(struct meta_txn *t, const struct meta_key *k);
/* Adds one link to the audit chain; texts are copied. before and after may be "". */
void meta_txn_audit(struct meta_txn *t, const char *actor, const char *action,
                    const char *object, const char *before, const char *after);
/* Runs it. */
void meta_txn_run(struct meta *m, struct meta_txn *t);
enum meta_outcome meta_txn_outcome(const struct meta_txn *t);
/* Of the write, when DONE: the new mod_revision of everything it put. */
int64_t meta_txn_revision(const struct meta_txn *t);
/* Why it was not done or is unknown; borrowed; NULL when DONE or CONFLICT. */
const struct err *meta_txn_error(const struct meta_txn *t);

/* ---- reading ---- */

struct meta_record {
    char *key; /* without the prefix */
    char *value;
    size_t n;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t lease;
};
struct meta_list {
    struct meta_record *items;
    size_t n;
};
void meta_list_fini(struct meta_list *l);
/* All keys that begin with `prefix`, ascending; or the key itself. */
struct err *meta_scan(struct meta *m, const char *prefix, struct meta_list *out) MUST_USE;
struct err *meta_get(struct meta *m, const struct meta_key *k,
                     struct meta_list *out) MUST_USE;
/* Audit records from number `from`, at most `most`. */
struct err *meta_audit(struct meta *m, int64_t from, int most,
                       struct meta_list *out) MUST_USE;

/* The link's hash: SHA-256 over the previous hash (64 hex digits) and the record's JSON
 * with an empty hash. */
void meta_audit_hash(const char *previous, const char *json, char out[65]);

#endif
