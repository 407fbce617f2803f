#include "common/model/cut.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static int by_domain(const void *a, const void *b)
{
    const struct domain_epoch *x = a;
    const struct domain_epoch *y = b;
    return strcmp(x->domain.text, y->domain.text);
}

void cut_sort(struct domain_epoch *epochs, size_t n)
{
    if (n > 0)
        qsort(epochs, n, sizeof *epochs, by_domain);
}

void cut_digest(const struct set_id *set, const struct domain_epoch *epochs, size_t n,
                struct digest *out)
{
    static const char context[] = "stillpoint epochs 1";
    struct hash *h = hash_new();
    hash_add(h, context, sizeof context);
    hash_add(h, set->text, strlen(set->text) + 1);
    for (size_t i = 0; i < n; i++) {
        assert(i == 0 || by_domain(&epochs[i - 1], &epochs[i]) <= 0);
        hash_add(h, epochs[i].domain.text, strlen(epochs[i].domain.text) + 1);
        hash_add(h, epochs[i].epoch.b, sizeof epochs[i].epoch.b);
    }
    hash_end(h, out);
}

static const struct domain_epoch *find(const struct domain_epoch *epochs, size_t n,
                                       const struct domain_id *domain)
{
    struct domain_epoch key = {.domain = *domain};
    return n ? bsearch(&key, epochs, n, sizeof *epochs, by_domain) : NULL;
}

static struct err *verify_one(const struct proof *p, const struct domain_epoch *epochs,
                              size_t n, const struct digest *digest)
{
    const char *node = p->node.text;
    const char *part = p->part.text;
    const struct domain_epoch *e = find(epochs, n, &p->domain);
    if (!e)
        return err_new(ERR_CORRUPT, "part '%s/%s': its domain '%s' is not in the cut",
                       node, part, p->domain.text);
    if (memcmp(e->epoch.b, p->epoch.b, sizeof p->epoch.b) != 0)
        return err_new(ERR_CORRUPT, "part '%s/%s': captured in another epoch of '%s'",
                       node, part, p->domain.text);
    if (!digest_equal(&p->epochs, digest))
        return err_new(ERR_CORRUPT,
                       "part '%s/%s': its digest is not that of the epochs of this cut",
                       node, part);
    if (!p->unbroken)
        return err_new(ERR_CORRUPT,
                       "part '%s/%s': its hold was broken before the capture", node,
                       part);
    if (p->frozen_at_ns <= 0 || p->captured_at_ns < p->frozen_at_ns ||
        p->thawed_at_ns < p->captured_at_ns)
        return err_new(ERR_CORRUPT,
                       "part '%s/%s': not frozen, captured and thawed in this order",
                       node, part);
    if (p->evidence == EVIDENCE_UNKNOWN)
        return err_new(ERR_CORRUPT, "part '%s/%s': no evidence of the freeze", node,
                       part);
    return NULL;
}

static bool same_part(const struct proof *a, const struct proof *b)
{
    return strcmp(a->node.text, b->node.text) == 0 &&
           strcmp(a->part.text, b->part.text) == 0;
}

static bool has_proof(const struct domain_id *domain, const struct proof *proofs,
                      size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(proofs[i].domain.text, domain->text) == 0)
            return true;
    return false;
}

struct err *cut_verify_parts(const struct set_id *set, const struct domain_epoch *epochs,
                             size_t n_epochs, const struct proof *proofs, size_t n_proofs)
{
    if (n_proofs == 0 || n_epochs == 0)
        return err_new(ERR_CORRUPT, "set '%s' has no proofs", set->text);
    for (size_t i = 1; i < n_epochs; i++)
        if (by_domain(&epochs[i - 1], &epochs[i]) >= 0)
            return err_new(ERR_CORRUPT, "domain '%s' is listed twice or out of order",
                           epochs[i].domain.text);
    struct digest digest;
    cut_digest(set, epochs, n_epochs, &digest);
    for (size_t i = 0; i < n_proofs; i++) {
        TRY(verify_one(&proofs[i], epochs, n_epochs, &digest));
        for (size_t k = 0; k < i; k++)
            if (same_part(&proofs[i], &proofs[k]))
                return err_new(ERR_CORRUPT, "part '%s/%s' has two proofs",
                               proofs[i].node.text, proofs[i].part.text);
    }
    return NULL;
}

struct err *cut_verify(const struct set_id *set, const struct domain_epoch *epochs,
                       size_t n_epochs, const struct proof *proofs, size_t n_proofs)
{
    TRY(cut_verify_parts(set, epochs, n_epochs, proofs, n_proofs));
    for (size_t i = 0; i < n_epochs; i++)
        if (!has_proof(&epochs[i].domain, proofs, n_proofs))
            return err_new(ERR_CORRUPT,
                           "domain '%s' was frozen but no part was captured in it",
                           epochs[i].domain.text);
    return NULL;
}
