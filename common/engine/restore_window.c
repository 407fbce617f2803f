/* Windows of a restore: which pieces are needed, in the order in which packs hold them.
 */
#include <assert.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/restore_own.h"

enum { COMPARE_REFS = 32, FINISH_FILES = 64, WAIT_MS = 200 };

void restore_window_init(struct restore *r, struct restore_window *w)
{
    pthread_condattr_t attr;
    w->restore = r;
    pthread_mutex_init(&w->mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->idle, &attr);
    pthread_condattr_destroy(&attr);
}

void restore_window_fini(struct restore_window *w)
{
    free(w->files);
    free(w->refs);
    free(w->jobs);
    pthread_cond_destroy(&w->idle);
    pthread_mutex_destroy(&w->mu);
}

bool restore_window_is_full(const struct restore_window *w)
{
    return w->files_n >= RESTORE_WINDOW_FILES || w->refs_n >= RESTORE_WINDOW_REFS;
}

/* Looks up where the content of the file last added lies. */
static void add_refs(struct restore_window *w, struct restore_file *f)
{
    struct restore *r = w->restore;
    struct blob_entry entry;
    struct digest pack;
    char hex[65];
    f->refs_first = (uint32_t)w->refs_n;
    for (size_t i = 0; i < f->node.content_n; i++) {
        const struct digest *id = &f->node.content[i];
        if (!repo_locate(r->repo, BLOB_DATA, id, &entry, &pack)) {
            digest_hex(id, hex);
            w->refs_n = f->refs_first;
            restore_file_fail(
                r, f, err_new(ERR_NOT_FOUND, "data blob %s is not in the index", hex));
            return;
        }
        if (entry.length > REPO_DATA_MAX) {
            w->refs_n = f->refs_first;
            restore_file_fail(r, f, err_new(ERR_LIMIT, "one of its pieces is too large"));
            return;
        }
        mem_reserve((void **)&w->refs, &w->refs_cap, w->refs_n, sizeof *w->refs);
        w->refs[w->refs_n++] = (struct restore_ref){
            .at = f->bytes,
            .file = (uint32_t)w->files_n - 1,
            .number = (uint32_t)i,
            .pack = entry.pack,
            .offset = entry.offset,
            .length = entry.length,
            .plain = entry.plain,
        };
        f->bytes += blob_entry_bytes(&entry);
    }
    f->refs_n = (uint32_t)(w->refs_n - f->refs_first);
}

struct restore_file *restore_window_add(struct restore_window *w, struct restore_dir *dir,
                                        struct node *node)
{
    mem_reserve((void **)&w->files, &w->files_cap, w->files_n, sizeof *w->files);
    struct restore_file *f = &w->files[w->files_n++];
    memset(f, 0, sizeof *f);
    f->dir = dir;
    f->node = *node;
    *node = (struct node){0};
    f->fd = f->direct_fd = -1;
    add_refs(w, f);
    return f;
}

static struct restore_job *add_job(struct restore_window *w, enum restore_job_kind kind,
                                   size_t first, size_t n)
{
    mem_reserve((void **)&w->jobs, &w->jobs_cap, w->jobs_n, sizeof *w->jobs);
    struct restore_job *j = &w->jobs[w->jobs_n++];
    *j = (struct restore_job){
        .kind = kind, .window = w, .first = (uint32_t)first, .n = (uint32_t)n};
    return j;
}

static void push_jobs(struct restore_window *w)
{
    size_t n = w->jobs_n;
    pthread_mutex_lock(&w->mu);
    w->jobs_left = n;
    pthread_mutex_unlock(&w->mu);
    for (size_t i = 0; i < n; i++) {
        workq_push(w->restore->queue, &w->jobs[i]);
        restore_report(w->restore);
    }
}

static void wait_jobs(struct restore_window *w)
{
    struct timespec until;
    pthread_mutex_lock(&w->mu);
    while (w->jobs_left) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        pthread_cond_timedwait(&w->idle, &w->mu, &until);
        pthread_mutex_unlock(&w->mu);
        restore_report(w->restore);
        pthread_mutex_lock(&w->mu);
    }
    pthread_mutex_unlock(&w->mu);
    w->jobs_n = 0;
}

/* What existing files have already need not be written: several threads look. */
static void compare(struct restore_window *w)
{
    for (size_t i = 0; i < w->files_n; i++) {
        const struct restore_file *f = &w->files[i];
        if (!f->existed || f->same)
            continue;
        for (uint32_t at = 0; at < f->refs_n; at += COMPARE_REFS) {
            uint32_t left = f->refs_n - at;
            add_job(w, JOB_COMPARE, f->refs_first + at,
                    left < COMPARE_REFS ? left : COMPARE_REFS);
        }
    }
    if (!w->jobs_n)
        return;
    push_jobs(w);
    wait_jobs(w);
}

