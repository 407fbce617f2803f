/* Small files read and replaced as a whole. Blocks: not for the loop thread where the
 * disk may be slow. Any thread. */
#ifndef COMMON_FILE_FILE_H
#define COMMON_FILE_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* Reads all of a regular file of at most `most` bytes; *out is malloc'd, NUL-terminated.
 * NOT_FOUND, LIMIT, IO. */
struct err *file_read(const char *path, size_t most, char **out, size_t *n) MUST_USE;

/* Replaces the file durably: temporary beside it, fsync, rename, fsync of the directory.
 * After an error the old content stands; after a crash the old or the new. */
struct err *file_replace(const char *path, const void *bytes, size_t n,
                         mode_t mode) MUST_USE;

/* Creates the directory and its parents that do not exist, with `mode`. */
struct err *file_mkdirs(const char *path, mode_t mode) MUST_USE;

enum { FILE_BOOT_ID_BYTES = 40 };
/* The kernel's id of this boot, as text: 36 characters. IO. */
struct err *file_boot_id(char out[FILE_BOOT_ID_BYTES]) MUST_USE;

/* Removes a file durably; one that does not exist is fine. */
struct err *file_remove(const char *path) MUST_USE;

#endif
