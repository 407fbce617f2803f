#include <stdlib.h>

#include "common/base/mem.h"
#include "coordinator/shell/coord.h"

struct job {
    struct coord *coord;
    unsigned term;
    store_work_fn *work;
    store_job_fn *done;
    loop_fn *drop;
    void *arg;
};

static void run_job(void *arg)
{
    struct job *j = arg;
    j->work(j->coord->meta, j->arg);
}

static void end_job(void *arg)
{
    struct job *j = arg;
    if (j->term == j->coord->term && !j->coord->stopping)
        j->done(j->coord, j->arg);
    if (j->drop)
        j->drop(j->arg);
    free(j);
}

void store_job(struct coord *c, store_work_fn *work, store_job_fn *done, loop_fn *drop,
               void *arg)
{
    struct job *j = mem_zalloc(sizeof *j);
    *j = (struct job){c, c->term, work, done, drop, arg};
    pool_submit(c->meta_pool, run_job, end_job, j);
}

struct submission {
    struct meta_txn *txn;
    store_done_fn *done;
    loop_fn *drop;
    void *arg;
};

static void run_txn(struct meta *m, void *arg)
{
    meta_txn_run(m, ((struct submission *)arg)->txn);
}

static void txn_done(struct coord *c, void *arg)
{
    struct submission *s = arg;
    s->done(c, s->txn, s->arg);
}

static void drop_submission(void *arg)
{
    struct submission *s = arg;
    if (s->drop)
        s->drop(s->arg);
    meta_txn_free(s->txn);
    free(s);
}

void store_submit(struct coord *c, struct meta_txn *t, store_done_fn *done, loop_fn *drop,
                  void *arg)
{
    struct submission *s = mem_zalloc(sizeof *s);
    *s = (struct submission){t, done, drop, arg};
    store_job(c, run_txn, txn_done, drop_submission, s);
}
