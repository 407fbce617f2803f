#include "agent/guardian/answer.h"

#include <stdio.h>
#include <string.h>

void answer_plain(struct guard_reply *out, enum guard_type type, uint32_t seq,
                  int32_t kind, const char *text)
{
    memset(out, 0, GUARD_REPLY_BYTES(0));
    out->magic = GUARD_MAGIC;
    out->version = GUARD_VERSION;
    out->type = (uint16_t)type;
    out->seq = seq;
    out->kind = kind;
    snprintf(out->text, sizeof(out->text), "%s", text);
}

static void item_error(struct guard_item *item, enum err_kind kind, const char *text)
{
    item->kind = (int32_t)kind;
    snprintf(item->text, sizeof(item->text), "%s", text);
}

/* Why part i has no (more) value, in the most specific words there are. */
static void item_why(const struct slot *s, unsigned i, struct guard_item *item)
{
    const struct slot_part *p = &s->parts[i];
    const struct slot_domain *d = &s->domains[p->domain];
    const struct hold_domain *h = &s->hold.domains[p->domain];
    if (p->error.set)
        item_error(item, p->error.kind, p->error.text);
    else if (d->error.set)
        item_error(item, d->error.kind, d->error.text);
    else
        item_error(item, ERR_CONFLICT, hold_breach_text(h->breach));
}

static void fill_armed(const struct slot *s, unsigned i, struct guard_item *item)
{
    const struct slot_part *p = &s->parts[i];
    item->pause_ms = p->flush_ms + p->capture_ms;
    item->flush_ms = p->flush_ms;
    item->dirty_bytes = p->dirty_bytes;
    if (p->error.set || s->domains[p->domain].error.set)
        item_why(s, i, item);
}

static void fill_frozen(const struct slot *s, unsigned i, struct guard_item *item)
{
    const struct hold_domain *h = &s->hold.domains[s->parts[i].domain];
    item->epoch = h->epoch;
    item->frozen_at_ns = h->frozen_at_ns;
    item->unbroken = h->breach == HOLD_UNBROKEN;
    if (!h->has_epoch || h->breach != HOLD_UNBROKEN)
        item_why(s, i, item);
}

static void fill_committed(const struct slot *s, unsigned i, struct guard_item *item)
{
    const struct slot_part *p = &s->parts[i];
    const struct hold_domain *h = &s->hold.domains[p->domain];
    fill_frozen(s, i, item);
    item->captured_at_ns = s->hold.members[i].captured_at_ns;
    item->thawed_at_ns = h->thawed_at_ns;
    snprintf(item->capture.text, sizeof(item->capture.text), "%s", p->capture);
    const char *dir = s->env->config->partitions[p->part].capture.dir;
    int n = snprintf(item->path, sizeof(item->path), "%s/%s", dir, p->capture);
    if (n >= (int)sizeof(item->path))
        item->path[0] = 0; /* the caller knows the folder as well */
    if (!hold_member_is_kept(&s->hold, i))
        item_why(s, i, item);
}

/* How long it was stopped, whatever came of it. */
static void fill_ended(const struct slot *s, unsigned i, struct guard_item *item)
{
    const struct hold_domain *h = &s->hold.domains[s->parts[i].domain];
    item->frozen_at_ns = h->frozen_at_ns;
    item->thawed_at_ns = h->thawed_at_ns;
}

static void fill_items(const struct slot *s, enum hold_request request,
                       struct guard_reply *out)
{
    out->n = 0;
    for (unsigned i = 0; i < s->n_parts; i++) {
        const struct slot_part *p = &s->parts[i];
        const struct slot_domain *d = &s->domains[p->domain];
        if (request == HOLD_REQ_COMMIT && !s->hold.members[i].wanted)
            continue;
        struct guard_item *item = &out->items[out->n++];
        memset(item, 0, sizeof(*item));
        snprintf(item->part.text, sizeof(item->part.text), "%s",
                 s->env->config->partitions[p->part].name);
        item->kind = GUARD_OK;
        item->domain = d->id;
        item->evidence = d->ops ? (uint8_t)d->ops->evidence : 0;
        if (request == HOLD_REQ_ARM)
            fill_armed(s, i, item);
        else if (request == HOLD_REQ_FREEZE)
            fill_frozen(s, i, item);
        else if (request == HOLD_REQ_COMMIT)
            fill_committed(s, i, item);
        else
            fill_ended(s, i, item);
    }
}

void answer_hold(const struct slot *s, enum hold_request request,
                 enum hold_verdict verdict, uint32_t seq, struct guard_reply *out)
{
    static const enum guard_type types[] = {
        [HOLD_REQ_ARM] = GUARD_ARM,
        [HOLD_REQ_FREEZE] = GUARD_FREEZE,
        [HOLD_REQ_COMMIT] = GUARD_COMMIT,
        [HOLD_REQ_ABORT] = GUARD_ABORT,
    };
    enum guard_type type = types[request];
    switch (verdict) {
    case HOLD_OK:
        answer_plain(out, type, seq, GUARD_OK, "");
        fill_items(s, request, out);
        return;
    case HOLD_OUT_OF_TURN:
        answer_plain(out, type, seq, ERR_CONFLICT,
                     request == HOLD_REQ_FREEZE ? "the set cannot freeze that now"
                                                : "the set is not frozen");
        return;
    case HOLD_BAD_EPOCH:
        answer_plain(out, type, seq, ERR_CONFLICT,
                     "an epoch is broken, or not one of this hold");
        return;
    case HOLD_OVER:
        answer_plain(out, type, seq, ERR_CONFLICT, hold_breach_text(s->hold.breach));
        return;
    }
}
