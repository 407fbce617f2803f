/* Threads for work that blocks (etcd, guardian, copying). A job runs on one of them, then
 * its result is posted to the loop. A pool of one thread runs its jobs in order. */
#ifndef COMMON_LOOP_POOL_H
#define COMMON_LOOP_POOL_H

#include "common/loop/loop.h"

struct pool;

/* `threads` of them; `loop` is borrowed. */
struct pool *pool_new(struct loop *loop, const char *name, int threads);
/* Its threads, and those that jobs begin, stand back by `nice` (0 to 19, setpriority(2))
 * behind the process's others, with the processors and with disks. */
struct pool *pool_new_nice(struct loop *loop, const char *name, int threads, int nice);
/* Waits for running jobs; queued ones are not started, but their done is still posted
 * with the job never run, so stop the users first. */
void pool_free(struct pool *p);
DEFINE_AUTO(pool, struct pool *, pool_free);

/* work(arg) on a pool thread, then done(arg) on the loop. Loop thread only. The job owns
 * arg until done is called. */
void pool_submit(struct pool *p, loop_fn *work, loop_fn *done, void *arg);

#endif
