/* JSON as a stream of events, for files too large or with numbers too big for a DOM. The
 * project's only door to yajl. Pure. */
#ifndef COMMON_REPO_JSCAN_H
#define COMMON_REPO_JSCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum jscan_what {
    JSCAN_MAP,
    JSCAN_MAP_END,
    JSCAN_ARRAY,
    JSCAN_ARRAY_END,
    JSCAN_KEY,    /* text: unescaped */
    JSCAN_STRING, /* text: unescaped */
    JSCAN_NUMBER, /* text: as written */
    JSCAN_BOOL,   /* text: "true" or "false" */
    JSCAN_NULL,
};

struct jscan_event {
    enum jscan_what what;
    int depth; /* of the containers around; an outermost MAP has 0, its keys 1 */
    const char *text;
    size_t len;
};

typedef struct err *jscan_visit(void *ctx, const struct jscan_event *ev);

/* Visits all events of one document; CORRUPT when it is not one. Stops at the visitor's
 * first error and returns it. */
struct err *jscan(const void *json, size_t n, jscan_visit *visit, void *ctx) MUST_USE;

/* The same for a document that comes in pieces: begin, feed…, end (which frees it). */
struct jscan_stream;
struct jscan_stream *jscan_begin(jscan_visit *visit, void *ctx);
struct err *jscan_feed(struct jscan_stream *s, const void *json, size_t n) MUST_USE;
struct err *jscan_end(struct jscan_stream *s) MUST_USE;

/* True when the event's text is exactly `s`. */
bool jscan_is(const struct jscan_event *ev, const char *s);
/* The event's text as unsigned number up to `max`; CORRUPT otherwise. */
struct err *jscan_u64(const struct jscan_event *ev, uint64_t max, uint64_t *out) MUST_USE;

#endif
