#include "common/engine/reclaim.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/engine/packs.h"
#include "common/repo/lock_watch.h"
#include "common/repo/pack.h"

void reclaim_result_fini(struct reclaim_result *r)
{
    problems_fini(&r->problems);
}

struct reclaim {
    struct repo *repo;
    struct repo_io *io;
    const struct reclaim_opts *opts;
    struct reclaim_result *out;
    struct packs packs;
    struct idset snapshots;  /* that were marked */
    struct idset trees;      /* below them */
    struct repo_file *found; /* packs in the store when it was listed, by id */
    size_t found_n;
    bool *repack; /* by pack */
};

static void tell(struct reclaim *c, enum reclaim_stage stage, uint64_t done,
                 uint64_t todo, const struct lock_claim *holder)
{
    const struct reclaim_progress now = {stage, done, todo, holder};
    if (c->opts->progress)
        c->opts->progress(c->opts->progress_ctx, &now);
}

/* Before every write: is the lock still ours, does anybody want us to stop? */
static struct err *may_go_on(void *ctx)
{
    struct reclaim *c = ctx;
    if (c->opts->cancel && atomic_load(c->opts->cancel))
        return err_new(ERR_CANCELLED, "cancelled");
    return repo_lock_check(c->opts->lock);
}

/* ---- 1: what is needed ---- */

static struct err *mark_snapshot(struct reclaim *c, const struct digest *id)
{
    AUTO_SNAPSHOT struct snapshot s = {0};
    char hex[65];
    struct err *e = repo_read_snapshot(c->io, id, &s);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e); /* forgotten since the listing */
        return NULL;
    }
    digest_hex(id, hex);
    TRY_CTX(e, "snapshot %s", hex);
    TRY_CTX(packs_mark(c->io, &c->packs, &s.tree, &c->trees, c->opts->cancel),
            "snapshot %s", hex);
    idset_add(&c->snapshots, id);
    return NULL;
}

static struct err *mark_snapshots(struct reclaim *c, const struct repo_file *list,
                                  size_t n, enum reclaim_stage stage)
{
    for (size_t i = 0; i < n; i++) {
        tell(c, stage, i, n, NULL);
        if (!idset_has(&c->snapshots, &list[i].id))
            TRY(mark_snapshot(c, &list[i].id));
    }
    return NULL;
}

/* Snapshots are listed before the index is: so all they need is in it. */
static struct err *find_needed(struct reclaim *c, enum reclaim_stage stage)
{
    struct repo_file *list = NULL;
    size_t n = 0;
    TRY(repo_list(c->repo, REPO_SNAPSHOT, &list, &n));
    tell(c, RECLAIM_LOAD, 0, 0, NULL);
    struct err *e = packs_load(c->io, NULL, NULL, &c->packs);
    if (!e)
        e = mark_snapshots(c, list, n, stage);
    free(list);
    c->out->snapshots = n;
    return e;
}

static int by_id(const void *a, const void *b)
{
    const struct repo_file *x = a, *y = b;
    return memcmp(x->id.b, y->id.b, sizeof x->id.b);
}

/* Lists the packs in the store, and notes which of the indexed ones are there. */
static struct err *list_packs(struct reclaim *c)
{
    struct repo_file *list = NULL;
    size_t n = 0;
    TRY(repo_list(c->repo, REPO_DATA, &list, &n));
    if (n)
        qsort(list, n, sizeof *list, by_id);
    free(c->found);
    c->found = list;
    c->found_n = n;
    for (size_t i = 0; i < c->packs.n; i++) {
        const struct repo_file key = {.id = c->packs.items[i].id};
        const struct repo_file *f = n ? bsearch(&key, list, n, sizeof key, by_id) : NULL;
        c->packs.items[i].present = f != NULL;
        c->packs.items[i].sound = f && f->bytes == c->packs.items[i].bytes;
    }
    return NULL;
}

/* ---- 2: which copy of each blob stays ---- */

static uint64_t entry_bytes(const struct blob_entry *e)
{
    return (uint64_t)e->length + (e->plain ? PACK_ENTRY_PACKED : PACK_ENTRY_PLAIN);
}

