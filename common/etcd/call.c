#include "common/etcd/call.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"

enum {
    TIMEOUT_MS = 5000,
    CONNECT_MS = 1500,
    ATTEMPT_MIN_MS = 500,
    TOKEN_BYTES = 4096,
    /* gRPC's codes, which the gateway repeats in its replies. */
    CODE_INVALID_ARGUMENT = 3,
    CODE_NOT_FOUND = 5,
    CODE_ALREADY_EXISTS = 6,
    CODE_PERMISSION_DENIED = 7,
    CODE_RESOURCE_EXHAUSTED = 8,
    CODE_FAILED_PRECONDITION = 9,
    CODE_OUT_OF_RANGE = 11,
    CODE_UNIMPLEMENTED = 12,
    CODE_UNAUTHENTICATED = 16,
};

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static char *copy(const char *s)
{
    return s ? mem_strdup(s) : NULL;
}

static struct err *add_endpoint(struct etcd *e, const char *url)
{
    bool plain = strncmp(url, "http://", 7) == 0;
    bool secure = strncmp(url, "https://", 8) == 0;
    if (!plain && !secure)
        return err_new(ERR_INVALID, "endpoint '%s' is no http or https address", url);
    if (plain && e->cert)
        return err_new(ERR_INVALID, "endpoint '%s' would not use the certificate", url);
    if (e->n_endpoints == ETCD_ENDPOINTS)
        return err_new(ERR_LIMIT, "more than %d endpoints", ETCD_ENDPOINTS);
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    e->endpoints[e->n_endpoints++] = mem_strndup(url, n);
    return NULL;
}

struct err *etcd_open(const struct etcd_conf *conf, struct etcd **out)
{
    AUTO(etcd) struct etcd *e = mem_zalloc(sizeof *e);
    pthread_mutex_init(&e->lock, NULL);
    e->ca = copy(conf->ca);
    e->cert = copy(conf->cert);
    e->key = copy(conf->key);
    e->user = copy(conf->user);
    e->password = copy(conf->password);
    e->timeout_ms = conf->timeout_ms ? conf->timeout_ms : TIMEOUT_MS;
    for (size_t i = 0; conf->endpoints && conf->endpoints[i]; i++)
        TRY(add_endpoint(e, conf->endpoints[i]));
    if (e->n_endpoints == 0)
        return err_new(ERR_INVALID, "no etcd endpoints");
    if (!e->cert != !e->key)
        return err_new(ERR_INVALID, "certificate and key belong together");
    *out = STEAL(e);
    return NULL;
}

