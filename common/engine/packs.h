/* Everything a repository's index files say, kept by pack: the ground on which packs are
 * judged (`reclaim`, `stats`, `repair-index`). About 64 bytes a blob. One thread. */
#ifndef COMMON_ENGINE_PACKS_H
#define COMMON_ENGINE_PACKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/idset.h"
#include "common/repo/indexfile.h"
#include "common/repo/repo.h"
#include "common/repo/tree_stream.h"

enum { PACKS_DEPTH_MAX = 10000 };

/* One copy of a blob; .pack is the position in packs.items. */
struct packs_blob {
    struct blob_entry at;
    bool used;   /* some snapshot needs the blob */
    bool needed; /* and this copy is the one that stands for it */
};

struct packs_pack {
    struct digest id;
    bool living;    /* in the list of packs of some index file */
    bool dying;     /* in a list of dying packs only */
    bool present;   /* its file is in the store, */
    bool sound;     /* and as long as its blobs imply; both for the user to set */
    bool in_flight; /* indexed by a backup that still runs; for the user to set */
    bool suspect;   /* its lists contradict each other */
    bool drop;      /* on writing: leave it out of every list */
    bool written;   /* while index files are written: it is in one */
    size_t first;   /* blobs[first … first + count), in the order of offsets */
    size_t count;
    uint64_t bytes;  /* of the file, as the blobs imply */
    uint64_t needed; /* bytes of needed blobs, with their lines in the header */
    size_t needed_n;
};

/* An index file, and which packs it lists. */
struct packs_file {
    struct digest id;
    char session[INDEXFILE_SESSION_BYTES]; /* of the run that wrote it, or empty */
    size_t first;                          /* lists[first … first + count) */
    size_t count;
};

struct packs_list {
    size_t pack;
    bool dying;
};

struct packs {
    struct packs_pack *items;
    size_t n;
    size_t cap;
    struct packs_blob *blobs;
    size_t blobs_n;
    size_t blobs_cap;
    uint32_t *order; /* positions of blobs, by type and id */
    size_t *by_id;   /* positions of packs, by id */
    struct packs_file *files;
    size_t files_n;
    size_t files_cap;
    struct packs_list *lists;
    size_t lists_n;
    size_t lists_cap;
};

void packs_fini(struct packs *p);
/* Reads all index files into a zeroed struct. A damaged one ends it (CORRUPT), or, with
 * `bad`, is told to that (which frees the error) and left out; so are two lists of one
 * pack that differ, of which the first then stays, suspect. */
struct err *packs_load(struct repo_io *io, void (*bad)(void *ctx, struct err *e),
                       void *ctx, struct packs *out) MUST_USE;
/* Position in p->order of the first copy of a blob, or SIZE_MAX; further ones follow. */
size_t packs_first(const struct packs *p, enum blob_type type, const struct digest *id);
/* Position of a pack, or SIZE_MAX. */
size_t packs_find_pack(const struct packs *p, const struct digest *id);

/* Marks every copy of each blob that `tree` and what is below it need as used. Trees in
 * `seen` are skipped, others added. NOT_FOUND: a blob is in no list. */
struct err *packs_mark(struct repo_io *io, struct packs *p, const struct digest *tree,
                       struct idset *seen, const atomic_bool *cancel) MUST_USE;
/* Opens a directory's list, from whichever copy is good. */
struct err *packs_open_tree(struct repo_io *io, const struct packs *p,
                            const struct digest *id, struct tree_stream **out) MUST_USE;

/* Replaces each index file that does not say what the packs' living, dying and drop do:
 * first all new ones are stored, then the old ones go. `before` is asked before each
 * write (may be NULL). Afterwards p->files is out of date. */
struct err *packs_publish(struct repo_io *io, struct packs *p,
                          struct err *(*before)(void *ctx), void *ctx) MUST_USE;

#endif
