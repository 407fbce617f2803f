/* Money that moves between PostgreSQL shards by two-phase commit, and whether any is
 * lost.
 *
 *   pg_ledger open   CONNECTION…              makes the accounts: ACCOUNTS of START each
 *   pg_ledger load   LOG COUNT CONNECTION…    transfers until SIGTERM; LOG gets a line
 * for each decision, COUNT the number of transfers pg_ledger settle DIRECTORY CONNECTION…
 * decides what was in doubt by the logs in DIRECTORY; exit 0 if nothing is lost
 *
 * A transfer is prepared on both shards, decided by a line in the log that is synced,
 * then committed on both: what is prepared without such a line was never promised to
 * anybody. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <postgresql/libpq-fe.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

enum { ACCOUNTS = 100, START = 1000, SHARDS = 16 };

static PGconn *shards[SHARDS];
static int n_shards;
static volatile sig_atomic_t stopped;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "pg_ledger: %s: %s\n", what, why);
    exit(2);
}

static void connect_all(char **names, int n)
{
    if (n < 1 || n > SHARDS)
        die("connections", "1 to 16 of them");
    for (n_shards = 0; n_shards < n; n_shards++) {
        shards[n_shards] = PQconnectdb(names[n_shards]);
        if (PQstatus(shards[n_shards]) != CONNECTION_OK)
            die(names[n_shards], PQerrorMessage(shards[n_shards]));
    }
}

/* The result of a statement that must not fail. */
static PGresult *ask(PGconn *c, const char *sql)
{
    PGresult *r = PQexec(c, sql);
    ExecStatusType status = PQresultStatus(r);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        die(sql, PQerrorMessage(c));
    return r;
}

static void run(PGconn *c, const char *sql)
{
    PQclear(ask(c, sql));
}

static long long number(PGconn *c, const char *sql)
{
    PGresult *r = ask(c, sql);
    long long n = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    return n;
}

/* ---- open ---- */

static int open_ledger(void)
{
    AUTO(str)
    char *fill =
        mem_printf("INSERT INTO account SELECT i, %d FROM generate_series(1, %d) i",
                   START, ACCOUNTS);
    for (int i = 0; i < n_shards; i++) {
        run(shards[i],
            "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)");
        run(shards[i], fill);
    }
    return 0;
}

/* ---- load ---- */

static void on_term(int signo)
{
    (void)signo;
    stopped = 1;
}

static void prepare(PGconn *c, const char *gid, int account, int amount)
{
    AUTO(str)
    char *move = mem_printf("UPDATE account SET balance = balance + %d WHERE id = %d",
                            amount, account);
    AUTO(str) char *end = mem_printf("PREPARE TRANSACTION '%s'", gid);
    run(c, "BEGIN");
    run(c, move);
    run(c, end);
}

static void decide(int log, const char *gid)
{
    AUTO(str) char *line = mem_printf("%s\n", gid);
    size_t n = strlen(line);
    if (write(log, line, n) != (ssize_t)n || fdatasync(log))
        die("log", strerror(errno));
}

static void transfer(int log, long n)
{
    AUTO(str) char *gid = mem_printf("t-%d-%ld", (int)getpid(), n);
    int from = rand() % n_shards;
    int to = (from + 1 + rand() % (n_shards - 1)) % n_shards;
    int amount = 1 + rand() % 9;
    prepare(shards[from], gid, 1 + rand() % ACCOUNTS, -amount);
    prepare(shards[to], gid, 1 + rand() % ACCOUNTS, amount);
    decide(log, gid);
    AUTO(str) char *commit = mem_printf("COMMIT PREPARED '%s'", gid);
    run(shards[from], commit);
    run(shards[to], commit);
}

static int load(const char *log_path, const char *count_path)
{
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int count = open(count_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (log < 0 || count < 0)
        die(log < 0 ? log_path : count_path, strerror(errno));
    signal(SIGTERM, on_term);
    srand((unsigned)getpid());
    for (long n = 1; !stopped; n++) {
        char text[32];
        transfer(log, n);
        int len = snprintf(text, sizeof text, "%ld\n", n);
        if (pwrite(count, text, (size_t)len, 0) != len)
            die(count_path, strerror(errno));
    }
    return 0;
}

/* ---- settle ---- */

/* All whole lines of all logs, each between two LF. One without its end was not yet
 * synced: nobody has acted on it. */
static void read_logs(const char *directory, struct buf *out)
{
    DIR *d = opendir(directory);
    if (!d)
        die(directory, strerror(errno));
    buf_char(out, '\n');
    for (struct dirent *e; (e = readdir(d));) {
        AUTO(str) char *path = mem_printf("%s/%s", directory, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
        char line[128];
        while (f && fgets(line, sizeof line, f))
            if (strchr(line, '\n'))
                buf_str(out, line);
        if (f)
            fclose(f);
    }
    closedir(d);
}

static bool decided(const struct buf *log, const char *gid)
{
    AUTO(str) char *line = mem_printf("\n%s\n", gid);
    return strstr(buf_text(log), line) != NULL;
}

static int settle(const char *directory)
{
    AUTO_BUF struct buf log = {0};
    read_logs(directory, &log);
    long long total = 0, doubts = 0;
    for (int i = 0; i < n_shards; i++) {
        PGresult *r = ask(shards[i], "SELECT gid FROM pg_prepared_xacts");
        for (int k = 0; k < PQntuples(r); k++, doubts++) {
            const char *gid = PQgetvalue(r, k, 0);
            AUTO(str)
            char *sql = mem_printf("%s PREPARED '%s'",
                                   decided(&log, gid) ? "COMMIT" : "ROLLBACK", gid);
            run(shards[i], sql);
        }
        PQclear(r);
        total += number(shards[i], "SELECT sum(balance) FROM account");
    }
    long long want = (long long)n_shards * ACCOUNTS * START;
    printf("total %lld of %lld, %lld in doubt\n", total, want, doubts);
    return total == want ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "open") == 0) {
        connect_all(argv + 2, argc - 2);
        return open_ledger();
    }
    if (argc >= 6 && strcmp(argv[1], "load") == 0) {
        connect_all(argv + 4, argc - 4);
        return load(argv[2], argv[3]);
    }
    if (argc >= 4 && strcmp(argv[1], "settle") == 0) {
        connect_all(argv + 3, argc - 3);
        return settle(argv[2]);
    }
    die("usage", "pg_ledger open|load|settle …, see its first lines");
}
