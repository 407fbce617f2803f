/* Structured logs, one event per line: `level component event key=value...`. Under
 * systemd lines carry the journal's <N> priority prefix. Any thread; a line is one
 * write(2). */
#ifndef COMMON_OBS_LOG_H
#define COMMON_OBS_LOG_H

#include "common/base/attr.h"
#include "common/base/err.h"

enum log_level {
    LOG_LEVEL_ERROR, /* a human must act */
    LOG_LEVEL_WARN,  /* it will be tried again */
    LOG_LEVEL_INFO,  /* a state changed */
    LOG_LEVEL_DEBUG, /* the rest */
};

/* Lines above this level are dropped. Call before other threads exist. Default: INFO. */
void log_set_level(enum log_level level);

/* From now on a line is dropped rather than waited for, when whoever reads stderr does
 * not; the next one that can be written is preceded by how many were. For a process on
 * whose answers others stand still. Children that it forks inherit this. (A pipe that
 * others write to as well may still make it wait, if they fill it in between.) */
void log_never_wait(void);

/* `fmt` makes the key=value part and may be "". Values with blanks belong in %s quotes:
 * log_info("round", "moved", "set=%s to=%s", id, name); no secrets, no payloads. */
void log_line(enum log_level level, const char *component, const char *event,
              const char *fmt, ...) PRINTF_LIKE(4, 5);
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Logs the chain of `e` as error="…" and frees it: for whoever decides. NULL does
 * nothing. */
void log_err(enum log_level level, const char *component, const char *event,
             struct err *e);

#endif
