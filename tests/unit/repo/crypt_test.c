#include "common/repo/crypt.h"

#include <string.h>

#include "common/base/hash.h"
#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/repo/keyfile.h"
#include "common/repo/poly.h"
#include "tests/unit/suite.h"

static void unhex(const char *text, void *out)
{
    ck_assert(hex_decode(text, out, strlen(text) / 2));
}

static void check_hex(const void *bytes, const char *want)
{
    char got[512];
    hex_encode(bytes, strlen(want) / 2, got);
    ck_assert_str_eq(got, want);
}

/* NIST SP 800-38A, F.5.5 CTR-AES256.Encrypt. */
START_TEST(ciphertext_is_nists)
{
    struct crypt_key key = {0};
    uint8_t iv[16], plain[64], sealed[64 + CRYPT_OVERHEAD];
    unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
          key.encrypt);
    unhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", iv);
    unhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
          "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
          plain);
    AUTO(crypt) struct crypt *c = crypt_new(&key);
    crypt_seal_iv(c, iv, plain, sizeof plain, sealed);
    check_hex(sealed, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    check_hex(sealed + CRYPT_IV,
              "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
              "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6");
}
END_TEST

/* RFC 8439, 2.5.2. */
START_TEST(poly1305_is_the_rfcs)
{
    uint8_t key[32], tag[CRYPT_TAG];
    static const char text[] = "Cryptographic Forum Research Group";
    unhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b", key);
    crypt_poly1305(key, text, strlen(text), tag);
    check_hex(tag, "a8061dc1305136c6c22b8baf0c0127a9");
}
END_TEST

/* D. J. Bernstein, The Poly1305-AES message-authentication code, appendix B: k, r, n and
 * the message f3 f6. The message here is a ciphertext, so the plaintext is chosen to give
 * it: keystream xor f3 f6. */
START_TEST(tag_is_poly1305_aes_of_the_ciphertext)
{
    struct crypt_key key = {0};
    uint8_t iv[16], plain[2] = {0}, sealed[2 + CRYPT_OVERHEAD];
    unhex("ec074c835580741701425b623235add6", key.mac_k);
    unhex("851fc40c3467ac0be05cc20404f3f700", key.mac_r);
    unhex("fb447350c4e868c52ac3275cf9d4327e", iv);
    AUTO(crypt) struct crypt *c = crypt_new(&key);
    crypt_seal_iv(c, iv, plain, sizeof plain, sealed);
    plain[0] = sealed[CRYPT_IV] ^ 0xf3;
    plain[1] = sealed[CRYPT_IV + 1] ^ 0xf6;
    crypt_seal_iv(c, iv, plain, sizeof plain, sealed);
    check_hex(sealed + CRYPT_IV, "f3f6f4c633c3044fc145f84f335cb81953de");
}
END_TEST

START_TEST(any_flipped_bit_is_refused)
{
    struct crypt_key key;
    uint8_t sealed[5 + CRYPT_OVERHEAD], plain[5];
    crypt_random(&key, sizeof key);
    AUTO(crypt) struct crypt *c = crypt_new(&key);
    crypt_seal(c, "hello", 5, sealed);
    ck_ok(crypt_open(c, sealed, sizeof sealed, plain));
    ck_assert_mem_eq(plain, "hello", 5);
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 1;
        ck_err(crypt_open(c, sealed, sizeof sealed, plain), ERR_CORRUPT);
        sealed[i] ^= 1;
    }
    ck_err(crypt_open(c, sealed, CRYPT_OVERHEAD - 1, plain), ERR_CORRUPT);
}
END_TEST

START_TEST(ivs_differ)
{
    struct crypt_key key = {0};
    uint8_t a[1 + CRYPT_OVERHEAD], b[1 + CRYPT_OVERHEAD];
    AUTO(crypt) struct crypt *c = crypt_new(&key);
    crypt_seal(c, "x", 1, a);
    crypt_seal(c, "x", 1, b);
    ck_assert_mem_ne(a, b, CRYPT_IV);
}
END_TEST

