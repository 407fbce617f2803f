#include "common/base/hash.h"

#include <string.h>

#include "common/base/mem.h"
#include "tests/unit/suite.h"

static void check(const void *data, size_t n, const char *hex)
{
    struct digest d;
    char got[65];
    hash_bytes(data, n, &d);
    digest_hex(&d, got);
    ck_assert_str_eq(got, hex);
}

/* FIPS 180-4's examples, and the empty message. */
START_TEST(known_messages_have_their_digests)
{
    AUTO(str) char *million = mem_alloc(1000000);
    memset(million, 'a', 1000000);
    check("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check(million, 1000000,
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}
END_TEST

/* Every length around the block's, in one piece, in several, and beside another. HMAC
 * goes through the library, so it is an independent witness: its inner digest is of a key
 * block and the message. */
START_TEST(pieces_and_neighbours_change_nothing)
{
    enum { N = 300 };
    uint8_t data[N], other[N];
    for (int i = 0; i < N; i++) {
        data[i] = (uint8_t)(i * 7);
        other[i] = (uint8_t)(i * 11 + 3);
    }
    for (size_t n = 0; n <= N; n++) {
        for (size_t m = n % 3; m <= N; m += 13) {
            struct digest whole, beside, pieces, more_whole;
            struct hash *h = hash_new(), *p = hash_new();
            hash_bytes(data, n, &whole);
            hash_bytes(other, m, &more_whole);
            hash_add(h, other, m / 3);
            hash_bytes_beside(data, n, &beside, h, other + m / 3, m - m / 3);
            ck_assert(digest_equal(&beside, &whole));
            hash_end(h, &pieces);
            ck_assert(digest_equal(&pieces, &more_whole));
            hash_add(p, data, n / 2);
            hash_add(p, data + n / 2, n - n / 2);
            hash_end(p, &pieces);
            ck_assert(digest_equal(&pieces, &whole));
            struct hash *a = hash_new(), *b = hash_new();
            hash_add_two(a, data, n / 2, b, other, m / 3);
            hash_add_two(a, data + n / 2, n - n / 2, b, other + m / 3, m - m / 3);
            hash_end(a, &pieces);
            ck_assert(digest_equal(&pieces, &whole));
            hash_end(b, &pieces);
            ck_assert(digest_equal(&pieces, &more_whole));
        }
    }
}
END_TEST

START_TEST(the_library_agrees)
{
    for (size_t n = 0; n < 200; n++) {
        uint8_t message[64 + 200], outer[64 + 32], key[32];
        struct digest mac, inner, ours;
        memset(key, (int)n, sizeof key);
        for (size_t i = 0; i < n; i++)
            message[64 + i] = (uint8_t)(i * n);
        hash_hmac(key, sizeof key, message + 64, n, &mac);
        memset(message, 0x36, 64);
        memset(outer, 0x5c, 64);
        for (size_t i = 0; i < sizeof key; i++) {
            message[i] ^= key[i];
            outer[i] ^= key[i];
        }
        hash_bytes(message, 64 + n, &inner);
        memcpy(outer + 64, inner.b, sizeof inner.b);
        hash_bytes(outer, sizeof outer, &ours);
        ck_assert(digest_equal(&ours, &mac));
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("hash");
    tcase_add_test(tc, known_messages_have_their_digests);
    tcase_add_test(tc, pieces_and_neighbours_change_nothing);
    tcase_add_test(tc, the_library_agrees);
    return suite_main("base hash", tc);
}
