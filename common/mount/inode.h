/* What the kernel knows of a mount: entries it looked up and may ask for by number. */
#ifndef COMMON_MOUNT_INODE_H
#define COMMON_MOUNT_INODE_H

#include <pthread.h>
#include <sys/stat.h>

#include "common/engine/browse.h"
#include "common/mount/view.h"

enum { INODE_BUCKETS = 4096 };

/* What only directories of snapshots have. */
struct inode_dir {
    struct digest tree; /* its list */
    uint64_t salt;      /* tells the files of one snapshot from those of others */
};

/* One entry; small, since the kernel decides how many there are. Immutable but for
 * `known` and `children`, which the table's lock guards. */
struct inode {
    struct inode *next;   /* in its bucket */
    struct inode *parent; /* NULL: the root */
    char *name;
    const struct view *view; /* of the upper part; NULL: inside a snapshot */
    struct inode_dir *dir;   /* of a directory of a snapshot; owned */
    uint64_t number;         /* st_ino */
    uint64_t known;          /* lookups the kernel has not forgotten */
    uint32_t children;
    mode_t mode;
};

struct inodes {
    pthread_mutex_t mu;
    struct inode *buckets[INODE_BUCKETS];
    struct inode root;
    struct browse *browse;
};
void inodes_init(struct inodes *t, struct browse *b, const struct view *root);
void inodes_fini(struct inodes *t);
/* The entry `name` of a directory, known once more, and its attributes. NOT_FOUND. */
struct err *inodes_look_up(struct inodes *t, struct inode *dir, const char *name,
                           struct stat *st, struct inode **out) MUST_USE;
void inodes_forget(struct inodes *t, struct inode *in, uint64_t times);

/* Its attributes. */
struct err *inodes_stat(struct inodes *t, const struct inode *in,
                        struct stat *out) MUST_USE;
/* The number that a node has as an entry of dir: one for all names of a file. */
uint64_t inode_number(const struct inode *dir, const struct node *nd);
uint64_t inode_view_number(const struct inode *dir, const char *name);
/* The file type bits of a mode. */
mode_t inode_kind(enum node_type t);

#endif
