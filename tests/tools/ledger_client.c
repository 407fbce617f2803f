/* Moves money between shards of the demonstration ledger until it is told to stop:
 *
 *     ledger_client NAME COUNTER SOCKET SOCKET [SOCKET…]
 *
 * Debits one shard and, only after the answer, credits another. After each transfer it
 * writes how many there were into the file COUNTER. SIGTERM ends it between two
 * transfers. With LEDGER_PACE_MS in its environment it rests so long after each.
 *
 *     ledger_client send SOCKET LINE     one request, for hooks: "pause", "resume" */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CLIENT_SHARDS = 16 };

static volatile sig_atomic_t stop;

static void on_term(int signo)
{
    (void)signo;
    stop = 1;
}

static void fail(const char *what)
{
    fprintf(stderr, "ledger_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        fail(path);
    return fd;
}

static void request(int fd, const char *line)
{
    char reply[16] = "";
    size_t n = strlen(line);
    if (send(fd, line, n, MSG_NOSIGNAL) != (ssize_t)n)
        fail("send");
    size_t got = 0;
    while (got < sizeof reply - 1 && !memchr(reply, '\n', got)) {
        ssize_t r = recv(fd, reply + got, sizeof reply - 1 - got, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            fail("receive");
        got += (size_t)r;
    }
    if (strncmp(reply, "ok\n", 3) != 0) {
        fprintf(stderr, "ledger_client: '%s' answered '%s'\n", line, reply);
        exit(1);
    }
}

static void transfer(const int *fds, int n, const char *name, long long number)
{
    char line[128];
    int from = (int)(number % n);
    int to = (int)((number + 1 + number / n % (n - 1)) % n);
    if (to == from)
        to = (to + 1) % n;
    snprintf(line, sizeof line, "debit %s-%lld 1\n", name, number);
    request(fds[from], line);
    snprintf(line, sizeof line, "credit %s-%lld 1\n", name, number);
    request(fds[to], line);
}

static int send_one(const char *path, const char *text)
{
    char line[128];
    snprintf(line, sizeof line, "%s\n", text);
    request(dial(path), line);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "send") == 0)
        return send_one(argv[2], argv[3]);
    int n = argc - 3;
    if (n < 2 || n > CLIENT_SHARDS) {
        fprintf(stderr, "Usage: ledger_client NAME COUNTER SOCKET SOCKET [SOCKET…]\n");
        return 2;
    }
    signal(SIGTERM, on_term);
    int fds[CLIENT_SHARDS];
    for (int i = 0; i < n; i++)
        fds[i] = dial(argv[3 + i]);
    int counter = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (counter < 0)
        fail(argv[2]);
    const char *pace = getenv("LEDGER_PACE_MS");
    int pace_ms = pace ? atoi(pace) : 0;
    for (long long number = 1; !stop; number++) {
        transfer(fds, n, argv[1], number);
        char text[32];
        int len = snprintf(text, sizeof text, "%-20lld\n", number);
        if (pwrite(counter, text, (size_t)len, 0) != len)
            fail("counter");
        if (pace_ms > 0)
            usleep((useconds_t)pace_ms * 1000);
    }
    return 0;
}
