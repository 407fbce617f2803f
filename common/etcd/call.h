/* One request to the gateway: endpoints, failover, tokens, errors. What the files of this
 * folder share. */
#ifndef COMMON_ETCD_CALL_H
#define COMMON_ETCD_CALL_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/etcd/etcd.h"
#include "common/http/http.h"

DEFINE_AUTO(etcd_json, json_t *, json_decref);

struct etcd {
    char *endpoints[ETCD_ENDPOINTS];
    size_t n_endpoints;
    char *ca, *cert, *key;
    char *user, *password;
    int64_t timeout_ms;
    atomic_size_t preferred; /* the endpoint that answered last */

    _Atomic int64_t cut_until_ms; /* CLOCK_BOOTTIME; see etcd_cut */

    pthread_mutex_t lock; /* guards idle, n_idle, cap_idle and tokens */
    struct http **idle;   /* handles that no thread uses */
    size_t n_idle, cap_idle;
    char *tokens[ETCD_ENDPOINTS]; /* simple tokens are each member's own */
};

enum etcd_repeat { ETCD_ONCE, ETCD_REPEATABLE };

/* POSTs `body` (taken over) to /v3/<path>; *out is the reply's object. Repeatable ones
 * are tried at every endpoint, others only as long as it is certain that nothing was
 * done. */
struct err *etcd_call(struct etcd *e, const char *path, json_t *body,
                      enum etcd_repeat repeat, json_t **out) MUST_USE;

/* The error that a reply describes, NULL if it is none. */
struct err *etcd_reply_error(const json_t *reply, enum etcd_repeat repeat) MUST_USE;

/* For streams: a handle of one's own, and "Authorization: …" for an endpoint or NULL;
 * malloc'd. Forgetting a token makes the next call fetch another. */
struct http *etcd_http_new(struct etcd *e);
struct err *etcd_authorization(struct etcd *e, struct http *h, size_t endpoint,
                               char **out) MUST_USE;
void etcd_token_forget(struct etcd *e, size_t endpoint);

#endif
