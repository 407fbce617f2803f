/* Makes what the benchmark stores, the same for the same arguments:
 *
 *   bench_corpus random FILE MIB         bytes that do not repeat
 *   bench_corpus files DIR COUNT MIB     small files of text and records in many
 * directories bench_corpus pages DIR MIB           files of 8 KiB pages like a database's
 *   bench_corpus change DIR PERMILLE RUN SEED
 *                                        rewrites a part of the pages of all files of 1
 * MiB and more, RUN pages at a time bench_corpus copy FROM TO            creates and
 * writes the same files in a bare loop: what no restore can be quicker than by much
 */
#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"

enum {
    PAGE = 8192,
    STEP = 1 << 20,
    FILE_PAGES = 32768,
    WORDS = 4096,
    CHANGED_MIN = 1 << 20
};

static uint64_t state = UINT64_C(88172645463325252);

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static char words[WORDS][12];

/* Short words as a language has them: few are used often, many rarely. */
static void make_words(void)
{
    for (size_t i = 0; i < WORDS; i++) {
        size_t n = 2 + next() % 9;
        for (size_t j = 0; j < n; j++)
            words[i][j] = (char)('a' + next() % 26 % (5 + next() % 21));
    }
}

static const char *word(void)
{
    uint64_t r = next();
    return words[(r & 0xfff) % (1 + ((r >> 12) & 0xfff))];
}

static void put(int fd, const void *data, size_t n)
{
    if (write(fd, data, n) != (ssize_t)n)
        err(1, "write");
}

static int create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

static void make_random(const char *path, unsigned mib)
{
    static uint64_t block[STEP / 8];
    int fd = create(path);
    for (unsigned i = 0; i < mib; i++) {
        for (size_t j = 0; j < STEP / 8; j++)
            block[j] = next() * UINT64_C(0x9e3779b97f4a7c15);
        put(fd, block, sizeof block);
    }
    close(fd);
}

/* Text, with a number that is new every few words. */
static size_t fill_text(char *out, size_t n)
{
    size_t at = 0;
    while (at < n) {
        char item[40];
        uint64_t r = next();
        int len = r % 13 == 0
                      ? snprintf(item, sizeof item, "%" PRIx64 "%c", next() >> 24,
                                 r % 5 ? ' ' : '\n')
                      : snprintf(item, sizeof item, "%s%c", word(), r % 9 ? ' ' : '\n');
        size_t take = (size_t)len < n - at ? (size_t)len : n - at;
        memcpy(out + at, item, take);
        at += take;
    }
    return n;
}

/* Three in five below 4 KiB, few large: the mean comes out near `mean`. */
static size_t file_size(size_t mean)
{
    uint64_t r = next() % 100;
    if (r < 60)
        return 64 + next() % 4000;
    if (r < 90)
        return 4096 + next() % mean;
    if (r < 99)
        return mean + next() % (mean * 6);
    return mean * 4 + next() % (mean * 40);
}

static void make_files(const char *dir, unsigned count, unsigned mib)
{
    size_t mean = ((size_t)mib << 20) / count, cap = mean * 44 + 8192;
    char *data = mem_alloc(cap), path[4096];
    mkdir(dir, 0755);
    for (unsigned i = 0; i < count; i++) {
        if (i % 400 == 0) {
            snprintf(path, sizeof path, "%s/d%03u", dir, i / 400);
            mkdir(path, 0755);
        }
        if (i % 25 == 0) {
            snprintf(path, sizeof path, "%s/d%03u/s%02u", dir, i / 400, i % 400 / 25);
            mkdir(path, 0755);
        }
        snprintf(path, sizeof path, "%s/d%03u/s%02u/%s-%u.txt", dir, i / 400,
                 i % 400 / 25, word(), i);
        size_t n = file_size(mean);
        int fd = create(path);
        put(fd, data, fill_text(data, n));
        close(fd);
    }
    free(data);
}

