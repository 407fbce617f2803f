#include "common/http/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"

enum {
    CONNECTION_IDLE_S = 60, /* older ones are more likely dead than of use */
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_PROBE_S = 10,
    POLL_MS = 60000, /* curl and http_abort wake it earlier */
};

struct http {
    CURL *easy;
    CURLM *multi;
    struct http_tls tls;
    atomic_bool aborted;
    char why[CURL_ERROR_SIZE];

    /* of the request under way */
    const struct http_request *req;
    struct http_reply *reply;
    size_t sent;
    int64_t last_ms;
    struct err *stop; /* why a callback ended the transfer */
};

void http_init(void)
{
    CURLcode rc = curl_global_init(CURL_GLOBAL_DEFAULT);
    assert(rc == CURLE_OK);
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct http *http_new(const struct http_tls *tls)
{
    struct http *h = mem_zalloc(sizeof *h);
    h->tls = tls ? *tls : (struct http_tls){0};
    h->easy = curl_easy_init();
    h->multi = curl_multi_init();
    assert(h->easy && h->multi);
    return h;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    curl_easy_cleanup(h->easy);
    curl_multi_cleanup(h->multi);
    free(h);
}

void http_abort(struct http *h)
{
    atomic_store(&h->aborted, true);
    curl_multi_wakeup(h->multi);
}

void http_reply_fini(struct http_reply *r)
{
    buf_fini(&r->body);
}

/* --- what curl calls ---------------------------------------------------------------- */

static size_t on_write(char *bytes, size_t size, size_t n, void *arg)
{
    struct http *h = arg;
    n *= size;
    h->last_ms = now_ms();
    const struct http_request *req = h->req;
    if (req->on_body) {
        if (req->on_body(req->on_body_arg, bytes, n))
            return n;
        h->stop = err_new(ERR_CANCELLED, "the receiver ended it");
        return CURL_WRITEFUNC_ERROR;
    }
    if (n > req->max_reply_bytes - h->reply->body.len) {
        h->stop =
            err_new(ERR_LIMIT, "reply is larger than %zu bytes", req->max_reply_bytes);
        return CURL_WRITEFUNC_ERROR;
    }
    buf_add(&h->reply->body, bytes, n);
    return n;
}

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct http *h = arg;
    n *= size;
    size_t left = h->req->body_len - h->sent;
    if (n > left)
        n = left;
    if (n)
        memcpy(to, (const char *)h->req->body + h->sent, n);
    h->sent += n;
    return n;
}

/* Without it, curl itself sends a request once more when a kept connection has died; a
 * write may have been executed before that. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct http *h = arg;
    if (!h->req->is_repeatable || origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_FAIL;
    h->sent = 0;
    return CURL_SEEKFUNC_OK;
}

/* --- a request ---------------------------------------------------------------------- */

static void set_tls(struct http *h)
{
    CURL *c = h->easy;
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    if (h->tls.ca)
        curl_easy_setopt(c, CURLOPT_CAINFO, h->tls.ca);
    if (h->tls.cert)
        curl_easy_setopt(c, CURLOPT_SSLCERT, h->tls.cert);
    if (h->tls.key)
        curl_easy_setopt(c, CURLOPT_SSLKEY, h->tls.key);
}

static struct curl_slist *header_list(const struct http_request *req)
{
    /* No "100 Continue" first: it costs a round trip. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; req->headers && req->headers[i]; i++)
        list = curl_slist_append(list, req->headers[i]);
    return list;
}

static void set_options(struct http *h, const struct http_request *req,
                        struct curl_slist *headers)
{
    CURL *c = h->easy;
    curl_easy_reset(c); /* keeps the connections */
    set_tls(h);
    curl_easy_setopt(c, CURLOPT_URL, req->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, req->method);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    if (strcmp(req->method, "HEAD") == 0)
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    if (req->body) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(c, CURLOPT_READDATA, h);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, h);
    }
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->why);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)req->connect_ms);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)req->timeout_ms);
    curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)CONNECTION_IDLE_S);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_PROBE_S);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    /* Where requests go is decided by the configuration, not by the environment. */
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    h->why[0] = '\0';
}

/* Moves the transfer on for a while; true when it has ended, *rc saying how. */
static bool step(struct http *h, CURLcode *rc)
{
    int running = 0;
    CURLMcode m = curl_multi_perform(h->multi, &running);
    assert(m == CURLM_OK);
    int left;
    CURLMsg *msg;
    while ((msg = curl_multi_info_read(h->multi, &left)) != NULL) {
        if (msg->msg == CURLMSG_DONE) {
            *rc = msg->data.result;
            return true;
        }
    }
    const struct http_request *req = h->req;
    int64_t idle_left = h->last_ms + req->idle_ms - now_ms();
    if (atomic_load(&h->aborted)) {
        h->stop = err_new(ERR_CANCELLED, "request was aborted");
    } else if (req->idle_ms > 0 && idle_left <= 0) {
        h->stop =
            err_new(ERR_TIMEOUT, "nothing received for %lld ms", (long long)req->idle_ms);
    }
    if (h->stop)
        return true;
    int wait = req->idle_ms > 0 && idle_left < POLL_MS ? (int)idle_left : POLL_MS;
    curl_multi_poll(h->multi, NULL, 0, wait, NULL);
    return false;
}

/* Did any byte of the request leave? Only then may it have been executed. */
static bool was_sent(const struct http *h)
{
    long bytes = 0;
    curl_easy_getinfo(h->easy, CURLINFO_REQUEST_SIZE, &bytes);
    return bytes > 0 || h->sent > 0;
}

static struct err *failure(struct http *h, CURLcode rc)
{
    const char *why = h->why[0] ? h->why : curl_easy_strerror(rc);
    switch (rc) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return err_new(ERR_INVALID, "%s", why);
    default:
        return err_new(was_sent(h) ? ERR_TIMEOUT : ERR_UNAVAILABLE, "%s", why);
    }
}

static struct err *perform(struct http *h)
{
    CURLMcode m = curl_multi_add_handle(h->multi, h->easy);
    assert(m == CURLM_OK);
    CURLcode rc = CURLE_OK;
    while (!step(h, &rc))
        continue;
    struct err *e = STEAL(h->stop);
    if (!e && rc != CURLE_OK)
        e = failure(h, rc);
    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->reply->status);
    curl_multi_remove_handle(h->multi, h->easy);
    return e;
}

struct err *http_do(struct http *h, const struct http_request *req,
                    struct http_reply *out)
{
    assert(req->connect_ms > 0 && (req->on_body || req->max_reply_bytes > 0));
    *out = (struct http_reply){0};
    if (atomic_load(&h->aborted))
        return err_new(ERR_CANCELLED, "request was aborted");
    h->req = req;
    h->reply = out;
    h->sent = 0;
    h->last_ms = now_ms();
    struct curl_slist *headers = header_list(req);
    set_options(h, req, headers);
    struct err *e = perform(h);
    curl_slist_free_all(headers);
    h->req = NULL;
    h->reply = NULL;
    return e ? err_wrap(e, "%s %s", req->method, req->url) : NULL;
}
