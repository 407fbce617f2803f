/* The inside of a running backup, shared by backup*.c only. */
#ifndef COMMON_ENGINE_BACKUP_OWN_H
#define COMMON_ENGINE_BACKUP_OWN_H

#include "common/engine/backup.h"
#include "common/engine/gear.h"
#include "common/engine/scan.h"
#include "common/engine/workq.h"

enum { BACKUP_WORKERS_MAX = 16, BACKUP_DEPTH_MAX = 2000 };

/* A directory whose list is not stored yet. It is finished by whoever ends its last
 * pending part: the walk itself, a piece of a file, a subdirectory. */
struct backup_dir {
    struct backup_dir *parent; /* NULL: the top */
    size_t parent_node;        /* position of this directory in parent->tree */
    struct tree tree;          /* nodes do not move once pending parts exist */
    size_t pending;            /* guarded by backup.mu, as are the nodes' contents */
    bool had_old;              /* the parent snapshot has this directory … */
    struct digest old;         /* … with this tree */
};

struct backup {
    struct repo *repo;
    const struct backup_opts *opts;
    struct repo_io *scan_io; /* of the walking thread */
    struct repo_io *ios[BACKUP_WORKERS_MAX];
    struct workq *queue;
    struct gear gear;
    struct scan_names *names;
    struct problems *problems;
    struct buf path; /* below source, "/a/b"; of the walking thread */
    uint32_t device_base;
    int64_t reported_ms;
    pthread_mutex_t mu;              /* guards all below */
    struct snapshot_summary summary; /* counts so far */
    uint64_t others;
    struct err *fatal;  /* first error that ends the backup */
    struct digest tree; /* of the top directory, once finished */
};

/* Records the first fatal error; takes e over. */
void backup_fail(struct backup *b, struct err *e);
/* CANCELLED, a lost lock, or IO when a worker failed: the walk must stop. */
struct err *backup_check(struct backup *b) MUST_USE;
/* Counts a saved blob. */
void backup_count(struct backup *b, enum blob_type type, size_t n,
                  const struct repo_saved *saved);

/* Walks `dir_fd` into `top` and waits until b->tree is known (or b->fatal is set).
 * old_tree: the same directory in the parent snapshot, NULL if none. */
struct err *backup_walk(struct backup *b, int dir_fd,
                        const struct digest *old_tree) MUST_USE;
/* device_id of what lives on another filesystem, mounted at `path`. */
uint32_t backup_device(const struct backup *b, const char *path);

#endif
