/* A sound cut of up to nine nodes with one partition each, for tests to use or to
 * falsify: node i is "n<i>", its partition "db", its domain "n<i>/cgroup:db". */
#ifndef TESTS_UNIT_CUT_H
#define TESTS_UNIT_CUT_H

#include <stdio.h>
#include <string.h>

#include "common/model/cut.h"

enum { CUT_NODES = 3 };

struct cut {
    struct set_id set;
    struct token token;
    struct domain_epoch epochs[CUT_NODES];
    struct proof proofs[CUT_NODES];
};

/* The digest of the cut's epochs, into all of its proofs. */
static inline void cut_redigest(struct cut *c)
{
    struct digest all;
    cut_digest(&c->set, c->epochs, CUT_NODES, &all);
    for (size_t i = 0; i < CUT_NODES; i++)
        c->proofs[i].epochs = all;
}

static inline struct proof cut_proof(const struct cut *c, size_t i)
{
    struct proof p = {.token = c->token,
                      .boot_id = "0a0b0c0d-0000-4000-8000-000000000001",
                      .domain = c->epochs[i].domain,
                      .epoch = c->epochs[i].epoch,
                      .frozen_at_ns = 1000 + (int64_t)i,
                      .captured_at_ns = 2000 + (int64_t)i,
                      .thawed_at_ns = 3000 + (int64_t)i,
                      .unbroken = true,
                      .evidence = EVIDENCE_KERNEL,
                      .cut_unix_ms = 1700000000000};
    snprintf(p.node.text, sizeof p.node.text, "n%zu", i);
    snprintf(p.part.text, sizeof p.part.text, "db");
    capture_id_make(&c->set, &p.part, &p.capture);
    return p;
}

static inline void cut_make(struct cut *c)
{
    *c = (struct cut){.set = {"s1"}, .token = {.revision = 7}};
    memset(c->token.incarnation, 0x5a, sizeof c->token.incarnation);
    for (size_t i = 0; i < CUT_NODES; i++) {
        snprintf(c->epochs[i].domain.text, sizeof c->epochs[i].domain.text,
                 "n%zu/cgroup:db", i);
        memset(c->epochs[i].epoch.b, (int)(0x10 + i), sizeof c->epochs[i].epoch.b);
        c->proofs[i] = cut_proof(c, i);
    }
    cut_redigest(c);
}

#endif
