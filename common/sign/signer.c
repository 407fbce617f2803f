#include "common/sign/signer.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/rpc/tls.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"

struct signer {
    EVP_PKEY *key;
    Stillpoint__V1__Signer *self; /* id and certificates */
};

struct trust {
    X509_STORE *store;
    char cluster[RPC_NAME_MAX + 1];
};

struct peer {
    EVP_PKEY *key;
    struct rpc_identity id;
};

DEFINE_AUTO(sign_bio, BIO *, BIO_free_all);
DEFINE_AUTO(sign_x509, X509 *, X509_free);
DEFINE_AUTO(sign_md, EVP_MD_CTX *, EVP_MD_CTX_free);
DEFINE_AUTO(sign_store, X509_STORE_CTX *, X509_STORE_CTX_free);

/* Ed25519 has its digest inside. */
static const EVP_MD *digest_of(EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448") ? NULL
                                                                        : EVP_sha256();
}

/* ---- who signs ---- */

static struct err *add_certificate(Stillpoint__V1__Signer *m, X509 *cert)
{
    uint8_t *der = NULL;
    int n = i2d_X509(cert, &der);
    if (n <= 0 || n > SIGNER_CERTIFICATE_BYTES || m->n_certificates >= SIGNER_CHAIN) {
        OPENSSL_free(der);
        return err_new(ERR_LIMIT, "more than %d certificates, or one of over %d bytes",
                       SIGNER_CHAIN, SIGNER_CERTIFICATE_BYTES);
    }
    ProtobufCBinaryData *at = PB_APPEND(m, certificates);
    *at = (ProtobufCBinaryData){0};
    pb_set_bytes(at, der, (size_t)n);
    OPENSSL_free(der);
    return NULL;
}

static struct err *read_chain(const char *pem, Stillpoint__V1__Signer *m)
{
    AUTO(sign_bio) BIO *bio = BIO_new_mem_buf(pem, -1);
    for (;;) {
        AUTO(sign_x509) X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!cert)
            return NULL; /* the first has been read before */
        TRY(add_certificate(m, cert));
    }
}

/* Better told of now than when a cut is captured and cannot be proved. */
static struct err *try_key(const struct signer *s)
{
    struct signature unused;
    if (!s->key)
        return err_new(ERR_INVALID, "no private key");
    AUTO(err) struct err *cannot = signer_sign(s, "", 0, &unused);
    if (!cannot)
        return NULL;
    return err_new(
        ERR_INVALID,
        "its key (%s, %d bits) cannot sign proofs: make one of Ed25519, ECDSA, "
        "or RSA with at most %d bits",
        EVP_PKEY_get0_type_name(s->key), EVP_PKEY_get_bits(s->key), SIGNATURE_BYTES * 8);
}

struct err *signer_open(const struct rpc_tls *tls, const char *cluster,
                        struct signer **out)
{
    struct rpc_pems pems;
    TRY(rpc_pems_load(tls, cluster, &pems));
    AUTO(signer) struct signer *s = mem_zalloc(sizeof *s);
    s->self = mem_alloc(sizeof *s->self);
    stillpoint__v1__signer__init(s->self);
    s->self->id = rpc_identity_text(&pems.self);
    BIO *bio = BIO_new_mem_buf(pems.key, -1);
    s->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free_all(bio);
    struct err *e = read_chain(pems.cert, s->self);
    if (!e)
        e = try_key(s);
    rpc_pems_fini(&pems);
    TRY_CTX(e, "'%s'", tls->cert);
    *out = STEAL(s);
    return NULL;
}

void signer_close(struct signer *s)
{
    if (!s)
        return;
    EVP_PKEY_free(s->key);
    wire_free(&s->self->base);
    free(s);
}

const char *signer_id(const struct signer *s)
{
    return s->self->id;
}

static void time_text(const ASN1_TIME *t, char out[32])
{
    struct tm tm;
    if (ASN1_TIME_to_tm(t, &tm) != 1)
        tm = (struct tm){.tm_mday = 1};
    strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm);
}

