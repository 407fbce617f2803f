#include "agent/shell/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/convert.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "stillpoint/v1/journal.pb-c.h"

enum { JOURNAL_SCHEMA = 1 };

/* Names rather than numbers, so that a reordered enum does not reinterpret a journal. */
static const char *const state_names[] = {
    [SESSION_NEW] = "NEW",
    [SESSION_ARMING] = "ARMING",
    [SESSION_PREPARED] = "PREPARED",
    [SESSION_FREEZING] = "FREEZING",
    [SESSION_FROZEN] = "FROZEN",
    [SESSION_COMMITTING] = "COMMITTING",
    [SESSION_JOURNALING] = "JOURNALING",
    [SESSION_CAPTURED] = "CAPTURED",
    [SESSION_ABORTING] = "ABORTING",
    [SESSION_ABORTED] = "ABORTED",
};

static Stillpoint__V1__JournalSet *encode_set(const struct session *s)
{
    Stillpoint__V1__JournalSet *m = mem_alloc(sizeof *m);
    stillpoint__v1__journal_set__init(m);
    pb_set(&m->set, s->set.text);
    pb_set(&m->state, state_names[s->sm.state]);
    m->token = token_to_pb(&s->token);
    m->hold_limit_ms = s->hold_limit_ms;
    m->freeze_timeout_ms = s->freeze_timeout_ms;
    m->rehearsal = s->rehearsal;
    for (size_t i = 0; i < s->n_parts; i++) {
        Stillpoint__V1__JournalPart *p = mem_alloc(sizeof *p);
        stillpoint__v1__journal_part__init(p);
        pb_set(&p->partition, s->parts[i].part.text);
        pb_set(&p->domain, s->parts[i].domain.text);
        p->predicted_pause_ms = s->parts[i].predicted_pause_ms;
        p->wave = (int32_t)s->parts[i].wave;
        *PB_APPEND(m, parts) = p;
    }
    m->epochs = epochs_to_pb(s->epochs, s->n_epochs);
    m->n_epochs = s->n_epochs;
    m->all_epochs = epochs_to_pb(s->all_epochs, s->n_all_epochs);
    m->n_all_epochs = s->n_all_epochs;
    m->proofs = proofs_to_pb(&s->set, s->proofs, s->n_proofs);
    m->n_proofs = s->n_proofs;
    m->cut_unix_ms = s->cut_unix_ms;
    pb_set(&m->error, s->error);
    return m;
}

char *journal_encode(const struct sessions *s)
{
    static const uint8_t none[16];
    Stillpoint__V1__AgentJournal *m = mem_alloc(sizeof *m);
    stillpoint__v1__agent_journal__init(m);
    m->schema = JOURNAL_SCHEMA;
    pb_set(&m->node, s->node.text);
    if (memcmp(s->fence.incarnation, none, sizeof none) != 0)
        pb_set_bytes(&m->incarnation, s->fence.incarnation, sizeof s->fence.incarnation);
    for (size_t i = 0; i < s->fence.n_domains; i++) {
        Stillpoint__V1__JournalFence *f = mem_alloc(sizeof *f);
        stillpoint__v1__journal_fence__init(f);
        pb_set(&f->domain, s->fence.domains[i].domain.text);
        f->token = token_to_pb(&s->fence.domains[i].token);
        *PB_APPEND(m, fence) = f;
    }
    for (size_t i = 0; i < s->n_sets; i++)
        *PB_APPEND(m, sets) = encode_set(s->sets[i]);
    char *text = pbjson_encode(&m->base, 0);
    wire_free(&m->base);
    return text;
}

static struct err *decode_state(const char *name, enum session_state *out)
{
    for (size_t i = 0; i < ARRAY_LEN(state_names); i++) {
        if (strcmp(state_names[i], name) == 0) {
            *out = (enum session_state)i;
            return NULL;
        }
    }
    return err_new(ERR_CORRUPT, "unknown state '%s'", name);
}

