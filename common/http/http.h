/* HTTP requests, one at a time, over connections that are kept: the only door to libcurl.
 * A handle is for one thread at a time; http_abort is for any. */
#ifndef COMMON_HTTP_HTTP_H
#define COMMON_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"

struct http;

/* Paths of PEM files; NULL: the system's authorities, no client certificate. Borrowed
 * while the handle lives. Peers are always verified. */
struct http_tls {
    const char *ca;
    const char *cert;
    const char *key;
};

/* Once at start, before other threads exist. */
void http_init(void);

struct http *http_new(const struct http_tls *tls);
void http_free(struct http *h);
DEFINE_AUTO(http, struct http *, http_free);

/* A piece of the reply's body as it arrives; false ends the request with CANCELLED. */
typedef bool http_body_fn(void *arg, const char *bytes, size_t n);

struct http_request {
    const char *method; /* "GET", "POST", ... */
    const char *url;
    const char *const *headers; /* "Name: value", ended by NULL; or NULL */
    const void *body;
    size_t body_len;
    /* May it be sent again when a kept connection turns out to be dead? Not for writes
     * whose repetition matters. */
    bool is_repeatable;
    int64_t connect_ms;     /* > 0 */
    int64_t timeout_ms;     /* for all of it; 0: none */
    int64_t idle_ms;        /* without a byte received; 0: none */
    size_t max_reply_bytes; /* > 0; of the collected body */
    http_body_fn *on_body;  /* NULL: collect */
    void *on_body_arg;
};

struct http_reply {
    long status;
    struct buf body; /* unless on_body */
};

/* Perform it. UNAVAILABLE: certainly nothing was sent (no address, refused, TLS refused);
 * TIMEOUT: sent at least in part, and no whole reply came in time or at all: the outcome
 * is unknown; LIMIT: the reply is too large; CANCELLED: aborted or on_body said so. A
 * reply of any status is a success here. *out is initialised in any case:
 * http_reply_fini.
 */
struct err *http_do(struct http *h, const struct http_request *req,
                    struct http_reply *out) MUST_USE;
void http_reply_fini(struct http_reply *r);

/* Any thread: ends the running request, and all later ones, with CANCELLED. */
void http_abort(struct http *h);

#endif