struct err *signer_check_time(const struct signer *s, int64_t unix_ms)
{
    const ProtobufCBinaryData *own = &s->self->certificates[0];
    const uint8_t *at = own->data;
    AUTO(sign_x509) X509 *cert = d2i_X509(NULL, &at, (long)own->len);
    time_t now = unix_ms / 1000;
    char from[32], to[32], shown[32];
    struct tm tm;
    bool early = X509_cmp_time(X509_get0_notBefore(cert), &now) > 0;
    if (!early && X509_cmp_time(X509_get0_notAfter(cert), &now) > 0)
        return NULL;
    time_text(X509_get0_notBefore(cert), from);
    time_text(X509_get0_notAfter(cert), to);
    gmtime_r(&now, &tm);
    strftime(shown, sizeof shown, "%Y-%m-%d %H:%M:%S", &tm);
    return err_new(ERR_DENIED,
                   "the certificate of %s is valid from %s to %s UTC, and this machine's "
                   "clock shows %s: %s",
                   s->self->id, from, to, shown,
                   early ? "set the clock"
                         : "set the clock, or issue a new certificate if it is right");
}

Stillpoint__V1__Signer *signer_to_pb(const struct signer *s)
{
    return (Stillpoint__V1__Signer *)pb_copy(&s->self->base);
}

struct err *signer_sign(const struct signer *s, const void *text, size_t n,
                        struct signature *out)
{
    AUTO(sign_md) EVP_MD_CTX *md = EVP_MD_CTX_new();
    out->n = sizeof out->b;
    if (!md || EVP_DigestSignInit(md, NULL, digest_of(s->key), NULL, s->key) != 1 ||
        EVP_DigestSign(md, out->b, &out->n, text, n) != 1) {
        out->n = 0;
        return err_new(ERR_IO, "the key of '%s' cannot sign", s->self->id);
    }
    return NULL;
}

/* ---- whom to believe ---- */

static struct err *read_authorities(const char *file, X509_STORE *store)
{
    int found = 0;
    AUTO(sign_bio) BIO *bio = BIO_new_file(file, "r");
    if (!bio)
        return err_new(ERR_INVALID, "cannot be read");
    for (;; found++) {
        AUTO(sign_x509) X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!cert)
            break;
        if (X509_STORE_add_cert(store, cert) != 1)
            return err_new(ERR_INVALID, "certificate %d cannot be used", found + 1);
    }
    return found ? NULL : err_new(ERR_INVALID, "holds no certificate");
}

struct err *trust_open(const char *ca_file, const char *cluster, struct trust **out)
{
    AUTO(trust) struct trust *t = mem_zalloc(sizeof *t);
    t->store = X509_STORE_new();
    if (!t->store || strlen(cluster) > RPC_NAME_MAX)
        return err_new(ERR_INVALID, "cluster '%.80s': too long a name", cluster);
    memcpy(t->cluster, cluster, strlen(cluster) + 1);
    TRY_CTX(read_authorities(ca_file, t->store), "authority '%s'", ca_file);
    *out = STEAL(t);
    return NULL;
}

void trust_close(struct trust *t)
{
    if (!t)
        return;
    X509_STORE_free(t->store);
    free(t);
}

static X509 *certificate_from(const ProtobufCBinaryData *d)
{
    const uint8_t *at = d->data;
    if (d->len == 0 || d->len > SIGNER_CERTIFICATE_BYTES)
        return NULL;
    X509 *cert = d2i_X509(NULL, &at, (long)d->len);
    if (cert && at != d->data + d->len) { /* something behind it */
        X509_free(cert);
        return NULL;
    }
    return cert;
}

