/* Signatures by the keys of certificates (Ed25519; ECDSA or RSA with SHA-256), and who
 * made them: the same certificates by which processes know each other, so that a proof
 * can be checked with nothing but the cluster's authority at hand. Any thread. */
#ifndef COMMON_SIGN_SIGNER_H
#define COMMON_SIGN_SIGNER_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/model/cut.h"
#include "common/rpc/identity.h"
#include "common/rpc/rpc.h"
#include "stillpoint/v1/records.pb-c.h"

enum {
    SIGNER_CHAIN = 4,                /* certificates: the signer's and those above it */
    SIGNER_CERTIFICATE_BYTES = 8192, /* of one */
};

/* Who signs: a private key and its certificates. */
struct signer;
/* Reads the files that TLS uses, once. Errors as rpc_pems_load; LIMIT: more than
 * SIGNER_CHAIN certificates. */
struct err *signer_open(const struct rpc_tls *tls, const char *cluster,
                        struct signer **out) MUST_USE;
void signer_close(struct signer *s);
DEFINE_AUTO(signer, struct signer *, signer_close);
/* "spiffe://<cluster>/<role>/<name>"; borrowed. */
const char *signer_id(const struct signer *s);
/* DENIED: at `unix_ms`, which this machine's clock shows, its certificate is not valid
 * yet or any more, so nobody is going to be believed, nor to believe it. */
struct err *signer_check_time(const struct signer *s, int64_t unix_ms) MUST_USE;
/* A heap message with id and certificates, for wire_free. */
Stillpoint__V1__Signer *signer_to_pb(const struct signer *s) MUST_USE;
/* IO: the library refuses, for example a kind of key that cannot sign. */
struct err *signer_sign(const struct signer *s, const void *text, size_t n,
                        struct signature *out) MUST_USE;

/* Whom to believe: the authorities of one cluster. */
struct trust;
/* From a PEM file of one or more certificates. INVALID: it holds none. */
struct err *trust_open(const char *ca_file, const char *cluster,
                       struct trust **out) MUST_USE;
void trust_close(struct trust *t);
DEFINE_AUTO(trust, struct trust *, trust_close);

/* Somebody whose certificate an authority vouches for. */
struct peer;
/* DENIED: not vouched for at that time, of another cluster, not of `role`, or not the
 * one that the message names. `unix_ms`: when it signed. */
struct err *trust_peer(const struct trust *t, const Stillpoint__V1__Signer *m,
                       unsigned role, int64_t unix_ms, struct peer **out) MUST_USE;
void peer_close(struct peer *p);
DEFINE_AUTO(peer, struct peer *, peer_close);
/* The name in its identity; borrowed. */
const char *peer_name(const struct peer *p);
/* CORRUPT unless this peer signed exactly these bytes. */
struct err *peer_check(const struct peer *p, const void *text, size_t n,
                       const struct signature *sig) MUST_USE;

#endif
