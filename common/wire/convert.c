#include "common/wire/convert.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/wire.h"

void pb_set(char **member, const char *text)
{
    if (*member && *member != protobuf_c_empty_string)
        free(*member);
    *member = mem_strdup(text ? text : "");
}

void pb_set_bytes(ProtobufCBinaryData *member, const void *bytes, size_t n)
{
    free(member->data);
    member->data = n ? mem_dup(bytes, n) : NULL;
    member->len = n;
}

ProtobufCMessage *pb_copy(const ProtobufCMessage *msg)
{
    size_t n;
    void *bytes = wire_pack(msg, &n);
    ProtobufCMessage *copy = protobuf_c_message_unpack(msg->descriptor, NULL, n, bytes);
    free(bytes);
    if (!copy)
        abort(); /* what was just packed unpacks, unless memory is out */
    return copy;
}

struct err *token_from_pb(const Stillpoint__V1__Token *m, struct token *out)
{
    *out = (struct token){0};
    if (!m)
        return err_new(ERR_INVALID, "field 'token': missing");
    if (m->incarnation.len != sizeof out->incarnation)
        return err_new(ERR_INVALID, "field 'token.incarnation': %zu bytes instead of %zu",
                       m->incarnation.len, sizeof out->incarnation);
    static const uint8_t none[sizeof out->incarnation];
    if (memcmp(m->incarnation.data, none, sizeof none) == 0) /* what "not pinned" is */
        return err_new(ERR_INVALID, "field 'token.incarnation': all zero");
    if (m->revision <= 0)
        return err_new(ERR_INVALID, "field 'token.revision': must be above 0");
    memcpy(out->incarnation, m->incarnation.data, sizeof out->incarnation);
    out->revision = m->revision;
    return NULL;
}

Stillpoint__V1__Token *token_to_pb(const struct token *t)
{
    Stillpoint__V1__Token *m = mem_alloc(sizeof *m);
    stillpoint__v1__token__init(m);
    pb_set_bytes(&m->incarnation, t->incarnation, sizeof t->incarnation);
    m->revision = t->revision;
    return m;
}

static struct err *epoch_from_pb(const ProtobufCBinaryData *d, struct epoch *out)
{
    if (d->len != sizeof out->b)
        return err_new(ERR_INVALID, "field 'epoch': %zu bytes instead of %zu", d->len,
                       sizeof out->b);
    memcpy(out->b, d->data, sizeof out->b);
    return NULL;
}

struct err *epochs_from_pb(Stillpoint__V1__DomainEpoch **m, size_t n,
                           struct domain_epoch **out)
{
    *out = NULL;
    if (n > CUT_MAX_PARTS)
        return err_new(ERR_LIMIT, "field 'epochs': %zu, at most %d", n, CUT_MAX_PARTS);
    struct domain_epoch *e = mem_array(n, sizeof *e);
    struct err *bad = NULL;
    for (size_t i = 0; i < n && !bad; i++) {
        bad = domain_copy(&e[i].domain, m[i]->domain);
        if (!bad)
            bad = epoch_from_pb(&m[i]->epoch, &e[i].epoch);
    }
    if (bad) {
        free(e);
        return bad;
    }
    *out = e;
    return NULL;
}

Stillpoint__V1__DomainEpoch **epochs_to_pb(const struct domain_epoch *e, size_t n)
{
    Stillpoint__V1__DomainEpoch **m = mem_array(n, sizeof *m);
    for (size_t i = 0; i < n; i++) {
        m[i] = mem_alloc(sizeof **m);
        stillpoint__v1__domain_epoch__init(m[i]);
        pb_set(&m[i]->domain, e[i].domain.text);
        pb_set_bytes(&m[i]->epoch, e[i].epoch.b, sizeof e[i].epoch.b);
    }
    return m;
}

struct err *signature_from_pb(const ProtobufCBinaryData *m, struct signature *out)
{
    if (m->len > sizeof out->b)
        return err_new(ERR_INVALID, "field 'signature': %zu bytes, at most %zu", m->len,
                       sizeof out->b);
    out->n = m->len;
    if (m->len > 0)
        memcpy(out->b, m->data, m->len);
    return NULL;
}

