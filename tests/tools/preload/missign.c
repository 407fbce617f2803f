/* Preloaded into an agent, it makes a liar of it: the signatures under its proofs are of
 * something else. What TLS signs stays as it is. */
#include <dlfcn.h>
#include <openssl/evp.h>
#include <string.h>

#define STATEMENT "stillpoint proof"

int EVP_DigestSign(EVP_MD_CTX *ctx, unsigned char *sig, size_t *n,
                   const unsigned char *text, size_t text_n)
{
    unsigned char other[sizeof STATEMENT - 1] = "something other";
    __typeof__(&EVP_DigestSign) real =
        (__typeof__(&EVP_DigestSign))dlsym(RTLD_NEXT, "EVP_DigestSign");
    if (text_n < sizeof other || memcmp(text, STATEMENT, sizeof other) != 0)
        return real(ctx, sig, n, text, text_n);
    return real(ctx, sig, n, other, sizeof other);
}