/* Parts of odd lengths, so that blocks of both ciphers are cut. */
START_TEST(what_is_sealed_in_parts_opens_whole)
{
    enum { N = 1000 };
    struct crypt_key key;
    uint8_t plain[N], sealed[N + CRYPT_OVERHEAD], back[N];
    crypt_random(&key, sizeof key);
    crypt_random(plain, sizeof plain);
    AUTO(crypt) struct crypt *c = crypt_new(&key);
    crypt_seal_begin(c, sealed);
    for (size_t at = 0, step = 1; at < N; at += step, step = step * 3 % 101) {
        step = step < N - at ? step : N - at;
        crypt_seal_part(c, plain + at, step, sealed + CRYPT_IV + at);
    }
    crypt_seal_end(c, sealed + CRYPT_IV + N);
    ck_ok(crypt_open(c, sealed, sizeof sealed, back));
    ck_assert_mem_eq(back, plain, N);
}
END_TEST

START_TEST(a_key_file_opens_with_its_password_only)
{
    const struct crypt_cost cheap = {16, 1, 1};
    struct crypt_key master, got;
    AUTO_BUF struct buf json = {0};
    crypt_random(&master, sizeof master);
    ck_ok(keyfile_write("pass", 4, &cheap, &master, &json));
    ck_ok(keyfile_read(json.data, json.len, "pass", 4, &got));
    ck_assert_mem_eq(&got, &master, sizeof master);
    ck_err(keyfile_read(json.data, json.len, "pasS", 4, &got), ERR_DENIED);
    ck_err(keyfile_read("{}", 2, "pass", 4, &got), ERR_CORRUPT);
}
END_TEST

/* A hostile key file must not make the reader take gigabytes. */
START_TEST(absurd_scrypt_costs_are_refused)
{
    static const struct crypt_cost costs[] = {
        {0, 8, 1}, {3, 8, 1}, {1u << 31, 8, 1}, {1024, 0, 1}, {1024, 8, 1000}};
    uint8_t salt[CRYPT_SALT] = {0};
    struct crypt_key key;
    for (size_t i = 0; i < ARRAY_LEN(costs); i++)
        ck_err(crypt_kdf("p", 1, salt, &costs[i], &key), ERR_INVALID);
}
END_TEST

/* Small fields by hand: x^2+x+1, x^3+x+1 and x^4+x+1 are irreducible; x^2+1 = (x+1)^2,
 * x^4+x^2+1 = (x^2+x+1)^2. The last but one is the polynomial of restic's own tests. */
START_TEST(irreducible_polynomials_are_known)
{
    ck_assert(poly_is_irreducible(0x7));
    ck_assert(poly_is_irreducible(0xb));
    ck_assert(poly_is_irreducible(0x13));
    ck_assert(!poly_is_irreducible(0x5));
    ck_assert(!poly_is_irreducible(0x15));
    ck_assert(poly_is_irreducible(UINT64_C(0x3DA3358B4DC173)));
    ck_assert(!poly_is_irreducible(UINT64_C(0x3DA3358B4DC172)));
}
END_TEST

/* RFC 4231, test case 2. */
START_TEST(hmac_is_the_rfcs)
{
    struct digest d;
    hash_hmac("Jefe", 4, "what do ya want for nothing?", 28, &d);
    check_hex(d.b, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("crypt");
    tcase_add_test(tc, ciphertext_is_nists);
    tcase_add_test(tc, poly1305_is_the_rfcs);
    tcase_add_test(tc, tag_is_poly1305_aes_of_the_ciphertext);
    tcase_add_test(tc, any_flipped_bit_is_refused);
    tcase_add_test(tc, ivs_differ);
    tcase_add_test(tc, what_is_sealed_in_parts_opens_whole);
    tcase_add_test(tc, a_key_file_opens_with_its_password_only);
    tcase_add_test(tc, absurd_scrypt_costs_are_refused);
    tcase_add_test(tc, hmac_is_the_rfcs);
    tcase_add_test(tc, irreducible_polynomials_are_known);
    return suite_main("repo crypt", tc);
}
