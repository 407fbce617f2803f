#include "agent/flow/hold.h"

#include <assert.h>
#include <string.h>

#include "common/base/attr.h"

static const struct sm_state hold_states[] = {
    [HOLD_ARMING] = {"arming", SM_INITIAL, SM_TO(HOLD_ARMED) | SM_TO(HOLD_ENDING)},
    [HOLD_ARMED] = {"armed", 0, SM_TO(HOLD_FREEZING) | SM_TO(HOLD_ENDING)},
    [HOLD_FREEZING] = {"freezing", 0, SM_TO(HOLD_FROZEN) | SM_TO(HOLD_ENDING)},
    [HOLD_FROZEN] = {"frozen", 0,
                     SM_TO(HOLD_FREEZING) | SM_TO(HOLD_CAPTURING) | SM_TO(HOLD_ENDING)},
    [HOLD_CAPTURING] = {"capturing", 0, SM_TO(HOLD_DONE) | SM_TO(HOLD_ENDING)},
    [HOLD_DONE] = {"done", 0, SM_TO(HOLD_ENDING)},
    [HOLD_ENDING] = {"ending", 0, SM_TO(HOLD_ENDED)},
    [HOLD_ENDED] = {"ended", SM_FINAL, 0},
};

static const struct sm_state domain_states[] = {
    [HOLD_D_IDLE] = {"idle", SM_INITIAL, SM_TO(HOLD_D_FREEZING) | SM_TO(HOLD_D_UNFROZEN)},
    [HOLD_D_FREEZING] = {"freezing", 0,
                         SM_TO(HOLD_D_FROZEN) | SM_TO(HOLD_D_THAWING) |
                             SM_TO(HOLD_D_UNFROZEN)},
    [HOLD_D_FROZEN] = {"frozen", 0, SM_TO(HOLD_D_THAWING)},
    [HOLD_D_THAWING] = {"thawing", 0, SM_TO(HOLD_D_THAWED)},
    [HOLD_D_THAWED] = {"thawed", SM_FINAL, 0},
    [HOLD_D_UNFROZEN] = {"unfrozen", SM_FINAL, 0},
};

static const struct sm_state member_states[] = {
    [HOLD_M_IDLE] = {"idle", SM_INITIAL, SM_TO(HOLD_M_CAPTURING) | SM_TO(HOLD_M_LOST)},
    [HOLD_M_CAPTURING] = {"capturing", 0, SM_TO(HOLD_M_CAPTURED) | SM_TO(HOLD_M_LOST)},
    [HOLD_M_CAPTURED] = {"captured", 0, SM_TO(HOLD_M_VERIFIED) | SM_TO(HOLD_M_LOST)},
    [HOLD_M_VERIFIED] = {"verified", 0, SM_TO(HOLD_M_PUBLISHING) | SM_TO(HOLD_M_LOST)},
    [HOLD_M_PUBLISHING] = {"publishing", 0, SM_TO(HOLD_M_KEPT) | SM_TO(HOLD_M_LOST)},
    [HOLD_M_KEPT] = {"kept", 0, SM_TO(HOLD_M_LOST)},
    [HOLD_M_LOST] = {"lost", SM_FINAL, 0},
};

/* ---- Small questions ---- */

static bool domain_may_be_frozen(const struct hold_domain *d)
{
    return d->sm.state == HOLD_D_FREEZING || d->sm.state == HOLD_D_FROZEN ||
           d->sm.state == HOLD_D_THAWING;
}

static bool domain_is_open(const struct hold_domain *d)
{
    return d->sm.state == HOLD_D_FROZEN && d->breach == HOLD_UNBROKEN;
}

static bool hold_is_over(const struct hold *h)
{
    return h->sm.state == HOLD_ENDING || h->sm.state == HOLD_ENDED;
}

bool hold_is_frozen(const struct hold *h)
{
    for (unsigned i = 0; i < h->n_domains; i++)
        if (domain_may_be_frozen(&h->domains[i]))
            return true;
    return false;
}

