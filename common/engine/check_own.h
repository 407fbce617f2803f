/* The inside of a running check, shared by check*.c only. */
#ifndef COMMON_ENGINE_CHECK_OWN_H
#define COMMON_ENGINE_CHECK_OWN_H

#include <pthread.h>

#include "common/engine/check.h"

enum { CHECK_WORKERS_MAX = 16, CHECK_DEPTH_MAX = 10000 };

/* A set of numbers below a bound that is known. */
struct bitmap {
    atomic_uchar *bits;
    size_t n;
};
void bitmap_init(struct bitmap *b, size_t n);
void bitmap_fini(struct bitmap *b);
/* True when it was not there before. Any thread. */
bool bitmap_add(struct bitmap *b, size_t at);
bool bitmap_has(const struct bitmap *b, size_t at);

/* A walk over trees, each once, by several threads. */
struct walk {
    struct repo *repo;
    const atomic_bool *cancel;
    struct problems *problems; /* NULL: the first problem ends the walk */
    struct bitmap packs;       /* those that are used; empty: nobody asks */
    struct repo_io *ios[CHECK_WORKERS_MAX];
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t changed;
    struct bitmap seen;     /* trees, by number */
    struct digest *waiting; /* trees to be looked at: a stack */
    size_t waiting_n;
    size_t waiting_cap;
    unsigned busy; /* threads that look at one */
    uint64_t trees;
    bool lost; /* something that is referred to is not in the index */
    struct err *first;
};
void walk_init(struct walk *w, struct repo *r);
void walk_fini(struct walk *w);
/* Adds a tree to be walked, unless it was. */
struct err *walk_add(struct walk *w, const struct digest *tree) MUST_USE;
/* Walks everything that was added; then more may be. */
struct err *walk_run(struct walk *w) MUST_USE;

/* A worker's buffers, kept from pack to pack. */
struct check_room {
    struct buf run;
    struct buf plain[2];
};

struct check {
    struct repo *repo;
    const struct check_opts *opts;
    struct check_result *out;
    struct repo_io *ios[CHECK_WORKERS_MAX];
    struct check_room rooms[CHECK_WORKERS_MAX];
    struct bitmap bad_packs; /* missing, or of the wrong size */
    struct bitmap lost;      /* blobs without any copy that can be read, by number */
    atomic_bool any_lost;
    uint64_t packs_to_read;
    atomic_uint_fast64_t done;
    atomic_uint_fast64_t bytes;
};
bool check_is_cancelled(const atomic_bool *cancel);
void check_rooms_fini(struct check *c);
/* Reads the packs that the options name. */
struct err *check_packs(struct check *c) MUST_USE;
/* Marks the blobs of a pack that cannot be read elsewhere either. */
void check_mark_lost(struct check *c, struct repo_io *io, size_t pack);
/* Names the files of a snapshot that cannot be restored. `clean` remembers trees without
 * any, for further snapshots. */
struct err *check_name_lost(struct check *c, const struct digest *snapshot,
                            const struct digest *tree, struct bitmap *clean) MUST_USE;

#endif
