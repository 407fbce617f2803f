#include "common/engine/gear.h"

#include <string.h>

#include "common/base/mem.h"
#include "tests/unit/engine/temp_repo.h"

enum { BYTES = 64 << 20 };

static struct gear gear;
static uint8_t *noise;

static void set_up(void)
{
    const struct digest secret = {{1, 2, 3}};
    gear_init(&gear, &secret);
    noise = mem_alloc(BYTES);
    temp_noise(42, noise, BYTES);
}

static void tear_down(void)
{
    free(noise);
}

/* Cuts data[n], `step` bytes becoming visible at a time; returns the number of chunks. */
static size_t cut_all(const struct gear *g, const uint8_t *data, size_t n, size_t step,
                      size_t *ends, size_t cap)
{
    size_t count = 0, start = 0, seen = 0;
    struct gear_state st = {0};
    while (start < n) {
        size_t cut = gear_cut(g, &st, data + start, seen - start);
        if (!cut && seen < n) {
            seen = seen + step < n ? seen + step : n;
            continue;
        }
        cut = cut ? cut : n - start;
        start += cut;
        ck_assert_uint_lt(count, cap);
        ends[count++] = start;
        st = (struct gear_state){0};
    }
    return count;
}

START_TEST(chunks_keep_the_limits_and_the_mean)
{
    size_t ends[256], start = 0;
    size_t n = cut_all(&gear, noise, BYTES, BYTES, ends, ARRAY_LEN(ends));
    for (size_t i = 0; i + 1 < n; i++) {
        ck_assert_uint_ge(ends[i] - start, GEAR_MIN);
        ck_assert_uint_le(ends[i] - start, GEAR_MAX);
        start = ends[i];
    }
    /* 64 chunks of 1 MiB are expected, with a deviation of 4. */
    ck_assert_uint_gt(n, 44);
    ck_assert_uint_lt(n, 84);
}
END_TEST

START_TEST(cuts_do_not_depend_on_how_much_is_seen_at_once)
{
    size_t whole[256], pieces[256];
    const size_t bytes = 16 << 20;
    size_t n = cut_all(&gear, noise, bytes, bytes, whole, 256);
    ck_assert_uint_eq(cut_all(&gear, noise, bytes, 100003, pieces, 256), n);
    ck_assert_mem_eq(whole, pieces, n * sizeof *whole);
}
END_TEST

/* The rule, one byte after the other. */
static size_t plain_cut(const struct gear *g, const uint8_t *data, size_t n)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < n && i < GEAR_MAX; i++) {
        hash = (hash << 1) + g->table[data[i]];
        if (i + 1 >= GEAR_MIN && !(hash >> (64 - GEAR_MASK_BITS)))
            return i + 1;
    }
    return n < GEAR_MAX ? n : GEAR_MAX;
}

START_TEST(two_lanes_cut_where_one_does)
{
    size_t ends[256], start = 0;
    for (size_t step = 1 << 10; step < 8 << 20; step = step * 5 + 1) {
        size_t n = cut_all(&gear, noise, 24 << 20, step, ends, ARRAY_LEN(ends));
        start = 0;
        for (size_t i = 0; i < n; i++) {
            ck_assert_uint_eq(
                ends[i], start + plain_cut(&gear, noise + start, (24 << 20) - start));
            start = ends[i];
        }
    }
}
END_TEST

START_TEST(an_insertion_changes_few_chunks)
{
    const size_t bytes = 32 << 20, shift = 7;
    size_t before[256], after[256], same = 0;
    uint8_t *moved = mem_alloc(bytes + shift);
    memset(moved, 'x', shift);
    memcpy(moved + shift, noise, bytes);
    size_t n = cut_all(&gear, noise, bytes, bytes, before, 256);
    size_t m = cut_all(&gear, moved, bytes + shift, bytes, after, 256);
    for (size_t i = 0, j = 0; i < n && j < m;) {
        if (before[i] + shift == after[j]) {
            same++;
            i++;
            j++;
        } else if (before[i] + shift < after[j]) {
            i++;
        } else {
            j++;
        }
    }
    ck_assert_uint_ge(same + 3, n);
    free(moved);
}
END_TEST

START_TEST(another_secret_cuts_elsewhere)
{
    const struct digest secret = {{9}};
    struct gear other;
    size_t a[256], b[256], same = 0;
    gear_init(&other, &secret);
    size_t n = cut_all(&gear, noise, 16 << 20, 16 << 20, a, 256);
    size_t m = cut_all(&other, noise, 16 << 20, 16 << 20, b, 256);
    for (size_t i = 0; i + 1 < n; i++)
        for (size_t j = 0; j + 1 < m; j++)
            same += a[i] == b[j];
    ck_assert_uint_le(same, 1);
}
END_TEST

START_TEST(zeros_are_cut_alike)
{
    size_t ends[64];
    AUTO(str) char *zeros = mem_zalloc(32 << 20);
    size_t n = cut_all(&gear, (uint8_t *)zeros, 32 << 20, 32 << 20, ends, 64);
    for (size_t i = 1; i < n; i++)
        ck_assert_uint_eq(ends[i] - ends[i - 1], ends[0]);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("gear");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, chunks_keep_the_limits_and_the_mean);
    tcase_add_test(tc, cuts_do_not_depend_on_how_much_is_seen_at_once);
    tcase_add_test(tc, two_lanes_cut_where_one_does);
    tcase_add_test(tc, an_insertion_changes_few_chunks);
    tcase_add_test(tc, another_secret_cuts_elsewhere);
    tcase_add_test(tc, zeros_are_cut_alike);
    return suite_main("engine gear", tc);
}
