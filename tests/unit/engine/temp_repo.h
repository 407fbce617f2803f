/* A scratch directory with a repository in it, for tests of repo and engine. */
#ifndef TESTS_UNIT_ENGINE_TEMP_REPO_H
#define TESTS_UNIT_ENGINE_TEMP_REPO_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/repo/repo.h"
#include "tests/unit/suite.h"

static char temp_dir[64];

/* Removes a tree of any depth; also unmounts what a failed test left mounted. */
static inline void temp_remove(int at, const char *name)
{
    const struct dirent *entry;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        unlinkat(at, name, 0);
        return;
    }
    while ((entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            temp_remove(fd, entry->d_name);
    closedir(d);
    char path[300];
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", at, name);
    umount2(at == AT_FDCWD ? name : path, MNT_DETACH | UMOUNT_NOFOLLOW);
    unlinkat(at, name, AT_REMOVEDIR);
}

static inline void temp_tear_down(void)
{
    temp_remove(AT_FDCWD, temp_dir);
}

/* A path in the scratch directory; one of eight rotating buffers. */
static inline const char *temp_path(const char *name)
{
    static char ring[8][256];
    static unsigned at;
    char *p = ring[at++ % 8];
    snprintf(p, sizeof ring[0], "%s/%s", temp_dir, name);
    return p;
}

static const struct crypt_cost temp_cost = {16, 1, 1};

/* Opens the scratch repository. */
static inline struct repo *temp_open(bool index)
{
    struct store *store = NULL;
    struct repo *r = NULL;
    ck_ok(store_open(temp_path("repo"), 0, &store));
    ck_ok(repo_open(store, "pw", 2, &r));
    if (index)
        ck_ok(repo_load_index(r));
    return r;
}

static inline void temp_make_repo(void)
{
    struct store *store = NULL;
    ck_ok(store_open(temp_path("repo"), STORE_CREATE, &store));
    ck_ok(repo_init(store, "pw", 2, &temp_cost));
    store_close(store);
}

/* Unchecked fixture: one directory, in the process that outlives the tests. */
static inline void temp_make_dir(void)
{
    snprintf(temp_dir, sizeof temp_dir, "/tmp/engine-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(temp_dir));
    ck_assert_int_eq(chmod(temp_dir, 0711), 0);
}

static inline void temp_set_up(void)
{
    temp_make_dir();
    temp_make_repo();
}

/* Checked fixture: goes into a directory of the test's own, with a repository. */
static inline void temp_enter(void)
{
    size_t n = strlen(temp_dir);
    snprintf(temp_dir + n, sizeof temp_dir - n, "/%d", (int)getpid());
    ck_assert_int_eq(mkdir(temp_dir, 0711), 0);
    temp_make_repo();
}

/* Flips one bit in the middle of a stored file. */
static inline void temp_flip(enum repo_kind kind, const struct digest *id)
{
    static const char *const dirs[] = {"keys", "data", "index", "snapshots", "locks"};
    char hex[65], name[128];
    digest_hex(id, hex);
    if (kind == REPO_DATA)
        snprintf(name, sizeof name, "repo/data/%.2s/%s", hex, hex);
    else
        snprintf(name, sizeof name, "repo/%s/%s", dirs[kind], hex);
    ck_assert_int_eq(chmod(temp_path(name), 0600), 0);
    FILE *f = fopen(temp_path(name), "r+");
    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    long middle = ftell(f) / 2;
    fseek(f, middle, SEEK_SET);
    int c = fgetc(f);
    fseek(f, middle, SEEK_SET);
    fputc(c ^ 4, f);
    ck_assert_int_eq(fclose(f), 0);
}

static inline void temp_write(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(temp_path(name), "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

/* Bytes that do not repeat (xorshift). */
static inline void temp_noise(uint64_t seed, void *out, size_t n)
{
    uint8_t *p = out;
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (uint8_t)(x >> 32);
    }
}

#endif