/* A page: header, line pointers, then tuples with a counter, two ids and a filler. */
static void fill_page(char *page, uint64_t number)
{
    memset(page, 0, PAGE);
    memcpy(page, &number, sizeof number);
    size_t tuples = 61, bytes = 128;
    for (size_t i = 0; i < tuples; i++) {
        char *t = page + PAGE - (i + 1) * bytes;
        uint32_t pointer = (uint32_t)(PAGE - (i + 1) * bytes) | (uint32_t)(bytes << 17);
        uint64_t row = number * tuples + i, value = next();
        memcpy(page + 24 + 4 * i, &pointer, sizeof pointer);
        memcpy(t, &row, sizeof row);
        memcpy(t + 8, &value, 4);
        fill_text(t + 16, 24);
        memset(t + 40, ' ', bytes - 40);
    }
}

static void make_pages(const char *dir, unsigned mib)
{
    uint64_t pages = (uint64_t)mib * (STEP / PAGE);
    char page[PAGE], path[4096];
    int fd = -1;
    mkdir(dir, 0755);
    for (uint64_t i = 0; i < pages; i++) {
        if (i % FILE_PAGES == 0) {
            snprintf(path, sizeof path, "%s/%" PRIu64, dir, 16384 + i / FILE_PAGES);
            if (fd >= 0)
                close(fd);
            fd = create(path);
        }
        fill_page(page, i);
        put(fd, page, PAGE);
    }
    close(fd);
}

static unsigned permille, run;

/* Changes a page as an update does: a header field and a few rows. */
static void change_page(char *page)
{
    for (int i = 0; i < 4; i++) {
        uint64_t value = next();
        memcpy(page + (i ? next() % (PAGE - 8) : 8), &value, sizeof value);
    }
}

static int change_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
    char page[PAGE];
    (void)at;
    if (type != FTW_F || st->st_size < CHANGED_MIN)
        return 0;
    int fd = open(path, O_RDWR);
    if (fd < 0)
        err(1, "%s", path);
    uint64_t pages = (uint64_t)st->st_size / PAGE;
    uint64_t runs = (pages * permille / 1000 + run - 1) / run;
    for (uint64_t i = 0; i < runs; i++) {
        uint64_t first = next() % pages;
        for (uint64_t p = first; p < first + run && p < pages; p++) {
            if (pread(fd, page, PAGE, (off_t)(p * PAGE)) != PAGE)
                err(1, "%s", path);
            change_page(page);
            if (pwrite(fd, page, PAGE, (off_t)(p * PAGE)) != PAGE)
                err(1, "%s", path);
        }
    }
    return close(fd);
}

static size_t from_n; /* length of copy's FROM */
static const char *copy_to;

static int copy_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    static char block[STEP], to[4096];
    (void)at;
    snprintf(to, sizeof to, "%s%s", copy_to, path + from_n);
    if (type == FTW_D)
        return mkdir(to, st->st_mode & 07777);
    if (type != FTW_F)
        return 0;
    int in = open(path, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL, st->st_mode & 07777);
    if (in < 0 || out < 0)
        err(1, "%s", in < 0 ? path : to);
    ssize_t n;
    while ((n = read(in, block, sizeof block)) > 0)
        put(out, block, (size_t)n);
    return n < 0 || close(in) || close(out);
}

static unsigned number(const char *text)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (!*text || *end || v > UINT32_MAX)
        errx(2, "'%s' is not a number", text);
    return (unsigned)v;
}

int main(int argc, char **argv)
{
    make_words();
    if (argc == 4 && strcmp(argv[1], "random") == 0) {
        make_random(argv[2], number(argv[3]));
    } else if (argc == 5 && strcmp(argv[1], "files") == 0) {
        make_files(argv[2], number(argv[3]), number(argv[4]));
    } else if (argc == 4 && strcmp(argv[1], "pages") == 0) {
        make_pages(argv[2], number(argv[3]));
    } else if (argc == 6 && strcmp(argv[1], "change") == 0) {
        permille = number(argv[3]);
        run = number(argv[4]);
        state += (uint64_t)number(argv[5]) << 20;
        if (nftw(argv[2], change_file, 64, FTW_PHYS))
            err(1, "%s", argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "copy") == 0) {
        from_n = strlen(argv[2]);
        copy_to = argv[3];
        if (nftw(argv[2], copy_one, 64, FTW_PHYS))
            err(1, "%s", argv[2]);
    } else {
        errx(2, "usage: bench_corpus random|files|pages|change|copy …");
    }
    return 0;
}
