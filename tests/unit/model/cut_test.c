#include "common/model/cut.h"

#include "common/base/mem.h"
#include "tests/unit/cut.h"
#include "tests/unit/suite.h"

static struct err *verify(const struct cut *c)
{
    return cut_verify(&c->set, c->epochs, CUT_NODES, c->proofs, CUT_NODES);
}

START_TEST(a_sound_cut_is_accepted)
{
    struct cut c;
    cut_make(&c);
    ck_ok(verify(&c));
}
END_TEST

/* Each way of falsifying one proof or the list, and what must be said of it. */
static void other_domain(struct cut *c)
{
    strcpy(c->proofs[1].domain.text, "n1/cgroup:elsewhere");
}
static void other_epoch(struct cut *c)
{
    c->proofs[1].epoch.b[15] ^= 1;
}
static void other_digest(struct cut *c)
{
    c->proofs[1].epochs.b[31] ^= 1;
}
static void broken_hold(struct cut *c)
{
    c->proofs[1].unbroken = false;
}
static void never_frozen(struct cut *c)
{
    c->proofs[1].frozen_at_ns = 0;
}
static void captured_before_the_freeze(struct cut *c)
{
    c->proofs[1].captured_at_ns = c->proofs[1].frozen_at_ns - 1;
}
static void thawed_before_the_capture(struct cut *c)
{
    c->proofs[1].thawed_at_ns = c->proofs[1].captured_at_ns - 1;
}
static void no_evidence(struct cut *c)
{
    c->proofs[1].evidence = EVIDENCE_UNKNOWN;
}
static void part_twice(struct cut *c)
{
    c->proofs[1] = c->proofs[0];
}
static void domain_without_part(struct cut *c)
{
    c->proofs[1] = c->proofs[0];
    strcpy(c->proofs[1].part.text, "other");
}
static void domain_twice(struct cut *c)
{
    c->epochs[1] = c->epochs[0];
}
static void domains_out_of_order(struct cut *c)
{
    struct domain_epoch first = c->epochs[0];
    c->epochs[0] = c->epochs[1];
    c->epochs[1] = first;
}
static void other_set(struct cut *c)
{
    strcpy(c->set.text, "s2");
}

static const struct {
    void (*falsify)(struct cut *c);
    const char *says;
} forgeries[] = {
    {other_domain, "part 'n1/db': its domain 'n1/cgroup:elsewhere' is not in the cut"},
    {other_epoch, "part 'n1/db': captured in another epoch of 'n1/cgroup:db'"},
    {other_digest, "part 'n1/db': its digest is not that of the epochs of this cut"},
    {broken_hold, "part 'n1/db': its hold was broken before the capture"},
    {never_frozen, "part 'n1/db': not frozen, captured and thawed in this order"},
    {captured_before_the_freeze,
     "part 'n1/db': not frozen, captured and thawed in this order"},
    {thawed_before_the_capture,
     "part 'n1/db': not frozen, captured and thawed in this order"},
    {no_evidence, "part 'n1/db': no evidence of the freeze"},
    {part_twice, "part 'n0/db' has two proofs"},
    {domain_without_part,
     "domain 'n1/cgroup:db' was frozen but no part was captured in it"},
    {domain_twice, "domain 'n0/cgroup:db' is listed twice or out of order"},
    {domains_out_of_order, "domain 'n0/cgroup:db' is listed twice or out of order"},
    {other_set, "part 'n0/db': its digest is not that of the epochs of this cut"},
};

START_TEST(each_forgery_is_found_and_named)
{
    struct cut c;
    cut_make(&c);
    forgeries[_i].falsify(&c);
    AUTO(err) struct err *e = verify(&c);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_CORRUPT);
    AUTO(str) char *text = err_text(e);
    ck_assert_str_eq(text, forgeries[_i].says);
}
END_TEST

START_TEST(a_cut_of_nothing_is_none)
{
    struct cut c;
    cut_make(&c);
    ck_err(cut_verify(&c.set, c.epochs, CUT_NODES, NULL, 0), ERR_CORRUPT);
    ck_err(cut_verify(&c.set, NULL, 0, c.proofs, CUT_NODES), ERR_CORRUPT);
}
END_TEST

/* A part more in a domain that is frozen anyway needs no epoch of its own. */
START_TEST(two_parts_may_share_a_domain)
{
    struct cut c;
    cut_make(&c);
    struct proof proofs[CUT_NODES + 1];
    memcpy(proofs, c.proofs, sizeof c.proofs);
    proofs[CUT_NODES] = proofs[0];
    strcpy(proofs[CUT_NODES].part.text, "log");
    ck_ok(cut_verify(&c.set, c.epochs, CUT_NODES, proofs, CUT_NODES + 1));
}
END_TEST

START_TEST(the_digest_depends_on_everything_but_the_order_given)
{
    struct cut c;
    struct digest all, other;
    cut_make(&c);
    cut_digest(&c.set, c.epochs, CUT_NODES, &all);
    domains_out_of_order(&c);
    cut_sort(c.epochs, CUT_NODES);
    cut_digest(&c.set, c.epochs, CUT_NODES, &other);
    ck_assert(digest_equal(&all, &other));
    cut_digest(&c.set, c.epochs, CUT_NODES - 1, &other);
    ck_assert(!digest_equal(&all, &other));
    c.epochs[0].epoch.b[0] ^= 1;
    cut_digest(&c.set, c.epochs, CUT_NODES, &other);
    ck_assert(!digest_equal(&all, &other));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("cut");
    tcase_add_test(tc, a_sound_cut_is_accepted);
    tcase_add_loop_test(tc, each_forgery_is_found_and_named, 0, ARRAY_LEN(forgeries));
    tcase_add_test(tc, a_cut_of_nothing_is_none);
    tcase_add_test(tc, two_parts_may_share_a_domain);
    tcase_add_test(tc, the_digest_depends_on_everything_but_the_order_given);
    return suite_main("cut", tc);
}
