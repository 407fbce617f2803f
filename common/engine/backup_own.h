/* The inside of a running backup, shared by backup*.c only. Workers that are all alike
 * take units of work from one stack: a directory to list, small files to read, a large
 * file. */
#ifndef COMMON_ENGINE_BACKUP_OWN_H
#define COMMON_ENGINE_BACKUP_OWN_H

#include <pthread.h>
#include <sys/stat.h>

#include "common/engine/backup.h"
#include "common/engine/gear.h"
#include "common/engine/scan.h"
#include "common/engine/workq.h"

enum {
    BACKUP_WORKERS_MAX = 16,
    BACKUP_DEPTH_MAX = 2000,
    BACKUP_READ_STEP = 128 << 10,
    BACKUP_SHARED_MIN = 4 << 20, /* files from here on are read by several workers */
    BACKUP_KNOWN_MIN = 1 << 20,  /* maps of smaller files cost more than reading them */
};

/* An entry of a directory whose list is not stored yet; about 150 bytes with its name. */
struct backup_entry {
    uint32_t name; /* in backup_dir.names */
    uint32_t mode; /* st_mode; 0: left out of the list */
    uint32_t uid;
    uint32_t gid;
    uint32_t links;
    uint32_t device_id;
    uint32_t mtime_nsec;
    uint32_t ctime_nsec;
    int64_t mtime;
    int64_t ctime;
    uint64_t inode;
    uint64_t size; /* before it is read st_size, then the bytes read */
    uint64_t device;
    size_t content_n;    /* until it is read that of the older file, if it may be known */
    struct digest one;   /* content_n == 1; a directory's list (of the parent at first) */
    struct digest *list; /* content_n > 1; owned */
    struct node *extra;  /* target and attributes, or NULL; owned */
    bool had_old;        /* the parent snapshot has an entry of this type and name */
};

/* A directory whose list is not stored yet. It is finished by whoever ends its last
 * pending part: the walk itself, files, a subdirectory. */
struct backup_dir {
    struct backup_dir *parent; /* NULL: the top */
    size_t parent_entry;       /* position of this directory in parent->entries */
    unsigned depth;
    char *path; /* below source, "/a/b"; "" is the top */
    int fd;     /* -1 once nobody needs it */
    dev_t dev;
    uint32_t device_id; /* of entries on the same filesystem */
    size_t chunk_bytes; /* files are cut every so many bytes; 0: by content */
    struct buf names;
    struct backup_entry *entries; /* sorted by name; never move */
    size_t entries_n;
    uint32_t *todo; /* entries to read, see struct backup_unit */
    size_t pending; /* parts not done; guarded by backup.mu, like the two below … */
    size_t openers; /* units that still open something in it */
    bool same;      /* so far all is as in the parent snapshot's list; the lock's too */
    struct digest old; /* list in the parent snapshot … */
    bool had_old;      /* … if it has this directory */
};

enum backup_unit_kind { UNIT_DIR, UNIT_FILES, UNIT_LARGE };
/* Work for one worker: entry `from` as directory, or todo[from … to) as files. */
struct backup_unit {
    enum backup_unit_kind kind;
    struct backup_dir *dir;
    uint32_t from;
    uint32_t to;
};

/* A file being read. Large ones are read by every worker without other work, in turns;
 * all but cutting happens at the same time. */
struct backup_file {
    struct backup_dir *dir;
    struct backup_entry *entry;
    int fd;
    bool eof;
    /* Held by whose turn it is: */
    struct backup_known *known;      /* what need not be read, or NULL; owned */
    uint8_t carry[BACKUP_READ_STEP]; /* read, but behind the last cut */
    size_t carry_n;
    /* Guarded by backup.mu: */
    bool busy; /* it is somebody's turn */
    bool done;
    unsigned users;
    struct err *e;  /* the first; owned */
    uint64_t bytes; /* so far; also read by whose turn it is, who alone changes it */
    struct digest *content;
    size_t content_n;
    size_t content_cap;
};

struct backup_worker {
    struct backup *b;
    struct repo_io *io;
    struct scan_names *names;
    uint8_t *data;   /* GEAR_MAX + BACKUP_READ_STEP, touched as far as chunks are long */
    struct buf old;  /* a directory's list in the parent snapshot */
    struct buf head; /* of one node */
};

