#include "common/repo/repo.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

#include "common/base/mem.h"
#include "common/repo/idset.h"
#include "common/repo/lock.h"
#include "common/repo/pack.h"
#include "common/repo/reader.h"
#include "tests/unit/engine/temp_repo.h"

static void digest_of(int i, struct digest *out)
{
    hash_bytes(&i, sizeof i, out);
}

START_TEST(a_packs_header_tells_its_blobs)
{
    struct crypt_key key;
    struct digest a, b;
    uint8_t sealed_a[100], sealed_b[40];
    struct blob_entry *list = NULL;
    size_t n = 0;
    crypt_random(&key, sizeof key);
    AUTO(crypt) struct crypt *c = crypt_new(&key);
    struct pack *p = NULL;
    struct digest pack_id, real;
    struct store *opened = NULL;
    AUTO_BUF struct buf file = {0};
    ck_ok(store_open(temp_path("repo"), 0, &opened));
    AUTO(store) struct store *store = opened;
    ck_ok(pack_new(store, &p));
    digest_of(1, &a);
    digest_of(2, &b);
    memset(sealed_a, 'a', sizeof sealed_a);
    memset(sealed_b, 'b', sizeof sealed_b);
    const struct blob_entry first = {.id = a, .length = sizeof sealed_a, .plain = 500};
    const struct blob_entry second = {.id = b, .length = sizeof sealed_b};
    hash_add(p->hash, sealed_a, sizeof sealed_a);
    ck_ok(pack_add(p, &first, sealed_a));
    hash_add(p->hash, sealed_b, sizeof sealed_b);
    ck_ok(pack_add(p, &second, sealed_b));
    ck_ok(pack_finish(p, c, &pack_id));
    ck_ok(pack_commit(p, "data/pack"));
    pack_free(p);
    /* 100 + 40 bytes of blobs, entries of 41 and 37, encryption 32, length 4. */
    const size_t bytes = 100 + 40 + 41 + 37 + 32 + 4;
    ck_ok(store_get(store, "data/pack", 0, buf_room(&file, bytes), bytes));
    file.len = bytes;
    hash_bytes(file.data, file.len, &real);
    ck_assert(digest_equal(&real, &pack_id));
    const uint8_t *end = (uint8_t *)file.data + file.len - 4;
    ck_assert_mem_eq(end, "\x6e\0\0\0", 4);
    ck_ok(pack_read_header(c, file.data, file.len, file.len, &list, &n));
    ck_assert_uint_eq(n, 2);
    ck_assert(digest_equal(&list[0].id, &a) && digest_equal(&list[1].id, &b));
    ck_assert_uint_eq(list[0].plain, 500);
    ck_assert_uint_eq(list[1].offset, 100);
    ck_assert_uint_eq(list[1].length, 40);
    free(list);
    /* A byte more or less in front of the header does not fit the lengths. */
    ck_err(pack_read_header(c, file.data, file.len, file.len + 1, &list, &n),
           ERR_CORRUPT);
    file.data[file.len - 1] = 1;
    ck_err(pack_read_header(c, file.data, file.len, file.len, &list, &n), ERR_CORRUPT);
    ck_err(pack_read_header(c, file.data, 20, 20, &list, &n), ERR_CORRUPT);
}
END_TEST

static struct blob_entry entry(int i, uint32_t offset, uint32_t length)
{
    struct blob_entry e = {.offset = offset, .length = length, .type = BLOB_DATA};
    digest_of(i, &e.id);
    return e;
}