void etcd_close(struct etcd *e)
{
    if (!e)
        return;
    for (size_t i = 0; i < e->n_idle; i++)
        http_free(e->idle[i]);
    for (size_t i = 0; i < e->n_endpoints; i++) {
        free(e->endpoints[i]);
        free(e->tokens[i]);
    }
    free(e->idle);
    free(e->ca);
    free(e->cert);
    free(e->key);
    free(e->user);
    free(e->password);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

struct http *etcd_http_new(struct etcd *e)
{
    struct http_tls tls = {e->ca, e->cert, e->key};
    return http_new(&tls);
}

static struct http *borrow(struct etcd *e)
{
    pthread_mutex_lock(&e->lock);
    struct http *h = e->n_idle > 0 ? e->idle[--e->n_idle] : NULL;
    pthread_mutex_unlock(&e->lock);
    return h ? h : etcd_http_new(e);
}

static void give_back(struct etcd *e, struct http *h)
{
    pthread_mutex_lock(&e->lock);
    mem_reserve((void **)&e->idle, &e->cap_idle, e->n_idle, sizeof(struct http *));
    e->idle[e->n_idle++] = h;
    pthread_mutex_unlock(&e->lock);
}

/* --- what replies say --------------------------------------------------------------- */

/* Whether a write happened cannot be told from a fault on the server's side; a read may
 * simply be asked elsewhere. */
static enum err_kind kind_of_fault(enum etcd_repeat repeat)
{
    return repeat == ETCD_REPEATABLE ? ERR_UNAVAILABLE : ERR_TIMEOUT;
}

static enum err_kind kind_of_exhausted(const char *message)
{
    if (strstr(message, "database space exceeded"))
        return ERR_NO_SPACE;
    if (strstr(message, "too many requests")) /* refused before it is proposed */
        return ERR_UNAVAILABLE;
    return ERR_LIMIT;
}

static enum err_kind kind_of_reply(int code, const char *message, enum etcd_repeat repeat)
{
    switch (code) {
    case CODE_INVALID_ARGUMENT:
        if (strstr(message, "too many operations") || strstr(message, "too large"))
            return ERR_LIMIT;
        return strstr(message, "authentication failed") ||
                       strstr(message, "user name is empty")
                   ? ERR_DENIED
                   : ERR_INVALID;
    case CODE_NOT_FOUND:
        return ERR_NOT_FOUND;
    case CODE_ALREADY_EXISTS:
    case CODE_FAILED_PRECONDITION:
        return ERR_CONFLICT;
    case CODE_OUT_OF_RANGE: /* compacted and future revisions differ in words only */
        return strstr(message, "compacted") ? ERR_CONFLICT : ERR_INVALID;
    case CODE_PERMISSION_DENIED:
    case CODE_UNAUTHENTICATED:
        return ERR_DENIED;
    case CODE_RESOURCE_EXHAUSTED:
        return kind_of_exhausted(message);
    case CODE_UNIMPLEMENTED:
        return ERR_INVALID;
    default:
        return kind_of_fault(repeat);
    }
}

struct err *etcd_reply_error(const json_t *reply, enum etcd_repeat repeat)
{
    const json_t *code = json_object_get(reply, "code");
    const json_t *holder = reply;
    const json_t *error = json_object_get(reply, "error");
    if (json_is_object(error)) { /* of a stream */
        holder = error;
        code = json_object_get(error, "grpc_code");
    }
    if (!code && !error)
        return NULL;
    const char *message = json_string_value(json_object_get(holder, "message"));
    if (!message)
        message = json_is_string(error) ? json_string_value(error) : "no message";
    int number = (int)json_integer_value(code);
    return err_new(kind_of_reply(number, message, repeat), "%s (code %d)", message,
                   number);
}

static struct err *read_reply(const struct http_reply *reply, enum etcd_repeat repeat,
                              json_t **out)
{
    json_error_t why;
    AUTO(etcd_json)
    json_t *object =
        json_loadb(buf_text(&reply->body), reply->body.len, JSON_REJECT_DUPLICATES, &why);
    if (json_is_object(object)) {
        TRY(etcd_reply_error(object, repeat));
        if (reply->status == 200) {
            *out = STEAL(object);
            return NULL;
        }
    }
    /* No JSON, or a status that contradicts it: not etcd's gateway, or it is broken. */
    enum err_kind kind = reply->status == 401 || reply->status == 403 ? ERR_DENIED
                         : reply->status >= 400 && reply->status < 500
                             ? ERR_INVALID
                             : kind_of_fault(repeat);
    if (reply->status == 200)
        kind = repeat == ETCD_REPEATABLE ? ERR_CORRUPT : ERR_TIMEOUT;
    return err_new(kind, "HTTP status %ld: %.200s", reply->status,
                   buf_text(&reply->body));
}

/* --- one attempt -------------------------------------------------------------------- */

static struct err *post(struct etcd *e, struct http *h, size_t endpoint, const char *path,
                        const char *text, const char *authorization,
                        enum etcd_repeat repeat, int64_t timeout_ms, json_t **out)
{
    AUTO(str) char *url = mem_printf("%s/v3/%s", e->endpoints[endpoint], path);
    const char *headers[] = {"Content-Type: application/json", authorization, NULL};
    struct http_request req = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .body = text,
        .body_len = strlen(text),
        .is_repeatable = repeat == ETCD_REPEATABLE,
        .connect_ms = timeout_ms < CONNECT_MS ? timeout_ms : CONNECT_MS,
        .timeout_ms = timeout_ms,
        .max_reply_bytes = ETCD_REPLY_BYTES,
    };
    struct http_reply reply;
    struct err *err = http_do(h, &req, &reply);
    if (!err)
        err = read_reply(&reply, repeat, out);
    http_reply_fini(&reply);
    return err;
}

void etcd_token_forget(struct etcd *e, size_t endpoint)
{
    pthread_mutex_lock(&e->lock);
    free(e->tokens[endpoint]);
    e->tokens[endpoint] = NULL;
    pthread_mutex_unlock(&e->lock);
}