static struct err *check_chain(const struct trust *t, X509 *leaf, STACK_OF(X509) * above,
                               int64_t unix_ms)
{
    AUTO(sign_store) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (!ctx || X509_STORE_CTX_init(ctx, t->store, leaf, above) != 1)
        return err_new(ERR_IO, "no memory for a certificate");
    X509_STORE_CTX_set_time(ctx, 0, unix_ms / 1000);
    if (X509_verify_cert(ctx) == 1)
        return NULL;
    return err_new(ERR_DENIED, "its certificate is not vouched for: %s",
                   X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
}

static struct err *read_identity(X509 *leaf, struct rpc_identity *out)
{
    char *pem = NULL;
    AUTO(sign_bio) BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_X509(bio, leaf) != 1)
        return err_new(ERR_IO, "no memory for a certificate");
    long n = BIO_get_mem_data(bio, &pem);
    return rpc_identity_from_pem(pem, (size_t)n, out);
}

static struct err *check_identity(const struct trust *t, const Stillpoint__V1__Signer *m,
                                  unsigned role, const struct rpc_identity *id)
{
    AUTO(str) char *text = rpc_identity_text(id);
    if (strcmp(id->cluster, t->cluster) != 0)
        return err_new(ERR_DENIED, "'%s' is not of cluster '%s'", text, t->cluster);
    if (id->role != role)
        return err_new(ERR_DENIED, "'%s' is no %s", text, rpc_role_name(role));
    if (strcmp(text, m->id) != 0)
        return err_new(ERR_DENIED, "its certificate says '%s'", text);
    return NULL;
}

static struct err *vouched(const struct trust *t, const Stillpoint__V1__Signer *m,
                           X509 *leaf, STACK_OF(X509) * above, unsigned role,
                           int64_t unix_ms, struct peer **out)
{
    for (size_t i = 1; i < m->n_certificates; i++) {
        X509 *cert = certificate_from(&m->certificates[i]);
        if (!cert || sk_X509_push(above, cert) <= 0) {
            X509_free(cert);
            return err_new(ERR_DENIED, "its certificate %zu is none", i + 1);
        }
    }
    TRY(check_chain(t, leaf, above, unix_ms));
    AUTO(peer) struct peer *p = mem_zalloc(sizeof *p);
    TRY(read_identity(leaf, &p->id));
    TRY(check_identity(t, m, role, &p->id));
    p->key = X509_get_pubkey(leaf);
    if (!p->key)
        return err_new(ERR_DENIED, "its certificate has no usable key");
    *out = STEAL(p);
    return NULL;
}

struct err *trust_peer(const struct trust *t, const Stillpoint__V1__Signer *m,
                       unsigned role, int64_t unix_ms, struct peer **out)
{
    if (m->n_certificates == 0 || m->n_certificates > SIGNER_CHAIN)
        return err_new(ERR_DENIED, "signer '%.300s' has %zu certificates", m->id,
                       m->n_certificates);
    AUTO(sign_x509) X509 *leaf = certificate_from(&m->certificates[0]);
    if (!leaf)
        return err_new(ERR_DENIED, "signer '%.300s': not a certificate", m->id);
    STACK_OF(X509) *above = sk_X509_new_null();
    struct err *e = vouched(t, m, leaf, above, role, unix_ms, out);
    sk_X509_pop_free(above, X509_free);
    return e ? err_wrap(e, "signer '%.300s'", m->id) : NULL;
}

void peer_close(struct peer *p)
{
    if (!p)
        return;
    EVP_PKEY_free(p->key);
    free(p);
}

const char *peer_name(const struct peer *p)
{
    return p->id.name;
}

struct err *peer_check(const struct peer *p, const void *text, size_t n,
                       const struct signature *sig)
{
    AUTO(sign_md) EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (sig->n == 0)
        return err_new(ERR_CORRUPT, "not signed");
    if (!md || EVP_DigestVerifyInit(md, NULL, digest_of(p->key), NULL, p->key) != 1)
        return err_new(ERR_CORRUPT, "'%s' has a key that cannot sign", p->id.name);
    if (EVP_DigestVerify(md, sig->b, sig->n, text, n) != 1)
        return err_new(ERR_CORRUPT, "not what '%s' signed", p->id.name);
    return NULL;
}