bool hold_member_is_kept(const struct hold *h, unsigned member)
{
    assert(member < h->n_members);
    return h->members[member].sm.state == HOLD_M_KEPT;
}

/* Something under a name of ours that nobody will ever ask for. */
static bool member_is_leftover(const struct hold_member *m)
{
    return m->sm.state == HOLD_M_LOST && m->exists && !m->leaked;
}

/* Captures, checks and publishing go on; LOST leftovers are counted apart. */
static bool member_is_decided(const struct hold_member *m)
{
    return !m->wanted || m->sm.state == HOLD_M_KEPT || m->sm.state == HOLD_M_LOST;
}

static bool all_decided(const struct hold *h)
{
    for (unsigned i = 0; i < h->n_members; i++)
        if (!member_is_decided(&h->members[i]))
            return false;
    return true;
}

static bool anything_left(const struct hold *h)
{
    for (unsigned i = 0; i < h->n_members; i++)
        if (member_is_leftover(&h->members[i]))
            return true;
    return h->doer != HOLD_DOER_IDLE || hold_is_frozen(h);
}

bool hold_is_settled(const struct hold *h)
{
    return (h->sm.state == HOLD_DONE || h->sm.state == HOLD_ENDED) && !anything_left(h);
}

const char *hold_breach_text(enum hold_breach b)
{
    static const char *const texts[] = {
        [HOLD_UNBROKEN] = "unbroken",
        [HOLD_EXPIRED] = "the hold limit was reached first",
        [HOLD_ABORTED] = "the set was aborted",
        [HOLD_CLOSED] = "the agent's connection ended",
        [HOLD_DOER_DIED] = "the process that freezes and captures died",
        [HOLD_NOT_FROZEN] = "it could not be frozen",
        [HOLD_FREEZE_LATE] = "it was not frozen within the freeze timeout",
        [HOLD_DISTURBED] = "it did not stay frozen, or its processes changed",
    };
    assert((unsigned)b < ARRAY_LEN(texts));
    return texts[b];
}

/* ---- Actions ---- */

static struct hold_act *act(struct hold_acts *out, enum hold_act_kind kind,
                            unsigned index)
{
    assert(out->n < HOLD_MAX_ACTS);
    struct hold_act *a = &out->items[out->n++];
    *a = (struct hold_act){.kind = kind, .index = index};
    return a;
}

static void ask_doer(struct hold *h, struct hold_acts *out, enum hold_act_kind kind,
                     unsigned index)
{
    assert(h->doer == HOLD_DOER_IDLE);
    h->doer = HOLD_DOER_BUSY;
    act(out, kind, index)->until_ms = h->freeze_deadline_ms;
}

static void answer(struct hold_acts *out, enum hold_request req,
                   enum hold_verdict verdict)
{
    act(out, HOLD_ANSWER, req)->verdict = verdict;
}

static void thaw(struct hold *h, unsigned domain, struct hold_acts *out)
{
    sm_move(&h->domains[domain].sm, HOLD_D_THAWING);
    act(out, HOLD_THAW, domain);
}

/* ---- Breaking ---- */

static void lose(struct hold_member *m)
{
    if (m->sm.state == HOLD_M_LOST)
        return;
    m->late = m->exists;
    sm_move(&m->sm, HOLD_M_LOST);
}

/* Breaks one epoch, if it is not decided yet. No action: the thaw comes after. */
static void break_domain(struct hold *h, unsigned domain, enum hold_breach why)
{
    struct hold_domain *d = &h->domains[domain];
    if (d->breach == HOLD_UNBROKEN)
        d->breach = why;
    for (unsigned i = 0; i < h->n_members; i++)
        if (h->members[i].domain == domain)
            lose(&h->members[i]);
}

/* A domain whose freeze call has not returned stays FREEZING: the thaw cannot overtake
 * the call, it would block or find nothing, and the keeper must not block. */
