/* restore_direct REPO PASSWORD-FILE TARGET STRIP PATH: restores what the newest snapshot
 * has at PATH as `repo restore latest` does, but writes large files past the page cache
 * wherever the filesystem can, which a restore decides by itself only after 64 MiB. */
#include <stdio.h>

#include "common/base/mem.h"
#include "common/engine/restore.h"
#include "common/repo/password.h"

static struct err *run(char **argv)
{
    AUTO_PASSWORD struct buf password = {0};
    AUTO_SNAPSHOT struct snapshot snap = {0};
    struct restore_result res;
    struct store *store = NULL;
    struct repo *opened = NULL;
    const char *const include = argv[5];
    const struct restore_opts o = {.target = argv[3],
                                   .strip = argv[4],
                                   .includes = &include,
                                   .includes_n = 1,
                                   .writes = RESTORE_WRITES_DIRECT};
    TRY(password_read(argv[2], &password));
    TRY(store_open(argv[1], 0, &store));
    TRY(repo_open(store, password.data, password.len, &opened));
    AUTO(repo) struct repo *r = opened;
    TRY(repo_load_index(r));
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    TRY(repo_find_snapshot(io, "latest", &snap));
    struct err *e = restore_run(r, &snap.tree, &o, &res);
    restore_result_fini(&res);
    return e;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: restore_direct REPO PASSWORD-FILE TARGET STRIP PATH\n");
        return 2;
    }
    struct err *e = run(argv);
    if (!e)
        return 0;
    AUTO(str) char *text = err_text(e);
    fprintf(stderr, "restore_direct: %s\n", text);
    err_free(e);
    return 1;
}
