#include "common/repo/poly.h"

static int degree(uint64_t p)
{
    return p ? 63 - __builtin_clzll(p) : -1;
}

static uint64_t mod(uint64_t a, uint64_t p)
{
    int d = degree(p);
    while (degree(a) >= d)
        a ^= p << (degree(a) - d);
    return a;
}

static uint64_t multiply_mod(uint64_t a, uint64_t b, uint64_t p)
{
    uint64_t out = 0;
    for (; b; b >>= 1) {
        if (b & 1)
            out ^= a;
        a = mod(a << 1, p);
    }
    return out;
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = mod(a, b);
        a = b;
        b = rest;
    }
    return a;
}

/* Ben-Or: p of degree n is irreducible iff gcd(p, x^(2^i) - x) = 1 for i = 1…n/2. */
bool poly_is_irreducible(uint64_t poly)
{
    int n = degree(poly);
    if (n < 2 || n > POLY_DEGREE)
        return false;
    uint64_t power = 2; /* x^(2^i) mod p */
    for (int i = 1; i <= n / 2; i++) {
        power = multiply_mod(power, power, poly);
        if (gcd(poly, power ^ 2) != 1)
            return false;
    }
    return true;
}