static void thaw_frozen(struct hold *h, struct hold_acts *out)
{
    for (unsigned k = h->n_domains; k-- > 0;) {
        unsigned i = h->order[k];
        struct hold_domain *d = &h->domains[i];
        if (d->sm.state == HOLD_D_FROZEN && d->breach != HOLD_UNBROKEN)
            thaw(h, i, out);
        else if (d->sm.state == HOLD_D_IDLE && d->breach != HOLD_UNBROKEN)
            sm_move(&d->sm, HOLD_D_UNFROZEN);
    }
}

/* Work under way for a broken epoch only delays the clean-up, and a doer that hangs would
 * do so for ever. Once it is dead, its freeze call has returned or never will. */
static void stop_doer(struct hold *h, struct hold_acts *out)
{
    if (h->doer != HOLD_DOER_BUSY)
        return;
    h->doer = HOLD_DOER_DYING;
    act(out, HOLD_KILL_DOER, 0);
}

/* Breaks every epoch that is not decided: all domains still frozen or never frozen. */
static void break_open(struct hold *h, enum hold_breach why)
{
    for (unsigned i = 0; i < h->n_domains; i++) {
        int state = h->domains[i].sm.state;
        bool over = state == HOLD_D_THAWED || state == HOLD_D_UNFROZEN;
        /* A committed domain on its way out keeps what it has proved so far. */
        bool leaving = state == HOLD_D_THAWING && h->domains[i].rechecked;
        if (!over && !leaving)
            break_domain(h, i, why);
    }
}

/* Ends the hold before or instead of an outcome: nothing of it remains. */
static void end(struct hold *h, enum hold_breach why, struct hold_acts *out)
{
    if (hold_is_over(h))
        return;
    h->breach = why;
    for (unsigned i = 0; i < h->n_domains; i++)
        break_domain(h, i, why);
    sm_move(&h->sm, HOLD_ENDING);
    thaw_frozen(h, out);
    stop_doer(h, out);
}

/* Before a COMMIT there is nothing to keep. After it, what was captured, checked and let
 * go in time keeps its value; the rest is lost. */
static void expire(struct hold *h, struct hold_acts *out)
{
    if (h->sm.state == HOLD_FREEZING || h->sm.state == HOLD_FROZEN) {
        end(h, HOLD_EXPIRED, out);
    } else if (h->sm.state == HOLD_CAPTURING && hold_is_frozen(h)) {
        break_open(h, HOLD_EXPIRED);
        thaw_frozen(h, out);
        stop_doer(h, out);
    }
    h->deadline_ms = HOLD_NO_TIMER;
}

/* At freeze_timeout those that are frozen count; the rest is thawed when its freeze call
 * returns, and never frozen otherwise. */
static void freeze_timed_out(struct hold *h, struct hold_acts *out)
{
    h->freeze_deadline_ms = HOLD_NO_TIMER;
    if (h->sm.state != HOLD_FREEZING)
        return;
    for (unsigned i = 0; i < h->n_domains; i++)
        if (h->domains[i].asked && (h->domains[i].sm.state == HOLD_D_IDLE ||
                                    h->domains[i].sm.state == HOLD_D_FREEZING))
            break_domain(h, i, HOLD_FREEZE_LATE);
    thaw_frozen(h, out);
}

static void retry_thaws(struct hold *h, int64_t now_ms, struct hold_acts *out)
{
    for (unsigned k = h->n_domains; k-- > 0;) {
        struct hold_domain *d = &h->domains[h->order[k]];
        if (d->thaw_due && now_ms >= d->retry_ms) {
            d->thaw_due = false;
            act(out, HOLD_THAW, h->order[k]);
        }
    }
}

static void look_at_clock(struct hold *h, int64_t now_ms, struct hold_acts *out)
{
    if (now_ms >= h->deadline_ms)
        expire(h, out);
    if (now_ms >= h->freeze_deadline_ms)
        freeze_timed_out(h, out);
    retry_thaws(h, now_ms, out);
}

/* ---- Requests ---- */

static bool names(const struct hold_event *ev, unsigned domain)
{
    return !ev->domains || ev->domains[domain];
}

