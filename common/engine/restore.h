/* Writes a snapshot, or parts of it, into a directory: whole packs are read in order,
 * each blob is decoded once and written wherever it belongs, by several threads. Nothing
 * is written outside that directory whatever the repository says or others do meanwhile.
 *
 * A restore that was killed is repeated: what is complete is recognised by size and time
 * of change, what was being written by its mode (RESTORE_MARK), and only what is missing
 * is written.
 *
 * Memory: besides the index, two windows of at most RESTORE_WINDOW_REFS pieces (and one
 * file more), a buffer of RESTORE_RUN_BYTES and a blob for each worker, and the lists of
 * the directories on the way to the current one. */
#ifndef COMMON_ENGINE_RESTORE_H
#define COMMON_ENGINE_RESTORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/problems.h"
#include "common/repo/repo.h"

enum {
    /* Mode of a file until it has its content, owner, attributes and times: no finished
     * file has it by chance. */
    RESTORE_MARK = 01600,
};

/* What becomes of entries that exist. A directory that exists is always used. */
enum restore_existing {
    RESTORE_REFUSE,     /* told as a problem, unless already as in the snapshot */
    RESTORE_NEVER,      /* left alone silently */
    RESTORE_IF_NEWER,   /* replaced when the snapshot's is newer */
    RESTORE_IF_CHANGED, /* replaced unless size and time of change are equal */
    RESTORE_ALWAYS,     /* content is compared by hash; what differs is written */
};

enum restore_action { RESTORE_CREATE, RESTORE_UPDATE, RESTORE_KEEP, RESTORE_DELETE };

/* How large files are written. The choice is for tests. */
enum restore_writes {
    RESTORE_WRITES_QUICKEST,
    RESTORE_WRITES_CACHED,
    RESTORE_WRITES_DIRECT
};

struct restore_progress {
    uint64_t files;
    uint64_t bytes;
    uint64_t kept;
    uint64_t kept_bytes;
    uint64_t problems;
};

struct restore_opts {
    const char *target; /* made when missing */
    /* A directory that exists and that target must be or lie below: nothing on the way
     * from there may be a link. NULL: anywhere, through links, too. */
    const char *below;
    /* Directory of the snapshot whose content lands directly in target, target itself
     * getting its owner, mode and times; NULL or "/": everything. */
    const char *strip;
    const char *const *includes; /* patterns (pattern.h); none: everything */
    size_t includes_n;
    const char *const *excludes; /* patterns; what matches is left out all the same */
    size_t excludes_n;
    enum restore_existing existing;
    bool remove;    /* also remove what the snapshot does not have */
    bool dry_run;   /* change nothing, only count and tell */
    bool no_sparse; /* write zeros instead of leaving holes */
    enum restore_writes writes;
    unsigned workers; /* 0: one more than processors */
    /* At most five times a second, from the calling thread. May be NULL. */
    void (*progress)(void *ctx, const struct restore_progress *now);
    void *progress_ctx;
    /* Told of each entry but directories, from any thread, one at a time. May be NULL. */
    void (*item)(void *ctx, enum restore_action action, const char *path);
    void *item_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

struct restore_result {
    uint64_t files; /* written, or their content changed */
    uint64_t dirs;
    uint64_t others; /* links, devices, fifos */
    uint64_t bytes;  /* written */
    uint64_t kept;   /* files that were there already, or were to be left alone */
    uint64_t kept_bytes;
    uint64_t removed;
    struct problems problems; /* every entry that could not be restored, or not fully */
};
void restore_result_fini(struct restore_result *r);

/* Needs: index loaded. Goes on behind single problems; then the error is CORRUPT if
 * stored data was damaged (such a file is not left behind), else IO. NOT_FOUND: strip or
 * an include names nothing. */
struct err *restore_run(struct repo *r, const struct digest *tree,
                        const struct restore_opts *opts,
                        struct restore_result *out) MUST_USE;

#endif
