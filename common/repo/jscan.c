#include "common/repo/jscan.h"

#include <string.h>
#include <yajl/yajl_parse.h>

#include "common/base/mem.h"

/* Deeper nesting than any file has; hostile input must not grow the parser's stack. */
enum { DEPTH_MAX = 64 };

struct scan {
    jscan_visit *visit;
    void *ctx;
    int depth;
    struct err *e;
};

static int emit(struct scan *s, enum jscan_what what, const void *text, size_t len)
{
    struct jscan_event ev = {what, s->depth, text, len};
    s->e = s->visit(s->ctx, &ev);
    return s->e == NULL;
}

static int opens(struct scan *s, enum jscan_what what)
{
    if (s->depth >= DEPTH_MAX) {
        s->e = err_new(ERR_CORRUPT, "JSON nested deeper than %d levels", DEPTH_MAX);
        return 0;
    }
    int more = emit(s, what, "", 0);
    s->depth++;
    return more;
}

static int closes(struct scan *s, enum jscan_what what)
{
    s->depth--;
    return emit(s, what, "", 0);
}

static int on_null(void *ctx)
{
    return emit(ctx, JSCAN_NULL, "null", 4);
}

static int on_bool(void *ctx, int value)
{
    return emit(ctx, JSCAN_BOOL, value ? "true" : "false", value ? 4 : 5);
}

static int on_number(void *ctx, const char *text, size_t len)
{
    return emit(ctx, JSCAN_NUMBER, text, len);
}

static int on_string(void *ctx, const unsigned char *text, size_t len)
{
    return emit(ctx, JSCAN_STRING, text, len);
}

static int on_key(void *ctx, const unsigned char *text, size_t len)
{
    return emit(ctx, JSCAN_KEY, text, len);
}

static int on_map(void *ctx)
{
    return opens(ctx, JSCAN_MAP);
}

static int on_map_end(void *ctx)
{
    return closes(ctx, JSCAN_MAP_END);
}

static int on_array(void *ctx)
{
    return opens(ctx, JSCAN_ARRAY);
}

static int on_array_end(void *ctx)
{
    return closes(ctx, JSCAN_ARRAY_END);
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_map,
    .yajl_map_key = on_key,
    .yajl_end_map = on_map_end,
    .yajl_start_array = on_array,
    .yajl_end_array = on_array_end,
};

struct jscan_stream {
    struct scan scan;
    yajl_handle yajl;
    uint64_t before; /* bytes fed in earlier pieces */
    bool failed;     /* the error was given out */
};

/* The library looks at none of its own allocations, so it would write to address zero. */
static void *take(void *ctx, size_t bytes)
{
    (void)ctx;
    return mem_alloc(bytes);
}

static void *resize(void *ctx, void *p, size_t bytes)
{
    (void)ctx;
    return mem_resize(p, bytes, 1);
}

static void give_back(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

struct jscan_stream *jscan_begin(jscan_visit *visit, void *ctx)
{
    struct jscan_stream *s = mem_zalloc(sizeof *s);
    s->scan.visit = visit;
    s->scan.ctx = ctx;
    yajl_alloc_funcs memory = {take, resize, give_back, NULL};
    s->yajl = yajl_alloc(&callbacks, &memory, &s->scan);
    return s;
}

static struct err *result(struct jscan_stream *s, yajl_status st)
{
    if (st == yajl_status_ok)
        return NULL;
    s->failed = true;
    if (s->scan.e)
        return STEAL(s->scan.e);
    return err_new(ERR_CORRUPT, "not valid JSON near byte %llu",
                   (unsigned long long)(s->before + yajl_get_bytes_consumed(s->yajl)));
}

struct err *jscan_feed(struct jscan_stream *s, const void *json, size_t n)
{
    TRY(result(s, yajl_parse(s->yajl, json, n)));
    s->before += n;
    return NULL;
}

struct err *jscan_end(struct jscan_stream *s)
{
    struct err *e = NULL;
    if (!s->failed)
        e = result(s, yajl_complete_parse(s->yajl));
    yajl_free(s->yajl);
    free(s);
    return e;
}

struct err *jscan(const void *json, size_t n, jscan_visit *visit, void *ctx)
{
    struct jscan_stream *s = jscan_begin(visit, ctx);
    AUTO(err) struct err *fed = jscan_feed(s, json, n);
    struct err *e = jscan_end(s);
    return fed ? STEAL(fed) : e;
}

bool jscan_is(const struct jscan_event *ev, const char *s)
{
    return ev->len == strlen(s) && memcmp(ev->text, s, ev->len) == 0;
}

struct err *jscan_u64(const struct jscan_event *ev, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    bool ok = ev->what == JSCAN_NUMBER && ev->len > 0;
    for (size_t i = 0; ok && i < ev->len; i++) {
        unsigned d = (unsigned)(ev->text[i] - '0');
        ok = d < 10 && v <= (UINT64_MAX - d) / 10;
        v = ok ? v * 10 + d : v;
    }
    if (!ok || v > max)
        return err_new(ERR_CORRUPT, "'%.*s' is not a number that fits",
                       (int)(ev->len < 40 ? ev->len : 40), ev->text);
    *out = v;
    return NULL;
}