static struct err *authenticate(struct etcd *e, struct http *h, size_t endpoint)
{
    AUTO(etcd_json)
    json_t *body = json_pack("{s:s, s:s}", "name", e->user, "password", e->password);
    if (!body)
        return err_new(ERR_INVALID, "user or password is not UTF-8");
    AUTO(str) char *text = json_dumps(body, JSON_COMPACT);
    AUTO(etcd_json) json_t *reply = NULL;
    TRY_CTX(post(e, h, endpoint, "auth/authenticate", text, NULL, ETCD_REPEATABLE,
                 e->timeout_ms, &reply),
            "authenticate '%s'", e->user);
    const char *token = json_string_value(json_object_get(reply, "token"));
    if (!token || strlen(token) > TOKEN_BYTES || strpbrk(token, "\r\n"))
        return err_new(ERR_CORRUPT, "authentication gave no token");
    etcd_token_forget(e, endpoint);
    pthread_mutex_lock(&e->lock);
    e->tokens[endpoint] = mem_strdup(token);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static char *header_of_token(struct etcd *e, size_t endpoint)
{
    pthread_mutex_lock(&e->lock);
    char *header =
        e->tokens[endpoint] ? mem_printf("Authorization: %s", e->tokens[endpoint]) : NULL;
    pthread_mutex_unlock(&e->lock);
    return header;
}

struct err *etcd_authorization(struct etcd *e, struct http *h, size_t endpoint,
                               char **out)
{
    *out = NULL;
    if (!e->user)
        return NULL;
    *out = header_of_token(e, endpoint);
    if (*out)
        return NULL;
    TRY(authenticate(e, h, endpoint));
    *out = header_of_token(e, endpoint);
    return NULL;
}

/* A refused token was refused before anything was done: one more try with a new one. */
static struct err *attempt(struct etcd *e, struct http *h, size_t endpoint,
                           const char *path, const char *text, enum etcd_repeat repeat,
                           int64_t timeout_ms, json_t **out)
{
    for (int round = 0;; round++) {
        AUTO(str) char *authorization = NULL;
        TRY(etcd_authorization(e, h, endpoint, &authorization));
        struct err *err =
            post(e, h, endpoint, path, text, authorization, repeat, timeout_ms, out);
        if (!err || err->kind != ERR_DENIED || !e->user || round == 1)
            return err;
        err_free(err);
        etcd_token_forget(e, endpoint);
    }
}

/* --- all endpoints ------------------------------------------------------------------ */

static bool try_next(const struct err *err, enum etcd_repeat repeat)
{
    return err->kind == ERR_UNAVAILABLE ||
           (err->kind == ERR_TIMEOUT && repeat == ETCD_REPEATABLE);
}

/* What one attempt may take: a read must leave time to ask somebody else. */
static int64_t share(const struct etcd *e, int64_t left_ms, enum etcd_repeat repeat)
{
    int64_t part = e->timeout_ms / (int64_t)e->n_endpoints;
    if (repeat == ETCD_ONCE || part >= left_ms)
        return left_ms;
    return part > ATTEMPT_MIN_MS ? part : ATTEMPT_MIN_MS;
}

static struct err *try_all(struct etcd *e, struct http *h, const char *path,
                           const char *text, enum etcd_repeat repeat, json_t **out)
{
    int64_t end_ms = now_ms() + e->timeout_ms;
    struct err *err = NULL;
    for (size_t i = 0; i < e->n_endpoints; i++) {
        int64_t left = end_ms - now_ms();
        if (err && left <= 0)
            break;
        err_free(err);
        size_t endpoint = atomic_load(&e->preferred) % e->n_endpoints;
        err = attempt(e, h, endpoint, path, text, repeat, share(e, left, repeat), out);
        if (!err)
            return NULL;
        /* Whatever it is, the next call had better ask somebody else. */
        if (err->kind == ERR_UNAVAILABLE || err->kind == ERR_TIMEOUT)
            atomic_store(&e->preferred, endpoint + 1);
        if (!try_next(err, repeat))
            break;
    }
    return err;
}

static int64_t boottime_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void etcd_cut(struct etcd *e, int64_t for_ms)
{
    atomic_store(&e->cut_until_ms, boottime_ms() + for_ms);
}

struct err *etcd_call(struct etcd *e, const char *path, json_t *body,
                      enum etcd_repeat repeat, json_t **out)
{
    AUTO(str) char *text = json_dumps(body, JSON_COMPACT);
    assert(text);
    json_decref(body);
    *out = NULL;
    if (boottime_ms() < atomic_load(&e->cut_until_ms))
        return err_new(ERR_UNAVAILABLE, "etcd %s: cut off by a drill", path);
    struct http *h = borrow(e);
    struct err *err = try_all(e, h, path, text, repeat, out);
    give_back(e, h);
    return err ? err_wrap(err, "etcd %s", path) : NULL;
}

struct err *etcd_health(struct etcd *e)
{
    struct http *h = borrow(e);
    struct err *err = NULL;
    for (size_t i = 0; i < e->n_endpoints; i++) {
        AUTO(str) char *url = mem_printf("%s/health", e->endpoints[i]);
        struct http_request req = {.method = "GET",
                                   .url = url,
                                   .is_repeatable = true,
                                   .connect_ms = CONNECT_MS,
                                   .timeout_ms = e->timeout_ms,
                                   .max_reply_bytes = 4096};
        struct http_reply reply;
        err_free(err);
        err = http_do(h, &req, &reply);
        if (!err && !strstr(buf_text(&reply.body), "\"health\":\"true\""))
            err = err_new(ERR_UNAVAILABLE, "'%s' is not healthy", e->endpoints[i]);
        http_reply_fini(&reply);
        if (!err)
            break;
    }
    give_back(e, h);
    return err;
}
