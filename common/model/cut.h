/* Epochs, their digest, and the proof of a cut (invariant I1). Causality, not clocks: an
 * epoch is drawn after its domain is frozen, and each proof names the digest of all
 * epochs, so every capture shows by itself that it came after every freeze. Pure.
 * PROTOCOL.md, "The proof". */
#ifndef COMMON_MODEL_CUT_H
#define COMMON_MODEL_CUT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/model/ids.h"
#include "common/model/token.h"

enum {
    CUT_MAX_PARTS = 2000
}; /* partitions of one set: one etcd record holds all proofs */

struct epoch {
    uint8_t b[16];
};

struct domain_epoch {
    struct domain_id domain;
    struct epoch epoch;
};

/* How strongly "it stayed frozen" is known. Numbers as in records.proto. */
enum evidence {
    EVIDENCE_UNKNOWN = 0,
    EVIDENCE_KERNEL = 1, /* cgroup: verified by the kernel's own state throughout */
    EVIDENCE_KERNEL_CURRENT =
        2,             /* fsfreeze: a foreign thaw and refreeze leaves no trace */
    EVIDENCE_HOOK = 3, /* the application's word */
};

/* Large enough for RSA with 4096 bits; those of ECDSA and Ed25519 are below 100. */
enum { SIGNATURE_BYTES = 512 };

struct signature {
    size_t n; /* 0: none */
    uint8_t b[SIGNATURE_BYTES];
};

/* Invariants: frozen_at_ns <= captured_at_ns <= thawed_at_ns, on one boot of one node. */
struct proof {
    struct node_id node;
    struct part_id part;
    struct token token;
    char boot_id[40];
    struct domain_id domain;
    struct epoch epoch;
    struct digest epochs; /* cut_digest of all members */
    int64_t frozen_at_ns; /* CLOCK_BOOTTIME of the node, as are the next two */
    int64_t captured_at_ns;
    int64_t thawed_at_ns;
    bool unbroken; /* the hold of `epoch` lasted from frozen_at to captured_at */
    enum evidence evidence;
    struct capture_id capture;
    int64_t cut_unix_ms; /* the coordinator's clock when all were frozen; for people */
    struct signature signature; /* carried along, not looked at here */
};

/* Sorts by domain, as the digest and every message list them. */
void cut_sort(struct domain_epoch *epochs, size_t n);
/* SHA-256 over the set's name and all (domain, epoch), in ascending order of domains.
 * Needs: sorted. */
void cut_digest(const struct set_id *set, const struct domain_epoch *epochs, size_t n,
                struct digest *out);
/* Whether these proofs show one cut: every proof unbroken and ordered, its (domain,
 * epoch) among `epochs`, its digest that of all of them, every domain covered by a proof,
 * no partition twice. CORRUPT, naming the first proof at fault and why, otherwise. Needs:
 * epochs sorted. */
struct err *cut_verify(const struct set_id *set, const struct domain_epoch *epochs,
                       size_t n_epochs, const struct proof *proofs,
                       size_t n_proofs) MUST_USE;
/* The same, but a domain may have no proof: it was frozen with the others, and what was
 * captured in it does not count (relaxed sets). What is proved came after its freeze all
 * the same. */
struct err *cut_verify_parts(const struct set_id *set, const struct domain_epoch *epochs,
                             size_t n_epochs, const struct proof *proofs,
                             size_t n_proofs) MUST_USE;

#endif
