/* A bounded queue with worker threads: back-pressure between the thread that reads or
 * walks and those that do the work. */
#ifndef COMMON_ENGINE_WORKQ_H
#define COMMON_ENGINE_WORKQ_H

#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"

struct workq;
/* Does one job, which it takes over; `worker` counts from 0. Runs on a worker's thread.
 */
typedef void workq_job(void *ctx, unsigned worker, void *job);

/* Starts `workers` threads behind a queue of `depth` jobs. */
struct err *workq_new(unsigned workers, size_t depth, workq_job *run, void *ctx,
                      struct workq **out) MUST_USE;
/* Adds a job; waits while the queue is full. One thread at a time. */
void workq_push(struct workq *q, void *job);
/* Waits until all jobs are done. */
void workq_drain(struct workq *q);
/* Drains, then ends the threads. */
void workq_free(struct workq *q);
DEFINE_AUTO(workq, struct workq *, workq_free);

/* A sensible number of workers: the processors this process may use, 1 to 16. */
unsigned workq_workers(void);

#endif