/* Whether a FREEZE names a domain that none before it did. */
static bool asks_more(const struct hold *h, const struct hold_event *ev)
{
    for (unsigned i = 0; i < h->n_domains; i++)
        if (names(ev, i) && !h->domains[i].asked)
            return true;
    return false;
}

/* A task that is blocked on a frozen filesystem would never stop. */
static bool comes_too_late(const struct hold *h, const struct hold_event *ev)
{
    bool filesystem_stands = false, others_wanted = false;
    for (unsigned i = 0; i < h->n_domains; i++) {
        const struct hold_domain *d = &h->domains[i];
        if (d->kind == HOLD_FSFREEZE)
            filesystem_stands |= domain_may_be_frozen(d);
        else
            others_wanted |= names(ev, i) && d->sm.state == HOLD_D_IDLE;
    }
    return filesystem_stands && others_wanted;
}

static void begin_freeze(struct hold *h, const struct hold_event *ev)
{
    h->asked_freeze = true;
    h->freeze_answered = false;
    if (h->sm.state == HOLD_ARMED)
        h->deadline_ms = ev->now_ms + ev->hold_ms;
    h->freeze_deadline_ms = ev->now_ms + ev->freeze_timeout_ms;
    for (unsigned i = 0; i < h->n_domains; i++)
        h->domains[i].asked |= names(ev, i);
    sm_move(&h->sm, HOLD_FREEZING);
}

static void on_freeze(struct hold *h, const struct hold_event *ev, struct hold_acts *out)
{
    assert(ev->hold_ms > 0 && ev->freeze_timeout_ms > 0);
    bool more = h->sm.state == HOLD_ARMED || asks_more(h, ev);
    if (!more && h->sm.state == HOLD_FREEZING)
        h->asked_freeze = true; /* repeated: one answer will do */
    else if (!more && h->freeze_answered)
        answer(out, HOLD_REQ_FREEZE, HOLD_OK);
    else if (hold_is_over(h))
        answer(out, HOLD_REQ_FREEZE, HOLD_OVER);
    else if ((h->sm.state != HOLD_ARMED && h->sm.state != HOLD_FROZEN) ||
             comes_too_late(h, ev))
        answer(out, HOLD_REQ_FREEZE, HOLD_OUT_OF_TURN);
    else
        begin_freeze(h, ev);
}

/* Whether everything that is armed has been asked for. */
static bool all_asked(const struct hold *h)
{
    for (unsigned i = 0; i < h->n_domains; i++)
        if (!h->domains[i].asked && h->domains[i].breach == HOLD_UNBROKEN)
            return false;
    return true;
}

/* Every named epoch must be ours and unbroken, or nothing is captured at all. */
static bool wants_are_open(const struct hold *h, const struct hold_event *ev)
{
    for (unsigned i = 0; i < ev->n_wants; i++) {
        assert(ev->wants[i].member < h->n_members);
        const struct hold_member *m = &h->members[ev->wants[i].member];
        const struct hold_domain *d = &h->domains[m->domain];
        if (!domain_is_open(d) || m->sm.state != HOLD_M_IDLE ||
            memcmp(&d->epoch, &ev->wants[i].epoch, sizeof(d->epoch)) != 0)
            return false;
    }
    return ev->n_wants > 0;
}

/* Domains that nobody asked for do not wait for the others' captures. */
static void commit(struct hold *h, const struct hold_event *ev, struct hold_acts *out)
{
    bool used[HOLD_MAX_DOMAINS] = {false};
    h->digest = ev->digest;
    h->asked_commit = true;
    for (unsigned i = 0; i < ev->n_wants; i++)
        h->members[ev->wants[i].member].wanted = true;
    for (unsigned i = 0; i < h->n_members; i++)
        if (!h->members[i].wanted)
            lose(&h->members[i]);
        else
            used[h->members[i].domain] = true;
    sm_move(&h->sm, HOLD_CAPTURING);
    for (unsigned k = h->n_domains; k-- > 0;)
        if (domain_is_open(&h->domains[h->order[k]]) && !used[h->order[k]])
            thaw(h, h->order[k], out);
}

