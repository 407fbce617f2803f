/* Stores a directory (usually a capture) as a snapshot. Its workers are all alike: each
 * lists, reads, hashes, compresses, encrypts and stores. */
#ifndef COMMON_ENGINE_BACKUP_H
#define COMMON_ENGINE_BACKUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/chunks.h"
#include "common/base/err.h"
#include "common/engine/base.h"
#include "common/engine/manifest.h"
#include "common/engine/problems.h"
#include "common/repo/lock.h"
#include "common/repo/repo.h"

struct backup_progress {
    uint64_t files;        /* done, of any kind but directories */
    uint64_t bytes_read;   /* of file contents, also when reused from the parent */
    uint64_t bytes_stored; /* added to the repository */
    uint64_t problems;
};

struct backup_opts {
    const char *source;   /* directory to read */
    const char *path;     /* absolute path it stands for in the snapshot */
    const char *hostname; /* of the snapshot */
    const char *const *tags;
    size_t tags_n;
    /* Patterns: with a leading '/' against the path below source or the logical path,
     * otherwise against the name of an entry at any level; *, ? and [] as in fnmatch(3).
     * An excluded directory is left out with all below. */
    const char *const *excludes;
    size_t excludes_n;
    struct go_time time;
    /* Snapshot whose content lists are reused for files of unchanged size, mtime, ctime
     * and inode; NULL reads everything. */
    const struct snapshot *parent;
    /* The capture that `parent` was made of: what lies on the same blocks there is
     * neither read nor hashed. May be NULL. */
    const struct base *base;
    /* Inode numbers and times of the source, when it is a copy; may be NULL. */
    const struct manifest *manifest;
    /* Lock held by the caller, checked now and then; NULL: none. */
    struct repo_lock *lock;
    struct chunks chunks; /* how files are cut; zeroed: by content */
    /* An earlier attempt may have been killed: packs that it left unlisted are taken into
     * the index first. Needs the lock, and is skipped while anybody else has one. */
    bool resume;
    unsigned workers; /* 0: two more than processors */
    /* Bytes that `journal` got in an earlier attempt, or NULL. If all they refer to is
     * stored, or comes out the same again, they are stored as they are instead of a
     * second snapshot. */
    const void *journaled;
    size_t journaled_n;
    /* Called once with the snapshot file's exact bytes before they are uploaded, with
     * everything they refer to stored. An error ends the backup. May be NULL. */
    struct err *(*journal)(void *ctx, const struct digest *id, const void *bytes,
                           size_t n);
    void *journal_ctx;
    /* Called at most five times a second, from the calling thread. May be NULL. */
    void (*progress)(void *ctx, const struct backup_progress *now);
    void *progress_ctx;
    const atomic_bool *cancel; /* when it turns true: CANCELLED. May be NULL */
};

struct backup_result {
    struct digest snapshot;
    struct digest tree; /* root tree */
    struct snapshot_summary summary;
    uint64_t others; /* symlinks, devices, fifos */
    /* Of the bytes processed, those in changed files that were not read, since they lie
     * on the same blocks as in the base. */
    uint64_t bytes_known;
    /* Every file that could not be read. */
    struct problems problems;
};
void backup_result_fini(struct backup_result *r);

/* Needs: repo_load_index was called. Fills *out, also on failure (the problems). Any
 * problem fails the whole backup with IO: what is stored then is reused by a retry, but
 * no snapshot is made. CANCELLED, NO_SPACE, UNAVAILABLE… come from below. */
struct err *backup_run(struct repo *r, const struct backup_opts *opts,
                       struct backup_result *out) MUST_USE;

/* The same, beginning from the base that `file` tells of, whose snapshot becomes the
 * parent, and remembering this capture there as the next one's base. *why is for
 * err_free: why nothing could be known by extents, or the next backup will know nothing;
 * NULL if all went well. */
struct err *backup_run_on_base(struct repo *r, const struct backup_opts *opts,
                               const char *file, struct backup_result *out,
                               struct err **why) MUST_USE;

/* The newest snapshot of opts' host and path, not newer than opts->time, that has all of
 * `tags` (say "partition=a"; the tags of opts do not count); *found is false if there is
 * none. *out is for snapshot_fini. */
struct err *backup_find_parent(struct repo *r, const struct backup_opts *opts,
                               const char *const *tags, size_t tags_n,
                               struct snapshot *out, bool *found) MUST_USE;

/* One in-memory file of a small snapshot. */
struct backup_memory_file {
    const char *name;
    const void *data;
    size_t n;
};
/* Stores a snapshot whose root holds these files (mode 0600, of root), for records such
 * as set.json. Uses of opts: path, hostname, tags, time, journal. */
struct err *backup_memory(struct repo *r, const struct backup_opts *opts,
                          const struct backup_memory_file *files, size_t n,
                          struct digest *snapshot) MUST_USE;

#endif