struct err *proof_from_pb(const Stillpoint__V1__Proof *m, struct proof *out)
{
    *out = (struct proof){.frozen_at_ns = m->frozen_at_ns,
                          .captured_at_ns = m->captured_at_ns,
                          .thawed_at_ns = m->thawed_at_ns,
                          .unbroken = m->unbroken,
                          .cut_unix_ms = m->cut_unix_ms};
    TRY(name_copy(out->node.text, m->node, "field 'node':"));
    TRY(name_copy(out->part.text, m->partition, "field 'partition':"));
    TRY(token_from_pb(m->token, &out->token));
    TRY(domain_copy(&out->domain, m->domain));
    TRY(epoch_from_pb(&m->epoch, &out->epoch));
    if (m->epochs_digest.len != sizeof out->epochs.b)
        return err_new(ERR_INVALID, "field 'epochs_digest': %zu bytes instead of %zu",
                       m->epochs_digest.len, sizeof out->epochs.b);
    memcpy(out->epochs.b, m->epochs_digest.data, sizeof out->epochs.b);
    if (m->evidence > STILLPOINT__V1__EVIDENCE__EVIDENCE_ASSERTED)
        return err_new(ERR_INVALID, "field 'evidence': unknown value %d",
                       (int)m->evidence);
    out->evidence = (enum evidence)m->evidence;
    if (strlen(m->boot_id) >= sizeof out->boot_id || strlen(m->capture) >= CAPTURE_BYTES)
        return err_new(ERR_INVALID, "field 'boot_id' or 'capture': too long");
    memcpy(out->boot_id, m->boot_id, strlen(m->boot_id) + 1);
    memcpy(out->capture.text, m->capture, strlen(m->capture) + 1);
    return signature_from_pb(&m->signature, &out->signature);
}

Stillpoint__V1__Proof *proof_to_pb(const struct set_id *set, const struct proof *p)
{
    Stillpoint__V1__Proof *m = mem_alloc(sizeof *m);
    stillpoint__v1__proof__init(m);
    pb_set(&m->set, set->text);
    pb_set(&m->node, p->node.text);
    pb_set(&m->partition, p->part.text);
    m->token = token_to_pb(&p->token);
    pb_set(&m->boot_id, p->boot_id);
    pb_set(&m->domain, p->domain.text);
    pb_set_bytes(&m->epoch, p->epoch.b, sizeof p->epoch.b);
    pb_set_bytes(&m->epochs_digest, p->epochs.b, sizeof p->epochs.b);
    m->frozen_at_ns = p->frozen_at_ns;
    m->captured_at_ns = p->captured_at_ns;
    m->thawed_at_ns = p->thawed_at_ns;
    m->unbroken = p->unbroken;
    m->evidence = (Stillpoint__V1__Evidence)p->evidence;
    pb_set(&m->capture, p->capture.text);
    m->cut_unix_ms = p->cut_unix_ms;
    pb_set_bytes(&m->signature, p->signature.b, p->signature.n);
    return m;
}

struct err *proofs_from_pb(Stillpoint__V1__Proof **m, size_t n, struct proof **out)
{
    *out = NULL;
    if (n > CUT_MAX_PARTS)
        return err_new(ERR_LIMIT, "field 'proofs': %zu, at most %d", n, CUT_MAX_PARTS);
    struct proof *p = mem_array(n, sizeof *p);
    for (size_t i = 0; i < n; i++) {
        struct err *bad = proof_from_pb(m[i], &p[i]);
        if (bad) {
            free(p);
            return err_wrap(bad, "field 'proofs[%zu]'", i);
        }
    }
    *out = p;
    return NULL;
}

Stillpoint__V1__Proof **proofs_to_pb(const struct set_id *set, const struct proof *p,
                                     size_t n)
{
    Stillpoint__V1__Proof **m = mem_array(n, sizeof *m);
    for (size_t i = 0; i < n; i++)
        m[i] = proof_to_pb(set, &p[i]);
    return m;
}

static bool is_required(const Stillpoint__V1__GroupSpec *s, const Stillpoint__V1__Part *p)
{
    size_t n = strlen(p->node);
    for (size_t i = 0; i < s->n_required; i++)
        if (strncmp(s->required[i], p->node, n) == 0 && s->required[i][n] == '/' &&
            strcmp(s->required[i] + n + 1, p->partition) == 0)
            return true;
    return false;
}

bool part_is_missing(const Stillpoint__V1__SetRecord *r, const Stillpoint__V1__Part *p)
{
    return r->spec &&
           r->spec->consistency == STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED &&
           p->state == STILLPOINT__V1__PART_STATE__PART_MISSING &&
           !is_required(r->spec, p);
}