START_TEST(an_index_round_trips_and_finds_every_copy)
{
    struct index ix = {0}, back = {0};
    AUTO_BUF struct buf json = {0};
    struct digest pack;
    for (int i = 0; i < 3000; i++) {
        const struct blob_entry two[] = {entry(-7, 50, 60), entry(i, 0, 50)};
        digest_of(100000 + i, &pack);
        ck_ok(index_add_pack(&ix, &pack, two, 2));
        ck_ok(index_add_pack(&ix, &pack, two, 2)); /* the same again is fine */
    }
    index_write(&ix, 0, index_packs(&ix), &json);
    ck_ok(index_read(&back, json.data, json.len));
    ck_assert_uint_eq(index_packs(&back), 3000);
    ck_assert_uint_eq(index_blobs(&back), 6000);
    for (int i = 0; i < 3000; i++) {
        struct digest id;
        digest_of(i, &id);
        struct blob_entry e;
        size_t number = 0;
        ck_assert(index_find(&back, BLOB_DATA, &id, 0, &e));
        ck_assert_uint_eq(e.length, 50);
        ck_assert_uint_eq(e.offset, 0);
        ck_assert(index_has(&back, BLOB_DATA, &id));
        uint64_t bytes = 0;
        ck_assert(index_bytes(&back, BLOB_DATA, &id, &bytes));
        ck_assert_uint_eq(bytes, 50 - CRYPT_OVERHEAD); /* stored plain */
        ck_assert(!index_find(&back, BLOB_DATA, &id, 1, &e));
        ck_assert(!index_find(&back, BLOB_TREE, &id, 0, &e));
        ck_assert(!index_has(&back, BLOB_TREE, &id));
        digest_of(100000 + i, &id);
        ck_assert(index_find_pack(&back, &id, &number));
        ck_assert_uint_eq(number, e.pack);
    }
    struct digest often;
    struct blob_entry e;
    size_t copies = 0;
    for (digest_of(-7, &often); index_find(&back, BLOB_DATA, &often, copies, &e);)
        copies++;
    ck_assert_uint_eq(copies, 3000);
    index_fini(&ix);
    index_fini(&back);
}
END_TEST

START_TEST(lying_indexes_are_refused)
{
    struct index ix = {0};
    struct digest pack;
    const struct blob_entry overlap[] = {entry(1, 0, 50), entry(2, 49, 50)};
    const struct blob_entry good[] = {entry(1, 0, 50)};
    const struct blob_entry other[] = {entry(2, 0, 50)};
    static const char *const bad[] = {
        "{\"packs\":[{\"blobs\":[]}]}",
        "{\"packs\":[{\"id\":\"00\",\"blobs\":[]}]}",
        "{\"packs\":[{\"id\":"
        "\"0000000000000000000000000000000000000000000000000000000000000"
        "000\",\"blobs\":[{\"type\":\"data\"}]}]}",
        "{\"packs\":",
    };
    digest_of(0, &pack);
    ck_err(index_add_pack(&ix, &pack, overlap, 2), ERR_CORRUPT);
    ck_ok(index_add_pack(&ix, &pack, good, 1));
    ck_err(index_add_pack(&ix, &pack, other, 1), ERR_CORRUPT);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_err(index_read(&ix, bad[i], strlen(bad[i])), ERR_CORRUPT);
    index_fini(&ix);
}
END_TEST

START_TEST(a_set_of_ids_knows_what_it_holds)
{
    struct idset s = {0};
    struct digest d;
    for (int i = 0; i < 5000; i++) {
        digest_of(i, &d);
        ck_assert(!idset_has(&s, &d));
        ck_assert(idset_add(&s, &d));
        ck_assert(!idset_add(&s, &d));
    }
    for (int i = 0; i < 10000; i++) {
        digest_of(i, &d);
        ck_assert_int_eq(idset_has(&s, &d), i < 5000);
    }
    idset_fini(&s);
}
END_TEST

START_TEST(a_snapshot_round_trips)
{
    AUTO_SNAPSHOT struct snapshot s = {0};
    AUTO_SNAPSHOT struct snapshot back = {0};
    AUTO_BUF struct buf json = {0};
    s.time = (struct go_time){1, 500};
    digest_of(3, &s.tree);
    strings_add(&s.paths, "/data/\xc3\xa9");
    strings_add(&s.tags, "set=x");
    s.hostname = mem_strdup("db1");
    s.uid = 7;
    s.summary.valid = true;
    s.summary.data_added = 123456789012;
    ck_ok(snapshot_write(&s, &json));
    ck_ok(snapshot_read(json.data, json.len, &back));
    ck_assert_uint_eq(back.time.nsec, 500);
    ck_assert(digest_equal(&s.tree, &back.tree));
    ck_assert_str_eq(back.paths.items[0], "/data/\xc3\xa9");
    ck_assert_uint_eq(back.tags.n, 1);
    ck_assert(strings_has(&back.tags, "set=x"));
    ck_assert_str_eq(back.hostname, "db1");
    ck_assert_uint_eq(back.uid, 7);
    ck_assert_uint_eq(back.summary.data_added, 123456789012);
    strings_add(&s.paths, "/bad/\xff");
    ck_err(snapshot_write(&s, &json), ERR_INVALID);
    AUTO_SNAPSHOT struct snapshot none = {0};
    ck_err(snapshot_read("{}", 2, &none), ERR_CORRUPT);
}
END_TEST

