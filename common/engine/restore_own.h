/* The inside of a running restore, shared by restore*.c only. */
#ifndef COMMON_ENGINE_RESTORE_OWN_H
#define COMMON_ENGINE_RESTORE_OWN_H

#include <pthread.h>

#include "common/engine/restore.h"
#include "common/engine/workq.h"

enum { RESTORE_WORKERS_MAX = 16, RESTORE_DEPTH_MAX = 10000 };

/* The first name of a file with several; the others are linked to it at the end. */
struct link_source {
    uint64_t inode;
    uint64_t device_id;
    char *path;       /* below the target */
    atomic_bool done; /* it was written */
};

/* Link sources by (inode, device_id): open addressing over pointers. */
struct link_table {
    struct link_source **slots;
    size_t cap;
    size_t count;
};
/* The entry for the node's identity; made (with *fresh) when it is the first. */
struct link_source *link_table_get(struct link_table *t, const struct node *nd,
                                   const char *path, bool *fresh);
void link_table_fini(struct link_table *t);

/* A further name, made when all files are written. */
struct later_link {
    const struct link_source *source;
    char *path;
};

/* A directory whose metadata is applied when nothing below it changes any more. */
struct later_dir {
    char *path;
    struct node node;
};

/* A file on its way to a worker. */
struct file_job {
    char *path; /* below the target */
    struct node node;
    struct link_source *source; /* NULL: it has one name only */
};

struct restore {
    struct repo *repo;
    const struct restore_opts *opts;
    struct repo_io *io; /* of the walking thread */
    struct repo_io *ios[RESTORE_WORKERS_MAX];
    struct workq *queue;
    int root_fd;
    struct problems *problems;
    struct buf snap_path; /* of the entry in the snapshot, "/a/b" */
    size_t strip_n;       /* bytes of snap_path that target stands for */
    bool *included;       /* which includes were found */
    struct link_table links;
    struct later_link *later_links;
    size_t later_links_n;
    size_t later_links_cap;
    struct later_dir *later_dirs;
    size_t later_dirs_n;
    size_t later_dirs_cap;
    int64_t reported_ms;
    atomic_uint_fast64_t files;
    atomic_uint_fast64_t bytes;
};

/* Worker: writes one file, which it takes over. */
void restore_file(void *ctx, unsigned worker, void *job);
void file_job_free(struct file_job *job);

#endif
