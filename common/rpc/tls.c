#include "common/rpc/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

enum { PEM_FILE_BYTES = 1 << 20 };

DEFINE_AUTO(pem_x509, X509 *, X509_free);
DEFINE_AUTO(pem_key, EVP_PKEY *, EVP_PKEY_free);
DEFINE_AUTO(pem_bio, BIO *, BIO_free_all);

static struct err *read_all(int fd, const char *path, struct buf *out)
{
    for (;;) {
        ssize_t n = read(fd, buf_room(out, 4096), 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_os(errno, "read '%s'", path);
        if (n == 0)
            return NULL;
        out->len += (size_t)n;
        if (out->len > PEM_FILE_BYTES)
            return err_new(ERR_INVALID, "'%s' is larger than %d bytes", path,
                           PEM_FILE_BYTES);
    }
}

static struct err *read_pem(const char *path, mode_t forbidden, char **out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_os(errno, "open '%s'", path);
    AUTO_BUF struct buf text;
    buf_init(&text);
    struct stat st;
    struct err *e = NULL;
    if (fstat(fd, &st) < 0)
        e = err_os(errno, "stat '%s'", path);
    else if (st.st_mode & forbidden)
        e = err_new(ERR_INVALID, "key '%s' may be read by others: chmod 0600", path);
    else
        e = read_all(fd, path, &text);
    close(fd);
    if (!e)
        buf_char(&text, '\0');
    if (!e)
        *out = buf_steal(&text);
    return e;
}

static struct err *check_pair(const struct rpc_tls *tls, const struct rpc_pems *p)
{
    AUTO(pem_bio) BIO *ca = BIO_new_mem_buf(p->ca, -1);
    AUTO(pem_bio) BIO *cert = BIO_new_mem_buf(p->cert, -1);
    AUTO(pem_bio) BIO *key = BIO_new_mem_buf(p->key, -1);
    AUTO(pem_x509) X509 *authority = PEM_read_bio_X509(ca, NULL, NULL, NULL);
    AUTO(pem_x509) X509 *leaf = PEM_read_bio_X509(cert, NULL, NULL, NULL);
    AUTO(pem_key) EVP_PKEY *pkey = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
    if (!authority)
        return err_new(ERR_INVALID, "'%s' holds no certificate", tls->ca);
    if (!leaf)
        return err_new(ERR_INVALID, "'%s' holds no certificate", tls->cert);
    if (!pkey)
        return err_new(ERR_INVALID, "'%s' holds no private key", tls->key);
    if (X509_check_private_key(leaf, pkey) != 1)
        return err_new(ERR_INVALID, "key '%s' does not belong to '%s'", tls->key,
                       tls->cert);
    return NULL;
}

static struct err *load(const struct rpc_tls *tls, const char *cluster,
                        struct rpc_pems *out)
{
    if (!tls->ca || !tls->cert || !tls->key)
        return err_new(ERR_INVALID, "tls needs ca, cert and key");
    TRY(read_pem(tls->ca, 0, &out->ca));
    TRY(read_pem(tls->cert, 0, &out->cert));
    TRY(read_pem(tls->key, S_IROTH | S_IWOTH, &out->key));
    TRY(check_pair(tls, out));
    TRY_CTX(rpc_identity_from_pem(out->cert, strlen(out->cert), &out->self), "'%s'",
            tls->cert);
    if (strcmp(out->self.cluster, cluster) != 0)
        return err_new(ERR_INVALID, "'%s' belongs to cluster \"%s\", not \"%s\"",
                       tls->cert, out->self.cluster, cluster);
    return NULL;
}

struct err *rpc_pems_load(const struct rpc_tls *tls, const char *cluster,
                          struct rpc_pems *out)
{
    *out = (struct rpc_pems){0};
    struct err *e = load(tls, cluster, out);
    if (e)
        rpc_pems_fini(out);
    return e;
}

void rpc_pems_fini(struct rpc_pems *p)
{
    if (p->key)
        OPENSSL_cleanse(p->key, strlen(p->key));
    free(p->ca);
    free(p->cert);
    free(p->key);
    *p = (struct rpc_pems){0};
}