static bool is_better(const struct packs *p, const struct packs_blob *a,
                      const struct packs_blob *b)
{
    const struct packs_pack *x = &p->items[a->at.pack], *y = &p->items[b->at.pack];
    if (x->sound != y->sound)
        return x->sound;
    if (x->living != y->living)
        return x->living;
    /* The fuller pack; products instead of quotients. */
    return (double)x->needed * (double)y->bytes > (double)y->needed * (double)x->bytes;
}

/* Of several copies one is needed: in a living pack, and there in the one that is used
 * most, so that the others empty. */
static void choose_copies(struct packs *p)
{
    for (size_t i = 0; i < p->blobs_n; i++)
        if (p->blobs[i].used)
            p->items[p->blobs[i].at.pack].needed += entry_bytes(&p->blobs[i].at);
    for (size_t i = 0; i < p->blobs_n;) {
        struct packs_blob *best = &p->blobs[p->order[i]];
        size_t end = i + 1;
        for (; end < p->blobs_n; end++) {
            struct packs_blob *b = &p->blobs[p->order[end]];
            if (b->at.type != best->at.type || !digest_equal(&b->at.id, &best->at.id))
                break;
            if (is_better(p, b, best))
                best = b;
        }
        best->needed = best->used;
        i = end;
    }
    for (size_t i = 0; i < p->n; i++)
        p->items[i].needed = 0;
    for (size_t i = 0; i < p->blobs_n; i++) {
        struct packs_pack *pack = &p->items[p->blobs[i].at.pack];
        if (!p->blobs[i].needed)
            continue;
        pack->needed += entry_bytes(&p->blobs[i].at);
        pack->needed_n++;
    }
}

static uint64_t waste_of(const struct packs_pack *p)
{
    return p->bytes - CRYPT_OVERHEAD - PACK_TRAILER - p->needed;
}

/* ---- 3: which packs go ---- */

/* Packs that a running backup of ours has stored look as if nobody needed them. It would
 * be safe to take them for dead, as with restic's; but a retry would have to store them
 * again. */
static struct err *find_in_flight(struct reclaim *c)
{
    struct lock_claim *list = NULL;
    size_t n = 0;
    const struct lock_claim *own = repo_lock_claim(c->opts->lock);
    TRY(lock_list(c->io, &list, &n));
    for (size_t i = 0; i < c->packs.files_n; i++) {
        const struct packs_file *f = &c->packs.files[i];
        bool runs = false;
        for (size_t j = 0; j < n && f->session[0] && !runs; j++)
            runs = strcmp(list[j].session, f->session) == 0 &&
                   !lock_claim_is_dead(&list[j], own);
        for (size_t j = 0; j < f->count && runs; j++)
            c->packs.items[c->packs.lists[f->first + j].pack].in_flight = true;
    }
    free(list);
    return NULL;
}

static struct err *judge_pack(struct reclaim *c, struct packs_pack *p)
{
    char hex[65];
    if (!p->present) {
        digest_hex(&p->id, hex);
        if (p->needed_n)
            return err_new(ERR_NOT_FOUND, "pack %s is missing and needed", hex);
        p->drop = true;
        return NULL;
    }
    if (!p->sound && p->needed_n) {
        digest_hex(&p->id, hex);
        return err_new(ERR_CORRUPT, "pack %s has another size than the index says", hex);
    }
    c->out->packs++;
    c->out->bytes += p->bytes;
    c->out->needed_bytes += p->needed;
    if (p->needed_n) {
        c->out->revived_packs += !p->living;
        p->living = true;
        p->dying = false;
        return NULL;
    }
    if (p->in_flight && p->living) {
        c->out->in_flight_packs++;
        return NULL;
    }
    p->living = false;
    p->dying = true;
    c->out->dead_packs++;
    c->out->dead_bytes += p->bytes;
    return NULL;
}

static void count_orphans(struct reclaim *c)
{
    for (size_t i = 0; i < c->found_n; i++) {
        if (packs_find_pack(&c->packs, &c->found[i].id) != SIZE_MAX)
            continue;
        c->out->orphan_packs++;
        c->out->orphan_bytes += c->found[i].bytes;
    }
}

