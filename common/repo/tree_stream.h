/* Reading a directory's list entry by entry. It is checked against its id as a whole
 * before the first is told. A list of up to TREE_STREAM_EASY bytes is held as it is; of a
 * longer one only what is stored, about 50 bytes an entry, and it is decrypted and
 * unpacked again while it is read. */
#ifndef COMMON_REPO_TREE_STREAM_H
#define COMMON_REPO_TREE_STREAM_H

#include "common/repo/repo.h"

enum { TREE_STREAM_EASY = 1 << 20 };

struct tree_stream;
/* From whichever copy is good. NOT_FOUND: not indexed; CORRUPT: every copy is damaged.
 * The stream does not use the io afterwards. */
struct err *tree_stream_open(struct repo_io *io, const struct digest *id,
                             struct tree_stream **out) MUST_USE;
/* Of one copy, whose stored bytes it takes over. */
struct err *tree_stream_of(struct repo_io *io, const struct blob_entry *e,
                           struct buf *sealed, struct tree_stream **out) MUST_USE;
void tree_stream_free(struct tree_stream *s);
DEFINE_AUTO(tree_stream, struct tree_stream *, tree_stream_free);

/* The next node, borrowed until the next call; the caller may empty it to keep what is in
 * it. NULL at the end. CORRUPT: the list is none, after which there is no going on. */
struct err *tree_stream_next(struct tree_stream *s, struct node **out) MUST_USE;

#endif