static void on_commit(struct hold *h, const struct hold_event *ev, struct hold_acts *out)
{
    bool repeated = h->sm.state == HOLD_CAPTURING || h->sm.state == HOLD_DONE;
    if (hold_is_over(h))
        answer(out, HOLD_REQ_COMMIT, HOLD_OVER);
    else if (repeated && !digest_equal(&h->digest, &ev->digest))
        answer(out, HOLD_REQ_COMMIT, HOLD_BAD_EPOCH);
    else if (h->sm.state == HOLD_DONE)
        answer(out, HOLD_REQ_COMMIT, HOLD_OK);
    else if (h->sm.state == HOLD_CAPTURING)
        h->asked_commit = true;
    else if (h->sm.state != HOLD_FROZEN || !all_asked(h))
        answer(out, HOLD_REQ_COMMIT, HOLD_OUT_OF_TURN);
    else if (!wants_are_open(h, ev))
        answer(out, HOLD_REQ_COMMIT, HOLD_BAD_EPOCH);
    else
        commit(h, ev, out);
}

static void on_abort(struct hold *h, struct hold_acts *out)
{
    h->asked_abort = true;
    end(h, HOLD_ABORTED, out);
}

/* ---- Results ---- */

static void on_armed(struct hold *h, const struct hold_event *ev, struct hold_acts *out)
{
    h->doer = HOLD_DOER_IDLE;
    if (h->sm.state != HOLD_ARMING)
        return;
    bool used[HOLD_MAX_DOMAINS] = {false};
    bool any = false;
    for (unsigned i = 0; i < h->n_members; i++) {
        if (!ev->member_ok[i]) {
            lose(&h->members[i]);
            continue;
        }
        used[h->members[i].domain] = true;
        any = true;
    }
    for (unsigned i = 0; i < h->n_domains; i++)
        if (!used[i])
            break_domain(h, i, HOLD_NOT_FROZEN);
    thaw_frozen(h, out);
    sm_move(&h->sm, HOLD_ARMED);
    h->checked = true;
    if (!any)
        end(h, HOLD_NOT_FROZEN, out);
}

static void on_frozen(struct hold *h, const struct hold_event *ev, struct hold_acts *out)
{
    struct hold_domain *d = &h->domains[ev->index];
    if (h->doer == HOLD_DOER_BUSY)
        h->doer = HOLD_DOER_IDLE;
    assert(d->sm.state == HOLD_D_FREEZING);
    if (!ev->ok) {
        break_domain(h, ev->index, HOLD_NOT_FROZEN);
        if (ev->undo)
            thaw(h, ev->index, out);
        else
            sm_move(&d->sm, HOLD_D_UNFROZEN);
        return;
    }
    d->frozen_at_ns = ev->at_ns;
    sm_move(&d->sm, HOLD_D_FROZEN);
    if (d->breach == HOLD_UNBROKEN) {
        d->epoch = ev->epoch;
        d->has_epoch = true;
    } else {
        thaw(h, ev->index, out);
    }
}

static void on_captured(struct hold *h, const struct hold_event *ev)
{
    struct hold_member *m = &h->members[ev->index];
    if (h->doer == HOLD_DOER_BUSY)
        h->doer = HOLD_DOER_IDLE;
    m->captured_at_ns = ev->at_ns;
    m->exists = ev->ok || ev->undo;
    if (m->sm.state != HOLD_M_CAPTURING)
        return; /* late: it is LOST already, and will be removed */
    if (ev->ok)
        sm_move(&m->sm, HOLD_M_CAPTURED);
    else
        sm_move(&m->sm, HOLD_M_LOST);
}

