/* How a restore writes the content of files: holes stay holes, and the inside of large
 * pieces goes past the page cache where that is the quicker way. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/engine/restore_own.h"

enum {
    BLOCK = RESTORE_ALIGN,
    DIRECT_FILE = 4 << 20,    /* files from this length on */
    DIRECT_MIN = 128 << 10,   /* shorter stretches are not worth a wait for the disk */
    STRETCH_BYTES = 64 << 20, /* written one way before the ways are compared */
};

/* ---- which way ---- */

/* The page cache is quick as long as it finds free memory: on a virtual machine whose
 * memory comes and goes it takes ten times as long as the disk. No rule of thumb holds
 * for both, so each way is tried and the quicker one kept until it gets slower than the
 * other was. */
void restore_pace_init(struct restore_pace *p, enum restore_writes writes)
{
    pthread_mutex_init(&p->mu, NULL);
    p->fixed = writes != RESTORE_WRITES_QUICKEST;
    atomic_store(&p->direct, writes == RESTORE_WRITES_DIRECT);
}

void restore_pace_fini(struct restore_pace *p)
{
    pthread_mutex_destroy(&p->mu);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void note_pace(struct restore_pace *p, size_t n)
{
    if (p->fixed)
        return;
    pthread_mutex_lock(&p->mu);
    p->bytes += n;
    if (!p->began_ns || p->bytes >= STRETCH_BYTES) {
        uint64_t now = now_ns(), took = now - p->began_ns;
        bool direct = atomic_load(&p->direct);
        uint64_t other = p->mib_per_s[!direct];
        if (p->began_ns) {
            uint64_t rate = (p->bytes >> 20) * 1000000000 / (took ? took : 1);
            p->mib_per_s[direct] = rate ? rate : 1;
            /* A tenth is noise. */
            if (!other || rate + rate / 10 < other)
                atomic_store(&p->direct, !direct);
        }
        p->began_ns = now;
        p->bytes = 0;
    }
    pthread_mutex_unlock(&p->mu);
}

/* ---- past the page cache ---- */

/* Only where the filesystem says that it can: there both ways of writing agree. Its
 * length is set first, because writes behind the end would wait for one another. */
void restore_direct_open(struct restore *r, struct restore_file *f)
{
    char path[64];
    struct statx st;
    bool may = r->opts->writes != RESTORE_WRITES_CACHED && !f->existed &&
               f->bytes >= DIRECT_FILE && !atomic_load(&r->pace.refused);
    if (!may)
        return;
    if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) ||
        !(st.stx_mask & STATX_DIOALIGN) || !st.stx_dio_offset_align ||
        BLOCK % st.stx_dio_offset_align || BLOCK % st.stx_dio_mem_align)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
    int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)f->bytes)) {
        close(fd);
        fd = -1;
    }
    f->direct_fd = fd;
}

static struct err *write_at(int fd, const char *data, size_t n, uint64_t offset)
{
    while (n) {
        ssize_t put = pwrite(fd, data, n, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_os(errno, "write");
        data += put;
        offset += (uint64_t)put;
        n -= (size_t)put;
    }
    return NULL;
}

/* Whole aligned blocks; what the filesystem refuses or breaks off is written as usual. */
static struct err *write_direct(struct restore *r, const struct restore_file *f,
                                const char *data, size_t n, uint64_t offset)
{
    while (n && n % BLOCK == 0) {
        ssize_t put = pwrite(f->direct_fd, data, n, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EINVAL)
            atomic_store(&r->pace.refused, true);
        else if (put < 0)
            return err_os(errno, "write");
        if (put <= 0)
            break;
        data += put;
        offset += (uint64_t)put;
        n -= (size_t)put;
    }
    return write_at(f->fd, data, n, offset);
}

/* Blocks that are only partly its own are written through the page cache, which puts them
 * together with those of the neighbours. */
static struct err *write_run(struct restore *r, const struct restore_file *f,
                             const char *data, size_t n, uint64_t offset)
{
    size_t head = (size_t)((BLOCK - offset % BLOCK) % BLOCK);
    bool direct = f->direct_fd >= 0 && n >= DIRECT_MIN && atomic_load(&r->pace.direct) &&
                  !atomic_load(&r->pace.refused) && (uintptr_t)(data + head) % BLOCK == 0;
    if (!direct)
        return write_at(f->fd, data, n, offset);
    size_t whole = (n - head) / BLOCK * BLOCK, end = head + whole;
    TRY(write_at(f->fd, data, head, offset));
    TRY(write_direct(r, f, data + head, whole, offset + head));
    return write_at(f->fd, data + end, n - end, offset + end);
}

/* ---- holes ---- */

static bool is_zero(const char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Writes runs of blocks that are not zero; what is skipped stays a hole. *hole: the last
 * bytes were skipped. */
static struct err *write_sparse(struct restore *r, const struct restore_file *f,
                                const char *data, size_t n, uint64_t offset, bool *hole)
{
    size_t start = 0, at = 0;
    while (at < n) {
        size_t block = BLOCK - (size_t)((offset + at) % BLOCK);
        block = block < n - at ? block : n - at;
        if (is_zero(data + at, block)) {
            TRY(write_run(r, f, data + start, at - start, offset + start));
            start = at + block;
        }
        at += block;
    }
    *hole = start == n;
    return write_run(r, f, data + start, n - start, offset + start);
}

struct err *restore_write(struct restore *r, struct restore_file *f, const char *data,
                          size_t n, uint64_t at)
{
    bool hole = false;
    if (r->opts->no_sparse || f->existed)
        TRY(write_run(r, f, data, n, at));
    else
        TRY(write_sparse(r, f, data, n, at, &hole));
    if (hole && at + n == f->bytes)
        f->hole_at_end = true;
    if (f->direct_fd >= 0)
        note_pace(&r->pace, n);
    return NULL;
}
