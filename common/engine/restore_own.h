/* The inside of a running restore, shared by restore*.c only.
 *
 *   walk (one thread) → window: files and the pieces they need → sorted by pack → runs
 *   → workers: read a run, decode each blob, write it wherever it belongs
 *
 * Two windows: one is filled while the other is worked off. */
#ifndef COMMON_ENGINE_RESTORE_OWN_H
#define COMMON_ENGINE_RESTORE_OWN_H

#include <pthread.h>
#include <sys/stat.h>

#include "common/engine/restore.h"
#include "common/engine/workq.h"

enum {
    RESTORE_WORKERS_MAX = 16,
    RESTORE_DEPTH_MAX = 10000,
    RESTORE_WINDOW_FILES = 8192,
    RESTORE_WINDOW_REFS = 32768,
    RESTORE_RUN_BYTES = 4 << 20,  /* read at once, unless one blob is larger */
    RESTORE_GAP_BYTES = 64 << 10, /* rather read than skipped */
    RESTORE_OPEN_FILES = 128,     /* files kept open between two of their pieces */
    RESTORE_OPEN_DIRS = 16,       /* for each worker */
    RESTORE_LOCKS = 64,
    RESTORE_ALIGN = 4096, /* of memory and file, past the page cache */
    RESTORE_SUBS = 1024,  /* subdirectories of one directory that are held at once */
};

struct restore;

/* A directory of the target. It is made when the first entry below it is; its metadata is
 * applied when nothing below it changes any more, that is when `refs` comes to 0. Made by
 * the walk; the fields but refs do not change while others hold it. */
struct restore_dir {
    struct restore_dir *parent; /* held; NULL: the target itself */
    char *name;
    uint64_t serial;  /* never used twice */
    struct node node; /* metadata to apply; NODE_NONE: leave what is there */
    bool there;       /* it is in the target */
    bool fresh;       /* this restore makes it: nothing else is inside */
    bool broken;      /* it cannot be made or used */
    bool inherits;    /* entries made in it get a group or an ACL from it */
    atomic_uint refs; /* entries on their way, subdirectories, the walk */
};
struct restore_dir *restore_dir_new(struct restore *r, struct restore_dir *parent,
                                    const char *name);
struct restore_dir *restore_dir_hold(struct restore_dir *d);
/* Gives back; the last one applies the metadata. Any thread. */
void restore_dir_drop(struct restore *r, struct restore_dir *d);
/* Makes it, and its parents, unless that was done. False: it cannot be there, which was
 * told as a problem. Walk only. */
bool restore_dir_ensure(struct restore *r, struct restore_dir *d);
/* Appends the path of an entry of it (or, with NULL, its own) below the target. */
void restore_dir_path(const struct restore_dir *d, const char *name, struct buf *out);
struct err *restore_dir_open(struct restore *r, const struct restore_dir *d,
                             int *out) MUST_USE;

/* A file on its way. What the walk sets does not change later; `fd`, `users` and the
 * identity are guarded by the lock of its number. */
struct restore_file {
    struct restore_dir *dir; /* held */
    struct node node;
    struct link_source *source; /* NULL: it has one name only */
    uint32_t refs_first;
    uint32_t refs_n;
    bool existed;       /* its file is there and to be brought up to date */
    bool shared;        /* and has other names: must be replaced rather than changed */
    bool other_meta;    /* and its owner, mode, time or attributes are others */
    bool same;          /* and has the right size and time already: metadata only */
    uint64_t had_bytes; /* size of the existing file */
    uint64_t bytes;     /* sum of the pieces: what the node claims may be a lie */
    bool idle;          /* no piece is to be written */
    bool hole_at_end;   /* its size must be set */
    atomic_bool replace;
    atomic_bool failed; /* told as a problem already */
    atomic_uint left;   /* pieces not yet written */
    bool created;
    int fd;        /* -1: closed */
    int direct_fd; /* the same file past the page cache; -1: not this one */
    unsigned users;
    dev_t dev;
    ino_t ino;
};

/* One piece of a file and where its blob lies. */
struct restore_ref {
    uint64_t at; /* in the file */
    uint32_t file;
    uint32_t number; /* in the file's content */
    uint32_t pack;
    uint32_t offset;
    uint32_t length;
    uint32_t plain;
    bool have; /* the existing file has it already */
};

enum restore_job_kind { JOB_COMPARE, JOB_RUN, JOB_FINISH };
struct restore_job {
    enum restore_job_kind kind;
    struct restore_window *window;
    uint32_t first; /* of the refs; FINISH: of the files */
    uint32_t n;
    struct digest pack; /* of a run */
};

struct restore_window {
    struct restore *restore;
    struct restore_file *files;
    size_t files_n;
    size_t files_cap;
    struct restore_ref *refs;
    size_t refs_n;
    size_t refs_cap;
    struct restore_job *jobs;
    size_t jobs_n;
    size_t jobs_cap;
    pthread_mutex_t mu; /* guards jobs_left */
    pthread_cond_t idle;
    size_t jobs_left;
};
void restore_window_init(struct restore *r, struct restore_window *w);
void restore_window_fini(struct restore_window *w);
/* Adds a file; takes node and the hold on dir over. */
struct restore_file *restore_window_add(struct restore_window *w, struct restore_dir *dir,
                                        struct node *node);
bool restore_window_is_full(const struct restore_window *w);
/* Hands everything to the workers. */
void restore_window_start(struct restore_window *w);
/* Waits until the workers are done with it, and empties it. */
void restore_window_finish(struct restore_window *w);

