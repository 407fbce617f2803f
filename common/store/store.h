/* Where a repository's files live: a flat set of immutable objects named like
 * "data/ab/ab12…". Objects are never replaced; readers see whole objects or none. One
 * store may be used by several threads and processes at once. Stage: below common/repo.
 */
#ifndef COMMON_STORE_STORE_H
#define COMMON_STORE_STORE_H

#include <stdatomic.h>
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

enum store_op { STORE_PUT, STORE_GET, STORE_LIST, STORE_STAT, STORE_REMOVE, STORE_OPS };
/* "put", "get"…: static. */
const char *store_op_name(enum store_op op);

/* Counts of one operation; any thread may read and add. */
enum { STORE_METER_BOUNDS = 15 };
extern const int64_t store_meter_bounds_ms[STORE_METER_BOUNDS];
struct store_meter_op {
    atomic_uint_fast64_t calls;  /* attempts, that is */
    atomic_uint_fast64_t errors; /* but for "exists" and "does not exist" */
    atomic_uint_fast64_t bytes;
    atomic_uint_fast64_t took_ms; /* in all */
    /* Calls that took no longer than each bound; the last: longer than all. */
    atomic_uint_fast64_t histogram[STORE_METER_BOUNDS + 1];
};
struct store_meter {
    struct store_meter_op ops[STORE_OPS];
};

/* Where wrappers take time from, so that tests need not wait. */
struct store_clock {
    int64_t (*now_ms)(void *ctx); /* never goes backwards */
    void (*sleep_ms)(void *ctx, int64_t ms);
    void *ctx;
};

/* What is put around a backend; all zero: nothing. */
struct store_opts {
    /* Calls that fail with UNAVAILABLE or TIMEOUT are made again so often, after a random
     * part of base * 2^n, at most max. A put or removal of unknown outcome is looked up.
     */
    unsigned retries;
    int64_t retry_base_ms; /* 0: 1 s */
    int64_t retry_max_ms;  /* 0: 5 min */
    /* After so many such failures in a row calls fail at once, but for one every open_ms.
     */
    unsigned breaker_failures;
    int64_t breaker_open_ms; /* 0: 15 s */
    uint64_t up_bytes_per_s; /* 0: no limit */
    uint64_t down_bytes_per_s;
    struct store_meter *meter;       /* outlives the store; NULL: nothing is counted */
    const struct store_clock *clock; /* NULL: the real one */
    const atomic_bool *cancel;       /* ends waiting; may be NULL */
};

/* Unfinished objects that killed writers left. */
struct store_leftovers {
    uint64_t files;
    uint64_t bytes;
};
/* No put takes so long. */
enum { STORE_LEFTOVER_AGE_S = 24 * 3600 };

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
    /* May be NULL: nothing can be left over. */
    struct err *(*clean)(struct store *s, int64_t older_s, struct store_leftovers *out);
    void (*close)(struct store *s);
};

/* A backend's own struct starts with this. */
struct store {
    const struct store_vt *vt;
    unsigned flags; /* enum store_flags */
    /* A list names whatever was put before it began: of two who put an object each and
     * list then, one sees the other's. Set by the backend; false: not at once. */
    bool coherent;
    char *url; /* for messages; owned */
};

/* Opens "local:PATH" or a plain path. NOT_FOUND: there is no such place; INVALID: the
 * scheme, or an option, is unknown. Behind a scheme, options may follow the path:
 * "local:PATH?up=20MiB&down=50MiB&retries=8&breaker=5" (bytes a second;
 * breaker_failures). */
struct err *store_open(const char *url, unsigned flags, struct store **out) MUST_USE;
/* The same with options for what the URL does not say. */
struct err *store_open_with(const char *url, unsigned flags,
                            const struct store_opts *opts, struct store **out) MUST_USE;
/* Puts the wrappers that the options ask for around a store, which it takes over. */
struct store *store_wrap(struct store *s, const struct store_opts *opts);
/* Reads the options behind a URL's '?' over *opts; *plain is the URL without (malloc). */
struct err *store_opts_read(const char *url, struct store_opts *opts,
                            char **plain) MUST_USE;
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

/* Removes what writers that were killed left unfinished, if it is older than so many
 * seconds (STORE_LEFTOVER_AGE_S); adds to *out. DENIED without STORE_RECLAIM. */
struct err *store_clean(struct store *s, int64_t older_s,
                        struct store_leftovers *out) MUST_USE;

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
