/* The inside of struct repo, shared by this folder's repo*.c only. */
#ifndef COMMON_REPO_REPO_OWN_H
#define COMMON_REPO_REPO_OWN_H

#include <pthread.h>

#include "common/repo/idset.h"
#include "common/repo/index_cache.h"
#include "common/repo/pack.h"
#include "common/repo/repo.h"
#include "common/repo/zst.h"

/* Blobs go to one of two open packs at random, so that the sizes of neighbours in a pack
 * tell less about a file's chunks. While both are being written to, others help out: who
 * hashes and writes has a pack to itself. */
enum { CHOSEN_PACKS = 2, OPEN_PACKS = 4 };

struct repo {
    struct store *store;
    struct crypt_key key;
    struct digest key_id; /* of the key file that opened it */
    unsigned version;
    enum zst_effort effort; /* set before other threads exist */
    char id[65];
    pthread_mutex_t mu; /* guards everything below; never held over I/O */
    char session[40];   /* of the lock held; empty: none yet */
    repo_gate *gate;    /* NULL: everything may be stored */
    void *gate_ctx;
    /* Who looks a blob up shares this lock and does not take mu: a scan asks for each
     * file. Who changes the index holds both. */
    pthread_rwlock_t index_mu;
    struct index index;
    struct idset claimed[BLOB_TYPES]; /* ids this process saves, not in the index yet */
    /* Packs being filled. Who appends takes one out and puts it back. */
    struct pack *open[BLOB_TYPES][OPEN_PACKS];
    bool taken[BLOB_TYPES][OPEN_PACKS];
    struct repo_io *ios; /* that exist */
    pthread_cond_t put_back;
    char *cache_dir;              /* NULL: the index lies in memory only */
    struct index_covered covered; /* index files that index.base was made of, … */
    struct digest *listed;        /* … and those that were read or written since */
    size_t listed_n;
    size_t listed_cap;
    size_t written_packs;     /* of index; those below go, or went, to index files … */
    size_t indexed_packs;     /* … and those below are in some */
    unsigned index_writers;   /* index files under way */
    uint64_t unindexed_bytes; /* stored in packs since the last index file */
    uint64_t unindexed_blobs;
    uint64_t stored_bytes; /* all packs of this process */
    int64_t indexed_at_ms; /* monotonic time of the last index file */
    /* What the first failed write said, or NULL. What is claimed may be missing then, so
     * nothing goes on. */
    char *failure;
    enum err_kind failure_kind;
};

struct repo_io {
    struct repo *repo;
    struct crypt *crypt;
    struct zst *zst;
    struct buf packed; /* compressed, then sealed */
    struct buf text;   /* what a source gave */
    /* The blob in `packed` waits for its place in a pack: its bytes are hashed beside the
     * next blob's, two streams taking little longer than one. */
    struct blob_entry held;
    bool holds;
    struct repo_io *next; /* of the same repository; guarded by its lock */
    struct buf stored;    /* read from the store */
    struct buf plain;     /* decrypted, still compressed */
};

/* Adds a stored pack to the index. Needs mu. */
struct err *repo_add_to_index(struct repo *r, const struct digest *pack,
                              const struct blob_entry *blobs, size_t n) MUST_USE;
/* The index says how large a blob is; it may be a lie that costs memory. LIMIT. */
struct err *repo_check_size(const struct blob_entry *e) MUST_USE;
/* Uses one copy of a blob, or says what is wrong with it. */
typedef struct err *repo_use_copy(void *ctx, struct repo_io *io,
                                  const struct blob_entry *e, const struct digest *pack);
/* Tries one copy after the other, until one can be used: two nodes may have stored the
 * same blob. NOT_FOUND: not indexed; else the first copy's error, with its pack. */
struct err *repo_any_copy(struct repo_io *io, enum blob_type type,
                          const struct digest *id, repo_use_copy *use,
                          void *ctx) MUST_USE;
/* Appends its stored bytes, checked by nothing but its size. */
struct err *repo_read_copy(struct repo_io *io, const struct blob_entry *e,
                           const struct digest *pack, struct buf *out) MUST_USE;
/* Puts a blob that waits into a pack. No other thread uses the io. */
struct err *repo_settle(struct repo_io *io) MUST_USE;
/* What the gate says. */
struct err *repo_ask_gate(struct repo *r) MUST_USE;
/* Notes a failed write on its way up. Blobs that others took for known may be missing
 * now, so this struct repo must not make a snapshot any more. */
struct err *repo_note_failure(struct repo *r, struct err *e) MUST_USE;
/* True if enough was stored to write an index file while running. Needs the lock. */
bool repo_index_is_due(const struct repo *r);
/* Writes an index file (at the end of a run, `last`) of all packs that are in none.
 * Called without the lock; two threads may be here at once, each with its own range of
 * packs. */
struct err *repo_write_index(struct repo_io *io, bool last) MUST_USE;
/* Reads the opened config. CORRUPT; INVALID: a format of the future. */
struct err *repo_parse_config(const void *json, size_t n, unsigned *version,
                              char id[65]) MUST_USE;
/* Writes the object name of a file. */
void repo_name(enum repo_kind kind, const struct digest *id, char out[STORE_NAME_MAX]);

#endif
