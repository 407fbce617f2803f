/* One shard of the demonstration ledger: a SQLite database behind a Unix socket.
 *
 *     ledger_shard DIRECTORY SOCKET
 *
 * One line is one request, one line the answer: "debit ID AMOUNT" and "credit ID AMOUNT"
 * answer "ok" once the entry is committed; "pause" answers "ok" and holds everything else
 * back until "resume" (what an application offers to quiesce hooks). */
#include <errno.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SHARD_CLIENTS = 64, SHARD_LINE = 256 };

struct client {
    int fd;
    size_t n;
    char line[SHARD_LINE];
};

static sqlite3_stmt *insert;
static bool paused;

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "ledger_shard: %s: %s\n", what, strerror(errno));
    exit(1);
}

static sqlite3 *open_database(const char *dir)
{
    char path[4096];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/ledger.db", dir);
    must(sqlite3_open(path, &db) == SQLITE_OK, "open database");
    static const char setup[] =
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        "CREATE TABLE IF NOT EXISTS entries(id TEXT, kind TEXT, amount INTEGER,"
        " PRIMARY KEY(id, kind));";
    must(sqlite3_exec(db, setup, NULL, NULL, NULL) == SQLITE_OK, "set up database");
    must(sqlite3_prepare_v2(db, "INSERT OR IGNORE INTO entries VALUES(?,?,?)", -1,
                            &insert, NULL) == SQLITE_OK,
         "prepare");
    return db;
}

static int listen_on(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0, "socket");
    must(bind(fd, (struct sockaddr *)&a, sizeof a) == 0, "bind");
    must(listen(fd, SHARD_CLIENTS) == 0, "listen");
    return fd;
}

static bool enter(const char *kind, const char *id, long long amount)
{
    sqlite3_bind_text(insert, 1, id, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(insert, 2, kind, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(insert, 3, amount);
    bool done = sqlite3_step(insert) == SQLITE_DONE;
    sqlite3_reset(insert);
    return done;
}

static void answer(int fd, const char *text)
{
    /* A client that went away reads nothing; its entry is committed all the same. */
    ssize_t n = send(fd, text, strlen(text), MSG_NOSIGNAL);
    (void)n;
}

static void handle(struct client *c)
{
    char kind[16], id[64];
    long long amount = 0;
    int got = sscanf(c->line, "%15s %63s %lld", kind, id, &amount);
    if (got == 1 && (strcmp(kind, "pause") == 0 || strcmp(kind, "resume") == 0)) {
        paused = kind[0] == 'p';
        answer(c->fd, "ok\n");
    } else if (got == 3 && (strcmp(kind, "debit") == 0 || strcmp(kind, "credit") == 0)) {
        answer(c->fd, enter(kind, id, amount) ? "ok\n" : "error\n");
    } else {
        answer(c->fd, "what?\n");
    }
}

/* While paused only pause and resume are heard. */
static bool may_handle(const struct client *c)
{
    return !paused || strncmp(c->line, "resume", 6) == 0 ||
           strncmp(c->line, "pause", 5) == 0;
}

static void take_lines(struct client *c)
{
    char *end;
    while ((end = memchr(c->line, '\n', c->n)) != NULL) {
        *end = '\0';
        if (!may_handle(c)) {
            *end = '\n';
            return;
        }
        handle(c);
        size_t used = (size_t)(end - c->line) + 1;
        memmove(c->line, end + 1, c->n - used);
        c->n -= used;
    }
}

static bool receive(struct client *c)
{
    ssize_t n = recv(c->fd, c->line + c->n, sizeof c->line - c->n, 0);
    if (n <= 0)
        return false;
    c->n += (size_t)n;
    return true;
}

static void serve(int listener)
{
    static struct client clients[SHARD_CLIENTS];
    size_t n = 0;
    for (;;) {
        struct pollfd fds[SHARD_CLIENTS + 1] = {{.fd = listener, .events = POLLIN}};
        for (size_t i = 0; i < n; i++)
            fds[i + 1] = (struct pollfd){
                .fd = clients[i].fd,
                .events = clients[i].n < sizeof clients[i].line ? POLLIN : 0};
        must(poll(fds, n + 1, -1) >= 0 || errno == EINTR, "poll");
        for (size_t i = n; i > 0; i--) {
            if (fds[i].revents && !receive(&clients[i - 1])) {
                close(clients[i - 1].fd);
                clients[i - 1] = clients[--n];
            }
        }
        for (size_t i = 0; i < n; i++)
            take_lines(&clients[i]);
        if (fds[0].revents && n < SHARD_CLIENTS) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0)
                clients[n++] = (struct client){.fd = fd};
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "Usage: ledger_shard DIRECTORY SOCKET\n");
        return 2;
    }
    open_database(argv[1]);
    int listener = listen_on(argv[2]);
    puts("ready");
    fflush(stdout);
    serve(listener);
    return 0;
}
