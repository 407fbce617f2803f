#include "common/engine/manifest.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "tests/unit/suite.h"

static char file[] = "/tmp/manifest_test.XXXXXX";

static void write_file(const void *bytes, size_t n)
{
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

#define WRITE(text) write_file(text, sizeof(text) - 1)

START_TEST(finds_what_it_holds)
{
    AUTO(manifest) struct manifest *m = NULL;
    struct manifest_entry e;
    WRITE("stillpoint manifest 1\n"
          "7 1700000000.000000009 64768 a b/c\0"
          "8 -5.123456789 64769 new\nline\0"
          "18446744073709551615 0.000000000 1 .\0"
          "end 3\0");
    ck_ok(manifest_open(file, &m));
    ck_assert(manifest_find(m, "a b/c", &e));
    ck_assert_uint_eq(e.inode, 7);
    ck_assert_int_eq(e.ctime_s, 1700000000);
    ck_assert_uint_eq(e.ctime_ns, 9);
    ck_assert_uint_eq(e.device, 64768);
    ck_assert(manifest_find(m, "new\nline", &e));
    ck_assert_int_eq(e.ctime_s, -5);
    ck_assert_uint_eq(e.ctime_ns, 123456789);
    ck_assert(manifest_find(m, ".", &e));
    ck_assert_uint_eq(e.inode, UINT64_MAX);
    ck_assert(!manifest_find(m, "a", &e));
    ck_assert(!manifest_find(m, "", &e));
}
END_TEST

START_TEST(finds_each_of_many)
{
    enum { MANY = 50000 };
    AUTO(manifest) struct manifest *m = NULL;
    AUTO_BUF struct buf text = {0};
    struct manifest_entry e;
    buf_printf(&text, "stillpoint manifest 1\n");
    for (int i = 0; i < MANY; i++) {
        buf_printf(&text, "%d 1.000000000 1 dir/%d", i + 1, i * 7);
        buf_char(&text, '\0');
    }
    buf_printf(&text, "end %d", MANY);
    buf_char(&text, '\0');
    write_file(text.data, text.len);
    ck_ok(manifest_open(file, &m));
    for (int i = 0; i < MANY; i++) {
        char path[32];
        snprintf(path, sizeof path, "dir/%d", i * 7);
        ck_assert(manifest_find(m, path, &e));
        ck_assert_uint_eq(e.inode, (uint64_t)i + 1);
    }
    ck_assert(!manifest_find(m, "dir/1", &e));
}
END_TEST

START_TEST(half_a_manifest_is_none)
{
    struct manifest *m = NULL;
    unlink(file);
    ck_err(manifest_open(file, &m), ERR_NOT_FOUND);
    WRITE("");
    ck_err(manifest_open(file, &m), ERR_CORRUPT);
    WRITE("stillpoint manifest 1\n");
    ck_err(manifest_open(file, &m), ERR_CORRUPT);
    WRITE("stillpoint manifest 2\nend 0\0");
    ck_err(manifest_open(file, &m), ERR_CORRUPT);
    WRITE("stillpoint manifest 1\n7 1.000000000 1 a\0");
    ck_err(manifest_open(file, &m), ERR_CORRUPT);
    WRITE("stillpoint manifest 1\n7 1.000000000 1 a\0end 2\0");
    ck_err(manifest_open(file, &m), ERR_CORRUPT);
    WRITE("stillpoint manifest 1\n7 1.000000000 1\0end 0\0");
    ck_err(manifest_open(file, &m), ERR_CORRUPT);
    WRITE("stillpoint manifest 1\n7 1.000000000 1 a\0end 1");
    ck_err(manifest_open(file, &m), ERR_CORRUPT);
    WRITE("stillpoint manifest 1\nend 0\0");
    ck_ok(manifest_open(file, &m));
    manifest_close(m);
}
END_TEST

int main(void)
{
    int fd = mkstemp(file);
    if (fd < 0)
        return EXIT_FAILURE;
    close(fd);
    TCase *tc = tcase_create("manifest");
    tcase_add_test(tc, finds_what_it_holds);
    tcase_add_test(tc, finds_each_of_many);
    tcase_add_test(tc, half_a_manifest_is_none);
    int status = suite_main("manifest", tc);
    unlink(file);
    return status;
}
