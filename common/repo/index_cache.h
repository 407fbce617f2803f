/* The sorted local file that holds most of an index between runs. It is written whole and
 * renamed into place, never changed, and mapped; its checksum is verified before. Losing
 * it costs time only: it says nothing that index files do not. */
#ifndef COMMON_REPO_INDEX_CACHE_H
#define COMMON_REPO_INDEX_CACHE_H

#include "common/repo/index.h"

/* The index files whose packs are all in a cache file, by id. */
struct index_covered {
    struct digest *ids;
    size_t n;
};
void index_cache_fini(struct index_covered *c);

/* Maps the file `dir`/REPO-ID/index as the base of an empty index. NOT_FOUND: there is
 * none; CORRUPT: it is damaged or of another repository or version. */
struct err *index_cache_open(const char *dir, const char *repo_id, struct index *ix,
                             struct index_covered *covered) MUST_USE;
/* Moves the first `packs` packs of the index into a new file and maps that instead;
 * numbers of packs stay. `files` are all index files that list them. On failure the index
 * is as before. */
struct err *index_cache_compact(const char *dir, const char *repo_id, size_t packs,
                                const struct index_covered *files,
                                struct index *ix) MUST_USE;
/* True if so much lies in memory that compacting pays: always above a bound, earlier
 * when little work was done for it (`eager`). */
bool index_cache_is_due(const struct index *ix, bool eager);

#endif
