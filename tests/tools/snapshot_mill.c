/* snapshot_mill REPO PASSWORD-FILE: makes a repository unless there is one (with a key
 * that costs nothing to open), and in it a snapshot for each line of standard input:
 *
 *     TIME HOST PATH [TAG…]      e.g. 2024-02-29T12:00:00Z db1 /data daily set=a
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/backup.h"
#include "common/repo/password.h"

enum { LINE_MAX_BYTES = 4096, TAGS_MAX = 32 };

static const struct crypt_cost cheap = {16, 1, 1};

static struct err *open_or_make(const char *path, const struct buf *password,
                                struct repo **out)
{
    struct store *store = NULL;
    uint64_t bytes;
    TRY(store_open(path, STORE_CREATE, &store));
    struct err *absent = store_stat(store, "config", &bytes);
    err_free(absent);
    if (absent) {
        struct err *e = repo_init(store, password->data, password->len, &cheap);
        if (e) {
            store_close(store);
            return e;
        }
    }
    return repo_open(store, password->data, password->len, out);
}

static struct err *make_snapshot(struct repo *r, char *line)
{
    const char *tags[TAGS_MAX];
    char *rest = NULL;
    const char *time = strtok_r(line, " \n", &rest);
    const char *host = strtok_r(NULL, " \n", &rest);
    const char *path = strtok_r(NULL, " \n", &rest);
    struct backup_opts o = {.hostname = host, .path = path, .tags = tags};
    struct digest id;
    while (o.tags_n < TAGS_MAX && (tags[o.tags_n] = strtok_r(NULL, " \n", &rest)))
        o.tags_n++;
    if (!path || !go_time_parse(time, strlen(time), &o.time))
        return err_new(ERR_INVALID, "a line is not TIME HOST PATH [TAG…]");
    const struct backup_memory_file file = {"time", time, strlen(time)};
    return backup_memory(r, &o, &file, 1, &id);
}

static struct err *run(const char *path, const char *password_file)
{
    AUTO_PASSWORD struct buf password = {0};
    char line[LINE_MAX_BYTES];
    struct repo *opened = NULL;
    TRY(password_read(password_file, &password));
    TRY(open_or_make(path, &password, &opened));
    AUTO(repo) struct repo *r = opened;
    TRY(repo_load_index(r));
    while (fgets(line, sizeof line, stdin))
        TRY(make_snapshot(r, line));
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: snapshot_mill REPO PASSWORD-FILE\n");
        return 2;
    }
    struct err *e = run(argv[1], argv[2]);
    if (!e)
        return 0;
    AUTO(str) char *text = err_text(e);
    fprintf(stderr, "snapshot_mill: %s\n", text);
    err_free(e);
    return 1;
}