START_TEST(only_the_right_password_opens)
{
    struct store *store = NULL;
    struct repo *r = NULL;
    ck_ok(store_open(temp_path("repo"), 0, &store));
    struct err *e = repo_open(store, "pW", 2, &r);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_DENIED);
    ck_assert_int_eq(e->os, 0);
    err_free(e);
    ck_ok(store_open(temp_dir, 0, &store));
    ck_err(repo_open(store, "pw", 2, &r), ERR_NOT_FOUND);
    ck_ok(store_open(temp_path("repo"), 0, &store));
    ck_err(repo_init(store, "pw", 2, &temp_cost), ERR_CONFLICT);
    store_close(store);
}
END_TEST

static void save_noise(struct repo_io *io, uint64_t seed, size_t n, struct digest *id,
                       bool fresh)
{
    AUTO(str) char *data = mem_alloc(n);
    struct repo_saved saved;
    temp_noise(seed, data, n);
    ck_ok(repo_save_blob(io, BLOB_DATA, data, n, id, &saved));
    ck_assert_int_eq(saved.fresh, fresh);
}

static void check_noise(struct repo_io *io, uint64_t seed, size_t n,
                        const struct digest *id)
{
    AUTO(str) char *data = mem_alloc(n);
    AUTO_BUF struct buf got = {0};
    temp_noise(seed, data, n);
    ck_ok(repo_load_blob(io, BLOB_DATA, id, &got));
    ck_assert_uint_eq(got.len, n);
    ck_assert_mem_eq(got.data, data, n);
}

START_TEST(blobs_survive_reopening_and_are_stored_once)
{
    struct digest a, b, again;
    struct repo_saved saved;
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    save_noise(io, 1, 100000, &a, true);
    save_noise(io, 1, 100000, &again, false);
    ck_assert(digest_equal(&a, &again));
    AUTO(str) char *zeros = mem_zalloc(1 << 20);
    ck_ok(repo_save_blob(io, BLOB_DATA, zeros, 1 << 20, &b, &saved));
    ck_assert_uint_lt(saved.stored, 1000); /* compressed */
    ck_ok(repo_flush(io));
    AUTO(repo) struct repo *second = temp_open(true);
    AUTO(repo_io) struct repo_io *second_io = repo_io_new(second);
    check_noise(second_io, 1, 100000, &a);
    save_noise(second_io, 1, 100000, &again, false);
    uint64_t bytes = 0;
    ck_assert(repo_has_blob(second, BLOB_DATA, &b, &bytes));
    ck_assert_uint_eq(bytes, 1 << 20);
    ck_assert(!repo_has_blob(second, BLOB_TREE, &b, NULL));
}
END_TEST

/* Text that compresses, `n` lines of it; with `changes` the second giving differs. */
struct lines {
    size_t n;
    bool changes;
    unsigned asked;
};

static struct err *give_lines(void *ctx, zst_sink *sink, void *sink_ctx)
{
    struct lines *l = ctx;
    char line[64];
    l->asked++;
    for (size_t i = 0; i < l->n; i++) {
        int len = snprintf(line, sizeof line, "line %zu of a long list%c\n", i,
                           l->changes && l->asked > 1 && i == l->n / 2 ? '!' : '.');
        TRY(sink(sink_ctx, line, (size_t)len));
    }
    return NULL;
}

static struct err *collect_lines(void *ctx, const void *data, size_t n)
{
    buf_add(ctx, data, n);
    return NULL;
}