static void on_rechecked(struct hold *h, const struct hold_event *ev,
                         struct hold_acts *out)
{
    struct hold_domain *d = &h->domains[ev->index];
    if (h->doer == HOLD_DOER_BUSY)
        h->doer = HOLD_DOER_IDLE;
    if (!domain_is_open(d))
        return;
    d->rechecked = ev->ok;
    if (!ev->ok)
        break_domain(h, ev->index, HOLD_DISTURBED);
    thaw(h, ev->index, out);
}

static void on_thawed(struct hold *h, const struct hold_event *ev)
{
    struct hold_domain *d = &h->domains[ev->index];
    if (d->sm.state != HOLD_D_THAWING)
        return;
    if (!ev->ok) {
        d->thaw_due = true;
        d->retry_ms = ev->now_ms + HOLD_THAW_RETRY_MS;
        return;
    }
    d->thawed_at_ns = ev->at_ns;
    sm_move(&d->sm, HOLD_D_THAWED);
    /* Somebody else thawed it, perhaps before the capture: the only trace there is. */
    if (!ev->was_frozen && d->has_epoch)
        break_domain(h, ev->index, HOLD_DISTURBED);
    for (unsigned i = 0; i < h->n_members; i++)
        if (h->members[i].domain == ev->index &&
            h->members[i].sm.state == HOLD_M_CAPTURED)
            sm_move(&h->members[i].sm, HOLD_M_VERIFIED);
}

static void on_published(struct hold *h, const struct hold_event *ev)
{
    struct hold_member *m = &h->members[ev->index];
    if (h->doer == HOLD_DOER_BUSY)
        h->doer = HOLD_DOER_IDLE;
    m->named = ev->ok;
    if (m->sm.state == HOLD_M_PUBLISHING)
        sm_move(&m->sm, ev->ok ? HOLD_M_KEPT : HOLD_M_LOST);
}

static void on_removed(struct hold *h, const struct hold_event *ev)
{
    struct hold_member *m = &h->members[ev->index];
    if (h->doer == HOLD_DOER_BUSY)
        h->doer = HOLD_DOER_IDLE;
    m->exists = !ev->ok;
    m->leaked = !ev->ok;
}

static void on_doer_died(struct hold *h, struct hold_acts *out)
{
    h->doer = HOLD_DOER_DEAD;
    /* Its last freeze call is over, one way or the other. */
    for (unsigned k = h->n_domains; k-- > 0;) {
        unsigned i = h->order[k];
        if (h->domains[i].sm.state == HOLD_D_FREEZING) {
            break_domain(h, i, HOLD_DOER_DIED);
            thaw(h, i, out);
        }
    }
    if (h->sm.state == HOLD_CAPTURING) {
        /* What it remembered of the frozen domains died with it. Those that were checked
         * before only need their names, which the next doer can give them, except for one
         * that may be half done. */
        for (unsigned i = 0; i < h->n_members; i++)
            if (h->members[i].sm.state == HOLD_M_PUBLISHING)
                lose(&h->members[i]);
        break_open(h, HOLD_DOER_DIED);
        thaw_frozen(h, out);
    } else if (h->sm.state != HOLD_DONE) {
        end(h, HOLD_DOER_DIED, out);
    }
}

/* ---- What follows from the state ---- */

static void next_freeze(struct hold *h, struct hold_acts *out)
{
    for (unsigned k = 0; k < h->n_domains; k++) {
        struct hold_domain *d = &h->domains[h->order[k]];
        if (d->sm.state != HOLD_D_IDLE || !d->asked)
            continue;
        sm_move(&d->sm, HOLD_D_FREEZING);
        ask_doer(h, out, HOLD_DO_FREEZE, h->order[k]);
        return;
    }
}

/* The next capture of an open domain, or its recheck, or, when there is nothing to
 * capture in it any more, its thaw. True when the doer was asked. */
