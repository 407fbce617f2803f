/* Trees made by hand, and a canary beside the target of a restore. */
#ifndef TESTS_UNIT_ENGINE_TEMP_TREE_H
#define TESTS_UNIT_ENGINE_TEMP_TREE_H

#include <sys/stat.h>

#include "common/base/mem.h"
#include "tests/unit/engine/temp_repo.h"

/* A file and a directory tree beside the target: none of it may ever change. The names in
 * "outside" are those that tests restore. */
static inline void temp_canary_make(void)
{
    char name[64];
    temp_write("canary", "alive", 5);
    ck_assert_int_eq(mkdir(temp_path("outside"), 0700), 0);
    ck_assert_int_eq(mkdir(temp_path("outside/sub"), 0700), 0);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "outside/f%d", i);
        temp_write(name, name, strlen(name));
    }
}

/* Digest of names, types, modes, owners, sizes, times and contents below a path. */
static inline void temp_hash_tree(struct hash *h, int at, const char *name)
{
    struct stat st;
    struct dirent **entries = NULL;
    char bytes[256];
    ck_assert_int_eq(fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    const uint64_t facts[] = {st.st_mode,
                              st.st_uid,
                              st.st_gid,
                              S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size,
                              st.st_nlink,
                              (uint64_t)st.st_mtim.tv_sec,
                              (uint64_t)st.st_mtim.tv_nsec};
    hash_add(h, name, strlen(name) + 1);
    hash_add(h, facts, sizeof facts);
    int fd = openat(at, name, O_RDONLY | O_NOFOLLOW);
    ck_assert_int_ge(fd, 0);
    if (S_ISREG(st.st_mode)) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        ck_assert_int_ge(n, 0);
        hash_add(h, bytes, (size_t)n);
    } else {
        int n = scandirat(at, name, &entries, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            const char *entry = entries[i]->d_name;
            if (strcmp(entry, ".") != 0 && strcmp(entry, "..") != 0)
                temp_hash_tree(h, fd, entry);
            free(entries[i]);
        }
        free(entries);
    }
    close(fd);
}

static inline void temp_canary_digest(struct digest *out)
{
    struct hash *h = hash_new();
    temp_hash_tree(h, AT_FDCWD, temp_path("canary"));
    temp_hash_tree(h, AT_FDCWD, temp_path("outside"));
    hash_end(h, out);
}

static inline void temp_canary_check(void)
{
    static struct digest first;
    static bool known;
    struct digest now;
    temp_canary_digest(&now);
    if (!known)
        first = now;
    known = true;
    ck_assert_msg(digest_equal(&first, &now), "something outside the target changed");
}

static inline void temp_save_raw(struct repo_io *io, const char *json, struct digest *id)
{
    struct repo_saved saved;
    ck_ok(repo_save_blob(io, BLOB_TREE, json, strlen(json), id, &saved));
}

static inline struct node *temp_node(struct tree *t, enum node_type type,
                                     const char *name)
{
    struct node *nd = tree_add(t);
    nd->type = type;
    nd->name = mem_strdup(name);
    nd->mode = node_mode((type == NODE_DIR ? S_IFDIR : S_IFREG) | 0700);
    return nd;
}

static inline void temp_node_text(struct repo_io *io, struct node *nd, const char *text)
{
    struct repo_saved saved;
    struct digest id;
    ck_ok(repo_save_blob(io, BLOB_DATA, text, strlen(text), &id, &saved));
    node_add_content(nd, &id);
}

#endif
