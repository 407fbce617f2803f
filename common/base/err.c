#include "common/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static struct err *err_build(enum err_kind kind, int os, const char *where,
                             const char *fmt, va_list ap)
{
    struct err *e = mem_zalloc(sizeof *e);
    e->kind = kind;
    e->os = os;
    e->where = where;
    e->msg = mem_vprintf(fmt, ap);
    return e;
}

struct err *err_make(enum err_kind kind, int os, const char *where, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct err *e = err_build(kind, os, where, fmt, ap);
    va_end(ap);
    return e;
}

static enum err_kind kind_of_errno(int os)
{
    switch (os) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
        return ERR_UNAVAILABLE;
    default:
        return ERR_IO;
    }
}

struct err *err_make_os(int os, const char *where, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct err *e = err_build(kind_of_errno(os), os, where, fmt, ap);
    va_end(ap);
    return e;
}

struct err *err_wrap_at(struct err *cause, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct err *e = err_build(cause->kind, cause->os, cause->where, fmt, ap);
    va_end(ap);
    e->cause = cause;
    return e;
}

void err_free(struct err *e)
{
    while (e) {
        struct err *cause = e->cause;
        free(e->msg);
        free(e);
        e = cause;
    }
}

char *err_text(const struct err *e)
{
    char *text = mem_strdup("");
    int os = 0;
    for (; e; e = e->cause) {
        char *longer = mem_printf("%s%s%s", text, *text ? ": " : "", e->msg);
        free(text);
        text = longer;
        os = e->os;
    }
    if (!os)
        return text;
    char *full = mem_printf("%s: %s", text, strerrordesc_np(os));
    free(text);
    return full;
}

const char *err_kind_name(enum err_kind kind)
{
    switch (kind) {
#define X(name)                                                                          \
    case ERR_##name:                                                                     \
        return #name;
        ERR_KINDS(X)
#undef X
    }
    return "UNKNOWN";
}
