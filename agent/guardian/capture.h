/* Ways to make a point-in-time copy of one partition, each a row of a table. A capture is
 * made under a provisional name, ".ID.partial", and renamed to "ID" only when its hold
 * proved unbroken: a folder of captures thus tells by itself, after any crash, which of
 * them count. Doer only; may block. */
#ifndef AGENT_GUARDIAN_CAPTURE_H
#define AGENT_GUARDIAN_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/shell/config.h"
#include "common/base/attr.h"
#include "common/base/err.h"

#define CAPTURE_MANIFEST ".manifest" /* "ID.manifest": see tree.h */

struct capture_ops {
    const char *name; /* as in agent.yaml */
    /* Before anything is paused; makes the folder of captures. INVALID and CONFLICT say
     * what to choose instead, NO_SPACE how much is missing. *cost_ms: how long `take`
     * will need at a guess. */
    struct err *(*check)(const struct config_partition *p, int64_t *cost_ms);
    /* Makes `name` in the folder of captures, open as `dir`, of the partition's folder,
     * open as `source`. On error something may exist. */
    struct err *(*take)(const struct config_partition *p, int source, int dir,
                        const char *name);
    /* Removes `name` there with all that belongs to it; nothing there is a success. */
    struct err *(*remove)(int dir, const char *name);
};

extern const struct capture_ops capture_btrfs, capture_reflink, capture_copy;

/* The row for a method of enum config_capture. */
const struct capture_ops *capture_of(int method);

/* True for ids that make safe file names: 1 to 159 printable bytes, no '/', not beginning
 * with '.', not ending in the manifest's suffix. */
bool capture_id_is_valid(const char *id);

/* Makes the folder that holds the captures, root's alone. */
struct err *capture_make_dir(const struct config_partition *p) MUST_USE;

/* Opens that folder: DENIED if it has become a link or somebody else's, as the owner of
 * the partition could arrange. NOT_FOUND if there is none. */
struct err *capture_open_dir(const struct config_partition *p, int *out) MUST_USE;

/* Of the partition's folder, open as `source`. *made: something was made, even if there
 * is an error. */
struct err *capture_take(const struct config_partition *p, int source, const char *id,
                         bool *made) MUST_USE;
/* Gives it its final name, durably. */
struct err *capture_publish(const struct config_partition *p, const char *id) MUST_USE;
/* Removes it under its provisional name, and under its final one if `named`. */
struct err *capture_remove(const struct config_partition *p, const char *id,
                           bool named) MUST_USE;

/* Calls fn for each capture of the partition: `partial` ones never were, or are being
 * made. Stops at the first error. */
typedef struct err *capture_fn(void *ctx, const char *id, bool partial);
struct err *capture_each(const struct config_partition *p, capture_fn *fn,
                         void *ctx) MUST_USE;

#endif
