/* Reading at random through the cache, by many threads and beyond its bounds. */
#include "common/engine/browse.h"

#include <pthread.h>

#include "tests/unit/engine/temp_tree.h"

enum { PIECE = 300000, PIECES = 200, BYTES = PIECE * PIECES, THREADS = 6, READS = 300 };

static char *content;
static struct browse *browse;
static struct browse_file *file;

static void set_up(void)
{
    temp_enter();
}

/* A file of BYTES, more than the cache holds. */
static void make_file(struct repo_io *io, struct node *nd)
{
    struct repo_saved saved;
    content = mem_alloc(BYTES);
    temp_noise(4, content, BYTES);
    nd->type = NODE_FILE;
    for (int i = 0; i < PIECES; i++) {
        struct digest id;
        ck_ok(repo_save_blob(io, BLOB_DATA, content + (size_t)i * PIECE, PIECE, &id,
                             &saved));
        node_add_content(nd, &id);
    }
    ck_ok(repo_flush(io));
}

static void read_range(uint64_t offset, size_t n)
{
    struct browse_piece pieces[BROWSE_PIECES];
    AUTO(str) char *got = mem_alloc(n + 1);
    size_t have = 0, count = 0;
    size_t want = offset >= BYTES ? 0 : BYTES - offset < n ? BYTES - offset : n;
    ck_ok(browse_read(file, offset, got, n, &have));
    ck_assert_uint_eq(have, want);
    ck_assert_int_eq(memcmp(got, content + (want ? offset : 0), want), 0);
    ck_ok(browse_hold(file, offset, n, pieces, &count));
    have = 0;
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(memcmp(pieces[i].data, content + offset + have, pieces[i].n), 0);
        have += pieces[i].n;
    }
    ck_assert_uint_eq(have, count ? want : 0);
    browse_unhold(browse, pieces, count);
}

static void *read_some(void *arg)
{
    uint64_t random = (uintptr_t)arg + 99;
    uint64_t at = 0;
    for (int i = 0; i < READS; i++) {
        temp_noise(random, &random, sizeof random);
        /* Half of it in sequence, half anywhere; some behind the end. */
        uint64_t offset = i % 2 ? random % (BYTES + 1000) : at;
        size_t n = (size_t)(random >> 40) % (3 * PIECE);
        read_range(offset, n);
        at = i % 2 ? at : at + n;
    }
    return NULL;
}

START_TEST(any_range_read_by_many_threads_is_right)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct node nd = {0};
    pthread_t threads[THREADS];
    make_file(io, &nd);
    ck_assert_uint_gt(BYTES, BROWSE_BLOB_BYTES);
    ck_ok(browse_new(r, &browse));
    ck_ok(browse_open(browse, &nd, &file));
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_some, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    read_range(0, 0);
    read_range(BYTES, 10);
    read_range(0, 20 * PIECE); /* more pieces than can be held */
    browse_close(file);
    browse_free(browse);
    node_fini(&nd);
    free(content);
}
END_TEST

START_TEST(a_list_is_shared_and_survives_its_neighbours)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO(browse) struct browse *b = NULL;
    const struct dirlist *first = NULL, *again = NULL, *other = NULL;
    struct digest ids[50];
    for (int i = 0; i < 50; i++) {
        AUTO_BUF struct buf json = {0};
        buf_str(&json, "{\"nodes\":[");
        for (int k = 0; k < 2000; k++)
            buf_printf(&json, "%s{\"name\":\"%d-%05d\",\"type\":\"file\",\"content\":[]}",
                       k ? "," : "", i, k);
        buf_str(&json, "]}\n");
        temp_save_raw(io, buf_text(&json), &ids[i]);
    }
    ck_ok(repo_flush(io));
    ck_ok(browse_new(r, &b));
    ck_ok(browse_list_get(b, &ids[0], &first));
    ck_ok(browse_list_get(b, &ids[0], &again));
    ck_assert_ptr_eq(first, again);
    browse_list_put(b, again);
    for (int i = 1; i < 50; i++) { /* more than the cache holds */
        ck_ok(browse_list_get(b, &ids[i], &other));
        browse_list_put(b, other);
    }
    ck_assert_str_eq(dirlist_name(first, 1999), "0-01999");
    browse_list_put(b, first);
}
END_TEST

/* A reader is told each time, and reads again once the pack is mended. */
START_TEST(damage_is_told_and_not_remembered)
{
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO(browse) struct browse *b = NULL;
    struct node nd = {.type = NODE_FILE};
    struct blob_entry entry;
    struct digest pack;
    char text[100001], got[16];
    size_t n;
    temp_noise(1, text, 100000);
    for (int i = 0; i < 100000; i++)
        text[i] |= 1;
    text[100000] = '\0';
    temp_node_text(io, &nd, text);
    ck_ok(repo_flush(io));
    ck_assert(repo_locate(r, BLOB_DATA, &nd.content[0], &entry, &pack));
    temp_flip(REPO_DATA, &pack);
    ck_ok(browse_new(r, &b));
    ck_ok(browse_open(b, &nd, &file));
    for (int i = 0; i < 2; i++)
        ck_err(browse_read(file, 0, got, sizeof got, &n), ERR_CORRUPT);
    temp_flip(REPO_DATA, &pack); /* the same bit: back again */
    ck_ok(browse_read(file, 0, got, sizeof got, &n));
    ck_assert_int_eq(memcmp(got, text, sizeof got), 0);
    browse_close(file);
    node_fini(&nd);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("browse");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, any_range_read_by_many_threads_is_right);
    tcase_add_test(tc, a_list_is_shared_and_survives_its_neighbours);
    tcase_add_test(tc, damage_is_told_and_not_remembered);
    return suite_main("engine browse", tc);
}