/* Packs by their part of waste, the most wasteful first. */
static int by_waste(const void *a, const void *b, void *ctx)
{
    const struct packs *p = ctx;
    size_t i = *(const size_t *)a, j = *(const size_t *)b;
    const struct packs_pack *x = &p->items[i], *y = &p->items[j];
    double d =
        (double)waste_of(y) * (double)x->bytes - (double)waste_of(x) * (double)y->bytes;
    return d < 0 ? -1 : d > 0 ? 1 : i < j ? -1 : i > j;
}

static uint64_t allowed_waste(const struct reclaim *c)
{
    double part = c->opts->max_unused_percent / 100;
    if (part < 0)
        return c->opts->max_unused_bytes;
    return part >= 1 ? UINT64_MAX
                     : (uint64_t)(part / (1 - part) * (double)c->out->needed_bytes);
}

static void choose_repacks(struct reclaim *c)
{
    struct packs *p = &c->packs;
    uint64_t limit = allowed_waste(c), copied = 0;
    size_t *list = mem_array(p->n, sizeof *list), n = 0;
    c->repack = mem_array(p->n, sizeof *c->repack);
    for (size_t i = 0; i < p->n; i++) {
        if (!p->items[i].living || !p->items[i].needed_n || p->items[i].in_flight)
            continue;
        c->out->unused_bytes += waste_of(&p->items[i]);
        if (waste_of(&p->items[i]) && p->items[i].bytes <= REPO_FILE_MAX)
            list[n++] = i;
    }
    if (n)
        qsort_r(list, n, sizeof *list, by_waste, p);
    for (size_t i = 0; i < n && c->out->unused_bytes > limit; i++) {
        const struct packs_pack *pack = &p->items[list[i]];
        if (c->opts->max_repack_bytes && copied + pack->bytes > c->opts->max_repack_bytes)
            continue;
        copied += pack->bytes;
        c->repack[list[i]] = true;
        c->out->repack_packs++;
        c->out->repack_bytes += pack->bytes;
        c->out->copied_bytes += pack->needed;
        c->out->unused_bytes -= waste_of(pack);
    }
    free(list);
}

static struct err *decide(struct reclaim *c)
{
    /* After the index was loaded: what it names had been stored before. */
    TRY(list_packs(c));
    TRY(find_in_flight(c));
    choose_copies(&c->packs);
    for (size_t i = 0; i < c->packs.n; i++)
        TRY(judge_pack(c, &c->packs.items[i]));
    count_orphans(c);
    choose_repacks(c);
    return NULL;
}

/* ---- 4: copying ---- */

/* Saves the needed blobs of a pack anew. The index was never loaded into the repository,
 * so that no blob counts as known. */
static struct err *copy_pack(struct reclaim *c, const struct packs_pack *p,
                             struct buf *bytes, struct problems *unread)
{
    AUTO_BUF struct buf plain = {0};
    char hex[65];
    digest_hex(&p->id, hex);
    buf_clear(bytes);
    struct err *bad = repo_get_part(c->repo, REPO_DATA, &p->id, 0, p->bytes, bytes);
    for (size_t i = p->first; !bad && i < p->first + p->count; i++) {
        const struct packs_blob *b = &c->packs.blobs[i];
        struct repo_saved saved;
        struct digest id;
        if (!b->needed)
            continue;
        buf_clear(&plain);
        bad = (uint64_t)b->at.offset + b->at.length > bytes->len
                  ? err_new(ERR_CORRUPT, "a blob lies behind the pack's end")
                  : repo_decode_blob(c->io, &b->at, bytes->data + b->at.offset, &plain);
        if (!bad)
            TRY(repo_save_blob(c->io, b->at.type, plain.data, plain.len, &id, &saved));
    }
    if (bad && bad->kind != ERR_CORRUPT && bad->kind != ERR_LIMIT)
        return bad;
    problems_add(unread, hex, bad);
    return NULL;
}

