#include "common/repo/index_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"

enum {
    DELTA_MAX = 384 << 10, /* records in memory, about 24 MiB with their table */
    DELTA_EAGER = 4 << 10, /* fewer are not worth a file */
    EAGER_FRACTION = 8,    /* of the base that must be new */
    STEP = 256 << 10,      /* bytes written or summed at once */
};

/* What the file begins with. Then: ids of covered files, packs, records, order of
 * records, order of packs. All in this machine's byte order: another one's magic differs.
 */
struct header {
    uint64_t magic;
    uint64_t sum; /* of everything behind this field */
    char repo_id[64];
    uint64_t files_n;
    uint64_t packs_n;
    uint64_t records_n;
    uint64_t blobs;
};
static const uint64_t magic = UINT64_C(0x3178656469707473); /* "stpidex1" */

void index_cache_fini(struct index_covered *c)
{
    free(c->ids);
    *c = (struct index_covered){0};
}

bool index_cache_is_due(const struct index *ix, bool eager)
{
    return ix->records_n >= DELTA_MAX ||
           (eager && ix->records_n >= DELTA_EAGER &&
            ix->records_n >= ix->base.records_n / EAGER_FRACTION);
}

/* Against damage, not against enemies: the file is as safe as the program's memory. */
static uint64_t add_to_sum(uint64_t sum, const void *data, size_t n)
{
    const uint64_t prime = UINT64_C(0x9e3779b97f4a7c15);
    const uint8_t *p = data;
    uint64_t lanes[4] = {sum, sum ^ prime, sum + prime, ~sum}, word;
    for (; n >= 32; n -= 32, p += 32)
        for (int i = 0; i < 4; i++) {
            memcpy(&word, p + 8 * i, 8);
            lanes[i] = (lanes[i] ^ word) * prime;
            lanes[i] ^= lanes[i] >> 29;
        }
    for (; n; n--, p++)
        lanes[0] = (lanes[0] ^ *p) * prime;
    for (int i = 0; i < 4; i++) {
        sum = (sum ^ lanes[i]) * prime;
        sum ^= sum >> 32;
    }
    return sum;
}

static char *path_of(const char *dir, const char *repo_id, const char *name)
{
    return mem_printf("%s/%.64s/%s", dir, repo_id, name);
}

/* ---- reading ---- */

/* By reading, not through the map: that would make all of it resident. */
static struct err *check_sum(int fd, const struct header *h, uint64_t bytes)
{
    AUTO(str) char *room = mem_alloc(STEP);
    uint64_t sum = 0, at = offsetof(struct header, repo_id);
    while (at < bytes) {
        size_t want = bytes - at < STEP ? (size_t)(bytes - at) : STEP;
        ssize_t got = pread(fd, room, want, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_os(errno, "read");
        if ((size_t)got != want)
            return err_new(ERR_CORRUPT, "it is cut short");
        sum = add_to_sum(sum, room, want);
        at += want;
    }
    if (sum != h->sum)
        return err_new(ERR_CORRUPT, "its checksum does not match");
    return NULL;
}

static struct err *check_header(int fd, const char *repo_id, struct header *h,
                                uint64_t *bytes)
{
    struct stat st;
    if (fstat(fd, &st))
        return err_os(errno, "look at");
    *bytes = (uint64_t)st.st_size;
    if (pread(fd, h, sizeof *h, 0) != (ssize_t)sizeof *h || h->magic != magic ||
        memcmp(h->repo_id, repo_id, sizeof h->repo_id) != 0)
        return err_new(ERR_CORRUPT, "it is not of this repository and version");
    if (h->files_n > UINT32_MAX || h->packs_n > UINT32_MAX || h->records_n > UINT32_MAX ||
        h->blobs > h->records_n ||
        *bytes != sizeof *h + h->files_n * sizeof(struct digest) +
                      h->packs_n * (sizeof(struct pack_entry) + 4) +
                      h->records_n * sizeof(struct index_record) + h->blobs * 4)
        return err_new(ERR_CORRUPT, "its parts do not fit");
    return check_sum(fd, h, *bytes);
}

static struct err *map(int fd, const struct header *h, uint64_t bytes,
                       struct index_base *out)
{
    void *m = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED)
        return err_os(errno, "map");
    const char *at = (const char *)m + sizeof *h + h->files_n * sizeof(struct digest);
    *out = (struct index_base){.memory = m,
                               .memory_n = bytes,
                               .records_n = h->records_n,
                               .packs_n = h->packs_n,
                               .blobs = h->blobs};
    out->packs = (const struct pack_entry *)at;
    at += h->packs_n * sizeof *out->packs;
    out->records = (const struct index_record *)at;
    at += h->records_n * sizeof *out->records;
    out->order = (const uint32_t *)at;
    out->pack_order = out->order + h->blobs;
    return NULL;
}

