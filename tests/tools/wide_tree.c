/* How much memory a very large directory takes:
 *
 *   wide_tree REPO PASSWORD-FILE FILES DIRS
 *
 * makes a repository (with a key that costs nothing to open) and in it a snapshot whose
 * one directory holds so many small files, each with content of its own, and so many
 * directories, without making any of them on disk.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/repo/password.h"
#include "common/repo/repo.h"

static const struct crypt_cost cheap = {16, 1, 1};

static struct err *make_repo(const char *path, const struct buf *password,
                             struct repo **out)
{
    AUTO(store) struct store *store = NULL;
    TRY(store_open(path, STORE_CREATE, &store));
    TRY(repo_init(store, password->data, password->len, &cheap));
    return repo_open(STEAL(store), password->data, password->len, out);
}

/* Metadata as different as that of real files. */
static void fill(struct node *nd, uint64_t i)
{
    nd->mode = nd->type == NODE_DIR ? 0755 | 1u << 31 : 0644;
    nd->mtime = nd->atime =
        (struct go_time){1700000000, (uint32_t)(i * 7919 % 1000000000)};
    nd->ctime = (struct go_time){1700000001, (uint32_t)(i * 104729 % 1000000000)};
    nd->inode = 1000000 + i;
    nd->device_id = 12345;
    nd->user = mem_strdup("root");
    nd->group = mem_strdup("root");
}

static struct err *append(void *ctx, const void *data, size_t n)
{
    buf_add(ctx, data, n);
    return NULL;
}

static struct err *add_nodes(struct repo_io *io, enum node_type type, uint64_t n,
                             const struct digest *subtree, struct tree_writer *w)
{
    for (uint64_t i = 0; i < n; i++) {
        struct node nd = {.type = type};
        struct repo_saved saved;
        struct digest id;
        nd.name = mem_printf("%s-%08llu", type == NODE_DIR ? "dir" : "file",
                             (unsigned long long)i);
        fill(&nd, i);
        if (type == NODE_DIR) {
            nd.has_subtree = true;
            nd.subtree = *subtree;
        } else {
            nd.links = 1;
            nd.size = sizeof i;
            TRY(repo_save_blob(io, BLOB_DATA, &i, sizeof i, &id, &saved));
            node_add_content(&nd, &id);
        }
        struct err *e = tree_writer_add(w, &nd);
        node_fini(&nd);
        TRY(e);
    }
    return NULL;
}

static struct err *make_tree(struct repo_io *io, uint64_t files, uint64_t dirs,
                             struct digest *out)
{
    AUTO_BUF struct buf json = {0};
    AUTO_TREE_WRITER struct tree_writer w;
    AUTO_TREE struct tree empty = {0};
    struct repo_saved saved;
    struct digest sub;
    tree_writer_init(&w, append, &json);
    TRY(repo_save_tree(io, &empty, &sub, &saved));
    TRY(add_nodes(io, NODE_DIR, dirs, &sub, &w));
    TRY(add_nodes(io, NODE_FILE, files, NULL, &w));
    TRY(tree_writer_end(&w));
    TRY(repo_save_blob(io, BLOB_TREE, json.data, json.len, out, &saved));
    printf("list: %zu bytes, %u stored\n", json.len, saved.stored);
    return NULL;
}

static struct err *run(char **argv)
{
    AUTO_PASSWORD struct buf password = {0};
    AUTO_BUF struct buf json = {0};
    AUTO_BUF struct buf sealed = {0};
    AUTO_SNAPSHOT struct snapshot s = {.time = {1700000000, 0}};
    struct repo *opened = NULL;
    struct digest id;
    TRY(password_read(argv[2], &password));
    TRY(make_repo(argv[1], &password, &opened));
    AUTO(repo) struct repo *r = opened;
    TRY(repo_load_index(r));
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    TRY(make_tree(io, strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10), &s.tree));
    TRY(repo_flush(io));
    s.hostname = mem_strdup("wide");
    s.username = mem_strdup("root");
    strings_add(&s.paths, "/");
    TRY(snapshot_write(&s, &json));
    repo_seal_file(io, json.data, json.len, &sealed, &id);
    return repo_put_file(r, REPO_SNAPSHOT, &id, sealed.data, sealed.len);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: wide_tree REPO PASSWORD-FILE FILES DIRS\n");
        return 2;
    }
    struct err *e = run(argv);
    if (!e)
        return 0;
    AUTO(str) char *text = err_text(e);
    fprintf(stderr, "wide_tree: %s\n", text);
    err_free(e);
    return 1;
}
