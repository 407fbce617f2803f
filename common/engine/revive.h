/* What a writer does around storing its snapshot, so that a reclaim that is killed behind
 * its publication leaves no snapshot without its packs (README.md, "Reclaim"). */
#ifndef COMMON_ENGINE_REVIVE_H
#define COMMON_ENGINE_REVIVE_H

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/idset.h"
#include "common/repo/lock.h"
#include "common/repo/repo.h"

/* Looks at the index files that others stored since the index was loaded, but for those
 * in `seen`, which it adds them to. If they list packs as dying that the index counts as
 * living, and `tree` or what is below it needs one of those, an index file is stored that
 * lists it as living again. `lock` (may be NULL) is asked before. Costs a listing, unless
 * somebody reclaims. Needs: index loaded, everything saved was flushed, and no other
 * thread saves. */
struct err *revive_used(struct repo_io *io, const struct digest *tree,
                        struct repo_lock *lock, struct idset *seen) MUST_USE;

#endif