static struct err *open_at(int fd, const char *repo_id, struct index *ix,
                           struct index_covered *covered)
{
    struct header h;
    uint64_t bytes = 0;
    TRY(check_header(fd, repo_id, &h, &bytes));
    TRY(map(fd, &h, bytes, &ix->base));
    covered->n = h.files_n;
    covered->ids = mem_dup((const char *)ix->base.memory + sizeof h,
                           h.files_n * sizeof *covered->ids + 1);
    return NULL;
}

struct err *index_cache_open(const char *dir, const char *repo_id, struct index *ix,
                             struct index_covered *covered)
{
    AUTO(str) char *path = path_of(dir, repo_id, "index");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open '%s'", path);
    struct err *e = open_at(fd, repo_id, ix, covered);
    close(fd);
    if (e)
        return err_wrap(e, "index cache '%s'", path);
    return NULL;
}

/* ---- writing ---- */

struct writer {
    int fd;
    char room[STEP];
    size_t n;
    uint64_t sum;
    struct err *e; /* the first; nothing is written any more */
};

static void flush(struct writer *w)
{
    w->sum = add_to_sum(w->sum, w->room, w->n);
    for (size_t at = 0; at < w->n && !w->e;) {
        ssize_t put = write(w->fd, w->room + at, w->n - at);
        if (put < 0 && errno != EINTR)
            w->e = err_os(errno, "write");
        at += put > 0 ? (size_t)put : 0;
    }
    w->n = 0;
}

/* Pieces end where STEP ends, as check_sum() reads them. */
static void add(struct writer *w, const void *data, size_t n)
{
    const char *from = data;
    while (n && !w->e) {
        size_t take = n < STEP - w->n ? n : STEP - w->n;
        memcpy(w->room + w->n, from, take);
        w->n += take;
        from += take;
        n -= take;
        if (w->n == STEP)
            flush(w);
    }
}

/* The new part of the index: its first packs in memory, with their records. */
struct part {
    const struct index *ix;
    size_t packs_n;
    size_t records_n;
    size_t blobs;
};

static int by_record(const void *a, const void *b, void *records)
{
    const struct index_record *r = records;
    return memcmp(&r[*(const uint32_t *)a].id, &r[*(const uint32_t *)b].id, sizeof r->id);
}

static int by_pack(const void *a, const void *b, void *packs)
{
    const struct pack_entry *p = packs;
    return memcmp(&p[*(const uint32_t *)a].id, &p[*(const uint32_t *)b].id, sizeof p->id);
}

/* Writes two sorted lists of positions as one; those of the second are `base` higher. */
static void merge(struct writer *w, const char *items_a, const uint32_t *a, size_t n,
                  const char *items_b, const uint32_t *b, size_t m, size_t bytes,
                  uint32_t base)
{
    size_t i = 0, j = 0;
    while (i < n || j < m) {
        bool first = j == m;
        if (i < n && j < m)
            first = memcmp(items_a + bytes * a[i], items_b + bytes * b[j],
                           sizeof(struct digest)) <= 0;
        uint32_t at = first ? a[i++] : b[j++] + base;
        add(w, &at, sizeof at);
    }
}

static void write_orders(struct writer *w, const struct part *p)
{
    const struct index *ix = p->ix;
    const struct index_base *b = &ix->base;
    uint32_t *order = mem_array(p->records_n + p->packs_n, sizeof *order);
    size_t n = 0;
    for (size_t i = 0; i < p->records_n; i++)
        if (ix->records[i].plain != INDEX_GAP)
            order[n++] = (uint32_t)i;
    qsort_r(order, n, sizeof *order, by_record, ix->records);
    merge(w, (const char *)b->records, b->order, b->blobs, (const char *)ix->records,
          order, n, sizeof *ix->records, (uint32_t)b->records_n);
    for (size_t i = 0; i < p->packs_n; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, p->packs_n, sizeof *order, by_pack, ix->packs);
    merge(w, (const char *)b->packs, b->pack_order, b->packs_n, (const char *)ix->packs,
          order, p->packs_n, sizeof *ix->packs, (uint32_t)b->packs_n);
    free(order);
}