/* Worker: does one job. */
void restore_work(void *ctx, unsigned worker, void *job);

/* Several names of one file. */
enum link_state {
    LINK_WAITS,
    LINK_DONE,
    LINK_FAILED,
    LINK_OTHER /* something else has the name and keeps it: the next name comes first */
};
struct link_source {
    uint64_t inode;
    uint64_t device_id;
    char *path;        /* of the first name, below the target */
    atomic_uint state; /* enum link_state */
};
/* Link sources by (inode, device_id): open addressing over pointers. */
struct link_table {
    struct link_source **slots;
    size_t cap;
    size_t count;
};
/* A further name, made once the first is written. */
struct later_link {
    struct link_source *source;
    struct restore_dir *dir; /* held */
    char *name;
};
/* The entry for the node's identity; made (with *fresh) when it is the first, or the
 * first that something else does not keep. */
struct link_source *restore_link_source(struct restore *r, const struct node *nd,
                                        const struct restore_dir *dir, bool *fresh);
/* Notes a further name; takes the hold on dir over. */
void restore_link_later(struct restore *r, struct link_source *s, struct restore_dir *dir,
                        const char *name);
/* Makes those whose first name was dealt with. Walk only. */
void restore_links_make(struct restore *r);
void restore_links_fini(struct restore *r);

/* What to do with an entry that may exist. */
enum restore_verdict {
    VERDICT_CREATE,  /* there is nothing (any more) */
    VERDICT_UPDATE,  /* a regular file: write what differs */
    VERDICT_META,    /* it is as it should be: metadata only */
    VERDICT_KEEP,    /* it is as it should be: leave it alone */
    VERDICT_SPARE,   /* it is something else, to be left alone */
    VERDICT_REPLACE, /* something else, to be removed first */
};
/* Looks at an entry of an existing directory. CONFLICT: it must not be touched. *st is
 * set unless CREATE. */
struct err *restore_judge(struct restore *r, int dir_fd, const struct node *nd,
                          struct stat *st, enum restore_verdict *out) MUST_USE;
/* Is the snapshot's entry newer than the one that exists? */
bool restore_is_newer(const struct node *nd, const struct stat *st);
/* Removes an entry, directories only when empty or with opts->remove. */
struct err *restore_remove(struct restore *r, int dir_fd, const char *name) MUST_USE;
/* Removes what the snapshot's list of the directory does not have. Walk only. */
void restore_remove_others(struct restore *r, const struct restore_dir *d,
                           const struct digest *tree, bool taken);

/* Which of the two ways of writing large files is the quicker one. */
struct restore_pace {
    bool fixed;            /* the caller has chosen */
    atomic_bool direct;    /* the way of the moment */
    atomic_bool refused;   /* the filesystem cannot do it after all */
    pthread_mutex_t mu;    /* guards the rest */
    uint64_t began_ns;     /* when the stretch began; 0: nothing was written yet */
    uint64_t bytes;        /* of the stretch */
    uint64_t mib_per_s[2]; /* of the last stretch through the page cache, and past it */
};
void restore_pace_init(struct restore_pace *p, enum restore_writes writes);
void restore_pace_fini(struct restore_pace *p);
/* Opens the file a second time, past the page cache, if it is one to be written so. */
void restore_direct_open(struct restore *r, struct restore_file *f);
/* Writes content at an offset of an open file, leaving holes. */
struct err *restore_write(struct restore *r, struct restore_file *f, const char *data,
                          size_t n, uint64_t at) MUST_USE;

struct restore {
    struct repo *repo;
    const struct restore_opts *opts;
    struct repo_io *io; /* of the walking thread */
    struct restore_worker *workers[RESTORE_WORKERS_MAX];
    struct workq *queue;
    int root_fd;
    struct restore_dir *root;
    struct problems *problems;
    struct restore_result *out;
    struct buf path; /* of the entry in the snapshot, "/a/b" */
    size_t strip_n;  /* bytes of path that target stands for */
    bool *included;  /* which includes were found */
    struct link_table links;
    struct later_link *later;
    size_t later_n;
    size_t later_cap;
    struct restore_pace pace;
    struct restore_window windows[2];
    unsigned filling; /* which window the walk fills */
    uint64_t serials;
    int64_t reported_ms;
    pthread_mutex_t locks[RESTORE_LOCKS]; /* of files by number, see restore_file */
    pthread_mutex_t item_mu;              /* around calls of opts->item */
    atomic_uint open_files;
    atomic_uint_fast64_t files;
    atomic_uint_fast64_t bytes;
    atomic_uint_fast64_t kept;
    atomic_uint_fast64_t kept_bytes;
};

struct restore_worker *restore_worker_new(struct restore *r);
void restore_worker_free(struct restore_worker *w);

bool restore_is_cancelled(const struct restore *r);
/* Tells the progress when it is time. Walk only. */
void restore_report(struct restore *r);
/* Gives a file up: the first reason is noted. Takes e over. Any thread. */
void restore_file_fail(struct restore *r, struct restore_file *f, struct err *e);
/* Notes a problem with an entry of dir (or with dir, name NULL). Any thread. */
void restore_problem(struct restore *r, const struct restore_dir *dir, const char *name,
                     struct err *e);
/* Tells opts->item. Any thread. */
void restore_tell(struct restore *r, enum restore_action a, const struct restore_dir *dir,
                  const char *name);
/* Is the entry at r->path asked for, given that its directory is (`taken`)? */
enum restore_choice { CHOICE_SKIP, CHOICE_ENTER, CHOICE_TAKE };
enum restore_choice restore_choose(struct restore *r, bool taken);

#endif
