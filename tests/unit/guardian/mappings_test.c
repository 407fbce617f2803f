#include "agent/guardian/mappings.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/suite.h"

enum { PAGE = 4096 };
static char wanted[] = "/tmp/mappings-XXXXXX", other[] = "/tmp/mappings-XXXXXX";

static bool is_wanted(const void *ctx, const char *path)
{
    return strcmp(path, ctx) == 0;
}

static bool finds(enum mappings_way way)
{
    char path[4097] = "";
    bool found = mappings_find(getpid(), way, is_wanted, wanted, path, sizeof(path));
    ck_assert(!found || strcmp(path, wanted) == 0);
    return found;
}

static void *map(const char *path, int protection, int flags)
{
    int fd = open(path, O_RDWR);
    void *at = mmap(NULL, PAGE, protection, flags, fd, 0);
    ck_assert_ptr_ne(at, MAP_FAILED);
    close(fd);
    return at;
}

static void make(char *path)
{
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, PAGE), 0);
    close(fd);
}

/* Which mapping of the wanted file is found, among others that are not meant. */
START_TEST(only_shared_and_writable)
{
    enum mappings_way way = (enum mappings_way)_i;
    make(wanted);
    make(other);
    map(other, PROT_READ | PROT_WRITE, MAP_SHARED);
    ck_assert(!finds(way));
    map(wanted, PROT_READ, MAP_SHARED);
    map(wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    ck_assert(!finds(way));
    void *at = map(wanted, PROT_READ | PROT_WRITE, MAP_SHARED);
    map(other, PROT_READ | PROT_WRITE, MAP_SHARED);
    ck_assert(finds(way));
    munmap(at, PAGE);
    ck_assert(!finds(way));
    unlink(wanted);
    unlink(other);
}
END_TEST

START_TEST(nobody_has_no_mappings)
{
    char path[8];
    ck_assert(!mappings_find(0x7ffffffe, (enum mappings_way)_i, is_wanted, wanted, path,
                             sizeof(path)));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("mappings");
    tcase_add_loop_test(tc, only_shared_and_writable, MAPPINGS_ASK, MAPPINGS_READ + 1);
    tcase_add_loop_test(tc, nobody_has_no_mappings, MAPPINGS_ASK, MAPPINGS_READ + 1);
    return suite_main("mappings", tc);
}
