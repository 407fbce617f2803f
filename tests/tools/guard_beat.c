/* A writer that never rests: every 5 ms it writes a rising number to FILE, and after each
 * write the number and the longest gap between two writes so far to STATUS, which must
 * lie where nothing is frozen. Ends with SIGTERM. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: guard_beat FILE STATUS\n");
        return 2;
    }
    int file = open(argv[1], O_RDWR | O_CREAT, 0600);
    int status = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || status < 0) {
        perror("open");
        return 1;
    }
    long last = now_ms(), gap = 0;
    for (long beat = 1;; beat++) {
        char text[64];
        snprintf(text, sizeof(text), "%-20ld\n", beat);
        if (pwrite(file, text, strlen(text), 0) < 0) {
            perror("write");
            return 1;
        }
        long now = now_ms();
        gap = now - last > gap ? now - last : gap;
        last = now;
        snprintf(text, sizeof(text), "%-20ld %-10ld\n", beat, gap);
        if (pwrite(status, text, strlen(text), 0) < 0)
            return 1;
        poll(NULL, 0, 5);
    }
}
