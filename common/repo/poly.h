/* Irreducible polynomials over GF(2) of degree 53, for the config's chunker_polynomial:
 * stock restic refuses to open a repository without one. Pure. */
#ifndef COMMON_REPO_POLY_H
#define COMMON_REPO_POLY_H

#include <stdbool.h>
#include <stdint.h>

enum { POLY_DEGREE = 53 };

/* Bit i of `poly` is the coefficient of x^i. */
bool poly_is_irreducible(uint64_t poly);

#endif
