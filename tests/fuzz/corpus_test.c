/* Everything the fuzzers have kept goes through its target once more. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/file/file.h"
#include "tests/fuzz/targets.h"
#include "tests/unit/suite.h"

enum { INPUT_MAX = 1 << 20 };

START_TEST(replays)
{
    const struct fuzz_target *t = &fuzz_targets[_i];
    AUTO(str) char *dir = mem_printf("tests/fuzz/corpus/%s", t->name);
    struct dirent **names = NULL;
    int n = scandir(dir, &names, NULL, alphasort);
    ck_assert_msg(n > 2, "there is no corpus in '%s'", dir);
    for (int i = 0; i < n; i++) {
        AUTO(str) char *path = mem_printf("%s/%s", dir, names[i]->d_name);
        AUTO(str) char *bytes = NULL;
        size_t size = 0;
        if (names[i]->d_name[0] != '.') {
            ck_ok(file_read(path, INPUT_MAX, &bytes, &size));
            t->run((const uint8_t *)bytes, size);
        }
        free(names[i]);
    }
    free(names);
}
END_TEST

int main(void)
{
    int n = 0;
    while (fuzz_targets[n].name)
        n++;
    TCase *tc = tcase_create("corpus");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, replays, 0, n);
    return suite_main("corpus", tc);
}
