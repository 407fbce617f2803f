#include "coordinator/flow/tasks.h"

#include <assert.h>

bool set_state_is_terminal(enum set_state s)
{
    return s == STATE_COMPLETE || s == STATE_EXPIRED || s == STATE_ABORTED ||
           s == STATE_DAMAGED;
}

const char *task_kind_name(enum task_kind k)
{
    static const char *const names[] = {
        [TASK_UPLOAD] = "upload",   [TASK_VERIFY] = "verify",   [TASK_SEAL] = "seal",
        [TASK_RELEASE] = "release", [TASK_RESTORE] = "restore",
    };
    assert(k <= TASK_RESTORE);
    return names[k];
}

static size_t count_at_least(const struct tasks_view *v, enum part_state least)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n_parts; i++)
        if (v->parts[i] >= least && v->parts[i] != PART_FAILED)
            n++;
    return n;
}

static bool any_failed(const struct tasks_view *v)
{
    for (size_t i = 0; i < v->n_parts; i++)
        if (v->parts[i] == PART_FAILED)
            return true;
    return false;
}

/* A missing part is past every state. */
static void need_each(const struct tasks_view *v, enum task_kind kind,
                      enum part_state below, struct tasks_next *out)
{
    for (size_t i = 0; i < v->n_parts; i++)
        if (v->parts[i] < below)
            out->needs[out->n_needs++] = (struct tasks_need){kind, (int)i};
}

static enum set_state next_state(const struct tasks_view *v)
{
    if (any_failed(v))
        return STATE_DAMAGED;
    if (count_at_least(v, PART_STORED) < v->n_parts)
        return STATE_UPLOADING;
    if (count_at_least(v, PART_VERIFIED) < v->n_parts || !v->sealed)
        return STATE_VALIDATING;
    return STATE_COMPLETE;
}

void tasks_decide(const struct tasks_view *v, struct tasks_next *out)
{
    out->state = v->state;
    out->n_needs = 0;
    if (v->state < STATE_CAPTURED || v->state == STATE_EXPIRED ||
        v->state == STATE_ABORTED)
        return;
    if (!set_state_is_terminal(v->state))
        out->state = next_state(v);
    if (out->state == STATE_UPLOADING)
        need_each(v, TASK_UPLOAD, PART_STORED, out);
    else if (out->state == STATE_VALIDATING &&
             count_at_least(v, PART_VERIFIED) < v->n_parts)
        need_each(v, TASK_VERIFY, PART_VERIFIED, out);
    else if (out->state == STATE_VALIDATING)
        out->needs[out->n_needs++] = (struct tasks_need){TASK_SEAL, TASKS_NO_PART};
    else if (out->state == STATE_COMPLETE)
        for (size_t i = 0; i < v->n_parts; i++)
            if (v->parts[i] != PART_MISSING)
                out->needs[out->n_needs++] = (struct tasks_need){TASK_RELEASE, (int)i};
}
