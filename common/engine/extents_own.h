/* Walking the map of one file, shared by extents*.c only. */
#ifndef COMMON_ENGINE_EXTENTS_OWN_H
#define COMMON_ENGINE_EXTENTS_OWN_H

#include "common/engine/extents.h"

enum { EXTENTS_BUFFER = 16 << 10 };

/* A stretch of a file that lies in one way. Two files hold the same bytes at the same
 * offset if both have data there with equal place, shift and coding, or both a hole. */
struct extent_piece {
    uint64_t start, end; /* in the file */
    enum { PIECE_HOLE, PIECE_DATA, PIECE_OPAQUE } kind;
    uint64_t place; /* of the extent on disk */
    uint64_t
        shift; /* offset on disk or in the extent minus offset in the file, mod 2^64 */
    uint64_t coding; /* compression and length before it; 0: plain */
};

struct extent_map {
    enum extents_kind kind;
    int fd;                   /* borrowed */
    uint64_t inode;           /* of fd */
    uint64_t size;            /* the map is told up to here */
    uint64_t at;              /* told so far */
    bool whole;               /* the filesystem has no more extents */
    struct extent_piece next; /* the next extent, beginning at or behind `at` */
    bool have_next;
    uint64_t from;     /* where the next question to the filesystem begins */
    uint64_t print[2]; /* a sum over everything told */
    size_t n, i;       /* items in buf, and the next one */
    size_t offset;     /* of the next item, btrfs */
    _Alignas(8) unsigned char buf[EXTENTS_BUFFER];
};

void extent_map_init(struct extent_map *m, enum extents_kind kind, int fd, uint64_t inode,
                     uint64_t size);
/* The next piece; *more is false at the end. Pieces follow each other without gaps and
 * cover [0, size). */
struct err *extent_map_next(struct extent_map *m, struct extent_piece *out,
                            bool *more) MUST_USE;

#endif
