/* Bit rot: whatever happens to whichever file of a repository, the check finds it and
 * says which file it was; and it never cries without reason. */
#include "common/engine/check.h"

#include "common/base/mem.h"
#include "common/engine/backup.h"
#include "tests/unit/engine/temp_repo.h"

enum { FILES_MAX = 400 };

/* A file of the repository and its right bytes. */
struct stored {
    char *name; /* below repo/ */
    char *bytes;
    size_t n;
};

static struct stored files[FILES_MAX];
static size_t files_n;

static void back_up(uint64_t seed, size_t bytes)
{
    struct backup_result made;
    AUTO(repo) struct repo *r = temp_open(true);
    AUTO(str) char *noise = mem_alloc(bytes);
    char name[64];
    mkdir(temp_path("src"), 0700);
    for (int i = 0; i < 3; i++) {
        temp_noise(seed * 7 + (uint64_t)i, noise, bytes);
        snprintf(name, sizeof name, "src/f%d-%d", (int)seed, i);
        temp_write(name, noise, bytes);
    }
    const struct backup_opts b = {.source = temp_path("src"),
                                  .path = "/s",
                                  .hostname = "h",
                                  .time = {(int64_t)seed, 0}};
    ck_ok(backup_run(r, &b, &made));
    backup_result_fini(&made);
}

static char *read_stored(const char *name, size_t *n)
{
    char path[160];
    struct stat st;
    snprintf(path, sizeof path, "repo/%s", name);
    FILE *f = fopen(temp_path(path), "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fstat(fileno(f), &st), 0);
    char *bytes = mem_alloc((size_t)st.st_size + 1);
    *n = fread(bytes, 1, (size_t)st.st_size, f);
    ck_assert_uint_eq(*n, (size_t)st.st_size);
    fclose(f);
    return bytes;
}

static void write_stored(const char *name, const char *bytes, size_t n)
{
    char path[160];
    snprintf(path, sizeof path, "repo/%s", name);
    unlink(temp_path(path));
    temp_write(path, bytes, n);
}

static void collect(const char *dir)
{
    char path[160];
    const struct dirent *e;
    snprintf(path, sizeof path, "repo/%s", dir);
    DIR *d = opendir(temp_path(path));
    ck_assert_ptr_nonnull(d);
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "locks") == 0)
            continue;
        char *name = mem_printf("%s%s%s", dir, *dir ? "/" : "", e->d_name);
        if (e->d_type == DT_DIR) {
            collect(name);
            free(name);
            continue;
        }
        ck_assert_uint_lt(files_n, FILES_MAX);
        files[files_n].name = name;
        files[files_n].bytes = read_stored(name, &files[files_n].n);
        files_n++;
    }
    closedir(d);
}

/* What the check says; `name` is set when some problem contains it. */
static struct err *examine(const char *id, bool *named)
{
    struct store *store = NULL;
    struct repo *r = NULL;
    struct check_result res;
    const struct check_opts o = {.read_data = true};
    *named = false;
    struct err *e = store_open(temp_path("repo"), 0, &store);
    if (!e)
        e = repo_open(store, "pw", 2, &r);
    if (e) {
        /* The only key, or the config: nothing works, which is found too. */
        *named = true;
        return e;
    }
    e = check_run(r, &o, &res);
    for (size_t i = 0; i < res.problems.n; i++)
        *named |= strstr(res.problems.items[i].path, id) != NULL ||
                  strstr(res.problems.items[i].text, id) != NULL;
    check_result_fini(&res);
    repo_close(r);
    return e;
}

static const char *id_of(const struct stored *f)
{
    const char *slash = strrchr(f->name, '/');
    return slash ? slash + 1 : f->name;
}

static void must_be_found(const struct stored *f, const char *what)
{
    bool named;
    struct err *e = examine(id_of(f), &named);
    ck_assert_msg(e != NULL, "%s of '%s' was not found", what, f->name);
    ck_assert_msg(named, "%s of '%s' was found but not named", what, f->name);
    err_free(e);
}

static void set_up(void)
{
    temp_enter();
    files_n = 0;
    back_up(1, 3000000);
    back_up(2, 3000000);
    collect("");
    ck_assert_uint_ge(files_n, 9); /* config, key, 2 of each kind, more packs */
}