static void write_parts(struct writer *w, const struct header *h, const struct part *p,
                        const struct index_covered *files)
{
    const struct index *ix = p->ix;
    const struct index_base *b = &ix->base;
    add(w, h->repo_id, sizeof *h - offsetof(struct header, repo_id));
    add(w, files->ids, files->n * sizeof *files->ids);
    add(w, b->packs, b->packs_n * sizeof *b->packs);
    for (size_t i = 0; i < p->packs_n; i++) {
        struct pack_entry e = ix->packs[i];
        e.first += (uint32_t)b->records_n;
        add(w, &e, sizeof e);
    }
    add(w, b->records, b->records_n * sizeof *b->records);
    add(w, ix->records, p->records_n * sizeof *ix->records);
    write_orders(w, p);
    flush(w);
}

static struct err *write_file(int fd, const char *repo_id, const struct part *p,
                              const struct index_covered *files)
{
    const struct index_base *b = &p->ix->base;
    struct header h = {.magic = magic,
                       .files_n = files->n,
                       .packs_n = b->packs_n + p->packs_n,
                       .records_n = b->records_n + p->records_n,
                       .blobs = b->blobs + p->blobs};
    struct writer *w = mem_alloc(sizeof *w);
    memcpy(h.repo_id, repo_id, sizeof h.repo_id);
    w->fd = fd;
    w->n = 0;
    w->sum = 0;
    w->e = NULL;
    if (lseek(fd, offsetof(struct header, repo_id), SEEK_SET) < 0)
        w->e = err_os(errno, "seek");
    write_parts(w, &h, p, files);
    h.sum = w->sum;
    struct err *e = STEAL(w->e);
    free(w);
    if (!e && pwrite(fd, &h, offsetof(struct header, repo_id), 0) !=
                  (ssize_t)offsetof(struct header, repo_id))
        e = err_os(errno, "write");
    return e;
}

static struct err *make_dirs(const char *dir, const char *repo_id)
{
    AUTO(str) char *own = path_of(dir, repo_id, "");
    if (mkdir(dir, 0700) && errno != EEXIST)
        return err_os(errno, "make directory '%s'", dir);
    if (mkdir(own, 0700) && errno != EEXIST)
        return err_os(errno, "make directory '%s'", own);
    return NULL;
}

/* What was moved leaves memory. */
static void drop_part(struct index *ix, const struct part *p)
{
    ix->records_n -= p->records_n;
    ix->packs_n -= p->packs_n;
    ix->blobs -= p->blobs;
    memmove(ix->records, ix->records + p->records_n, ix->records_n * sizeof *ix->records);
    memmove(ix->packs, ix->packs + p->packs_n, ix->packs_n * sizeof *ix->packs);
    for (size_t i = 0; i < ix->packs_n; i++)
        ix->packs[i].first -= (uint32_t)p->records_n;
    index_link(ix);
}

static struct err *replace(const char *temp, const char *path, const char *repo_id,
                           const struct part *p, const struct index_covered *files,
                           struct index *ix)
{
    struct index fresh = {0};
    struct index_covered unused = {0};
    int fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_os(errno, "create '%s'", temp);
    struct err *e = write_file(fd, repo_id, p, files);
    if (!e)
        e = open_at(fd, repo_id, &fresh, &unused);
    index_cache_fini(&unused);
    close(fd);
    if (!e && rename(temp, path)) {
        e = err_os(errno, "rename '%s'", temp);
        index_fini(&fresh);
    }
    if (e) {
        unlink(temp);
        return e;
    }
    if (ix->base.memory)
        munmap(ix->base.memory, ix->base.memory_n);
    ix->base = fresh.base;
    drop_part(ix, p);
    return NULL;
}

struct err *index_cache_compact(const char *dir, const char *repo_id, size_t packs,
                                const struct index_covered *files, struct index *ix)
{
    struct part p = {.ix = ix, .packs_n = packs - ix->base.packs_n};
    AUTO(str) char *path = path_of(dir, repo_id, "index");
    AUTO(str) char *name = mem_printf("index-tmp-%d", (int)gettid());
    AUTO(str) char *temp = path_of(dir, repo_id, name);
    if (p.packs_n) {
        const struct pack_entry *last = &ix->packs[p.packs_n - 1];
        p.records_n = last->first + last->count;
    }
    for (size_t i = 0; i < p.records_n; i++)
        p.blobs += ix->records[i].plain != INDEX_GAP;
    TRY(make_dirs(dir, repo_id));
    return replace(temp, path, repo_id, &p, files, ix);
}