START_TEST(a_blob_in_parts_is_the_whole_blob)
{
    static const size_t lengths[] = {0, 10, 200000};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct lines l = {.n = lengths[i]};
        struct repo_saved saved;
        struct digest id, whole_id;
        AUTO_BUF struct buf whole = {0};
        AUTO_BUF struct buf got = {0};
        AUTO(repo) struct repo *r = temp_open(true);
        AUTO(repo_io) struct repo_io *io = repo_io_new(r);
        ck_ok(give_lines(&l, collect_lines, &whole));
        l.asked = 0;
        hash_bytes(buf_text(&whole), whole.len, &whole_id);
        ck_ok(repo_save_source(io, BLOB_TREE, give_lines, &l, &id, &saved));
        ck_assert(digest_equal(&id, &whole_id));
        ck_assert(saved.fresh);
        ck_assert_uint_eq(saved.bytes, whole.len);
        /* Only what is short was held. */
        ck_assert_uint_eq(l.asked, whole.len > REPO_HELD_MAX ? 2 : 1);
        ck_assert_uint_le(saved.stored, whole.len / 2 + 100);
        ck_ok(repo_save_source(io, BLOB_TREE, give_lines, &l, &id, &saved));
        ck_assert(!saved.fresh);
        ck_ok(repo_flush(io));
        AUTO(repo) struct repo *second = temp_open(true);
        AUTO(repo_io) struct repo_io *second_io = repo_io_new(second);
        ck_ok(repo_load_blob(second_io, BLOB_TREE, &id, &got));
        ck_assert_uint_eq(got.len, whole.len);
        ck_assert_int_eq(memcmp(buf_text(&got), buf_text(&whole), whole.len), 0);
    }
}
END_TEST

/* In steps that fit nothing; then with a bit of it flipped. */
START_TEST(a_blob_is_read_in_parts)
{
    for (int plain = 0; plain < 2; plain++) {
        struct lines l = {.n = 120000};
        struct repo_reader *rd = NULL;
        struct repo_saved saved;
        struct digest id, pack;
        struct blob_entry e;
        AUTO_BUF struct buf whole = {0};
        AUTO_BUF struct buf got = {0};
        AUTO(repo) struct repo *r = temp_open(true);
        AUTO(repo_io) struct repo_io *io = repo_io_new(r);
        if (plain) {
            temp_noise(99, buf_room(&whole, 1 << 20), 1 << 20);
            whole.len = 1 << 20;
        } else {
            ck_ok(give_lines(&l, collect_lines, &whole));
        }
        ck_ok(repo_save_blob(io, BLOB_DATA, whole.data, whole.len, &id, &saved));
        ck_ok(repo_flush(io));
        ck_ok(repo_reader_open(io, BLOB_DATA, &id, &rd));
        for (size_t n = 1; n;) {
            ck_ok(repo_reader_read(rd, buf_room(&got, 100003), 100003, &n));
            got.len += n;
        }
        ck_assert_uint_eq(got.len, whole.len);
        ck_assert_mem_eq(got.data, whole.data, whole.len);
        repo_reader_free(rd);
        ck_assert(repo_locate(r, BLOB_DATA, &id, &e, &pack));
        ck_assert_int_eq(e.plain == 0, plain);
        temp_flip(REPO_DATA, &pack);
        ck_err(repo_reader_open(io, BLOB_DATA, &id, &rd), ERR_CORRUPT);
    }
}
END_TEST

START_TEST(a_blob_that_changes_between_its_parts_is_not_stored)
{
    struct lines l = {.n = 150000, .changes = true};
    struct repo_saved saved;
    struct digest id;
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    ck_err(repo_save_source(io, BLOB_TREE, give_lines, &l, &id, &saved), ERR_CONFLICT);
    ck_err(repo_flush(io), ERR_CONFLICT);
}
END_TEST