size_t record_missing(const Stillpoint__V1__SetRecord *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_parts; i++)
        n += part_is_missing(r, r->parts[i]);
    return n;
}

static struct err *check_part(const Stillpoint__V1__SetRecord *r,
                              const Stillpoint__V1__Part *p)
{
    if (part_is_missing(r, p))
        return p->proof ? err_new(ERR_CORRUPT, "part '%s/%s' is missing, but proved",
                                  p->node, p->partition)
                        : NULL;
    if (!p->proof)
        return err_new(ERR_CORRUPT, "part '%s/%s' has no proof", p->node, p->partition);
    if (strcmp(p->proof->node, p->node) != 0 ||
        strcmp(p->proof->partition, p->partition) != 0)
        return err_new(ERR_CORRUPT, "part '%s/%s' carries the proof of another part",
                       p->node, p->partition);
    if (strcmp(p->proof->set, r->set) != 0)
        return err_new(ERR_CORRUPT, "part '%s/%s' carries the proof of another set",
                       p->node, p->partition);
    return NULL;
}

static bool is_missing_on(const Stillpoint__V1__SetRecord *r, const char *domain)
{
    for (size_t i = 0; i < r->n_parts; i++) {
        size_t n = strlen(r->parts[i]->node);
        if (part_is_missing(r, r->parts[i]) &&
            strncmp(domain, r->parts[i]->node, n) == 0 && domain[n] == '/')
            return true;
    }
    return false;
}

static bool is_proved(const struct proof *proofs, size_t n, const struct domain_id *d)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(proofs[i].domain.text, d->text) == 0)
            return true;
    return false;
}

/* A domain that was frozen for nothing is one of a part that the record says is missing.
 */
static struct err *check_domains(const Stillpoint__V1__SetRecord *r,
                                 const struct domain_epoch *epochs,
                                 const struct proof *proofs, size_t n_proofs)
{
    for (size_t i = 0; i < r->n_epochs; i++)
        if (!is_proved(proofs, n_proofs, &epochs[i].domain) &&
            !is_missing_on(r, epochs[i].domain.text))
            return err_new(ERR_CORRUPT,
                           "domain '%s' was frozen but no part was captured in it",
                           epochs[i].domain.text);
    return NULL;
}

static struct err *prove(const struct set_id *set, const Stillpoint__V1__SetRecord *r,
                         const struct domain_epoch *epochs)
{
    struct proof *proofs = mem_array(r->n_parts, sizeof *proofs);
    size_t n = 0;
    struct err *e = NULL;
    for (size_t i = 0; i < r->n_parts && !e; i++)
        if (!part_is_missing(r, r->parts[i]))
            e = proof_from_pb(r->parts[i]->proof, &proofs[n++]);
    if (!e)
        e = cut_verify_parts(set, epochs, r->n_epochs, proofs, n);
    if (!e)
        e = check_domains(r, epochs, proofs, n);
    free(proofs);
    return e;
}

struct err *record_prove(const Stillpoint__V1__SetRecord *r)
{
    struct set_id set;
    TRY(name_copy(set.text, r->set, "set"));
    for (size_t i = 0; i < r->n_parts; i++)
        TRY(check_part(r, r->parts[i]));
    struct domain_epoch *epochs = NULL;
    TRY(epochs_from_pb(r->epochs, r->n_epochs, &epochs));
    struct err *e = prove(&set, r, epochs);
    free(epochs);
    return e;
}

static const char *enum_text(const ProtobufCEnumDescriptor *d, int value,
                             const char *prefix)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);
    return v ? v->name + strlen(prefix) : "UNKNOWN";
}

const char *set_state_text(Stillpoint__V1__SetState s)
{
    return enum_text(&stillpoint__v1__set_state__descriptor, s, "SET_");
}

const char *part_state_text(Stillpoint__V1__PartState s)
{
    return enum_text(&stillpoint__v1__part_state__descriptor, s, "PART_");
}

const char *task_state_text(Stillpoint__V1__TaskState s)
{
    return enum_text(&stillpoint__v1__task_state__descriptor, s, "TASK_");
}

const char *evidence_text(Stillpoint__V1__Evidence e)
{
    return enum_text(&stillpoint__v1__evidence__descriptor, e, "EVIDENCE_");
}
