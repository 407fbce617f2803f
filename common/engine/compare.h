/* Whether a snapshot shows what a directory holds. */
#ifndef COMMON_ENGINE_COMPARE_H
#define COMMON_ENGINE_COMPARE_H

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/engine/check.h"
#include "common/repo/repo.h"

/* CORRUPT names the first difference between the directory at c->path of the snapshot and
 * c->dir. Sockets and excluded entries of the directory do not count. */
struct err *compare_tree(struct repo_io *io, const struct digest *tree,
                         const struct check_compare *c) MUST_USE;

#endif
