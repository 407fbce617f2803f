/* Errors are values: a kind to act on, a message to read, the cause below. Any thread. */
#ifndef COMMON_BASE_ERR_H
#define COMMON_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#include "common/base/attr.h"

/* What the caller may do about it. Switch on these, never on text. */
#define ERR_KINDS(X)                                                                     \
    X(INVALID)     /* the request or file is wrong: fix it */                            \
    X(NOT_FOUND)   /* what was named does not exist */                                   \
    X(CONFLICT)    /* the state does not allow it (now) */                               \
    X(STALE_TOKEN) /* a newer coordinator holds the domain: stop acting */               \
    X(DENIED)      /* the identity may not do this */                                    \
    X(TIMEOUT)     /* no answer in time; a write is *unknown*, read it back */           \
    X(UNAVAILABLE) /* certainly not done; may be tried again */                          \
    X(CORRUPT)     /* stored bytes are not what was written */                           \
    X(NO_SPACE)    /* the target is full */                                              \
    X(LIMIT)       /* a named limit would be exceeded */                                 \
    X(CANCELLED)   /* somebody asked to stop */                                          \
    X(IO)          /* the operating system says no */

enum err_kind {
#define X(name) ERR_##name,
    ERR_KINDS(X)
#undef X
};

struct err {
    enum err_kind kind; /* of the origin; wrapping keeps it */
    int os;             /* errno at the origin, 0 if none */
    const char *where;  /* "file:line" of the origin, static */
    char *msg;          /* this level's words, owned */
    struct err *cause;  /* the level below, owned, or NULL */
};

/* Make an error of a kind. The result is owned by whoever receives it. */
#define err_new(kind, ...) err_make((kind), 0, ERR_WHERE, __VA_ARGS__)
/* Make an error from errno value `os`; ENOSPC/EDQUOT become NO_SPACE, ENOENT NOT_FOUND,
 * EACCES/EPERM DENIED, ETIMEDOUT TIMEOUT, ECONNREFUSED/ECONNRESET/EPIPE UNAVAILABLE,
 * all others IO. */
#define err_os(os, ...) err_make_os((os), ERR_WHERE, __VA_ARGS__)
/* Put this level's words above `cause`, which is taken over. Keeps kind, os and where. */
#define err_wrap(cause, ...) err_wrap_at((cause), __VA_ARGS__)

#define ERR_STR2(x) #x
#define ERR_STR(x) ERR_STR2(x)
#define ERR_WHERE __FILE__ ":" ERR_STR(__LINE__)

struct err *err_make(enum err_kind kind, int os, const char *where, const char *fmt,
                     ...) MUST_USE PRINTF_LIKE(4, 5);
struct err *err_make_os(int os, const char *where, const char *fmt, ...) MUST_USE
    PRINTF_LIKE(3, 4);
struct err *err_wrap_at(struct err *cause, const char *fmt, ...) MUST_USE
    PRINTF_LIKE(2, 3);

/* Frees the whole chain; NULL is fine. */
void err_free(struct err *e);
DEFINE_AUTO(err, struct err *, err_free);

/* The chain as one line, outermost first: "prepare 'a': connect: connection refused".
 * Returns a string of malloc(3) that the caller frees. */
char *err_text(const struct err *e) MUST_USE;
/* "INVALID", "NOT_FOUND"…: static. */
const char *err_kind_name(enum err_kind kind);

#define TRY(expr)                                                                        \
    do {                                                                                 \
        struct err *e_ = (expr);                                                         \
        if (e_)                                                                          \
            return e_;                                                                   \
    } while (0)
#define TRY_CTX(expr, ...)                                                               \
    do {                                                                                 \
        struct err *e_ = (expr);                                                         \
        if (e_)                                                                          \
            return err_wrap(e_, __VA_ARGS__);                                            \
    } while (0)

#endif