static bool work_on_domain(struct hold *h, unsigned domain, struct hold_acts *out)
{
    bool worth_a_check = false;
    for (unsigned i = 0; i < h->n_members; i++) {
        struct hold_member *m = &h->members[i];
        if (m->domain != domain)
            continue;
        if (m->sm.state == HOLD_M_IDLE) {
            sm_move(&m->sm, HOLD_M_CAPTURING);
            m->exists = true;
            ask_doer(h, out, HOLD_DO_CAPTURE, i);
            return true;
        }
        worth_a_check |= m->sm.state == HOLD_M_CAPTURED;
    }
    if (worth_a_check)
        ask_doer(h, out, HOLD_DO_RECHECK, domain);
    else
        thaw(h, domain, out);
    return worth_a_check;
}

/* The filesystems, which pause the most, are captured and thawed first. */
static void next_capture(struct hold *h, struct hold_acts *out)
{
    for (unsigned k = h->n_domains; k-- > 0;)
        if (domain_is_open(&h->domains[h->order[k]]) &&
            work_on_domain(h, h->order[k], out))
            return;
}

/* Nothing is frozen any more: names and leftovers can take their time. */
static void next_chore(struct hold *h, struct hold_acts *out)
{
    for (unsigned i = 0; i < h->n_members; i++) {
        struct hold_member *m = &h->members[i];
        if (m->sm.state == HOLD_M_VERIFIED) {
            sm_move(&m->sm, HOLD_M_PUBLISHING);
            m->named = true;
            ask_doer(h, out, HOLD_DO_PUBLISH, i);
            return;
        }
    }
    for (unsigned i = 0; i < h->n_members; i++) {
        if (member_is_leftover(&h->members[i])) {
            ask_doer(h, out, HOLD_DO_REMOVE, i);
            return;
        }
    }
}

static void next_work(struct hold *h, struct hold_acts *out)
{
    if (h->doer == HOLD_DOER_IDLE && h->sm.state == HOLD_FREEZING)
        next_freeze(h, out);
    if (h->doer == HOLD_DOER_IDLE && h->sm.state == HOLD_CAPTURING)
        next_capture(h, out);
    if (h->doer == HOLD_DOER_IDLE && !hold_is_frozen(h))
        next_chore(h, out);
}

static bool freezing_is_decided(const struct hold *h)
{
    for (unsigned i = 0; i < h->n_domains; i++) {
        const struct hold_domain *d = &h->domains[i];
        if (d->asked && d->breach == HOLD_UNBROKEN && d->sm.state != HOLD_D_FROZEN)
            return false;
    }
    return true;
}

static bool any_open(const struct hold *h)
{
    for (unsigned i = 0; i < h->n_domains; i++)
        if (domain_is_open(&h->domains[i]))
            return true;
    return false;
}

/* Moves the hold as a whole and gives the answers that are now known. */
static void conclude(struct hold *h, struct hold_acts *out)
{
    if (h->sm.state == HOLD_FREEZING && freezing_is_decided(h)) {
        h->freeze_deadline_ms = HOLD_NO_TIMER;
        h->freeze_answered = true;
        sm_move(&h->sm, HOLD_FROZEN);
        if (!any_open(h))
            end(h, HOLD_NOT_FROZEN, out);
    }
    if (h->sm.state == HOLD_CAPTURING && all_decided(h) && !any_open(h))
        sm_move(&h->sm, HOLD_DONE);
    if (h->asked_arm && h->sm.state != HOLD_ARMING) {
        h->asked_arm = false;
        answer(out, HOLD_REQ_ARM, hold_is_over(h) && !h->checked ? HOLD_OVER : HOLD_OK);
    }
    if (h->asked_freeze && (h->freeze_answered || hold_is_over(h))) {
        h->asked_freeze = false;
        answer(out, HOLD_REQ_FREEZE, h->freeze_answered ? HOLD_OK : HOLD_OVER);
    }
    if (h->asked_commit && (h->sm.state == HOLD_DONE || hold_is_over(h))) {
        h->asked_commit = false;
        answer(out, HOLD_REQ_COMMIT, h->sm.state == HOLD_DONE ? HOLD_OK : HOLD_OVER);
    }
}

