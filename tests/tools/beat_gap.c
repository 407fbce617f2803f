/* How long writers stood still around holds: for each line "RING FROM TO" of its input
 * (of guard_beat; CLOCK_BOOTTIME in ns) the time in ms between the last beat before FROM
 * and the first one behind TO. Status 1 if a ring does not reach that far. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/tools/beat.h"

static bool gap_of(const struct beats *b, int64_t from, int64_t to, int64_t *gap)
{
    uint64_t n = __atomic_load_n(&b->n, __ATOMIC_ACQUIRE);
    int64_t behind = 0;
    for (uint64_t i = n; i > 0 && i + BEATS - 1 > n; i--) {
        int64_t at = b->ns[i % BEATS];
        if (at >= to)
            behind = at;
        if (at > from)
            continue;
        *gap = behind - at;
        return behind != 0;
    }
    return false;
}

int main(void)
{
    char path[4096];
    long long from, to;
    int64_t gap;
    while (scanf("%4095s %lld %lld", path, &from, &to) == 3) {
        int fd = open(path, O_RDONLY);
        const struct beats *b =
            fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *b, PROT_READ, MAP_SHARED, fd, 0);
        if (b == MAP_FAILED || !gap_of(b, from, to, &gap)) {
            fprintf(stderr, "beat_gap: '%s' does not tell\n", path);
            return 1;
        }
        printf("%.3f\n", (double)gap / 1e6);
        munmap((void *)(uintptr_t)b, sizeof *b);
        close(fd);
    }
    return 0;
}
