/* What is signed about a cut, and how anybody checks it: each part's proof by its agent,
 * the order of their answers by the coordinator, and set.json by the coordinator.
 * PROTOCOL.md, "Signatures", has the bytes. Any thread. */
#ifndef COMMON_SIGN_WITNESS_H
#define COMMON_SIGN_WITNESS_H

#include "common/sign/signer.h"

/* An agent signs what it is about to answer: sets the signature of each proof. */
struct err *witness_sign_proofs(const struct signer *s, Stillpoint__V1__Proof **proofs,
                                size_t n) MUST_USE;
/* A coordinator looks at such an answer. DENIED: the signer is not node `node`; CORRUPT:
 * a proof is not what it signed. */
struct err *witness_check_proofs(const struct trust *t, const Stillpoint__V1__Signer *m,
                                 const char *node, Stillpoint__V1__Proof *const *proofs,
                                 size_t n, int64_t unix_ms) MUST_USE;
/* The coordinator signs r->order, which has all but its signature, and names itself. */
struct err *witness_sign_order(const struct signer *s,
                               Stillpoint__V1__SetRecord *r) MUST_USE;
/* All signatures of a captured set's record, and that the order it tells is one: no
 * Commit was sent before the last Freeze was answered. The error names the part at fault.
 * What a relaxed set misses has no signature of its own: the order names it.
 * What record_prove says is not repeated here. */
struct err *witness_check_record(const struct trust *t,
                                 const Stillpoint__V1__SetRecord *r) MUST_USE;

/* The text of set.json.sig for these bytes of set.json; malloc. */
struct err *witness_seal(const struct signer *s, const void *json, size_t n,
                         char **out) MUST_USE;
/* Whether `seal` is a coordinator's for these bytes; who it was goes to *id (malloc), if
 * wanted. `unix_ms`: when it was made. */
struct err *witness_check_seal(const struct trust *t, const void *json, size_t n,
                               const void *seal, size_t seal_n, int64_t unix_ms,
                               char **id) MUST_USE;

#endif
