#include "common/rpc/identity.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>

#include "common/base/mem.h"

static const struct {
    unsigned role;
    const char *name;
} roles[] = {
    {RPC_COORDINATOR, "coordinator"},
    {RPC_AGENT, "agent"},
    {RPC_OPERATOR, "operator"},
};

const char *rpc_role_name(unsigned role)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (roles[i].role & role)
            return roles[i].name;
    return "nobody";
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Copies n characters if they are a name. */
static bool take_name(const char *s, size_t n, char out[RPC_NAME_MAX + 1])
{
    if (n == 0 || n > RPC_NAME_MAX || !is_alphanumeric(s[0]) ||
        !is_alphanumeric(s[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_alphanumeric(s[i]) && s[i] != '.' && s[i] != '-')
            return false;
    memcpy(out, s, n);
    out[n] = '\0';
    return true;
}

static unsigned take_role(const char *s, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strlen(roles[i].name) == n && memcmp(s, roles[i].name, n) == 0)
            return roles[i].role;
    return 0;
}

struct err *rpc_identity_parse(const char *uri, struct rpc_identity *out)
{
    static const char scheme[] = "spiffe://";
    const char *cluster = uri + strlen(scheme);
    if (strncmp(uri, scheme, strlen(scheme)) != 0)
        return err_new(ERR_INVALID, "identity \"%s\" does not begin with %s", uri,
                       scheme);
    const char *role = strchr(cluster, '/');
    const char *name = role ? strchr(role + 1, '/') : NULL;
    if (!name)
        return err_new(ERR_INVALID, "identity \"%s\" is not <cluster>/<role>/<name>",
                       uri);
    if (!take_name(cluster, (size_t)(role - cluster), out->cluster))
        return err_new(ERR_INVALID, "identity \"%s\" has a bad cluster", uri);
    out->role = take_role(role + 1, (size_t)(name - role - 1));
    if (!out->role)
        return err_new(ERR_INVALID, "identity \"%s\" has an unknown role", uri);
    if (!take_name(name + 1, strlen(name + 1), out->name))
        return err_new(ERR_INVALID, "identity \"%s\" has a bad name", uri);
    return NULL;
}

char *rpc_identity_text(const struct rpc_identity *id)
{
    return mem_printf("spiffe://%s/%s/%s", id->cluster, rpc_role_name(id->role),
                      id->name);
}

DEFINE_AUTO(x509, X509 *, X509_free);
DEFINE_AUTO(bio, BIO *, BIO_free_all);
DEFINE_AUTO(names, GENERAL_NAMES *, GENERAL_NAMES_free);

static struct err *check_leaf(X509 *cert)
{
    /* -1 as path length and no CA flag; "possible CA" of old versions counts as one. */
    if (X509_check_ca(cert) != 0)
        return err_new(ERR_DENIED, "certificate is an authority's");
    if (X509_get_key_usage(cert) != UINT32_MAX &&
        (X509_get_key_usage(cert) & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)))
        return err_new(ERR_DENIED, "certificate may sign others");
    return NULL;
}

/* The only URI among the alternative names; borrowed from them. */
static struct err *only_uri(const GENERAL_NAMES *names, const char **out)
{
    int found = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const ASN1_STRING *s = name->d.uniformResourceIdentifier;
        *out = (const char *)ASN1_STRING_get0_data(s);
        /* A NUL inside would let the text differ from what the authority signed. */
        if (strlen(*out) != (size_t)ASN1_STRING_length(s))
            return err_new(ERR_DENIED, "certificate has a URI with a NUL");
        found++;
    }
    if (found != 1)
        return err_new(ERR_DENIED, "certificate has %d URI names instead of one", found);
    return NULL;
}

struct err *rpc_identity_from_pem(const char *pem, size_t len, struct rpc_identity *out)
{
    AUTO(bio) BIO *bio = BIO_new_mem_buf(pem, (int)len);
    AUTO(x509) X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (!cert)
        return err_new(ERR_DENIED, "not a certificate");
    TRY(check_leaf(cert));
    AUTO(names)
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    if (!names)
        return err_new(ERR_DENIED, "certificate has no alternative names");
    const char *uri = NULL;
    TRY(only_uri(names, &uri));
    struct err *e = rpc_identity_parse(uri, out);
    if (e)
        e->kind = ERR_DENIED;
    return e;
}
