#include "common/repo/index_cache.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "tests/unit/engine/temp_repo.h"

enum { PACKS = 600, BLOBS = 20 };
static const char some_repo[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void digest_of(int i, struct digest *out)
{
    hash_bytes(&i, sizeof i, out);
}

/* Pack number i: blobs in a row, one more behind a gap; the last is in every pack. */
static void add_pack(struct index *ix, int i)
{
    struct blob_entry list[BLOBS];
    struct digest pack;
    uint32_t offset = 0;
    for (int j = 0; j < BLOBS; j++) {
        list[j] = (struct blob_entry){.offset = offset,
                                      .length = 100 + (uint32_t)j,
                                      .plain = j % 2 ? 500 : 0,
                                      .type = i % 3 ? BLOB_DATA : BLOB_TREE};
        digest_of(j == BLOBS - 1 ? -1 : i * BLOBS + j, &list[j].id);
        offset += list[j].length + (j == 9 ? 7 : 0);
    }
    digest_of(1000000 + i, &pack);
    ck_ok(index_add_pack(ix, &pack, list, BLOBS));
}

static void check_index(const struct index *ix, int packs)
{
    struct blob_entry e;
    struct digest id;
    ck_assert_uint_eq(index_packs(ix), (size_t)packs);
    ck_assert_uint_eq(index_blobs(ix), (size_t)packs * BLOBS);
    for (int i = 0; i < packs; i++) {
        size_t number = SIZE_MAX;
        digest_of(1000000 + i, &id);
        ck_assert(index_find_pack(ix, &id, &number));
        ck_assert_uint_eq(number, (size_t)i);
        for (int j = 0; j < BLOBS - 1; j++) {
            enum blob_type type = i % 3 ? BLOB_DATA : BLOB_TREE;
            digest_of(i * BLOBS + j, &id);
            ck_assert(index_find(ix, type, &id, 0, &e));
            ck_assert_uint_eq(e.pack, (uint32_t)i);
            ck_assert_uint_eq(e.offset,
                              (uint32_t)(100 * j + j * (j - 1) / 2 + (j > 9) * 7));
            ck_assert_uint_eq(e.plain, j % 2 ? 500 : 0);
            uint64_t bytes = 0;
            ck_assert(index_bytes(ix, type, &id, &bytes));
            ck_assert_uint_eq(bytes, j % 2 ? 500 : e.length - CRYPT_OVERHEAD);
            ck_assert(!index_has(ix, type == BLOB_TREE ? BLOB_DATA : BLOB_TREE, &id));
        }
    }
    digest_of(-1, &id);
    size_t copies = 0;
    while (index_find(ix, BLOB_TREE, &id, copies, &e))
        copies++;
    ck_assert_uint_eq(copies, (size_t)(packs + 2) / 3);
    digest_of(-2, &id);
    ck_assert(!index_has(ix, BLOB_DATA, &id));
}

static void compact(struct index *ix, size_t packs)
{
    struct digest file;
    const struct index_covered files = {&file, 1};
    digest_of(7, &file);
    ck_ok(index_cache_compact(temp_path("cache"), some_repo, packs, &files, ix));
}

START_TEST(nothing_changes_by_moving_it_to_the_file)
{
    struct index ix = {0}, back = {0};
    struct index_covered covered = {0};
    struct stat st;
    for (int i = 0; i < PACKS; i++) {
        add_pack(&ix, i);
        if (i % 130 == 100)
            compact(&ix, (size_t)i - 10); /* some stay in memory */
    }
    check_index(&ix, PACKS);
    add_pack(&ix, 3); /* known, in the file */
    compact(&ix, PACKS);
    ck_assert_uint_eq(ix.records_n, 0);
    check_index(&ix, PACKS);
    ck_ok(index_cache_open(temp_path("cache"), some_repo, &back, &covered));
    check_index(&back, PACKS);
    ck_assert_uint_eq(covered.n, 1);
    AUTO(str) char *path = mem_printf("%s/%s/index", temp_path("cache"), some_repo);
    ck_assert_int_eq(stat(path, &st), 0);
    /* A gap is a record too. */
    ck_assert_uint_le((uint64_t)st.st_size, 48u * PACKS * (BLOBS + 1));
    index_cache_fini(&covered);
    index_fini(&ix);
    index_fini(&back);
}
END_TEST

START_TEST(a_damaged_file_is_not_believed)
{
    struct index ix = {0};
    struct stat st;
    for (int i = 0; i < 3; i++)
        add_pack(&ix, i);
    compact(&ix, 3);
    index_fini(&ix);
    AUTO(str) char *path = mem_printf("%s/%s/index", temp_path("cache"), some_repo);
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    for (off_t at = 0; at < st.st_size; at++) {
        struct index_covered covered = {0};
        char byte, other;
        ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
        other = (char)(byte ^ (1 << at % 8));
        ck_assert_int_eq(pwrite(fd, &other, 1, at), 1);
        ck_err(index_cache_open(temp_path("cache"), some_repo, &ix, &covered),
               ERR_CORRUPT);
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    }
    struct index_covered covered = {0};
    ck_ok(index_cache_open(temp_path("cache"), some_repo, &ix, &covered));
    index_fini(&ix);
    index_cache_fini(&covered);
    ck_assert_int_eq(ftruncate(fd, st.st_size - 1), 0);
    ck_err(index_cache_open(temp_path("cache"), some_repo, &ix, &covered), ERR_CORRUPT);
    close(fd);
    ck_err(index_cache_open(temp_path("none"), some_repo, &ix, &covered), ERR_NOT_FOUND);
}
END_TEST

static void save(struct repo *r, int from, int to)
{
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    for (int i = from; i < to; i++) {
        struct digest id;
        struct repo_saved saved;
        ck_ok(repo_save_blob(io, BLOB_DATA, &i, sizeof i, &id, &saved));
        ck_assert(saved.fresh);
    }
    ck_ok(repo_flush(io));
}

static struct repo *open_cached(void)
{
    struct repo *r = temp_open(false);
    repo_set_cache(r, temp_path("cache"));
    ck_ok(repo_load_index(r));
    return r;
}

/* Index files come and go; the file never says more or less than they do. */
START_TEST(a_repository_remembers_its_index)
{
    struct digest id;
    int five = 5;
    hash_bytes(&five, sizeof five, &id);
    struct repo *r = open_cached();
    save(r, 0, 6000);
    ck_assert_uint_eq(repo_index(r)->base.blobs, 6000); /* already moved */
    repo_close(r);
    r = open_cached();
    ck_assert_uint_eq(repo_index(r)->base.blobs, 6000);
    save(r, 6000, 6010);
    repo_close(r);
    r = open_cached();
    ck_assert_uint_eq(index_blobs(repo_index(r)), 6010);
    ck_assert(repo_has_blob(r, BLOB_DATA, &id, NULL));
    repo_close(r);
    /* Somebody removed the index files: what they said is not true any more. */
    ck_assert_int_eq(rename(temp_path("repo/index"), temp_path("away")), 0);
    ck_assert_int_eq(mkdir(temp_path("repo/index"), 0700), 0);
    r = open_cached();
    ck_assert_uint_eq(index_blobs(repo_index(r)), 0);
    ck_assert(!repo_has_blob(r, BLOB_DATA, &id, NULL));
    repo_close(r);
}
END_TEST

/* Packs without an index file, as a killed process leaves them. */
START_TEST(packs_that_nobody_lists_are_taken_in)
{
    uint64_t packs = 0;
    struct digest id;
    int five = 5;
    hash_bytes(&five, sizeof five, &id);
    struct repo *r = open_cached();
    save(r, 0, 100);
    repo_close(r);
    temp_remove(AT_FDCWD, temp_path("repo/index"));
    ck_assert_int_eq(mkdir(temp_path("repo/index"), 0700), 0);
    r = open_cached();
    struct repo_io *io = repo_io_new(r);
    ck_assert(!repo_has_blob(r, BLOB_DATA, &id, NULL));
    ck_ok(repo_adopt_packs(io, &packs));
    ck_assert_uint_ge(packs, 1);
    ck_assert(repo_has_blob(r, BLOB_DATA, &id, NULL));
    ck_ok(repo_flush(io));
    repo_io_free(io);
    repo_close(r);
    r = temp_open(true);
    ck_assert(repo_has_blob(r, BLOB_DATA, &id, NULL));
    io = repo_io_new(r);
    ck_ok(repo_adopt_packs(io, &packs));
    ck_assert_uint_eq(packs, 0);
    /* A pack that is cut short is left alone. */
    struct digest pack = index_pack(repo_index(r), 0)->id;
    repo_io_free(io);
    repo_close(r);
    char hex[65];
    digest_hex(&pack, hex);
    AUTO(str) char *name = mem_printf("repo/data/%.2s/%s", hex, hex);
    ck_assert_int_eq(truncate(temp_path(name), 300), 0);
    temp_remove(AT_FDCWD, temp_path("repo/index"));
    ck_assert_int_eq(mkdir(temp_path("repo/index"), 0700), 0);
    r = temp_open(true);
    io = repo_io_new(r);
    ck_ok(repo_adopt_packs(io, &packs));
    ck_assert(!index_find_pack(repo_index(r), &pack, NULL));
    repo_io_free(io);
    repo_close(r);
}
END_TEST

/* The agent's tasks share the folder: each of several threads may write it at any time.
 */
static const char *shared_cache;

static void *compact_often(void *arg)
{
    struct err **first = arg;
    for (int round = 0; round < 8 && !*first; round++) {
        struct digest file;
        const struct index_covered files = {&file, 1};
        struct index ix = {0};
        digest_of(7, &file);
        for (int i = 0; i < PACKS; i++)
            add_pack(&ix, i);
        *first = index_cache_compact(shared_cache, some_repo, PACKS, &files, &ix);
        if (!*first)
            check_index(&ix, PACKS);
        index_fini(&ix);
    }
    return NULL;
}

START_TEST(threads_do_not_write_into_one_file)
{
    enum { THREADS = 3 };
    struct err *first[THREADS] = {0};
    pthread_t threads[THREADS];
    shared_cache = temp_path("cache");
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, compact_often, &first[i]), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < THREADS; i++)
        ck_ok(first[i]);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("index cache");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, temp_enter, NULL);
    tcase_add_test(tc, nothing_changes_by_moving_it_to_the_file);
    tcase_add_test(tc, a_damaged_file_is_not_believed);
    tcase_add_test(tc, a_repository_remembers_its_index);
    tcase_add_test(tc, packs_that_nobody_lists_are_taken_in);
    tcase_add_test(tc, threads_do_not_write_into_one_file);
    return suite_main("repo index cache", tc);
}