/* What lies side by side in a file does not lie so in packs. */
START_TEST(blobs_go_to_more_than_one_open_pack)
{
    enum { BLOBS = 200 };
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    uint32_t pack[BLOBS];
    size_t changes = 0, before = index_packs(repo_index(r));
    for (int i = 0; i < BLOBS; i++) {
        struct digest id;
        save_noise(io, (uint64_t)(5000 + i), 1000, &id, true);
    }
    ck_ok(repo_flush(io));
    ck_assert_uint_eq(index_packs(repo_index(r)), before + 2);
    for (int i = 0; i < BLOBS; i++) {
        AUTO(str) char *data = mem_alloc(1000);
        struct digest id;
        struct blob_entry e;
        temp_noise((uint64_t)(5000 + i), data, 1000);
        hash_bytes(data, 1000, &id);
        ck_assert(index_find(repo_index(r), BLOB_DATA, &id, 0, &e));
        pack[i] = e.pack;
        changes += i && pack[i] != pack[i - 1];
    }
    /* A coin decides: 100 changes are expected, with a deviation of 7. */
    ck_assert_uint_gt(changes, 50);
    ck_assert_uint_lt(changes, 150);
}
END_TEST

START_TEST(a_flipped_bit_is_named)
{
    struct digest id;
    char blob_hex[65], pack_hex[65];
    AUTO_BUF struct buf got = {0};
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    save_noise(io, 5, 300000, &id, true);
    ck_ok(repo_flush(io));
    const struct index *ix = repo_index(r);
    const struct pack_entry *p = index_pack(ix, index_packs(ix) - 1);
    digest_hex(&id, blob_hex);
    digest_hex(&p->id, pack_hex);
    temp_flip(REPO_DATA, &p->id);
    struct err *e = repo_load_blob(io, BLOB_DATA, &id, &got);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_CORRUPT);
    AUTO(str) char *text = err_text(e);
    ck_assert_ptr_nonnull(strstr(text, blob_hex));
    ck_assert_ptr_nonnull(strstr(text, pack_hex));
    ck_assert_uint_eq(got.len, 0);
    err_free(e);
}
END_TEST

/* Two processes that store the same blob at once each write a copy; one damaged copy is
 * then survived. */
START_TEST(a_second_copy_survives_damage_of_the_first)
{
    struct digest id;
    AUTO(repo) struct repo *one = temp_open(true);
    AUTO(repo) struct repo *two = temp_open(true);
    AUTO(repo_io) struct repo_io *io_one = repo_io_new(one);
    AUTO(repo_io) struct repo_io *io_two = repo_io_new(two);
    save_noise(io_one, 6, 200000, &id, true);
    save_noise(io_two, 6, 200000, &id, true);
    ck_ok(repo_flush(io_one));
    ck_ok(repo_flush(io_two));
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    struct blob_entry first, second;
    ck_assert(index_find(repo_index(r), BLOB_DATA, &id, 0, &first));
    ck_assert(index_find(repo_index(r), BLOB_DATA, &id, 1, &second));
    temp_flip(REPO_DATA, &index_pack(repo_index(r), first.pack)->id);
    check_noise(io, 6, 200000, &id);
}
END_TEST

START_TEST(processes_write_one_repository_at_the_same_time)
{
    enum { PROCESSES = 4, BLOBS = 50 };
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i])
            continue;
        struct repo *r = temp_open(true);
        struct repo_io *io = repo_io_new(r);
        struct digest id;
        for (int j = 0; j < BLOBS; j++)
            save_noise(io, (uint64_t)(1000 + i * BLOBS + j), 70000, &id, true);
        ck_ok(repo_flush(io));
        _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    for (int i = 0; i < PROCESSES * BLOBS; i++) {
        AUTO(str) char *data = mem_alloc(70000);
        struct digest id;
        temp_noise((uint64_t)(1000 + i), data, 70000);
        hash_bytes(data, 70000, &id);
        check_noise(io, (uint64_t)(1000 + i), 70000, &id);
    }
}
END_TEST

