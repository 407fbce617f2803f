/* Counts, over copies of all shards of the demonstration ledger, the credits whose debit
 * is in none of them:
 *
 *     ledger_check DIRECTORY [DIRECTORY…]
 *
 * Prints "debits=N credits=N orphans=N", exits 1 if there are orphans. The directories
 * are opened as SQLite finds them after a crash: its own recovery runs first. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static sqlite3 *all;

static void run(const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(all, sql, NULL, NULL, &why) == SQLITE_OK)
        return;
    fprintf(stderr, "ledger_check: %s: %s\n", sql, why);
    exit(2);
}

static long long number(const char *sql)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(all, sql, -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW) {
        fprintf(stderr, "ledger_check: %s: %s\n", sql, sqlite3_errmsg(all));
        exit(2);
    }
    long long n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "Usage: ledger_check DIRECTORY [DIRECTORY…]\n");
        return 2;
    }
    if (sqlite3_open(":memory:", &all) != SQLITE_OK)
        return 2;
    run("CREATE TABLE entries(id TEXT, kind TEXT)");
    for (int i = 1; i < argc; i++) {
        char *path = sqlite3_mprintf("%s/ledger.db", argv[i]);
        char *sql = sqlite3_mprintf("ATTACH %Q AS shard", path);
        run(sql);
        sqlite3_free(sql);
        sqlite3_free(path);
        run("INSERT INTO entries SELECT id, kind FROM shard.entries");
        run("DETACH shard");
    }
    run("CREATE INDEX by_id ON entries(id, kind)");
    long long orphans =
        number("SELECT count(*) FROM entries c WHERE c.kind = 'credit' AND NOT EXISTS "
               "(SELECT 1 FROM entries d WHERE d.id = c.id AND d.kind = 'debit')");
    printf("debits=%lld credits=%lld orphans=%lld\n",
           number("SELECT count(*) FROM entries WHERE kind = 'debit'"),
           number("SELECT count(*) FROM entries WHERE kind = 'credit'"), orphans);
    sqlite3_close(all);
    return orphans > 0;
}
