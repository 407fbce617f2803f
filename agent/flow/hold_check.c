/* The invariants of a hold, by their numbers in hold.h. */
#include <assert.h>

#include "agent/flow/hold.h"

static bool may_be_frozen(const struct hold_domain *d)
{
    return d->sm.state == HOLD_D_FREEZING || d->sm.state == HOLD_D_FROZEN ||
           d->sm.state == HOLD_D_THAWING;
}

static void check_domain(const struct hold *h, const struct hold_domain *d)
{
    bool running = h->sm.state >= HOLD_FREEZING && h->sm.state <= HOLD_CAPTURING;
    bool stopped = d->sm.state == HOLD_D_FREEZING || d->sm.state == HOLD_D_FROZEN;
    assert(!stopped || d->breach != HOLD_UNBROKEN || running); /* 1 */
    assert(h->sm.state != HOLD_ENDED || !may_be_frozen(d));    /* 4 */
    assert(!d->has_epoch ||
           (d->sm.state != HOLD_D_IDLE && d->sm.state != HOLD_D_UNFROZEN)); /* 5 */
}

static void check_order(const struct hold *h)
{
    if (h->sm.state != HOLD_FREEZING)
        return;
    int waits = HOLD_FSFREEZE + 1; /* the earliest kind that is asked for and IDLE */
    for (unsigned i = 0; i < h->n_domains; i++) {
        const struct hold_domain *d = &h->domains[i];
        if (d->asked && d->sm.state == HOLD_D_IDLE && (int)d->kind < waits)
            waits = d->kind;
    }
    for (unsigned i = 0; i < h->n_domains; i++) {
        const struct hold_domain *d = &h->domains[i];
        bool freezing = d->sm.state == HOLD_D_FREEZING;
        bool frozen = d->kind == HOLD_FSFREEZE && may_be_frozen(d);
        assert(!(freezing || frozen) || waits >= (int)d->kind); /* 2 */
    }
}

void hold_check(const struct hold *h)
{
    for (unsigned i = 0; i < h->n_domains; i++)
        check_domain(h, &h->domains[i]);
    check_order(h);
    for (unsigned i = 0; i < h->n_members; i++) {
        const struct hold_member *m = &h->members[i];
        const struct hold_domain *d = &h->domains[m->domain];
        if (m->sm.state == HOLD_M_KEPT) {
            assert(d->sm.state == HOLD_D_THAWED && d->breach == HOLD_UNBROKEN); /* 3 */
            assert(d->rechecked && d->frozen_at_ns <= m->captured_at_ns);
            assert(m->captured_at_ns <= d->thawed_at_ns);
        }
        assert(h->sm.state != HOLD_ENDED || !m->exists || m->leaked); /* 4 */
    }
}