START_TEST(one_flipped_bit_anywhere_is_found)
{
    uint64_t random = 12345;
    for (size_t i = 0; i < files_n; i++)
        for (int k = 0; k < 3; k++) {
            struct stored *f = &files[i];
            temp_noise(random++, &random, sizeof random);
            size_t at = (size_t)(random >> 8) % f->n;
            char bit = (char)(1 << (random & 7));
            f->bytes[at] ^= bit;
            write_stored(f->name, f->bytes, f->n);
            must_be_found(f, "a flipped bit");
            f->bytes[at] ^= bit;
            write_stored(f->name, f->bytes, f->n);
        }
    bool named;
    ck_ok(examine("", &named)); /* all is right again */
}
END_TEST

START_TEST(truncation_is_found)
{
    for (size_t i = 0; i < files_n; i++) {
        const size_t lengths[] = {files[i].n - 1, files[i].n / 2, 0};
        for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
            write_stored(files[i].name, files[i].bytes, lengths[k]);
            must_be_found(&files[i], "truncation");
        }
        write_stored(files[i].name, files[i].bytes, files[i].n);
    }
}
END_TEST

/* A snapshot that is gone is not missed by anything: its deletion is what forget does. An
 * index that is gone is known by what the snapshots miss, not by its name. */
START_TEST(deletion_is_found)
{
    for (size_t i = 0; i < files_n; i++) {
        char path[160];
        bool named;
        if (strncmp(files[i].name, "snapshots/", 10) == 0)
            continue;
        snprintf(path, sizeof path, "repo/%s", files[i].name);
        ck_assert_int_eq(unlink(temp_path(path)), 0);
        struct err *e = examine(id_of(&files[i]), &named);
        ck_assert_msg(e != NULL, "deletion of '%s' was not found", files[i].name);
        err_free(e);
        if (strncmp(files[i].name, "data/", 5) == 0)
            ck_assert_msg(named, "deletion of '%s' was not named", files[i].name);
        write_stored(files[i].name, files[i].bytes, files[i].n);
    }
}
END_TEST

static const struct stored *file_in(const char *dir, size_t number)
{
    for (size_t i = 0; i < files_n; i++)
        if (strncmp(files[i].name, dir, strlen(dir)) == 0 && number-- == 0)
            return &files[i];
    ck_abort_msg("too few files in %s", dir);
    return NULL;
}

START_TEST(swapped_files_are_found)
{
    static const char *const dirs[] = {"data/", "index/", "snapshots/"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        const struct stored *a = file_in(dirs[i], 0), *b = file_in(dirs[i], 1);
        write_stored(a->name, b->bytes, b->n);
        write_stored(b->name, a->bytes, a->n);
        must_be_found(a, "a swap");
        must_be_found(b, "a swap");
        write_stored(a->name, a->bytes, a->n);
        write_stored(b->name, b->bytes, b->n);
    }
}
END_TEST

/* Each of the two indexes in place of the other, once under the other's name, once alone.
 */
START_TEST(a_replayed_index_is_found)
{
    for (size_t i = 0; i < 2; i++) {
        const struct stored *old = file_in("index/", i), *now = file_in("index/", 1 - i);
        char path[160];
        bool named;
        write_stored(now->name, old->bytes, old->n);
        must_be_found(now, "a replay");
        snprintf(path, sizeof path, "repo/%s", now->name);
        ck_assert_int_eq(unlink(temp_path(path)), 0);
        ck_err(examine("", &named), ERR_CORRUPT);
        write_stored(now->name, now->bytes, now->n);
    }
}
END_TEST

START_TEST(clean_repositories_raise_no_alarm)
{
    for (uint64_t seed = 10; seed < 30; seed++) {
        bool named;
        temp_remove(AT_FDCWD, temp_path("repo"));
        temp_remove(AT_FDCWD, temp_path("src"));
        temp_make_repo();
        back_up(seed, 200000);
        back_up(seed + 100, 50000);
        ck_ok(examine("", &named));
    }
}
END_TEST

