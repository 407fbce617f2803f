/* How files are cut into the pieces that are stored once each. Pure.
 *
 * files     where their content says so, 1 MiB on average: an insertion moves the pieces
 * along with the bytes. Little to list; a changed page costs a piece of a megabyte.
 * database  every 16 KiB: a changed page costs 16 KiB. Every piece takes 67 bytes in the
 * list of its directory, which is stored again whenever anything in it changed, and 48 in
 * the local index; so the size doubles until a directory needs at most 250,000 of them:
 * 16 KiB up to 4 GB, 512 KiB for 100 GB. When a directory grows past such a step, all in
 * it is stored once more. SIZE      every SIZE bytes, whatever that takes. */
#ifndef COMMON_BASE_CHUNKS_H
#define COMMON_BASE_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

enum {
    CHUNKS_MIN = 4 << 10, /* a page */
    CHUNKS_MAX = 8 << 20,
    CHUNKS_DATABASE = 16 << 10,
    CHUNKS_DIR_MAX = 250000, /* pieces in one directory under `database` */
};

struct chunks {
    bool database;
    size_t bytes; /* SIZE; with neither: `files` */
};

/* "files", "database", or a power of two from "4KiB" to "8MiB". INVALID: something else.
 */
struct err *chunks_parse(const char *text, struct chunks *out) MUST_USE;

/* Whether files of these sizes, cut every `bytes`, need more pieces than one directory
 * should list. Feed all files of a directory, in any order, into a zeroed sum. */
struct chunks_sum {
    uint64_t pieces[10]; /* at CHUNKS_DATABASE, twice that… up to CHUNKS_MAX */
};
void chunks_count(struct chunks_sum *s, uint64_t file_bytes);
/* Bytes of a piece in a directory of which all files were counted; 0: by content. */
size_t chunks_bytes(const struct chunks *c, const struct chunks_sum *s);

#endif
