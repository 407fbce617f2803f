#include "common/repo/tree_stream.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/repo/reader.h"
#include "common/repo/repo_own.h"

enum { STEP = 64 << 10 }; /* of text that is parsed at once */

struct tree_stream {
    struct digest id;
    struct buf bytes;           /* the text; of a long list, what is stored */
    size_t at;                  /* parsed so far, of a text */
    struct repo_reader *source; /* of a long list's text, else NULL */
    char *room;                 /* of STEP bytes, with source */
    struct tree_reader *reader; /* NULL: the end was told */
};

void tree_stream_free(struct tree_stream *s)
{
    if (!s)
        return;
    if (s->reader)
        err_free(tree_reader_end(s->reader, NULL));
    repo_reader_free(s->source);
    free(s->room);
    buf_fini(&s->bytes);
    free(s);
}

/* ---- opening ---- */

static struct err *open_long(struct repo_io *io, const struct blob_entry *e,
                             struct tree_stream *s)
{
    TRY(repo_reader_open_held(repo_io_repo(io), e, s->bytes.data, &s->source));
    s->room = mem_alloc(STEP);
    return NULL;
}

static struct err *open_short(struct repo_io *io, const struct blob_entry *e,
                              struct tree_stream *s)
{
    AUTO_BUF struct buf sealed = s->bytes;
    s->bytes = (struct buf){0};
    return repo_decode_blob(io, e, sealed.data, &s->bytes);
}

struct err *tree_stream_of(struct repo_io *io, const struct blob_entry *e,
                           struct buf *sealed, struct tree_stream **out)
{
    AUTO(tree_stream) struct tree_stream *s = mem_zalloc(sizeof *s);
    s->id = e->id;
    s->bytes = *sealed;
    *sealed = (struct buf){0};
    TRY(repo_check_size(e));
    if (blob_entry_bytes(e) > TREE_STREAM_EASY)
        TRY(open_long(io, e, s));
    else
        TRY(open_short(io, e, s));
    s->reader = tree_reader_begin();
    *out = STEAL(s);
    return NULL;
}

static struct err *open_copy(void *out, struct repo_io *io, const struct blob_entry *e,
                             const struct digest *pack)
{
    AUTO_BUF struct buf sealed = {0};
    TRY(repo_read_copy(io, e, pack, &sealed));
    return tree_stream_of(io, e, &sealed, out);
}

struct err *tree_stream_open(struct repo_io *io, const struct digest *id,
                             struct tree_stream **out)
{
    return repo_any_copy(io, BLOB_TREE, id, open_copy, out);
}

/* ---- reading ---- */

static struct err *next_text(struct tree_stream *s, const char **text, size_t *n)
{
    if (s->source) {
        *text = s->room;
        return repo_reader_read(s->source, s->room, STEP, n);
    }
    size_t left = s->bytes.len - s->at;
    *text = s->bytes.data + s->at;
    *n = left < STEP ? left : STEP;
    s->at += *n;
    return NULL;
}

static struct err *feed(struct tree_stream *s)
{
    const char *text = NULL;
    size_t n = 0;
    TRY(next_text(s, &text, &n));
    if (!n)
        return tree_reader_end(STEAL(s->reader), NULL);
    struct err *e = tree_reader_feed(s->reader, text, n);
    if (e)
        err_free(tree_reader_end(STEAL(s->reader), NULL));
    return e;
}

struct err *tree_stream_next(struct tree_stream *s, struct node **out)
{
    char hex[65];
    *out = NULL;
    while (s->reader && !(*out = tree_reader_next(s->reader))) {
        struct err *e = feed(s);
        if (!e)
            continue;
        digest_hex(&s->id, hex);
        return err_wrap(e, "tree %s", hex);
    }
    return NULL;
}