/* The repository opens with the other key: only the check looks at this one. */
START_TEST(a_damaged_second_key_is_found)
{
    AUTO(str) char *text = mem_strdup("{\"not\":\"its name\"}");
    bool named;
    char id[65];
    const struct stored key = {.name = id};
    memset(id, 'f', 64);
    id[64] = '\0';
    AUTO(str) char *name = mem_printf("keys/%s", id);
    write_stored(name, text, strlen(text));
    ck_err(examine(id_of(&key), &named), ERR_CORRUPT);
    ck_assert(named);
}
END_TEST

/* Which file of which snapshot is lost, in words a person can act on. */
START_TEST(lost_files_are_named_in_every_snapshot)
{
    const struct check_opts o = {.read_data = true};
    struct check_result res;
    size_t hits[2] = {0, 0};
    char first_id[9] = "", where[64];
    AUTO(repo) struct repo *look = temp_open(true);
    AUTO(repo_io) struct repo_io *io = repo_io_new(look);
    struct snapshot *list = NULL;
    size_t n = 0;
    struct tree top = {0}, inner = {0};
    struct digest pack;
    struct blob_entry entry;
    ck_ok(repo_snapshots(io, &list, &n));
    ck_assert_uint_eq(n, 2);
    ck_ok(repo_load_tree(io, &list[0].tree, &top));
    ck_ok(repo_load_tree(io, &top.nodes[0].subtree, &inner));
    ck_assert_str_eq(inner.nodes[1].name, "f1-1");
    ck_assert(repo_locate(look, BLOB_DATA, &inner.nodes[1].content[0], &entry, &pack));
    /* The first byte of that blob in its pack. */
    char hex[65], name[128];
    digest_hex(&pack, hex);
    snprintf(name, sizeof name, "data/%.2s/%s", hex, hex);
    size_t bytes_n = 0;
    AUTO(str) char *bytes = read_stored(name, &bytes_n);
    bytes[entry.offset + 20] ^= 1;
    write_stored(name, bytes, bytes_n);
    AUTO(repo) struct repo *r = temp_open(false);
    ck_err(check_run(r, &o, &res), ERR_CORRUPT);
    for (size_t i = 0; i < n; i++) {
        digest_hex(&list[i].id, hex);
        snprintf(first_id, sizeof first_id, "%.8s", hex);
        snprintf(where, sizeof where, "snapshot %s: /s/f1-1", first_id);
        for (size_t k = 0; k < res.problems.n; k++)
            hits[i] += strcmp(res.problems.items[k].path, where) == 0;
    }
    ck_assert_uint_eq(hits[0], 1); /* both snapshots have the file */
    ck_assert_uint_eq(hits[1], 1);
    ck_assert_uint_eq(res.lost_files, 2); /* and nothing else is lost */
    check_result_fini(&res);
    tree_fini(&top);
    tree_fini(&inner);
    repo_free_snapshots(list, n);
}
END_TEST

/* Every pack is read by exactly one of the parts. */
START_TEST(parts_add_up_to_the_whole)
{
    enum { PARTS = 3 };
    uint64_t read = 0, packs = 0;
    for (unsigned part = 1; part <= PARTS; part++) {
        struct check_result res;
        const struct check_opts o = {.read_data = true, .part = part, .parts = PARTS};
        AUTO(repo) struct repo *r = temp_open(false);
        ck_ok(check_run(r, &o, &res));
        read += res.packs_read;
        packs = res.packs;
        check_result_fini(&res);
    }
    ck_assert_uint_eq(read, packs);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("rot");
    tcase_set_timeout(tc, 300);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, one_flipped_bit_anywhere_is_found);
    tcase_add_test(tc, truncation_is_found);
    tcase_add_test(tc, deletion_is_found);
    tcase_add_test(tc, swapped_files_are_found);
    tcase_add_test(tc, a_replayed_index_is_found);
    tcase_add_test(tc, clean_repositories_raise_no_alarm);
    tcase_add_test(tc, a_damaged_second_key_is_found);
    tcase_add_test(tc, lost_files_are_named_in_every_snapshot);
    tcase_add_test(tc, parts_add_up_to_the_whole);
    return suite_main("engine rot", tc);
}
