#include "common/etcd/selfsigned.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"

enum { LIFE_DAYS = 20 * 365, SERIAL_BYTES = 16 };

DEFINE_AUTO(self_x509, X509 *, X509_free);
DEFINE_AUTO(self_key, EVP_PKEY *, EVP_PKEY_free);
DEFINE_AUTO(self_bio, BIO *, BIO_free_all);

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = ext && X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    return ok;
}

static bool set_serial(X509 *cert)
{
    unsigned char bytes[SERIAL_BYTES];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *n = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return ok;
}

static bool fill(X509 *cert, EVP_PKEY *key)
{
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -60) &&
           X509_time_adj_ex(X509_getm_notAfter(cert), LIFE_DAYS, 0, NULL) &&
           X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC,
                                      (const unsigned char *)"stillpoint-etcd", -1, -1,
                                      0) &&
           X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
           add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(cert, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth,clientAuth") &&
           add_extension(cert, NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost") &&
           X509_sign(cert, key, EVP_sha256()) > 0;
}

/* Durable and never half there: the file appears with its whole content. */
static struct err *store(const char *path, BIO *text)
{
    char *bytes;
    long n = BIO_get_mem_data(text, &bytes);
    AUTO(str) char *temporary = mem_printf("%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_os(errno, "create '%s'", temporary);
    ssize_t put = write(fd, bytes, (size_t)n);
    int os = put < 0 ? errno : put < n ? ENOSPC : fsync(fd) < 0 ? errno : 0;
    if (close(fd) < 0 && !os)
        os = errno;
    if (!os && rename(temporary, path) < 0)
        os = errno;
    return os ? err_os(os, "write '%s'", path) : NULL;
}

struct err *selfsigned_make(const char *cert_path, const char *key_path)
{
    /* The certificate is stored last: if it is there, so is its key. */
    if (access(cert_path, R_OK) == 0 && access(key_path, R_OK) == 0)
        return NULL;
    AUTO(self_key) EVP_PKEY *key = EVP_EC_gen("P-256");
    AUTO(self_x509) X509 *cert = X509_new();
    AUTO(self_bio) BIO *key_text = BIO_new(BIO_s_mem());
    AUTO(self_bio) BIO *cert_text = BIO_new(BIO_s_mem());
    if (!key || !cert || !fill(cert, key) ||
        !PEM_write_bio_PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) ||
        !PEM_write_bio_X509(cert_text, cert))
        return err_new(ERR_IO, "cannot make a certificate");
    TRY(store(key_path, key_text));
    return store(cert_path, cert_text);
}
