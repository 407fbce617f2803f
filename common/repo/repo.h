/* A repository in restic's format (versions 1 and 2): files, blobs and the index over a
 * store. Several threads may use one `struct repo`, each through its own `repo_io`;
 * several processes may use one repository. Everything read is checked against its hash.
 * Stage: below common/engine. */
#ifndef COMMON_REPO_REPO_H
#define COMMON_REPO_REPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/repo/crypt.h"
#include "common/repo/index.h"
#include "common/repo/snapshot.h"
#include "common/repo/tree.h"
#include "common/repo/zst.h"
#include "common/store/store.h"

enum repo_kind { REPO_KEY, REPO_DATA, REPO_INDEX, REPO_SNAPSHOT, REPO_LOCK };

enum {
    REPO_BLOB_MAX = 1 << 30,  /* larger trees are refused on read */
    REPO_DATA_MAX = 64 << 20, /* larger pieces of files too: writers make 8 MiB */
    REPO_FILE_MAX = 1 << 30,  /* larger index, snapshot or pack files too */
    REPO_HELD_MAX = 1 << 20,  /* longer lists are written part by part */
    /* What expands beyond this must not be more than so many times its stored size: no
     * list of names and hashes is, but a bomb is. */
    REPO_EASY_BYTES = 64 << 20,
    REPO_EASY_RATIO = 100,
    REPO_KEYS_MAX = 20, /* as restic: each try costs a scrypt */
};

struct repo;
struct repo_io; /* one thread's tools: ciphers, compressor, buffers */

/* What init makes of a password when the caller has no wish of its own. */
extern const struct crypt_cost repo_default_cost;

/* Makes a repository. CONFLICT: there is one already. Borrows the store. */
struct err *repo_init(struct store *store, const void *password, size_t password_n,
                      const struct crypt_cost *cost) MUST_USE;
/* Opens a repository; takes the store over, also on failure. NOT_FOUND: there is none;
 * DENIED (os == 0): no key opens with this password. The index is not loaded yet. */
struct err *repo_open(struct store *store, const void *password, size_t password_n,
                      struct repo **out) MUST_USE;
void repo_close(struct repo *r);
DEFINE_AUTO(repo, struct repo *, repo_close);

/* How hard data is compressed from now on. Needs: no repo_io exists that saves. */
void repo_set_effort(struct repo *r, enum zst_effort effort);
/* 64 hexadecimal digits; borrowed. */
const char *repo_id(const struct repo *r);
const char *repo_url(const struct repo *r);
/* What its store says of lists (struct store). */
bool repo_is_coherent(const struct repo *r);
/* A secret of the repository for the given purpose, the same for all its users. */
void repo_secret(const struct repo *r, const char *purpose, struct digest *out);

/* Where the index is kept between runs, in a folder of the repository's own below `dir`
 * (made when missing). What is found there is checked, and made anew when doubtful. Call
 * before repo_load_index. */
void repo_set_cache(struct repo *r, const char *dir);
/* Loads all index files. Call once, before blobs are used and before other threads
 * exist. Snapshots must be listed before, so that all they need is indexed. */
struct err *repo_load_index(struct repo *r) MUST_USE;
/* The same, but goes on behind damaged index files and gives each error (to be freed) to
 * `bad`. Only for checking. */
struct err *repo_load_index_all(struct repo *r, void (*bad)(void *ctx, struct err *e),
                                void *ctx) MUST_USE;
/* Takes packs that no index file lists, living or dying, into the index: what a killed
 * process had uploaded. Their headers are checked; what is not sound stays unlisted.
 * Needs: index loaded, and nobody else who may be writing packs or removing them: no
 * lock but the caller's. */
struct err *repo_adopt_packs(struct repo_io *io, uint64_t *packs) MUST_USE;
/* The loaded index, borrowed; only while no other thread saves blobs. */
const struct index *repo_index(const struct repo *r);
/* True if the blob is indexed; *bytes (may be NULL) is its content's length. */
bool repo_has_blob(struct repo *r, enum blob_type type, const struct digest *id,
                   uint64_t *bytes);

struct repo_io *repo_io_new(struct repo *r);
void repo_io_free(struct repo_io *io);
DEFINE_AUTO(repo_io, struct repo_io *, repo_io_free);
struct repo *repo_io_repo(const struct repo_io *io);

/* What saving a blob did. */
struct repo_saved {
    bool fresh;      /* false: it was known */
    uint32_t stored; /* bytes it takes in a pack */
    uint64_t bytes;  /* of its content */
};
/* Stores a blob unless it is known. Durable after repo_flush only. */
struct err *repo_save_blob(struct repo_io *io, enum blob_type type, const void *data,
                           size_t n, struct digest *id, struct repo_saved *out) MUST_USE;
/* Gives the bytes of a blob to the sink, in parts; each time the same. */
typedef struct err *repo_source(void *ctx, zst_sink *sink, void *sink_ctx);
/* The same for a blob that may be too long to be held: of one above REPO_HELD_MAX only
 * parts are, and `source` is asked twice. CONFLICT: it gave something else then. */
struct err *repo_save_source(struct repo_io *io, enum blob_type type, repo_source *source,
                             void *ctx, struct digest *id,
                             struct repo_saved *out) MUST_USE;
/* Completes open packs and indexes everything saved. Needs: no other thread saves. */
struct err *repo_flush(struct repo_io *io) MUST_USE;
/* Appends the blob's content to out. NOT_FOUND: not indexed; CORRUPT: every copy is
 * damaged (names pack and blob). */
