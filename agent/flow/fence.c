#include "agent/flow/fence.h"

#include <assert.h>
#include <string.h>

#include "common/base/hex.h"

static const uint8_t nothing[16];

static bool is_pinned(const struct fence *f)
{
    return memcmp(f->incarnation, nothing, sizeof nothing) != 0;
}

struct err *fence_check_incarnation(const struct fence *f, const struct token *token)
{
    if (!token_is_set(token))
        return err_new(ERR_INVALID, "token: revision must be above 0");
    if (!is_pinned(f) ||
        memcmp(f->incarnation, token->incarnation, sizeof f->incarnation) == 0)
        return NULL;
    char have[33], got[33];
    hex_encode(f->incarnation, sizeof f->incarnation, have);
    hex_encode(token->incarnation, sizeof token->incarnation, got);
    return err_new(
        ERR_CONFLICT,
        "the metadata store's incarnation is %s, this agent has pinned %s: if etcd "
        "was restored or replaced, an operator must let the agent adopt it",
        got, have);
}

static size_t position(const struct fence *f, const struct domain_id *domain)
{
    size_t i = 0;
    while (i < f->n_domains && strcmp(f->domains[i].domain.text, domain->text) != 0)
        i++;
    return i;
}

struct err *fence_check(const struct fence *f, const struct domain_id *domain,
                        const struct token *token)
{
    TRY(fence_check_incarnation(f, token));
    size_t i = position(f, domain);
    if (i == FENCE_MAX_DOMAINS)
        return err_new(ERR_LIMIT, "more than %d freeze domains on one node",
                       FENCE_MAX_DOMAINS);
    if (i < f->n_domains && token_compare(token, &f->domains[i].token) == TOKEN_OLDER)
        return err_new(ERR_STALE_TOKEN,
                       "domain '%s' has obeyed token %lld, newer than %lld", domain->text,
                       (long long)f->domains[i].token.revision,
                       (long long)token->revision);
    return NULL;
}

void fence_raise(struct fence *f, const struct domain_id *domain,
                 const struct token *token)
{
    size_t i = position(f, domain);
    assert(i < FENCE_MAX_DOMAINS);
    if (i == f->n_domains)
        f->domains[f->n_domains++] = (struct fence_entry){.domain = *domain};
    assert(token_compare(token, &f->domains[i].token) != TOKEN_OLDER);
    f->domains[i].token = *token;
    fence_pin(f, token);
}

void fence_pin(struct fence *f, const struct token *token)
{
    if (!is_pinned(f))
        memcpy(f->incarnation, token->incarnation, sizeof f->incarnation);
}
