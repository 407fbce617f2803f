#include "common/engine/browse.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/workq.h"
#include "common/repo/tree_stream.h"

enum { BUCKETS = 1024, IOS_KEPT = 4, SPARES = 4, AHEAD = 3, WISHES = 16, HELPERS = 2 };

/* Something decoded: a blob's bytes or a directory's list. */
struct item {
    struct item *next;          /* in its bucket */
    struct item *newer, *older; /* in order of use; only while nobody uses it */
    struct digest id;
    enum blob_type type;
    bool ready;   /* false: somebody loads it */
    bool resting; /* it is in the list */
    unsigned users;
    size_t bytes;
    struct buf data;
    struct dirlist list;
    struct err *error; /* why it could not be loaded */
};

/* What nobody uses at the moment, oldest first. */
struct rest {
    struct item *oldest, *newest;
    size_t bytes; /* of all items of the type, also of those in use */
    size_t limit;
};

struct browse {
    struct repo *repo;
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t loaded;
    pthread_cond_t wished;
    struct item *buckets[BUCKETS];
    struct rest rest[BLOB_TYPES];
    struct repo_io *ios[IOS_KEPT]; /* those that nobody uses */
    size_t ios_n;
    struct buf spares[SPARES]; /* of blobs that were dropped, for the next ones */
    size_t spares_n;
    struct digest wishes[WISHES]; /* blobs to load ahead: a ring */
    size_t wishes_first;
    size_t wishes_n;
    bool ending;
    struct workq *helpers;
};

struct browse_file {
    struct browse *browse;
    struct digest *ids;
    uint64_t *ends; /* ends[i]: where blob i ends */
    size_t n;
    atomic_size_t next; /* the blob a reader in sequence wants next */
};

/* ---- cache; all of it needs the lock ---- */

static struct item **bucket_of(struct browse *b, const struct digest *id)
{
    return &b->buckets[((size_t)id->b[0] << 8 | id->b[1]) % BUCKETS];
}

static struct item *find(struct browse *b, enum blob_type type, const struct digest *id)
{
    struct item *it = *bucket_of(b, id);
    while (it && (it->type != type || !digest_equal(&it->id, id)))
        it = it->next;
    return it;
}

static void wake(struct browse *b, struct item *it)
{
    struct rest *r = &b->rest[it->type];
    *(it->older ? &it->older->newer : &r->oldest) = it->newer;
    *(it->newer ? &it->newer->older : &r->newest) = it->older;
    it->newer = it->older = NULL;
    it->resting = false;
}

static void lay_down(struct browse *b, struct item *it)
{
    struct rest *r = &b->rest[it->type];
    it->older = r->newest;
    *(r->newest ? &r->newest->newer : &r->oldest) = it;
    r->newest = it;
    it->resting = true;
}

static void item_free(struct item *it)
{
    buf_fini(&it->data);
    dirlist_fini(&it->list);
    err_free(it->error);
    free(it);
}

static void drop(struct browse *b, struct item *it)
{
    struct item **at = bucket_of(b, &it->id);
    while (*at != it)
        at = &(*at)->next;
    *at = it->next;
    if (it->resting)
        wake(b, it);
    b->rest[it->type].bytes -= it->bytes;
    if (it->data.cap && b->spares_n < SPARES) {
        b->spares[b->spares_n++] = it->data;
        it->data = (struct buf){0};
    }
    item_free(it);
}

/* The last one stays whatever its size: each entry of a very large directory is asked for
 * by a call of its own. */
static void trim(struct browse *b, struct rest *r)
{
    while (r->bytes > r->limit && r->oldest != r->newest)
        drop(b, r->oldest);
}

static void unuse(struct browse *b, struct item *it)
{
    if (--it->users)
        return;
    if (it->error) {
        drop(b, it); /* the next reader tries again */
        return;
    }
    lay_down(b, it);
    trim(b, &b->rest[it->type]);
}

/* ---- loading ---- */

static struct repo_io *take_io(struct browse *b, struct item *it)
{
    struct repo_io *io = NULL;
    pthread_mutex_lock(&b->mu);
    if (b->ios_n)
        io = b->ios[--b->ios_n];
    if (it->type == BLOB_DATA && b->spares_n) {
        it->data = b->spares[--b->spares_n];
        buf_clear(&it->data);
    }
    pthread_mutex_unlock(&b->mu);
    return io ? io : repo_io_new(b->repo);
}

static void give_io(struct browse *b, struct repo_io *io)
{
    pthread_mutex_lock(&b->mu);
    if (b->ios_n < IOS_KEPT) {
        b->ios[b->ios_n++] = io;
        io = NULL;
    }
    pthread_mutex_unlock(&b->mu);
    repo_io_free(io);
}