struct err *repo_load_blob(struct repo_io *io, enum blob_type type,
                           const struct digest *id, struct buf *out) MUST_USE;
/* Where a blob lies: its first copy. False: it is not indexed. */
bool repo_locate(struct repo *r, enum blob_type type, const struct digest *id,
                 struct blob_entry *entry, struct digest *pack);
/* Reads stored bytes of a pack, checked by nothing. */
struct err *repo_read_pack(struct repo *r, const struct digest *pack, uint64_t offset,
                           void *out, size_t n) MUST_USE;
/* Loads and reads a tree into an empty `out`. */
struct err *repo_load_tree(struct repo_io *io, const struct digest *id,
                           struct tree *out) MUST_USE;
struct err *repo_save_tree(struct repo_io *io, const struct tree *t, struct digest *id,
                           struct repo_saved *out) MUST_USE;

/* Unpacked files. Reading checks the name against the bytes and appends the plain text.
 */
struct err *repo_read_file(struct repo_io *io, enum repo_kind kind,
                           const struct digest *id, struct buf *out) MUST_USE;
/* The same part by part, for long files: nothing is held but what is stored. */
struct err *repo_stream_file(struct repo_io *io, enum repo_kind kind,
                             const struct digest *id, zst_sink *sink, void *ctx) MUST_USE;
/* Makes the bytes to store (compressed, encrypted) and their id, without storing. */
void repo_seal_file(struct repo_io *io, const void *plain, size_t n, struct buf *sealed,
                    struct digest *id);
/* The opposite: plain text of sealed bytes. */
struct err *repo_unseal_file(struct repo_io *io, const void *sealed, size_t n,
                             struct buf *out) MUST_USE;
/* Stores sealed bytes; storing the same again succeeds. */
struct err *repo_put_file(struct repo *r, enum repo_kind kind, const struct digest *id,
                          const void *sealed, size_t n) MUST_USE;
struct err *repo_remove_file(struct repo *r, enum repo_kind kind,
                             const struct digest *id) MUST_USE;
/* Size of a stored file; NOT_FOUND. */
struct err *repo_stat_file(struct repo *r, enum repo_kind kind, const struct digest *id,
                           uint64_t *bytes) MUST_USE;
/* Stored bytes of a whole file as they are, checked by nothing. */
struct err *repo_get_raw(struct repo *r, enum repo_kind kind, const struct digest *id,
                         struct buf *out) MUST_USE;

/* Appends n bytes of a stored file as they are. */
struct err *repo_get_part(struct repo *r, enum repo_kind kind, const struct digest *id,
                          uint64_t offset, size_t n, struct buf *out) MUST_USE;

/* Names the run that writes: its index files carry the session of its lock, by which
 * `reclaim` knows packs of backups that still run. repo_lock does this. */
void repo_set_session(struct repo *r, const char *session);

/* Asked before anything but a lock is stored where others see it, or removed; an error
 * forbids it. Any thread may ask. The newest one counts; repo_lock_begin sets it. */
typedef struct err *repo_gate(void *ctx);
void repo_set_gate(struct repo *r, repo_gate *gate, void *ctx);
/* Ends what was set with this ctx. */
void repo_drop_gate(struct repo *r, const void *ctx);

/* Removes what killed writers left unfinished a day ago or earlier; adds to *out. */
struct err *repo_clean(struct repo *r, struct store_leftovers *out) MUST_USE;

struct repo_file {
    struct digest id;
    uint64_t bytes;
};
/* All files of a kind, by id; names that are no ids are ignored. *out is malloc. */
struct err *repo_list(struct repo *r, enum repo_kind kind, struct repo_file **out,
                      size_t *n) MUST_USE;
/* Index files that were stored since the index was loaded, by others than this struct
 * repo. *out is malloc. */
struct err *repo_list_new_index(struct repo *r, struct repo_file **out,
                                size_t *n) MUST_USE;

/* Opens one stored blob (as in a pack) and checks it against its id; appends to out. */
struct err *repo_decode_blob(struct repo_io *io, const struct blob_entry *e,
                             const void *sealed, struct buf *out) MUST_USE;
/* Its two halves, for who hashes by himself: decryption and unpacking, which promise
 * nothing yet; and what the content's digest says. */
struct err *repo_unseal_blob(struct repo_io *io, const struct blob_entry *e,
                             const void *sealed, struct buf *out) MUST_USE;
struct err *repo_verify_blob(const struct blob_entry *e,
                             const struct digest *real) MUST_USE;
/* The cipher of this thread. */
struct crypt *repo_crypt(struct repo_io *io);

struct err *repo_read_snapshot(struct repo_io *io, const struct digest *id,
                               struct snapshot *out) MUST_USE;
/* All snapshots, oldest first (then by id). *out: malloc, each for snapshot_fini; use
 * repo_free_snapshots. */
struct err *repo_snapshots(struct repo_io *io, struct snapshot **out, size_t *n) MUST_USE;
void repo_free_snapshots(struct snapshot *list, size_t n);
/* The snapshot that "latest", a full id or a unique prefix of at least 4 digits names.
 * NOT_FOUND; INVALID: several begin so. */
struct err *repo_find_snapshot(struct repo_io *io, const char *name,
                               struct snapshot *out) MUST_USE;

#endif
