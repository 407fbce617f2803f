/* The bound of every restore: makes the directories and files of SRC below DST, as many
 * bytes each, and nothing else; prints the seconds that took.
 *
 *   bare_write SRC DST THREADS [meta]     meta: also mode and times of each file
 *
 * Directories are made first; the threads then take files in order, 64 at a time. */
#include <fcntl.h>
#include <fts.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"

enum { STEP = 1 << 20, BATCH = 64, THREADS_MAX = 64 };

struct item {
    char *path; /* below both */
    off_t bytes;
};

static struct item *items;
static size_t items_n, items_cap;
static atomic_size_t next_item;
static char *noise;
static int to_fd;
static bool with_meta;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void write_item(const struct item *it)
{
    int fd = openat(to_fd, it->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        die(it->path);
    for (off_t left = it->bytes; left > 0;) {
        ssize_t put = write(fd, noise, left < STEP ? (size_t)left : STEP);
        if (put < 0)
            die(it->path);
        left -= put;
    }
    const struct timespec times[2] = {{1000000000, 5}, {1000000000, 5}};
    if (with_meta && (fchmod(fd, 0644) || futimens(fd, times)))
        die(it->path);
    if (close(fd))
        die(it->path);
}

static void *work(void *arg)
{
    size_t at;
    (void)arg;
    while ((at = atomic_fetch_add(&next_item, BATCH)) < items_n)
        for (size_t i = at; i < at + BATCH && i < items_n; i++)
            write_item(&items[i]);
    return NULL;
}

/* Lists the files, and makes the directories. */
static double prepare(char *from, double *dirs_s)
{
    char *roots[] = {from, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL, NULL);
    const FTSENT *e;
    size_t skip = strlen(from);
    if (!walk)
        die(from);
    while ((e = fts_read(walk))) {
        const char *path = e->fts_path + skip;
        while (*path == '/')
            path++;
        if (e->fts_info == FTS_D && *path) {
            double start = now();
            if (mkdirat(to_fd, path, 0700))
                die(path);
            *dirs_s += now() - start;
        } else if (e->fts_info == FTS_F) {
            mem_reserve((void **)&items, &items_cap, items_n, sizeof *items);
            items[items_n++] = (struct item){mem_strdup(path), e->fts_statp->st_size};
        }
    }
    fts_close(walk);
    return *dirs_s;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];
    double seconds = 0;
    int n = argc >= 4 ? (int)strtol(argv[3], NULL, 10) : 0;
    if (n < 1 || n > THREADS_MAX) {
        fprintf(stderr, "usage: bare_write SRC DST THREADS [meta]\n");
        return 2;
    }
    with_meta = argc > 4;
    if (mkdir(argv[2], 0700) || (to_fd = open(argv[2], O_RDONLY | O_DIRECTORY)) < 0)
        die(argv[2]);
    noise = mem_alloc(STEP);
    for (size_t i = 0; i < STEP; i++)
        noise[i] = (char)(i * 2654435761U >> 13);
    prepare(argv[1], &seconds);
    double start = now();
    for (int i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, NULL))
            die("thread");
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    seconds += now() - start;
    printf("%.3f\n", seconds);
    return 0;
}
