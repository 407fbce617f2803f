/* sim SEED replays one run and prints the digest of its trace; sim FIRST COUNT runs many.
 * Without arguments: the suite. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/script.h"
#include "tests/unit/suite.h"

enum { SEEDS_PER_TEST = 25 };

START_TEST(random_faults_break_no_invariant)
{
    struct swarm_sum sum = {0};
    for (uint64_t seed = 0; seed < SEEDS_PER_TEST; seed++)
        swarm_run(1000 + (uint64_t)_i * SEEDS_PER_TEST + seed, &sum);
    /* Faults that let nothing succeed, or never interfere, would prove nothing. */
    ck_assert_uint_gt(sum.captured, 0);
    ck_assert_uint_gt(sum.aborted, 0);
    ck_assert_uint_gt(sum.in_part, 0);
}
END_TEST

/* What another process, at other addresses, prints of a seed. */
static void replay(const char *program, uint64_t seed, char line[128])
{
    char command[512];
    snprintf(command, sizeof command, "'%s' %" PRIu64, program, seed);
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(line, 128, f));
    ck_assert_int_eq(pclose(f), 0);
}

START_TEST(the_same_seed_gives_the_same_trace)
{
    char first[128], again[128], other[128];
    char self[256] = {0};
    ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof self - 1), 0);
    uint64_t seed = 4242 + (uint64_t)_i;
    replay(self, seed, first);
    replay(self, seed, again);
    replay(self, seed + 1000, other);
    ck_assert_str_eq(first, again);
    ck_assert_str_ne(strstr(first, "trace"), strstr(other, "trace"));
    struct swarm_sum sums[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++)
        swarm_run(seed, &sums[i]);
    ck_assert_uint_eq(sums[0].trace, sums[1].trace);
}
END_TEST

static int run_seeds(uint64_t first, uint64_t count)
{
    struct swarm_sum sum = {0};
    for (uint64_t i = 0; i < count; i++)
        swarm_run(first + i, &sum);
    printf("%" PRIu64 " seeds from %" PRIu64 ": no invariant broken; %lu sets captured, "
           "%lu aborted, %lu in part; trace %016" PRIx64 "\n",
           count, first, sum.captured, sum.aborted, sum.in_part, sum.trace);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return run_seeds(strtoull(argv[1], NULL, 10),
                         argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    TCase *tc = tcase_create("sim");
    tcase_set_timeout(tc, 120);
    script_add(tc);
    script_waves_add(tc);
    script_rehearsal_add(tc);
    tcase_add_loop_test(tc, random_faults_break_no_invariant, 0, 12);
    tcase_add_loop_test(tc, the_same_seed_gives_the_same_trace, 0, 3);
    return suite_main("sim", tc);
}
