#include "common/obs/log.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

static enum log_level threshold = LOG_LEVEL_INFO;
static bool never_waits;
static _Atomic unsigned lost; /* lines, since the last one that was written */
static const char *const names[] = {"error", "warn", "info", "debug"};
static const int priorities[] = {3, 4, 6, 7};

void log_set_level(enum log_level level)
{
    threshold = level;
}

/* A peer's text must not forge a second line, nor drive a terminal. */
static void defuse(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 127)
            *s = ' ';
}

void log_never_wait(void)
{
    never_waits = true;
}

/* A socket is asked not to wait; of anything else is known whether it would. */
static bool put(const void *line, size_t len)
{
    if (!never_waits)
        return write(STDERR_FILENO, line, len) >= 0;
    ssize_t n = send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0 || errno != ENOTSOCK)
        return n >= 0;
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) &&
           write(STDERR_FILENO, line, len) >= 0;
}

static void begin(struct buf *line, enum log_level level)
{
    if (getenv("JOURNAL_STREAM"))
        buf_printf(line, "<%d>", priorities[level]);
    buf_printf(line, "%s ", names[level]);
}

static void tell_losses(void)
{
    unsigned n = atomic_exchange(&lost, 0);
    if (n == 0)
        return;
    AUTO_BUF struct buf line;
    buf_init(&line);
    begin(&line, LOG_LEVEL_WARN);
    buf_printf(&line, "log lost lines=%u\n", n);
    if (!put(line.data, line.len))
        lost += n;
}

void log_line(enum log_level level, const char *component, const char *event,
              const char *fmt, ...)
{
    if (level > threshold)
        return;
    va_list ap;
    va_start(ap, fmt);
    AUTO(str) char *fields = mem_vprintf(fmt, ap);
    va_end(ap);
    defuse(fields);
    AUTO_BUF struct buf line;
    buf_init(&line);
    begin(&line, level);
    buf_printf(&line, "%s %s%s%s\n", component, event, *fields ? " " : "", fields);
    tell_losses();
    if (!put(line.data, line.len))
        lost++; /* there is nowhere else to say so */
}

void log_err(enum log_level level, const char *component, const char *event,
             struct err *e)
{
    if (!e)
        return;
    AUTO(str) char *text = err_text(e);
    log_line(level, component, event, "kind=%s at=%s error=\"%s\"",
             err_kind_name(e->kind), e->where, text);
    err_free(e);
}
