#include "common/store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "tests/unit/suite.h"

static char dir[] = "/tmp/store-test-XXXXXX";
static const size_t small_bytes = 1 << 20;

/* A tmpfs of 1 MiB, so that a full disk is real. Unchecked: it is unmounted whatever the
 * tests do. */
static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"), 0);
}

static void tear_down(void)
{
    umount(dir);
    rmdir(dir);
}

static struct store *open_store(unsigned flags)
{
    struct store *s = NULL;
    ck_ok(store_open(dir, flags | STORE_CREATE, &s));
    return s;
}

static int entries_of(const char *sub)
{
    AUTO(str) char *path = mem_printf("%s/%s", dir, sub);
    DIR *d = opendir(path);
    int n = 0;
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

START_TEST(an_object_is_stored_once_and_read_in_ranges)
{
    AUTO(store) struct store *s = open_store(0);
    char got[4] = "";
    uint64_t bytes = 0;
    struct stat st;
    ck_ok(store_put(s, "data/ab/ab12", "0123456789", 10));
    ck_err(store_put(s, "data/ab/ab12", "other", 5), ERR_CONFLICT);
    ck_ok(store_stat(s, "data/ab/ab12", &bytes));
    ck_assert_uint_eq(bytes, 10);
    ck_ok(store_get(s, "data/ab/ab12", 3, got, 3));
    ck_assert_str_eq(got, "345");
    ck_err(store_get(s, "data/ab/ab12", 8, got, 3), ERR_CORRUPT);
    ck_err(store_get(s, "data/ab/ab13", 0, got, 1), ERR_NOT_FOUND);
    AUTO(str) char *path = mem_printf("%s/data/ab/ab12", dir);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0400);
    ck_assert_int_eq(entries_of("data/ab"), 1);
}
END_TEST

START_TEST(a_full_disk_is_no_space_and_leaves_nothing)
{
    AUTO(store) struct store *s = open_store(0);
    AUTO(str) char *big = mem_zalloc(2 * small_bytes);
    ck_err(store_put(s, "data/cd/cd01", big, 2 * small_bytes), ERR_NO_SPACE);
    ck_assert_int_eq(entries_of("data/cd"), 0);
    ck_ok(store_put(s, "data/cd/cd02", big, small_bytes / 4));
    ck_assert_int_eq(entries_of("data/cd"), 1);
}
END_TEST

START_TEST(only_locks_can_be_removed)
{
    AUTO(store) struct store *s = open_store(0);
    ck_ok(store_put(s, "locks/aa", "x", 1));
    ck_ok(store_put(s, "snapshots/aa", "x", 1));
    ck_ok(store_remove(s, "locks/aa"));
    ck_err(store_remove(s, "snapshots/aa"), ERR_DENIED);
    AUTO(store) struct store *reclaiming = open_store(STORE_RECLAIM);
    ck_ok(store_remove(reclaiming, "snapshots/aa"));
    ck_err(store_remove(reclaiming, "snapshots/aa"), ERR_NOT_FOUND);
}
END_TEST

START_TEST(names_cannot_leave_the_store)
{
    static const char *const bad[] = {"",        "/etc/x",  "../x",     "data/../../x",
                                      "data//x", "data/x/", "data/X.y", "a b"};
    AUTO(store) struct store *s = open_store(STORE_RECLAIM);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_err(store_put(s, bad[i], "x", 1), ERR_INVALID);
        ck_err(store_remove(s, bad[i]), ERR_INVALID);
    }
}
END_TEST

struct seen {
    char names[256];
};

static struct err *note(void *ctx, const char *name, uint64_t bytes)
{
    struct seen *seen = ctx;
    size_t n = strlen(seen->names);
    snprintf(seen->names + n, sizeof seen->names - n, "%s=%d ", name, (int)bytes);
    return NULL;
}

START_TEST(a_listing_is_sorted_and_goes_into_subdirectories)
{
    AUTO(store) struct store *s = open_store(0);
    struct seen seen = {""};
    ck_ok(store_put(s, "index/b1/b1", "xx", 2));
    ck_ok(store_put(s, "index/a2", "x", 1));
    ck_ok(store_list(s, "index", note, &seen));
    ck_assert_str_eq(seen.names, "index/a2=1 index/b1/b1=2 ");
    seen.names[0] = '\0';
    ck_ok(store_list(s, "absent", note, &seen));
    ck_assert_str_eq(seen.names, "");
}
END_TEST

START_TEST(unknown_places_are_told_apart)
{
    struct store *s = NULL;
    ck_err(store_open("/nonexistent/place", 0, &s), ERR_NOT_FOUND);
    ck_err(store_open("gopher:/x", 0, &s), ERR_INVALID);
    ck_err(store_open("", 0, &s), ERR_INVALID);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("local");
    tcase_add_unchecked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, an_object_is_stored_once_and_read_in_ranges);
    tcase_add_test(tc, a_full_disk_is_no_space_and_leaves_nothing);
    tcase_add_test(tc, only_locks_can_be_removed);
    tcase_add_test(tc, names_cannot_leave_the_store);
    tcase_add_test(tc, a_listing_is_sorted_and_goes_into_subdirectories);
    tcase_add_test(tc, unknown_places_are_told_apart);
    return suite_main("store local", tc);
}
