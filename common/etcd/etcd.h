/* etcd through its JSON gateway (3.4 and 3.5): keys, transactions, leases. Calls block
 * and are safe from several threads: make them on pool threads. Watches: watch.h.
 *
 * Error kinds of every call: UNAVAILABLE certainly not done, no endpoint could be asked;
 * TIMEOUT the outcome is unknown: read back before anything else (a read was simply not
 * answered); nothing is ever sent twice unless it is certain that it was not done;
 * DENIED the credentials; LIMIT too many operations or bytes; NO_SPACE etcd's quota;
 * INVALID etcd finds the request wrong; CORRUPT the reply makes no sense (of a write:
 * unknown as well). */
#ifndef COMMON_ETCD_ETCD_H
#define COMMON_ETCD_ETCD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum {
    ETCD_TXN_OPS = 128,           /* operations and compares, each, of a transaction */
    ETCD_REQUEST_BYTES = 1 << 20, /* of keys and values in one request */
    ETCD_REPLY_BYTES = 16 << 20,  /* of one reply's text */
    ETCD_PAGE = 500,              /* keys that one page of a range holds */
    ETCD_ENDPOINTS = 16,
};

struct etcd;

struct etcd_conf {
    const char *const *endpoints; /* "https://host:2379"; ended by NULL */
    /* PEM files, all or none; with etcd's own authentication switched on, the
     * certificate must have no common name. */
    const char *ca, *cert, *key;
    const char *user, *password; /* NULL: no authentication */
    int64_t timeout_ms;          /* of one call; 0: 5000 */
};

/* Copies conf; connects lazily. INVALID: no or bad endpoints. */
struct err *etcd_open(const struct etcd_conf *conf, struct etcd **out) MUST_USE;
/* No call may be under way. */
void etcd_close(struct etcd *e);
DEFINE_AUTO(etcd, struct etcd *, etcd_close);

/* --- reading ------------------------------------------------------------------------ */

struct etcd_kv {
    char *key;   /* text: keys with a NUL are CORRUPT */
    char *value; /* NUL-terminated behind its length */
    size_t value_len;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version;
    int64_t lease; /* 0: none */
};

struct etcd_range {
    struct etcd_kv *kvs; /* sorted by key */
    size_t n;
    int64_t revision; /* of the store when it was read */
    bool more;        /* there are more keys than the limit */
};
void etcd_range_fini(struct etcd_range *r);
void etcd_kv_fini(struct etcd_kv *kv);

/* All keys that begin with `prefix` ("" for all), up to `limit` (0: no limit), as of
 * `revision` (0: now). Large ranges are read in pages of one revision, so the result is
 * one consistent state. CONFLICT: the revision has been compacted. */
struct err *etcd_list(struct etcd *e, const char *prefix, int64_t revision, size_t limit,
                      struct etcd_range *out) MUST_USE;
/* One key: out->n is 0 or 1. */
struct err *etcd_get(struct etcd *e, const char *key, struct etcd_range *out) MUST_USE;

/* --- writing ------------------------------------------------------------------------ */

/* *revision (may be NULL) is that of the write. NOT_FOUND: the lease does not exist. */
struct err *etcd_put(struct etcd *e, const char *key, const void *value, size_t len,
                     int64_t lease, int64_t *revision) MUST_USE;
/* *deleted (may be NULL) counts the keys, 0 or 1. */
struct err *etcd_delete(struct etcd *e, const char *key, int64_t *deleted) MUST_USE;
struct err *etcd_delete_prefix(struct etcd *e, const char *prefix,
                               int64_t *deleted) MUST_USE;

/* A transaction is built, committed once and freed. The gateway ignores members that it
 * does not know, so requests are only ever made by these functions. Mistakes of the
 * builder's limits are remembered and returned by etcd_commit. */
struct etcd_txn;
struct etcd_txn *etcd_txn_new(void);
void etcd_txn_free(struct etcd_txn *t);
DEFINE_AUTO(etcd_txn, struct etcd_txn *, etcd_txn_free);

enum etcd_target { ETCD_CREATE, ETCD_MOD, ETCD_VERSION, ETCD_LEASE };
enum etcd_relation { ETCD_EQUAL, ETCD_NOT_EQUAL, ETCD_GREATER, ETCD_LESS };
/* All compares must hold for the success branch. A key that does not exist has
 * create, mod and version 0. */
void etcd_if(struct etcd_txn *t, const char *key, enum etcd_target target,
             enum etcd_relation relation, int64_t number);
void etcd_if_value(struct etcd_txn *t, const char *key, enum etcd_relation relation,
                   const void *value, size_t len);
static inline void etcd_if_absent(struct etcd_txn *t, const char *key)
{
    etcd_if(t, key, ETCD_CREATE, ETCD_EQUAL, 0);
}

enum etcd_branch { ETCD_THEN, ETCD_ELSE };
void etcd_do_put(struct etcd_txn *t, enum etcd_branch b, const char *key,
                 const void *value, size_t len, int64_t lease);
void etcd_do_delete(struct etcd_txn *t, enum etcd_branch b, const char *key);
void etcd_do_delete_prefix(struct etcd_txn *t, enum etcd_branch b, const char *prefix);
void etcd_do_get(struct etcd_txn *t, enum etcd_branch b, const char *key);

struct etcd_txn_result {
    bool succeeded;
    int64_t revision;
    /* The reads of the branch that ran, in order. */
    struct etcd_range *ranges;
    size_t n_ranges;
};
void etcd_txn_result_fini(struct etcd_txn_result *r);
/* A transaction that only reads may be sent again, others never. */
struct err *etcd_commit(struct etcd *e, const struct etcd_txn *t,
                        struct etcd_txn_result *out) MUST_USE;

/* --- leases ------------------------------------------------------------------------- */

/* *granted_s is what etcd made of it (it has a minimum). */
struct err *etcd_lease_grant(struct etcd *e, int64_t ttl_s, int64_t *id,
                             int64_t *granted_s) MUST_USE;
/* NOT_FOUND: the lease is gone. Repeatable. */
struct err *etcd_lease_keep(struct etcd *e, int64_t id, int64_t *ttl_s) MUST_USE;
/* NOT_FOUND: it was gone already. */
struct err *etcd_lease_revoke(struct etcd *e, int64_t id) MUST_USE;

/* --- drills ------------------------------------------------------------------------- */

/* For so long no call reaches etcd: each is UNAVAILABLE at once. */
void etcd_cut(struct etcd *e, int64_t for_ms);

/* --- upkeep ------------------------------------------------------------------------- */

/* Forgets what was before `revision`. */
struct err *etcd_compact(struct etcd *e, int64_t revision) MUST_USE;
/* Answers when one endpoint is healthy, which means it has a leader. */
struct err *etcd_health(struct etcd *e) MUST_USE;

#endif
