/* Where a repository's files live: a flat set of immutable objects named like
 * "data/ab/ab12…". Objects are never replaced; readers see whole objects or none. One
 * store may be used by several threads and processes at once. Stage: below common/repo.
 */
#ifndef COMMON_STORE_STORE_H
#define COMMON_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* Longest object name, with its NUL. */
enum { STORE_NAME_MAX = 256 };

enum store_flags {
    STORE_CREATE = 1,  /* make the place when it does not exist */
    STORE_RECLAIM = 2, /* allow removing any object, not only locks */
};

struct store;
/* An object that is written in pieces before its name is known. */
struct store_upload;
/* Told of each object; `name` is the full object name, borrowed for the call. */
typedef struct err *store_visit(void *ctx, const char *name, uint64_t bytes);

/* What a backend provides; called only by the functions below, with valid names. */
struct store_vt {
    struct err *(*put)(struct store *s, const char *name, const void *data, size_t n);
    /* The three below may be NULL: pieces are then collected in memory for one put. */
    struct err *(*begin)(struct store *s, const char *dir, struct store_upload **out);
    struct err *(*append)(struct store_upload *u, const void *data, size_t n);
    /* Ends the upload, under its name or (name == NULL) without a trace. */
    struct err *(*end)(struct store_upload *u, const char *name);
    struct err *(*get)(struct store *s, const char *name, uint64_t offset, void *out,
                       size_t n);
    struct err *(*list)(struct store *s, const char *dir, store_visit *visit, void *ctx);
    struct err *(*stat)(struct store *s, const char *name, uint64_t *bytes);
    struct err *(*remove)(struct store *s, const char *name);
    void (*close)(struct store *s);
};

/* A backend's own struct starts with this. */
struct store {
    const struct store_vt *vt;
    unsigned flags; /* enum store_flags */
    char *url;      /* for messages; owned */
};

/* Opens "local:PATH" or a plain path. NOT_FOUND: there is no such place; INVALID: the
 * scheme is unknown. */
struct err *store_open(const char *url, unsigned flags, struct store **out) MUST_USE;
void store_close(struct store *s);
DEFINE_AUTO(store, struct store *, store_close);

/* Stores a whole object durably; when this returns, it survives a power cut.
 * CONFLICT: the name exists (nothing was changed); NO_SPACE: nothing is left behind. */
struct err *store_put(struct store *s, const char *name, const void *data,
                      size_t n) MUST_USE;
/* Begins an object below directory `dir` ("data") whose name only its bytes tell. One
 * thread at a time; needs about 1 MiB of memory where the backend can write in pieces. */
struct err *store_begin(struct store *s, const char *dir,
                        struct store_upload **out) MUST_USE;
struct err *store_append(struct store_upload *u, const void *data, size_t n) MUST_USE;
/* Stores what was appended under `name`, as store_put would. Takes u over, also on
 * failure. */
struct err *store_commit(struct store_upload *u, const char *name) MUST_USE;
/* Gives an upload up; nothing of it stays. */
void store_abort(struct store_upload *u);
/* Reads exactly n bytes from offset on. NOT_FOUND; CORRUPT: the object is shorter. */
struct err *store_get(struct store *s, const char *name, uint64_t offset, void *out,
                      size_t n) MUST_USE;
/* Visits all objects below directory `dir` ("data", "locks"…) in name order; a directory
 * that does not exist is empty. Stops at the first error of `visit`. */
struct err *store_list(struct store *s, const char *dir, store_visit *visit,
                       void *ctx) MUST_USE;
struct err *store_stat(struct store *s, const char *name, uint64_t *bytes) MUST_USE;
/* Removes an object; DENIED for anything but "locks/…" unless opened with
 * STORE_RECLAIM. */
struct err *store_remove(struct store *s, const char *name) MUST_USE;

/* A backend's own upload starts with this. */
struct store_upload {
    struct store *store;
};

/* For backends: sets the common fields. */
void store_setup(struct store *s, const struct store_vt *vt, unsigned flags,
                 const char *url);

/* The backends' constructors. */
struct err *store_local_open(const char *path, unsigned flags,
                             struct store **out) MUST_USE;

#endif
