/* Runs a command and appends what it took to a file, as one line:
 *
 *   bench_time FILE COMMAND…      "WALL-SECONDS CPU-SECONDS PEAK-KIB"
 *
 * CPU seconds and peak (of the largest process) include its children. Exits like the
 * command.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    struct timespec from, to;
    struct rusage use;
    int status = 0;
    if (argc < 3)
        errx(2, "usage: bench_time FILE COMMAND…");
    clock_gettime(CLOCK_MONOTONIC, &from);
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (!pid) {
        execvp(argv[2], argv + 2);
        err(127, "%s", argv[2]);
    }
    if (wait4(pid, &status, 0, &use) != pid)
        err(1, "wait");
    clock_gettime(CLOCK_MONOTONIC, &to);
    FILE *f = fopen(argv[1], "a");
    if (!f)
        err(1, "%s", argv[1]);
    fprintf(f, "%.3f %.3f %ld\n",
            (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9,
            seconds(use.ru_utime) + seconds(use.ru_stime), use.ru_maxrss);
    if (fclose(f))
        err(1, "%s", argv[1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