START_TEST(damaged_files_are_refused_by_name)
{
    AUTO(repo) struct repo *r = temp_open(false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO_BUF struct buf sealed = {0};
    AUTO_BUF struct buf plain = {0};
    struct digest id;
    repo_seal_file(io, "{\"x\":1}", 7, &sealed, &id);
    ck_ok(repo_put_file(r, REPO_LOCK, &id, sealed.data, sealed.len));
    ck_ok(repo_put_file(r, REPO_LOCK, &id, sealed.data, sealed.len)); /* idempotent */
    ck_ok(repo_read_file(io, REPO_LOCK, &id, &plain));
    ck_assert_str_eq(buf_text(&plain), "{\"x\":1}");
    temp_flip(REPO_LOCK, &id);
    ck_err(repo_read_file(io, REPO_LOCK, &id, &plain), ERR_CORRUPT);
    ck_ok(repo_remove_file(r, REPO_LOCK, &id));
    ck_err(repo_remove_file(r, REPO_SNAPSHOT, &id), ERR_DENIED);
}
END_TEST

START_TEST(exclusive_and_shared_locks_exclude_each_other)
{
    AUTO(repo) struct repo *r = temp_open(false);
    struct repo_lock *shared = NULL, *second = NULL, *exclusive = NULL;
    struct repo_file *files = NULL;
    size_t n = 0;
    ck_ok(repo_lock(r, false, &shared));
    ck_ok(repo_lock(r, false, &second));
    ck_ok(repo_lock_check(shared));
    ck_err(repo_lock(r, true, &exclusive), ERR_CONFLICT);
    repo_lock_free(shared);
    repo_lock_free(second);
    ck_ok(repo_lock(r, true, &exclusive));
    ck_err(repo_lock(r, false, &shared), ERR_CONFLICT);
    repo_lock_free(exclusive);
    ck_ok(repo_list(r, REPO_LOCK, &files, &n));
    ck_assert_uint_eq(n, 0);
    free(files);
}
END_TEST

START_TEST(locks_of_the_dead_are_stale)
{
    struct lock_claim c = {.time = {10000, 0}, .pid = getpid()};
    const struct lock_claim here = {.hostname = "here"};
    const struct lock_claim elsewhere = {.hostname = "elsewhere"};
    const struct go_time then = {10000, 0};
    pid_t child = fork();
    if (!child)
        _exit(0);
    waitpid(child, NULL, 0);
    strcpy(c.hostname, "here");
    ck_assert(!lock_claim_is_stale(&c, (struct go_time){10000 + 1800, 0}, &here));
    ck_assert(lock_claim_is_stale(&c, (struct go_time){10000 + 1801, 0}, &here));
    c.pid = child;
    ck_assert(lock_claim_is_stale(&c, then, &here));
    ck_assert(!lock_claim_is_stale(&c, then, &elsewhere));
    /* One of ours that ran in another container of that name is not judged by number. */
    strcpy(c.session, "00");
    strcpy(c.pidns, "pid:[1]");
    ck_assert(!lock_claim_is_stale(&c, then, &here));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("repo");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, temp_set_up, temp_tear_down);
    tcase_add_test(tc, a_packs_header_tells_its_blobs);
    tcase_add_test(tc, an_index_round_trips_and_finds_every_copy);
    tcase_add_test(tc, lying_indexes_are_refused);
    tcase_add_test(tc, a_set_of_ids_knows_what_it_holds);
    tcase_add_test(tc, a_snapshot_round_trips);
    tcase_add_test(tc, only_the_right_password_opens);
    tcase_add_test(tc, blobs_survive_reopening_and_are_stored_once);
    tcase_add_test(tc, a_blob_in_parts_is_the_whole_blob);
    tcase_add_test(tc, a_blob_is_read_in_parts);
    tcase_add_test(tc, a_blob_that_changes_between_its_parts_is_not_stored);
    tcase_add_test(tc, blobs_go_to_more_than_one_open_pack);
    tcase_add_test(tc, a_flipped_bit_is_named);
    tcase_add_test(tc, a_second_copy_survives_damage_of_the_first);
    tcase_add_test(tc, processes_write_one_repository_at_the_same_time);
    tcase_add_test(tc, damaged_files_are_refused_by_name);
    tcase_add_test(tc, exclusive_and_shared_locks_exclude_each_other);
    tcase_add_test(tc, locks_of_the_dead_are_stale);
    return suite_main("repo", tc);
}