static struct err *load_list(struct repo_io *io, const struct digest *id,
                             struct dirlist *out)
{
    AUTO(tree_stream) struct tree_stream *s = NULL;
    struct node *nd = NULL;
    TRY(tree_stream_open(io, id, &s));
    for (;;) {
        TRY(tree_stream_next(s, &nd));
        if (!nd)
            break;
        dirlist_add(out, nd);
    }
    dirlist_trim(out);
    return NULL;
}

static void load(struct browse *b, struct item *it)
{
    struct repo_io *io = take_io(b, it);
    struct err *e;
    if (it->type == BLOB_TREE)
        e = load_list(io, &it->id, &it->list);
    else
        e = repo_load_blob(io, it->type, &it->id, &it->data);
    give_io(b, io);
    pthread_mutex_lock(&b->mu);
    it->error = e;
    it->ready = true;
    it->bytes = it->data.cap + dirlist_bytes(&it->list);
    b->rest[it->type].bytes += it->bytes;
    pthread_cond_broadcast(&b->loaded);
    pthread_mutex_unlock(&b->mu);
}

static void put_item(struct browse *b, struct item *it)
{
    pthread_mutex_lock(&b->mu);
    unuse(b, it);
    pthread_mutex_unlock(&b->mu);
}

/* The item, loaded, and used by the caller until put_item. */
static struct err *get_item(struct browse *b, enum blob_type type,
                            const struct digest *id, struct item **out)
{
    pthread_mutex_lock(&b->mu);
    struct item *it = find(b, type, id);
    bool fresh = !it;
    if (fresh) {
        it = mem_zalloc(sizeof *it);
        it->id = *id;
        it->type = type;
        it->next = *bucket_of(b, id);
        *bucket_of(b, id) = it;
    } else if (it->resting) {
        wake(b, it);
    }
    it->users++;
    while (!fresh && !it->ready)
        pthread_cond_wait(&b->loaded, &b->mu);
    pthread_mutex_unlock(&b->mu);
    if (fresh)
        load(b, it);
    *out = it;
    if (!it->error)
        return NULL;
    AUTO(str) char *text = err_text(it->error);
    struct err *e = err_new(it->error->kind, "%s", text);
    put_item(b, it);
    return e;
}

struct err *browse_list_get(struct browse *b, const struct digest *id,
                            const struct dirlist **out)
{
    struct item *it = NULL;
    TRY(get_item(b, BLOB_TREE, id, &it));
    *out = &it->list;
    return NULL;
}

void browse_list_put(struct browse *b, const struct dirlist *l)
{
    if (l)
        put_item(b, (struct item *)((uintptr_t)l - offsetof(struct item, list)));
}

/* ---- ahead ---- */

/* Loads what was wished for, until the end. */
static void help(void *ctx, unsigned worker, void *job)
{
    struct browse *b = ctx;
    (void)worker;
    (void)job;
    pthread_mutex_lock(&b->mu);
    while (!b->ending) {
        if (!b->wishes_n) {
            pthread_cond_wait(&b->wished, &b->mu);
            continue;
        }
        struct digest id = b->wishes[b->wishes_first];
        struct item *it = NULL;
        b->wishes_first = (b->wishes_first + 1) % WISHES;
        b->wishes_n--;
        if (find(b, BLOB_DATA, &id))
            continue;
        pthread_mutex_unlock(&b->mu);
        struct err *e = get_item(b, BLOB_DATA, &id, &it);
        if (!e)
            put_item(b, it);
        err_free(e); /* who reads it will see it again */
        pthread_mutex_lock(&b->mu);
    }
    pthread_mutex_unlock(&b->mu);
}

/* A wish that finds no room is dropped: it would come too late. */
static void wish(struct browse *b, const struct browse_file *f, size_t from)
{
    pthread_mutex_lock(&b->mu);
    for (size_t i = from; i < f->n && i < from + AHEAD && b->wishes_n < WISHES; i++) {
        if (find(b, BLOB_DATA, &f->ids[i]))
            continue;
        b->wishes[(b->wishes_first + b->wishes_n++) % WISHES] = f->ids[i];
        pthread_cond_signal(&b->wished);
    }
    pthread_mutex_unlock(&b->mu);
}

/* ---- files ---- */