static struct err *repack(struct reclaim *c)
{
    AUTO_BUF struct buf bytes = {0};
    uint64_t done = 0;
    for (size_t i = 0; i < c->packs.n; i++) {
        struct packs_pack *p = &c->packs.items[i];
        uint64_t before = problems_total(&c->out->problems);
        if (!c->repack[i])
            continue;
        tell(c, RECLAIM_REPACK, done++, c->out->repack_packs, NULL);
        TRY(may_go_on(c));
        TRY(copy_pack(c, p, &bytes, &c->out->problems));
        /* What cannot be read whole stays as it is: a check shall find it. */
        if (problems_total(&c->out->problems) == before) {
            p->living = false;
            p->dying = true;
        }
    }
    return done ? repo_flush(c->io) : NULL;
}

/* ---- 5: waiting ---- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void pause_ms(int64_t ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static struct err *look_at_locks(struct reclaim *c, struct lock_watch *w)
{
    struct lock_claim *list = NULL;
    size_t n = 0;
    TRY(lock_list(c->io, &list, &n));
    lock_watch_see(w, list, n, now_ms());
    free(list);
    return NULL;
}

static const struct lock_claim *some_holder(const struct lock_watch *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (!w->holders[i].gone)
            return &w->holders[i].claim;
    return NULL;
}

static struct err *watch(struct reclaim *c, struct lock_watch *w)
{
    int64_t pause = c->opts->pause_ms ? c->opts->pause_ms : LOCK_WATCH_PAUSE_MS;
    int64_t start = now_ms();
    TRY(look_at_locks(c, w));
    for (;;) {
        TRY(may_go_on(c));
        pause_ms(pause);
        TRY(look_at_locks(c, w));
        c->out->waiting = lock_watch_left(w);
        if (!c->out->waiting)
            return NULL;
        tell(c, RECLAIM_WAIT, w->n - c->out->waiting, w->n, some_holder(w));
        if (c->opts->max_wait_ms >= 0 && now_ms() - start >= c->opts->max_wait_ms)
            return NULL;
    }
}

/* Waits for everybody who has a lock now: they may have loaded the index before the dying
 * packs were out of it. */
static struct err *wait_for_others(struct reclaim *c)
{
    struct lock_watch w;
    lock_watch_init(&w, repo_lock_claim(c->opts->lock));
    struct err *e = watch(c, &w);
    lock_watch_fini(&w);
    return e ? err_wrap(e, "wait for other users of the repository") : NULL;
}

/* ---- 6: the second look ---- */

/* Revives the packs of blobs that are used and live nowhere else. Trees marked in the
 * first look are skipped: all they need was put into living packs then, and living packs
 * do not leave the index under a shared lock but by our hand. */
static void revive(struct reclaim *c)
{
    struct packs *p = &c->packs;
    for (size_t i = 0; i < p->blobs_n;) {
        const struct packs_blob *first = &p->blobs[p->order[i]];
        bool lives = false;
        size_t end = i;
        for (; end < p->blobs_n; end++) {
            const struct packs_blob *b = &p->blobs[p->order[end]];
            if (b->at.type != first->at.type || !digest_equal(&b->at.id, &first->at.id))
                break;
            lives |= p->items[b->at.pack].living;
        }
        if (first->used && !lives) {
            p->items[first->at.pack].living = true;
            p->items[first->at.pack].dying = false;
            c->out->revived_packs++;
        }
        i = end;
    }
}

static struct err *look_again(struct reclaim *c)
{
    packs_fini(&c->packs);
    TRY(find_needed(c, RECLAIM_LOOK));
    revive(c);
    return packs_publish(c->io, &c->packs, may_go_on, c);
}

/* ---- 7: deletion ---- */

static struct err *delete_pack(struct reclaim *c, const struct digest *id, uint64_t bytes)
{
    TRY(may_go_on(c));
    struct err *e = repo_remove_file(c->repo, REPO_DATA, id);
    if (e && e->kind == ERR_NOT_FOUND) {
        err_free(e); /* a run that was killed here has deleted it */
        return NULL;
    }
    TRY(e);
    c->out->deleted_packs++;
    c->out->freed_bytes += bytes;
    return NULL;
}

