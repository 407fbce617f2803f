#include "common/obs/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

static enum log_level threshold = LOG_LEVEL_INFO;
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
    if (getenv("JOURNAL_STREAM"))
        buf_printf(&line, "<%d>", priorities[level]);
    buf_printf(&line, "%s %s %s%s%s\n", names[level], component, event,
               *fields ? " " : "", fields);
    ssize_t n = write(STDERR_FILENO, line.data, line.len);
    (void)n; /* nowhere left to say that the log is gone */
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
