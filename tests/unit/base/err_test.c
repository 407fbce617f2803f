#include "common/base/err.h"

#include <errno.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "tests/unit/suite.h"

static struct err *deep(void)
{
    return err_os(ENOSPC, "write '%s'", "pack");
}

static struct err *middle(void)
{
    TRY_CTX(deep(), "store blob");
    return NULL;
}

START_TEST(wrapping_keeps_kind_and_errno)
{
    struct err *e = middle();
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_NO_SPACE);
    ck_assert_int_eq(e->os, ENOSPC);
    AUTO(str) char *text = err_text(e);
    ck_assert_str_eq(text, "store blob: write 'pack': No space left on device");
    err_free(e);
}
END_TEST

/* The vector is FIPS 180-4's "abc". */
START_TEST(digest_matches_the_standard_vector)
{
    struct digest whole, pieces;
    hash_bytes("abc", 3, &whole);
    struct hash *h = hash_new();
    hash_add(h, "a", 1);
    hash_add(h, "bc", 2);
    hash_end(h, &pieces);
    char hex[65];
    digest_hex(&whole, hex);
    ck_assert_str_eq(hex,
                     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ck_assert(digest_equal(&whole, &pieces));
    struct digest parsed;
    ck_assert(digest_parse(hex, &parsed));
    ck_assert(digest_equal(&whole, &parsed));
    hex[63] = 'g';
    ck_assert(!digest_parse(hex, &parsed));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("err");
    tcase_add_test(tc, wrapping_keeps_kind_and_errno);
    tcase_add_test(tc, digest_matches_the_standard_vector);
    return suite_main("err", tc);
}
