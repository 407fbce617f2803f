/* Snapshot files: what a tree is a picture of. Pure. */
#ifndef COMMON_REPO_SNAPSHOT_H
#define COMMON_REPO_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/repo/gotext.h"

/* A list of owned strings. */
struct strings {
    char **items;
    size_t n;
    size_t cap;
};
void strings_add(struct strings *s, const char *text);
void strings_fini(struct strings *s);
bool strings_has(const struct strings *s, const char *text);

/* Counts that restic shows; `valid` when the file has them. */
struct snapshot_summary {
    bool valid;
    struct go_time backup_start;
    struct go_time backup_end;
    uint64_t files_new;
    uint64_t files_changed;
    uint64_t files_unmodified;
    uint64_t dirs_new;
    uint64_t dirs_changed;
    uint64_t dirs_unmodified;
    uint64_t data_blobs;
    uint64_t tree_blobs;
    uint64_t data_added;        /* bytes before compression */
    uint64_t data_added_packed; /* bytes stored */
    uint64_t total_files_processed;
    uint64_t total_bytes_processed;
};

struct snapshot {
    struct digest id; /* of the stored file; not part of the JSON */
    struct go_time time;
    int zone_s; /* offset of the time's zone from UTC, which `forget` counts days in */
    bool has_parent;
    struct digest parent;
    struct digest tree;
    struct strings paths;
    struct strings tags;
    struct strings excludes;
    bool has_original;
    struct digest original; /* its id before it was copied or its tags changed */
    char *hostname;         /* owned, as all below */
    char *username;
    uint32_t uid;
    uint32_t gid;
    char *program_version;
    struct snapshot_summary summary;
};

/* A zeroed struct is empty. */
void snapshot_fini(struct snapshot *s);
#define AUTO_SNAPSHOT CLEANUP(snapshot_fini)
/* Appends the JSON. INVALID: a text is not UTF-8. */
struct err *snapshot_write(const struct snapshot *s, struct buf *out) MUST_USE;
/* Appends the JSON of a copy for another repository: everything stays, even what only
 * other programs know, but `parent`, which means nothing there; `original` is set to `id`
 * unless it is there. CORRUPT. */
struct err *snapshot_copy(const void *json, size_t n, const struct digest *id,
                          struct buf *out) MUST_USE;
/* Appends the JSON of the same snapshot with other tags, as `restic tag` makes it:
 * everything stays, and `original` is set to `id` unless it is there. CORRUPT; INVALID: a
 * tag is not UTF-8. */
struct err *snapshot_retag(const void *json, size_t n, const struct digest *id,
                           const struct strings *tags, struct buf *out) MUST_USE;
/* Reads into an empty struct; CORRUPT. */
struct err *snapshot_read(const void *json, size_t n, struct snapshot *out) MUST_USE;

#endif
