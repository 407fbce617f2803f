#include "common/engine/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/file/fd.h"
#include "common/base/mem.h"
#include "common/engine/scan.h"

static const char heading[] = "stillpoint manifest 1\n";
enum { FIELDS = 3 }; /* before the path, each followed by a blank */

struct manifest {
    char *text; /* the mapped file; its last byte is NUL */
    size_t n;
    struct timespec made;
    /* Hash table of where entries begin: open addressing, 0 is free. A power of two, at
     * most half full. */
    uint32_t *slots;
    size_t slots_n;
};

void manifest_close(struct manifest *m)
{
    if (!m)
        return;
    if (m->text)
        munmap(m->text, m->n);
    free(m->slots);
    free(m);
}

/* The path of an entry, or NULL if it has none. */
static const char *path_of(const char *entry)
{
    for (int i = 0; i < FIELDS; i++) {
        entry = strchr(entry, ' ');
        if (!entry)
            return NULL;
        entry++;
    }
    return entry;
}

/* FNV-1a. Whoever names files can make this slow, not wrong. */
static size_t slot_of(const struct manifest *m, const char *path)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *path; path++)
        h = (h ^ (uint8_t)*path) * UINT64_C(0x100000001b3);
    return (size_t)(h ^ h >> 32) & (m->slots_n - 1);
}

static void put(struct manifest *m, const char *path, size_t at)
{
    size_t i = slot_of(m, path);
    while (m->slots[i])
        i = (i + 1) & (m->slots_n - 1);
    m->slots[i] = (uint32_t)at;
}

static size_t next_entry(const struct manifest *m, size_t at)
{
    return at + strlen(m->text + at) + 1;
}

/* Every entry has its fields, and the last one tells their number. */
static struct err *check(const struct manifest *m, size_t *entries)
{
    size_t at = strlen(heading), last = at;
    *entries = 0;
    if (m->n <= at || m->n > UINT32_MAX || memcmp(m->text, heading, at) != 0 ||
        m->text[m->n - 1])
        return err_new(ERR_CORRUPT, "not a manifest");
    for (; at < m->n; at = next_entry(m, at)) {
        last = at;
        if (path_of(m->text + at))
            (*entries)++;
        else if (next_entry(m, at) < m->n)
            return err_new(ERR_CORRUPT, "entry %zu has no path", *entries + 1);
    }
    char end[32];
    snprintf(end, sizeof end, "end %zu", *entries);
    if (strcmp(m->text + last, end) != 0)
        return err_new(ERR_CORRUPT, "it does not end with '%s'", end);
    return NULL;
}

static struct err *load(struct manifest *m, const char *file)
{
    struct stat st;
    size_t entries = 0;
    AUTO(fd) int fd = -1;
    TRY(scan_open_file(AT_FDCWD, file, &fd, &st));
    if (st.st_size == 0)
        return err_new(ERR_CORRUPT, "it is empty");
    void *text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (text == MAP_FAILED)
        return err_os(errno, "map it");
    m->text = text;
    m->n = (size_t)st.st_size;
    m->made = st.st_mtim;
    TRY(check(m, &entries));
    for (m->slots_n = 16; m->slots_n < 2 * entries; m->slots_n *= 2)
        continue;
    m->slots = mem_zalloc(m->slots_n * sizeof *m->slots);
    for (size_t at = strlen(heading); at < m->n; at = next_entry(m, at)) {
        const char *path = path_of(m->text + at);
        if (path)
            put(m, path, at);
    }
    return NULL;
}

struct err *manifest_open(const char *file, struct manifest **out)
{
    AUTO(manifest) struct manifest *m = mem_zalloc(sizeof *m);
    TRY_CTX(load(m, file), "manifest '%s'", file);
    *out = STEAL(m);
    return NULL;
}

bool manifest_find(const struct manifest *m, const char *path, struct manifest_entry *out)
{
    for (size_t i = slot_of(m, path); m->slots[i]; i = (i + 1) & (m->slots_n - 1)) {
        const char *entry = m->text + m->slots[i];
        if (strcmp(path_of(entry), path) != 0)
            continue;
        return sscanf(entry, "%" SCNu64 " %" SCNd64 ".%9" SCNu32 " %" SCNu64, &out->inode,
                      &out->ctime_s, &out->ctime_ns, &out->device) == 4;
    }
    return false;
}

struct timespec manifest_made(const struct manifest *m)
{
    return m->made;
}
