/* The one thread that owns a daemon's state: descriptors, timers and posted results
 * become calls on it, one at a time. Everything but loop_post and loop_stop is for that
 * thread. */
#ifndef COMMON_LOOP_LOOP_H
#define COMMON_LOOP_LOOP_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

struct loop;
typedef void loop_fn(void *arg);
typedef void loop_fd_fn(void *arg, uint32_t epoll_events);

struct err *loop_new(struct loop **out) MUST_USE;
/* The loop must not run; posted calls that were not made yet are dropped. */
void loop_free(struct loop *l);
DEFINE_AUTO(loop, struct loop *, loop_free);

/* Runs until loop_stop. */
void loop_run(struct loop *l);
/* Any thread; the call being made is finished first. */
void loop_stop(struct loop *l);

/* Any thread, not signal handlers: fn(arg) is called on the loop, in the order of
 * posting. Posts are bounded by what was started from the loop, so there is no limit of
 * their own. */
void loop_post(struct loop *l, loop_fn *fn, void *arg);

/* CLOCK_BOOTTIME in milliseconds, which goes on during suspend: the clock of all
 * deadlines. */
int64_t loop_now_ms(void);
/* The same in nanoseconds. */
int64_t loop_now_ns(void);

/* A one-shot timer; lives in the caller's storage, zeroed before first use. */
struct loop_timer {
    int64_t at_ms; /* when it fires; meaningful while armed */
    loop_fn *fn;
    void *arg;
    struct loop_timer *next; /* in the loop's list, ordered by at_ms then arming */
    int armed;
};
/* Arms or re-arms: fn(arg) is called once, delay_ms from now (0: at once, after this
 * call). */
void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms, loop_fn *fn,
                    void *arg);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);

/* Calls fn(arg, events) when the descriptor is ready for `epoll_events`. The descriptor
 * stays the caller's. One watch a descriptor. */
struct err *loop_watch(struct loop *l, int fd, uint32_t epoll_events, loop_fd_fn *fn,
                       void *arg) MUST_USE;
void loop_unwatch(struct loop *l, int fd);

/* Blocks SIGTERM, SIGINT and SIGHUP in the calling thread (call it before any other
 * thread is made) and calls fn(arg, signo) on the loop when one arrives. SIGPIPE is
 * ignored. */
typedef void loop_signal_fn(void *arg, int signo);
struct err *loop_signals(struct loop *l, loop_signal_fn *fn, void *arg) MUST_USE;

#endif