struct err *browse_open(struct browse *b, const struct node *nd, struct browse_file **out)
{
    struct browse_file *f = mem_zalloc(sizeof *f);
    uint64_t end = 0;
    char hex[65];
    f->browse = b;
    f->n = nd->content_n;
    f->ids = mem_array(f->n, sizeof *f->ids);
    f->ends = mem_array(f->n, sizeof *f->ends);
    for (size_t i = 0; i < f->n; i++) {
        uint64_t bytes = 0;
        if (!repo_has_blob(b->repo, BLOB_DATA, &nd->content[i], &bytes)) {
            browse_close(f);
            digest_hex(&nd->content[i], hex);
            return err_new(ERR_NOT_FOUND, "data blob %s is not in the index", hex);
        }
        f->ids[i] = nd->content[i];
        f->ends[i] = end += bytes;
    }
    *out = f;
    return NULL;
}

void browse_close(struct browse_file *f)
{
    if (!f)
        return;
    free(f->ids);
    free(f->ends);
    free(f);
}

/* The blob that holds the byte at offset; f->n: behind the end. */
static size_t blob_at(const struct browse_file *f, uint64_t offset)
{
    size_t low = 0, high = f->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (f->ends[mid] <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* What blob i has of the n bytes from offset on, held. */
static struct err *hold_piece(struct browse_file *f, size_t i, uint64_t offset, size_t n,
                              struct browse_piece *out)
{
    struct item *it = NULL;
    size_t at = (size_t)(offset - (i ? f->ends[i - 1] : 0));
    if (atomic_load(&f->next) == i) {
        atomic_store(&f->next, i + 1);
        wish(f->browse, f, i + 1);
    }
    TRY(get_item(f->browse, BLOB_DATA, &f->ids[i], &it));
    size_t here = it->data.len - at;
    *out = (struct browse_piece){it->data.data + at, here < n ? here : n, it};
    return NULL;
}

struct err *browse_read(struct browse_file *f, uint64_t offset, void *out, size_t n,
                        size_t *got)
{
    *got = 0;
    for (size_t i = blob_at(f, offset); *got < n && i < f->n; i++) {
        struct browse_piece p;
        TRY(hold_piece(f, i, offset + *got, n - *got, &p));
        memcpy((char *)out + *got, p.data, p.n);
        *got += p.n;
        browse_unhold(f->browse, &p, 1);
    }
    return NULL;
}

struct err *browse_hold(struct browse_file *f, uint64_t offset, size_t n,
                        struct browse_piece pieces[BROWSE_PIECES], size_t *pieces_n)
{
    size_t first = blob_at(f, offset);
    *pieces_n = 0;
    if (first + BROWSE_PIECES < f->n && f->ends[first + BROWSE_PIECES - 1] < offset + n)
        return NULL;
    for (size_t i = first; n && i < f->n; i++) {
        struct err *e = hold_piece(f, i, offset, n, &pieces[*pieces_n]);
        if (e) {
            browse_unhold(f->browse, pieces, *pieces_n);
            *pieces_n = 0;
            return e;
        }
        offset += pieces[*pieces_n].n;
        n -= pieces[*pieces_n].n;
        ++*pieces_n;
    }
    return NULL;
}

void browse_unhold(struct browse *b, struct browse_piece *pieces, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_item(b, pieces[i].item);
}

/* ---- the whole ---- */

struct err *browse_new(struct repo *r, struct browse **out)
{
    AUTO(browse) struct browse *b = mem_zalloc(sizeof *b);
    b->repo = r;
    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->loaded, NULL);
    pthread_cond_init(&b->wished, NULL);
    b->rest[BLOB_DATA].limit = BROWSE_BLOB_BYTES;
    b->rest[BLOB_TREE].limit = BROWSE_TREE_BYTES;
    TRY(workq_new(HELPERS, HELPERS, help, b, &b->helpers));
    for (int i = 0; i < HELPERS; i++)
        workq_push(b->helpers, NULL);
    *out = STEAL(b);
    return NULL;
}

void browse_free(struct browse *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->mu);
    b->ending = true;
    pthread_cond_broadcast(&b->wished);
    pthread_mutex_unlock(&b->mu);
    workq_free(b->helpers);
    for (size_t i = 0; i < BUCKETS; i++)
        while (b->buckets[i]) {
            struct item *it = b->buckets[i];
            b->buckets[i] = it->next;
            item_free(it);
        }
    for (size_t i = 0; i < b->spares_n; i++)
        buf_fini(&b->spares[i]);
    for (size_t i = 0; i < b->ios_n; i++)
        repo_io_free(b->ios[i]);
    pthread_cond_destroy(&b->loaded);
    pthread_cond_destroy(&b->wished);
    pthread_mutex_destroy(&b->mu);
    free(b);
}