static struct err *decode_parts(const Stillpoint__V1__JournalSet *m, struct session *s)
{
    if (m->n_parts > SESSION_MAX_PARTS)
        return err_new(ERR_LIMIT, "%zu partitions", m->n_parts);
    s->parts = mem_array(m->n_parts, sizeof *s->parts);
    s->n_parts = m->n_parts;
    for (size_t i = 0; i < m->n_parts; i++) {
        TRY(name_copy(s->parts[i].part.text, m->parts[i]->partition, "partition"));
        TRY(domain_copy(&s->parts[i].domain, m->parts[i]->domain));
        s->parts[i].predicted_pause_ms = m->parts[i]->predicted_pause_ms;
        if (m->parts[i]->wave < 0)
            return err_new(ERR_CORRUPT, "wave %d", m->parts[i]->wave);
        s->parts[i].wave = (size_t)m->parts[i]->wave;
    }
    return NULL;
}

static struct err *decode_set(const Stillpoint__V1__JournalSet *m, struct session **out)
{
    struct set_id id;
    TRY(name_copy(id.text, m->set, "set"));
    AUTO(session) struct session *s = session_new(&id);
    enum session_state state = SESSION_NEW;
    TRY(decode_state(m->state, &state));
    TRY(token_from_pb(m->token, &s->token));
    TRY(decode_parts(m, s));
    TRY(epochs_from_pb(m->epochs, m->n_epochs, &s->epochs));
    s->n_epochs = m->n_epochs;
    TRY(epochs_from_pb(m->all_epochs, m->n_all_epochs, &s->all_epochs));
    s->n_all_epochs = m->n_all_epochs;
    TRY(proofs_from_pb(m->proofs, m->n_proofs, &s->proofs));
    s->n_proofs = m->n_proofs;
    s->hold_limit_ms = m->hold_limit_ms;
    s->freeze_timeout_ms = m->freeze_timeout_ms;
    s->rehearsal = m->rehearsal;
    s->cut_unix_ms = m->cut_unix_ms;
    snprintf(s->error, sizeof s->error, "%s", m->error);
    session_restore(s, state);
    if (s->sm.state == SESSION_CAPTURED && s->n_proofs != s->n_parts)
        return err_new(ERR_CORRUPT, "captured, but %zu proofs for %zu partitions",
                       s->n_proofs, s->n_parts);
    *out = STEAL(s);
    return NULL;
}

static struct err *decode_fence(const Stillpoint__V1__AgentJournal *m, struct fence *f)
{
    if (m->n_fence > FENCE_MAX_DOMAINS)
        return err_new(ERR_LIMIT, "%zu domains", m->n_fence);
    if (m->incarnation.len != 0 && m->incarnation.len != sizeof f->incarnation)
        return err_new(ERR_CORRUPT, "incarnation of %zu bytes", m->incarnation.len);
    if (m->incarnation.len)
        memcpy(f->incarnation, m->incarnation.data, sizeof f->incarnation);
    for (size_t i = 0; i < m->n_fence; i++) {
        struct domain_id domain;
        struct token token;
        TRY(domain_copy(&domain, m->fence[i]->domain));
        TRY(token_from_pb(m->fence[i]->token, &token));
        for (size_t k = 0; k < f->n_domains; k++)
            if (strcmp(f->domains[k].domain.text, domain.text) == 0)
                return err_new(ERR_CORRUPT, "domain '%s': listed twice", domain.text);
        fence_raise(f, &domain, &token);
    }
    return NULL;
}

static struct err *decode(const Stillpoint__V1__AgentJournal *m, struct sessions *s)
{
    if (m->schema < 1)
        return err_new(ERR_CORRUPT, "it has no schema");
    if (m->schema > JOURNAL_SCHEMA)
        return err_new(ERR_INVALID, "written by a newer version (schema %d)", m->schema);
    if (strcmp(m->node, s->node.text) != 0)
        return err_new(ERR_CORRUPT, "it belongs to node '%s', this is '%s'", m->node,
                       s->node.text);
    TRY(decode_fence(m, &s->fence));
    for (size_t i = 0; i < m->n_sets; i++) {
        struct session *set = NULL;
        TRY_CTX(decode_set(m->sets[i], &set), "set '%s'", m->sets[i]->set);
        if (sessions_find(s, &set->set)) {
            session_free(set);
            return err_new(ERR_CORRUPT, "set '%s': listed twice", m->sets[i]->set);
        }
        TRY(sessions_load(s, set));
    }
    return NULL;
}

struct err *journal_decode(const char *text, size_t n, struct sessions *s)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    TRY_CTX(pbjson_decode(&stillpoint__v1__agent_journal__descriptor, text, n, 0, &m),
            "journal");
    TRY_CTX(decode((Stillpoint__V1__AgentJournal *)m, s), "journal");
    return NULL;
}