static struct err *delete_dying(struct reclaim *c)
{
    uint64_t done = 0, todo = c->out->dead_packs + c->out->repack_packs;
    for (size_t i = 0; i < c->packs.n; i++) {
        struct packs_pack *p = &c->packs.items[i];
        if (!p->dying)
            continue;
        tell(c, RECLAIM_DELETE, done++, todo, NULL);
        TRY(delete_pack(c, &p->id, p->bytes));
    }
    return NULL;
}

/* Packs that were there when this began and are in no index even now: who wrote them has
 * gone without indexing them. */
static struct err *delete_orphans(struct reclaim *c)
{
    for (size_t i = 0; i < c->found_n; i++)
        if (packs_find_pack(&c->packs, &c->found[i].id) == SIZE_MAX)
            TRY(delete_pack(c, &c->found[i].id, c->found[i].bytes));
    return NULL;
}

/* Index files shall not name what is gone. */
static struct err *clear_index(struct reclaim *c)
{
    packs_fini(&c->packs);
    TRY(packs_load(c->io, NULL, NULL, &c->packs));
    TRY(list_packs(c));
    for (size_t i = 0; i < c->packs.n; i++)
        c->packs.items[i].drop = c->packs.items[i].dying && !c->packs.items[i].present;
    return packs_publish(c->io, &c->packs, may_go_on, c);
}

/* ---- the whole ---- */

static uint64_t count_dying(const struct packs *p)
{
    uint64_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += p->items[i].dying && !p->items[i].drop;
    return n;
}

static struct err *finish(struct reclaim *c)
{
    uint64_t pending = count_dying(&c->packs) + c->out->orphan_packs;
    if (!pending)
        return NULL;
    TRY(wait_for_others(c));
    if (c->out->waiting) {
        c->out->pending_packs = pending;
        return NULL;
    }
    TRY(look_again(c));
    TRY(delete_dying(c));
    TRY(delete_orphans(c));
    c->out->freed_bytes -= c->out->freed_bytes < c->out->copied_bytes
                               ? c->out->freed_bytes
                               : c->out->copied_bytes;
    return clear_index(c);
}

/* Snapshots that were stored while this found out what is needed: who stored them looks
 * at the index again, but may have done so before the publication (README.md). */
static struct err *look_early(struct reclaim *c)
{
    struct repo_file *list = NULL;
    size_t n = 0, unknown = 0;
    if (!count_dying(&c->packs))
        return NULL;
    TRY(repo_list(c->repo, REPO_SNAPSHOT, &list, &n));
    for (size_t i = 0; i < n; i++)
        unknown += !idset_has(&c->snapshots, &list[i].id);
    free(list);
    return unknown ? look_again(c) : NULL;
}

static struct err *clean_up(struct reclaim *c)
{
    struct store_leftovers left = {0};
    TRY(repo_clean(c->repo, &left));
    c->out->leftover_files = left.files;
    c->out->leftover_bytes = left.bytes;
    return NULL;
}

static struct err *run(struct reclaim *c)
{
    TRY(find_needed(c, RECLAIM_MARK));
    TRY(decide(c));
    if (c->opts->dry_run)
        return NULL;
    TRY(repack(c));
    TRY(packs_publish(c->io, &c->packs, may_go_on, c));
    TRY(look_early(c));
    TRY(finish(c));
    return clean_up(c);
}

struct err *reclaim_run(struct repo *r, const struct reclaim_opts *opts,
                        struct reclaim_result *out)
{
    struct reclaim c = {.repo = r, .opts = opts, .out = out};
    *out = (struct reclaim_result){0};
    problems_init(&out->problems);
    c.io = repo_io_new(r);
    struct err *e = run(&c);
    repo_io_free(c.io);
    packs_fini(&c.packs);
    idset_fini(&c.snapshots);
    idset_fini(&c.trees);
    free(c.found);
    free(c.repack);
    return e ? err_wrap(e, "reclaim") : NULL;
}
