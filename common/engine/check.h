/* Whether a repository, or one snapshot of it, can be restored. Several threads read;
 * memory is the index, a few bits for each blob and RUN_BYTES for each thread. */
#ifndef COMMON_ENGINE_CHECK_H
#define COMMON_ENGINE_CHECK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/problems.h"
#include "common/repo/repo.h"

struct check_opts {
    bool read_data; /* read packs and check every blob in them */
    /* Which packs: part `part` (from 1) of `parts` by their ids; or a random `percent` of
     * them; both 0: all. */
    unsigned part;
    unsigned parts;
    double percent;
    /* Packs done of all to be read; called from several threads, rarely. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
    const atomic_bool *cancel; /* may be NULL */
};

struct check_result {
    /* Each is damage; the path names a key, pack, tree or snapshot, or
     * "snapshot ID: /path" of a file or directory that cannot be restored. */
    struct problems problems;
    uint64_t snapshots;
    uint64_t trees;
    uint64_t packs;
    uint64_t blobs;
    uint64_t orphans;    /* packs in no index: harmless leftovers of killed backups */
    uint64_t packs_read; /* with read_data */
    uint64_t bytes_read;
    uint64_t lost_files; /* files and directories of all snapshots that are named */
};
void check_result_fini(struct check_result *r);

/* Checks the whole repository. Needs: the index is not loaded yet (this does). Damage is
 * listed in *out, and reported as CORRUPT. */
struct err *check_run(struct repo *r, const struct check_opts *opts,
                      struct check_result *out) MUST_USE;

/* Every tree below `tree` hashes to its id, every blob is indexed, every pack used is
 * there with the size the index implies. NOT_FOUND or CORRUPT says what is not. Needs:
 * index loaded. */
struct err *check_tree(struct repo *r, const struct digest *tree) MUST_USE;

struct check_compare {
    const char *dir;             /* the capture */
    const char *path;            /* the directory of the snapshot that must equal it */
    const char *const *excludes; /* as in struct backup_opts */
    size_t excludes_n;
    bool content;              /* also hash the capture's files and compare */
    const atomic_bool *cancel; /* may be NULL */
};
/* What an agent asks after an upload: the snapshot is stored, check_tree() holds for it,
 * and with `compare` (may be NULL) its names, types, sizes and contents equal those of a
 * directory. CORRUPT names the first difference. Needs: index loaded. */
struct err *check_snapshot(struct repo *r, const struct digest *id,
                           const struct check_compare *compare) MUST_USE;

#endif