static void conclude_end(struct hold *h, struct hold_acts *out)
{
    if (h->sm.state == HOLD_ENDING && !anything_left(h))
        sm_move(&h->sm, HOLD_ENDED);
    if (h->asked_abort && h->sm.state == HOLD_ENDED) {
        h->asked_abort = false;
        answer(out, HOLD_REQ_ABORT, HOLD_OK);
    }
}

/* ---- The outside ---- */

static void handle(struct hold *h, const struct hold_event *ev, struct hold_acts *out)
{
    switch (ev->kind) {
    case HOLD_EV_ARMED:
        on_armed(h, ev, out);
        break;
    case HOLD_EV_FREEZE:
        on_freeze(h, ev, out);
        break;
    case HOLD_EV_FROZEN:
        on_frozen(h, ev, out);
        break;
    case HOLD_EV_COMMIT:
        on_commit(h, ev, out);
        break;
    case HOLD_EV_CAPTURED:
        on_captured(h, ev);
        break;
    case HOLD_EV_RECHECKED:
        on_rechecked(h, ev, out);
        break;
    case HOLD_EV_THAWED:
        on_thawed(h, ev);
        break;
    case HOLD_EV_PUBLISHED:
        on_published(h, ev);
        break;
    case HOLD_EV_REMOVED:
        on_removed(h, ev);
        break;
    case HOLD_EV_ABORT:
        on_abort(h, out);
        break;
    case HOLD_EV_TIMER:
        break; /* the clock was looked at */
    case HOLD_EV_CLOSED:
        if (h->sm.state != HOLD_DONE)
            end(h, HOLD_CLOSED, out);
        break;
    case HOLD_EV_DOER_DIED:
        on_doer_died(h, out);
        break;
    case HOLD_EV_DOER_READY:
        h->doer = HOLD_DOER_IDLE;
        break;
    }
}

void hold_step(struct hold *h, const struct hold_event *ev, struct hold_acts *out)
{
    out->n = 0;
    look_at_clock(h, ev->now_ms, out);
    handle(h, ev, out);
    conclude(h, out);
    next_work(h, out);
    conclude_end(h, out);
}

void hold_init(struct hold *h, const enum hold_kind *kinds, unsigned n_domains,
               const uint16_t *member_domains, unsigned n_members, struct hold_acts *out)
{
    assert(n_domains > 0 && n_domains <= HOLD_MAX_DOMAINS);
    assert(n_members >= n_domains && n_members <= HOLD_MAX_MEMBERS);
    memset(h, 0, sizeof(*h));
    sm_init(&h->sm, "hold", hold_states, HOLD_ARMING);
    h->n_domains = n_domains;
    h->n_members = n_members;
    h->deadline_ms = HOLD_NO_TIMER;
    h->freeze_deadline_ms = HOLD_NO_TIMER;
    unsigned k = 0;
    for (int kind = HOLD_NONE; kind <= HOLD_FSFREEZE; kind++)
        for (unsigned i = 0; i < n_domains; i++)
            if ((int)kinds[i] == kind)
                h->order[k++] = (uint8_t)i;
    assert(k == n_domains);
    for (unsigned i = 0; i < n_domains; i++) {
        h->domains[i].kind = kinds[i];
        sm_init(&h->domains[i].sm, "domain", domain_states, HOLD_D_IDLE);
    }
    for (unsigned i = 0; i < n_members; i++) {
        assert(member_domains[i] < n_domains);
        h->members[i].domain = member_domains[i];
        sm_init(&h->members[i].sm, "member", member_states, HOLD_M_IDLE);
    }
    h->asked_arm = true;
    out->n = 0;
    ask_doer(h, out, HOLD_DO_ARM, 0);
}

int64_t hold_timer_ms(const struct hold *h)
{
    int64_t at = h->deadline_ms;
    if (h->freeze_deadline_ms < at)
        at = h->freeze_deadline_ms;
    for (unsigned i = 0; i < h->n_domains; i++)
        if (h->domains[i].thaw_due && h->domains[i].retry_ms < at)
            at = h->domains[i].retry_ms;
    return at;
}
