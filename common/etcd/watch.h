/* All changes below a prefix, in order, on the loop thread: a thread of its own keeps the
 * stream open, whatever happens to connections, endpoints and history. */
#ifndef COMMON_ETCD_WATCH_H
#define COMMON_ETCD_WATCH_H

#include "common/etcd/etcd.h"
#include "common/loop/loop.h"

struct etcd_watch;

enum etcd_event_kind {
    ETCD_PUT,    /* the key has this value now */
    ETCD_DELETE, /* the key is gone; only its mod_revision counts */
    /* What follows until SYNCED are puts of all keys there are; what is not among them
     * is gone. Comes first, and again when events may have been missed. */
    ETCD_RESET,
    ETCD_SYNCED,
};

struct etcd_event {
    enum etcd_event_kind kind;
    struct etcd_kv kv; /* of PUT and DELETE; borrowed during the call */
};

/* A batch of events as of `revision`. No further batch comes while this runs. Never after
 * etcd_watch_close. */
typedef void etcd_watch_fn(void *arg, const struct etcd_event *events, size_t n,
                           int64_t revision);

/* Starts with RESET, everything below `prefix`, SYNCED. `e` is borrowed. Loop thread. */
struct etcd_watch *etcd_watch_open(struct etcd *e, struct loop *loop, const char *prefix,
                                   etcd_watch_fn *fn, void *arg);
/* Joins the thread. Loop thread, or after loop_run returned; not from inside fn. */
void etcd_watch_close(struct etcd_watch *w);
DEFINE_AUTO(etcd_watch, struct etcd_watch *, etcd_watch_close);

#endif