/* Settles for each file which of its pieces are to be written. */
static void settle(struct restore_window *w)
{
    for (size_t i = 0; i < w->files_n; i++) {
        struct restore_file *f = &w->files[i];
        struct restore_ref *refs = w->refs + f->refs_first;
        uint32_t left = 0;
        for (uint32_t k = 0; k < f->refs_n; k++) {
            refs[k].have |= f->same;
            left += !refs[k].have;
        }
        bool changes =
            left || f->other_meta || (f->existed && !f->same && f->had_bytes != f->bytes);
        /* Its other names may be anything, also outside: a new file takes its place. */
        if (f->shared && changes) {
            atomic_store(&f->replace, true);
            f->existed = false;
            left = f->refs_n;
            for (uint32_t k = 0; k < f->refs_n; k++)
                refs[k].have = false;
        }
        for (uint32_t k = 0; k < f->refs_n; k++)
            if (refs[k].have)
                atomic_fetch_add(&w->restore->kept_bytes,
                                 (k + 1 < f->refs_n ? refs[k + 1].at : f->bytes) -
                                     refs[k].at);
        f->idle = left == 0;
        atomic_store(&f->left, left);
    }
}

static int by_place(const void *a, const void *b)
{
    const struct restore_ref *x = a, *y = b;
    if (x->have != y->have)
        return x->have ? 1 : -1;
    if (x->pack != y->pack)
        return x->pack < y->pack ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static bool continues_run(const struct restore_ref *first, const struct restore_ref *prev,
                          const struct restore_ref *ref)
{
    uint64_t end = (uint64_t)prev->offset + prev->length;
    return ref->pack == first->pack && ref->offset <= end + RESTORE_GAP_BYTES &&
           (uint64_t)ref->offset + ref->length - first->offset <= RESTORE_RUN_BYTES;
}

static void add_run(struct restore_window *w, size_t first, size_t n)
{
    const struct restore_ref *ref = &w->refs[first];
    struct blob_entry entry;
    struct restore_job *j = add_job(w, JOB_RUN, first, n);
    bool found =
        repo_locate(w->restore->repo, BLOB_DATA,
                    &w->files[ref->file].node.content[ref->number], &entry, &j->pack);
    assert(found && entry.pack == ref->pack);
}

static void plan_runs(struct restore_window *w)
{
    size_t start = 0, n = w->refs_n;
    if (n)
        qsort(w->refs, n, sizeof *w->refs, by_place);
    while (n && w->refs[n - 1].have)
        n--;
    for (size_t i = 1; i <= n; i++)
        if (i == n || !continues_run(&w->refs[start], &w->refs[i - 1], &w->refs[i])) {
            add_run(w, start, i - start);
            start = i;
        }
    /* Files without a piece to write come between the runs of others. */
    for (size_t i = 0; i < w->files_n; i++) {
        size_t last = i;
        while (last < w->files_n && last - i < FINISH_FILES && w->files[last].idle)
            last++;
        if (last == i)
            continue;
        add_job(w, JOB_FINISH, i, last - i);
        i = last - 1;
    }
}

static void only_tell(struct restore_window *w)
{
    struct restore *r = w->restore;
    for (size_t i = 0; i < w->files_n; i++) {
        struct restore_file *f = &w->files[i];
        bool kept = f->existed && f->idle && (f->same || f->had_bytes == f->bytes);
        if (atomic_load(&f->failed))
            continue;
        if (f->source)
            atomic_store(&f->source->state, LINK_DONE);
        atomic_fetch_add(kept ? &r->kept : &r->files, 1);
        restore_tell(r,
                     kept                                     ? RESTORE_KEEP
                     : f->existed || atomic_load(&f->replace) ? RESTORE_UPDATE
                                                              : RESTORE_CREATE,
                     f->dir, f->node.name);
    }
    for (size_t i = 0; i < w->refs_n; i++) {
        const struct restore_ref *ref = &w->refs[i];
        const struct blob_entry e = {.plain = ref->plain, .length = ref->length};
        if (!ref->have)
            atomic_fetch_add(&r->bytes, blob_entry_bytes(&e));
    }
}

void restore_window_start(struct restore_window *w)
{
    compare(w);
    settle(w);
    if (w->restore->opts->dry_run) {
        only_tell(w);
        return;
    }
    plan_runs(w);
    push_jobs(w);
}

void restore_window_finish(struct restore_window *w)
{
    wait_jobs(w);
    for (size_t i = 0; i < w->files_n; i++) {
        struct restore_file *f = &w->files[i];
        if (f->fd >= 0) /* only when cancelled */
            close(f->fd);
        if (f->direct_fd >= 0)
            close(f->direct_fd);
        node_fini(&f->node);
        restore_dir_drop(w->restore, f->dir);
    }
    w->files_n = w->refs_n = 0;
}
