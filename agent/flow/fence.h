/* The highest token seen per freeze domain (I3), and the pinned incarnation. Pure. */
#ifndef AGENT_FLOW_FENCE_H
#define AGENT_FLOW_FENCE_H

#include "common/model/cut.h"

enum { FENCE_MAX_DOMAINS = 512 };

struct fence_entry {
    struct domain_id domain;
    struct token token;
};

struct fence {
    struct fence_entry domains[FENCE_MAX_DOMAINS];
    size_t n_domains;
    uint8_t incarnation[16]; /* pinned by the first token; all zero before */
};

/* NULL when `token` may act on `domain`: STALE_TOKEN when a higher one has been here,
 * CONFLICT when it is of another incarnation, LIMIT when the table is full. */
struct err *fence_check(const struct fence *f, const struct domain_id *domain,
                        const struct token *token) MUST_USE;
/* CONFLICT unless `token` is of the pinned incarnation (or none is pinned yet). */
struct err *fence_check_incarnation(const struct fence *f,
                                    const struct token *token) MUST_USE;
/* Remembers the token. Needs: fence_check said yes. */
void fence_raise(struct fence *f, const struct domain_id *domain,
                 const struct token *token);
/* Pins the incarnation of the token, if none is. */
void fence_pin(struct fence *f, const struct token *token);

#endif
