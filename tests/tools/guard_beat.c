/* A writer that never rests: every PERIOD (5) ms it writes a rising number to FILE, and
 * after each write the number, and the longest gap between two writes so far in ms and in
 * us, to STATUS, which must lie where nothing is frozen. SIGUSR1 forgets the gap. Ends
 * with SIGTERM. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t forget;

static void on_usr1(int signo)
{
    (void)signo;
    forget = 1;
}

static long now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: guard_beat FILE STATUS [PERIOD]\n");
        return 2;
    }
    int period_ms = argc == 4 ? atoi(argv[3]) : 5;
    signal(SIGUSR1, on_usr1);
    int file = open(argv[1], O_RDWR | O_CREAT, 0600);
    int status = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || status < 0) {
        perror("open");
        return 1;
    }
    long last = now_us(), gap = 0;
    for (long beat = 1;; beat++) {
        char text[64];
        snprintf(text, sizeof(text), "%-20ld\n", beat);
        if (pwrite(file, text, strlen(text), 0) < 0) {
            perror("write");
            return 1;
        }
        long now = now_us();
        if (forget)
            gap = forget = 0;
        else if (now - last > gap)
            gap = now - last;
        last = now;
        snprintf(text, sizeof(text), "%-20ld %-10ld %-12ld\n", beat, gap / 1000, gap);
        if (pwrite(status, text, strlen(text), 0) < 0)
            return 1;
        poll(NULL, 0, period_ms);
    }
}
