/* A writer that never rests: every PERIOD (5) ms it writes a rising number to FILE, and
 * after each write the number and the longest gap between two writes so far to STATUS,
 * which must lie where nothing is frozen. In RING, if it is given, it notes when. Ends
 * with SIGTERM. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/tools/beat.h"

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static struct beats *map_ring(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct beats)) != 0)
        return MAP_FAILED;
    return mmap(NULL, sizeof(struct beats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

int main(int argc, char **argv)
{
    static struct beats nowhere;
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: guard_beat FILE STATUS [PERIOD [RING]]\n");
        return 2;
    }
    int period_ms = argc > 3 ? atoi(argv[3]) : 5;
    struct beats *ring = argc > 4 ? map_ring(argv[4]) : &nowhere;
    int file = open(argv[1], O_RDWR | O_CREAT, 0600);
    int status = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || status < 0 || ring == MAP_FAILED) {
        perror("open");
        return 1;
    }
    int64_t last = now_ns(), gap = 0;
    for (uint64_t beat = 1;; beat++) {
        char text[64];
        snprintf(text, sizeof(text), "%-20llu\n", (unsigned long long)beat);
        if (pwrite(file, text, strlen(text), 0) < 0) {
            perror("write");
            return 1;
        }
        int64_t now = now_ns();
        gap = now - last > gap ? now - last : gap;
        last = now;
        ring->ns[beat % BEATS] = now;
        __atomic_store_n(&ring->n, beat, __ATOMIC_RELEASE);
        snprintf(text, sizeof(text), "%-20llu %-10ld\n", (unsigned long long)beat,
                 (long)(gap / 1000000));
        if (pwrite(status, text, strlen(text), 0) < 0)
            return 1;
        poll(NULL, 0, period_ms);
    }
}