struct backup {
    struct repo *repo;
    const struct backup_opts *opts;
    struct repo_io *scan_io;  /* of the calling thread */
    struct scan_names *names; /* the same */
    struct backup_worker workers[BACKUP_WORKERS_MAX];
    unsigned workers_n;
    struct gear gear;
    struct problems *problems;
    uint32_t device_base;
    struct base_look look;     /* of the source */
    struct timespec made;      /* when the source was captured; 0: not known */
    pthread_mutex_t mu;        /* guards all below */
    pthread_cond_t changed;    /* work came, a turn ended, a worker left */
    pthread_cond_t left;       /* the last worker left, for who attends */
    struct backup_unit *units; /* a stack: what was found last is done first */
    size_t units_n;
    size_t units_cap;
    struct backup_file *shared[BACKUP_WORKERS_MAX];
    unsigned busy;                   /* workers with a unit */
    unsigned running;                /* workers that did not leave */
    struct snapshot_summary summary; /* counts so far */
    uint64_t others;
    uint64_t bytes_known; /* not read, see struct backup_result */
    struct err *fatal;    /* first error that ends the backup */
    struct digest tree;   /* of the top directory, once finished */
};

/* Records the first fatal error; takes e over. */
void backup_fail(struct backup *b, struct err *e);
/* CANCELLED, a lost lock, or IO when a worker failed: the walk must stop. */
struct err *backup_check(struct backup *b) MUST_USE;
/* True once the backup cannot succeed by going on. */
bool backup_is_over(struct backup *b);
/* Counts a saved blob. */
void backup_count(struct backup *b, enum blob_type type, const struct repo_saved *saved);
/* Notes what happened to an entry; takes e over, NULL is nothing. */
void backup_problem(struct backup *b, const struct backup_dir *d, const char *name,
                    struct err *e);
/* device_id of what lives on another filesystem, mounted at `path`. */
uint32_t backup_device(const struct backup *b, const char *path);

/* backup_work.c: workers, their units, and directories as they get finished. */
/* Walks `dir_fd` (kept) and waits until b->tree is known (or b->fatal is set).
 * old_tree: the same directory in the parent snapshot, NULL if none. */
struct err *backup_walk(struct backup *b, int dir_fd,
                        const struct digest *old_tree) MUST_USE;
void backup_push(struct backup *b, const struct backup_unit *units, size_t n);
/* A unit will open nothing more in d. */
void backup_dir_close(struct backup *b, struct backup_dir *d);
/* One pending part of d is done. */
void backup_dir_release(struct backup_worker *w, struct backup_dir *d);

/* Makes a node of an entry, of which everything is borrowed. */
void backup_view(struct backup_worker *w, const struct backup_dir *d,
                 const struct backup_entry *e, struct node *nd);

/* backup_walk.c: lists a directory, takes over what did not change, pushes the rest. */
void backup_scan(struct backup_worker *w, struct backup_dir *d);
/* Fills the entry from a stat; device_id too. */
void backup_fill_entry(struct backup *b, struct backup_dir *d, const struct stat *st,
                       struct backup_entry *entry);
const char *backup_name(const struct backup_dir *d, const struct backup_entry *entry);

/* backup_file.c: contents. */
void backup_read_files(struct backup_worker *w, const struct backup_unit *u);
void backup_read_large(struct backup_worker *w, const struct backup_unit *u);
/* Helps with a file that another worker began; its users were counted up for this. */
void backup_join_file(struct backup_worker *w, struct backup_file *f);

/* backup_known.c: chunks that need not be read. */
/* True if it is worth keeping the older file's content list with an entry to be read. */
bool backup_may_know(const struct backup *b, const struct backup_entry *e,
                     const struct node *old);
/* Finds out what is known of a file just opened; takes the older content list out of its
 * entry. NULL: nothing. */
struct backup_known *backup_know(struct backup *b, const struct backup_file *f);
void backup_known_free(struct backup_known *k);
/* True if a whole chunk that begins at `at` is known: its id and length. Calls must have
 * ascending `at`. `k` may be NULL. */
bool backup_knows(struct backup_known *k, uint64_t at, size_t chunk_bytes,
                  struct digest *id, uint64_t *bytes);

#endif
