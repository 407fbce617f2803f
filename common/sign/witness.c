#include "common/sign/witness.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/wire/convert.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"

typedef Stillpoint__V1__Proof Proof;
typedef Stillpoint__V1__Signer Signer;
typedef Stillpoint__V1__SetRecord SetRecord;

/* ---- statements: one line a member; texts with their length, so that none can pretend
 * to be two ---- */

static void line_text(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, "%s %zu %s\n", name, strlen(text), text);
}

/* Neither has a slash in it. */
static void line_pair(struct buf *b, const char *name, const char *left,
                      const char *right)
{
    buf_printf(b, "%s %zu %s/%s\n", name, strlen(left) + 1 + strlen(right), left, right);
}

static void line_number(struct buf *b, const char *name, int64_t n)
{
    buf_printf(b, "%s %" PRId64 "\n", name, n);
}

static void line_bytes(struct buf *b, const char *name, const ProtobufCBinaryData *d)
{
    buf_printf(b, "%s ", name);
    for (size_t i = 0; i < d->len; i++)
        buf_printf(b, "%02x", d->data[i]);
    buf_char(b, '\n');
}

static void line_token(struct buf *b, const Stillpoint__V1__Token *t)
{
    static const Stillpoint__V1__Token none = STILLPOINT__V1__TOKEN__INIT;
    line_bytes(b, "incarnation", t ? &t->incarnation : &none.incarnation);
    line_number(b, "revision", t ? t->revision : 0);
}

static void statement_of_proof(const Proof *p, struct buf *out)
{
    buf_str(out, "stillpoint proof 1\n");
    line_text(out, "set", p->set);
    line_text(out, "node", p->node);
    line_text(out, "partition", p->partition);
    line_token(out, p->token);
    line_text(out, "boot", p->boot_id);
    line_text(out, "domain", p->domain);
    line_bytes(out, "epoch", &p->epoch);
    line_bytes(out, "epochs", &p->epochs_digest);
    line_number(out, "frozen", p->frozen_at_ns);
    line_number(out, "captured", p->captured_at_ns);
    line_number(out, "thawed", p->thawed_at_ns);
    line_number(out, "unbroken", p->unbroken);
    line_text(out, "evidence", evidence_text(p->evidence));
    line_text(out, "capture", p->capture);
    line_number(out, "cut", p->cut_unix_ms);
}

static void statement_of_order(const SetRecord *r, struct buf *out)
{
    const Stillpoint__V1__CutOrder *o = r->order;
    size_t missing = record_missing(r);
    buf_printf(out, "stillpoint order %d\n", missing ? 2 : 1);
    line_text(out, "set", r->set);
    line_text(out, "coordinator", o->coordinator);
    line_token(out, r->token);
    line_text(out, "boot", o->boot_id);
    line_number(out, "commit", o->commit_at_ns);
    for (size_t i = 0; i < r->n_epochs; i++) {
        line_text(out, "domain", r->epochs[i]->domain);
        line_bytes(out, "epoch", &r->epochs[i]->epoch);
    }
    for (size_t i = 0; i < o->n_answers; i++) {
        line_text(out, "node", o->answers[i]->node);
        line_number(out, "frozen", o->answers[i]->frozen_at_ns);
        line_number(out, "captured", o->answers[i]->captured_at_ns);
    }
    line_number(out, "cut", r->cut_unix_ms);
    for (size_t i = 0; missing && i < r->n_parts; i++) {
        const Stillpoint__V1__Part *p = r->parts[i];
        if (part_is_missing(r, p))
            line_pair(out, "missing", p->node, p->partition);
    }
}

/* ---- signing ---- */

static struct err *sign(const struct signer *s, const struct buf *text,
                        ProtobufCBinaryData *to)
{
    struct signature sig;
    TRY(signer_sign(s, buf_text(text), text->len, &sig));
    pb_set_bytes(to, sig.b, sig.n);
    return NULL;
}

struct err *witness_sign_proofs(const struct signer *s, Proof **proofs, size_t n)
{
    AUTO_BUF struct buf text = {0};
    for (size_t i = 0; i < n; i++) {
        buf_clear(&text);
        statement_of_proof(proofs[i], &text);
        TRY(sign(s, &text, &proofs[i]->signature));
    }
    return NULL;
}

static const Signer *signer_named(const SetRecord *r, const char *id)
{
    for (size_t i = 0; i < r->n_signers; i++)
        if (strcmp(r->signers[i]->id, id) == 0)
            return r->signers[i];
    return NULL;
}

struct err *witness_sign_order(const struct signer *s, SetRecord *r)
{
    AUTO_BUF struct buf text = {0};
    if (!signer_named(r, signer_id(s)))
        *PB_APPEND(r, signers) = signer_to_pb(s);
    statement_of_order(r, &text);
    return sign(s, &text, &r->order->signature);
}

/* ---- checking ---- */

static struct err *check(const struct peer *p, const struct buf *text,
                         const ProtobufCBinaryData *stored)
{
    struct signature sig;
    TRY(signature_from_pb(stored, &sig));
    return peer_check(p, buf_text(text), text->len, &sig);
}

static struct err *check_proofs(const struct peer *peer, const char *node,
                                Proof *const *proofs, size_t n)
{
    AUTO_BUF struct buf text = {0};
    if (strcmp(peer_name(peer), node) != 0)
        return err_new(ERR_DENIED, "signed by '%s'", peer_name(peer));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(proofs[i]->node, node) != 0)
            return err_new(ERR_DENIED, "it speaks of node '%s'", proofs[i]->node);
        buf_clear(&text);
        statement_of_proof(proofs[i], &text);
        TRY_CTX(check(peer, &text, &proofs[i]->signature), "part '%s/%s': the proof is",
                node, proofs[i]->partition);
    }
    return NULL;
}

struct err *witness_check_proofs(const struct trust *t, const Signer *m, const char *node,
                                 Proof *const *proofs, size_t n, int64_t unix_ms)
{
    if (n == 0)
        return NULL;
    if (!m)
        return err_new(ERR_DENIED, "nobody signed the proofs of node '%s'", node);
    AUTO(peer) struct peer *peer = NULL;
    TRY(trust_peer(t, m, RPC_AGENT, unix_ms, &peer));
    return check_proofs(peer, node, proofs, n);
}

/* The signer of that role and name; the cluster is the trust's to compare. */
static struct err *find_signer(const SetRecord *r, unsigned role, const char *name,
                               const Signer **out)
{
    struct rpc_identity id;
    for (size_t i = 0; i < r->n_signers; i++) {
        TRY(rpc_identity_parse(r->signers[i]->id, &id));
        if (id.role == role && strcmp(id.name, name) == 0) {
            *out = r->signers[i];
            return NULL;
        }
    }
    return err_new(ERR_CORRUPT, "the record has no certificate of %s '%s'",
                   rpc_role_name(role), name);
}

static struct err *check_all_proofs(const struct trust *t, const SetRecord *r)
{
    const Signer *m = NULL;
    for (size_t i = 0; i < r->n_parts; i++) {
        const Stillpoint__V1__Part *p = r->parts[i];
        if (part_is_missing(r, p))
            continue;
        if (!p->proof)
            return err_new(ERR_CORRUPT, "part '%s/%s' has no proof", p->node,
                           p->partition);
        TRY_CTX(find_signer(r, RPC_AGENT, p->node, &m), "part '%s/%s'", p->node,
                p->partition);
        TRY(witness_check_proofs(t, m, p->node, &r->parts[i]->proof, 1, r->cut_unix_ms));
    }
    return NULL;
}

/* A coordinator that took the set over has not seen the answers to Freeze, and says so by
 * leaving their times out. */
static struct err *check_times(const Stillpoint__V1__CutOrder *o)
{
    for (size_t i = 0; i < o->n_answers; i++) {
        const Stillpoint__V1__CutAnswer *a = o->answers[i];
        if (a->frozen_at_ns && o->commit_at_ns && a->frozen_at_ns > o->commit_at_ns)
            return err_new(ERR_CORRUPT,
                           "order: Commit was sent before node '%s' had frozen", a->node);
        if (a->captured_at_ns && o->commit_at_ns && a->captured_at_ns < o->commit_at_ns)
            return err_new(ERR_CORRUPT,
                           "order: node '%s' had captured before Commit was sent",
                           a->node);
    }
    return NULL;
}

static struct err *check_order(const struct trust *t, const SetRecord *r)
{
    const Signer *m = NULL;
    AUTO_BUF struct buf text = {0};
    AUTO(peer) struct peer *peer = NULL;
    if (!r->order)
        return err_new(ERR_CORRUPT, "the record has no order of answers");
    TRY(find_signer(r, RPC_COORDINATOR, r->order->coordinator, &m));
    TRY(trust_peer(t, m, RPC_COORDINATOR, r->cut_unix_ms, &peer));
    statement_of_order(r, &text);
    TRY_CTX(check(peer, &text, &r->order->signature), "the order of answers is");
    return check_times(r->order);
}

struct err *witness_check_record(const struct trust *t, const SetRecord *r)
{
    TRY(check_all_proofs(t, r));
    return check_order(t, r);
}

/* ---- set.json.sig ---- */

struct err *witness_seal(const struct signer *s, const void *json, size_t n, char **out)
{
    struct signature sig;
    TRY(signer_sign(s, json, n, &sig));
    Stillpoint__V1__SetSeal *seal = mem_alloc(sizeof *seal);
    stillpoint__v1__set_seal__init(seal);
    seal->schema = 1;
    seal->signer = signer_to_pb(s);
    pb_set_bytes(&seal->signature, sig.b, sig.n);
    *out = pbjson_encode(&seal->base, PBJSON_PRETTY);
    wire_free(&seal->base);
    return NULL;
}

struct err *witness_check_seal(const struct trust *t, const void *json, size_t n,
                               const void *seal, size_t seal_n, int64_t unix_ms,
                               char **id)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    AUTO(peer) struct peer *peer = NULL;
    struct signature sig;
    TRY(pbjson_decode(&stillpoint__v1__set_seal__descriptor, seal, seal_n, 0, &m));
    const Stillpoint__V1__SetSeal *s = (const void *)m;
    if (!s->signer)
        return err_new(ERR_CORRUPT, "the seal names no signer");
    TRY(trust_peer(t, s->signer, RPC_COORDINATOR, unix_ms, &peer));
    TRY(signature_from_pb(&s->signature, &sig));
    TRY(peer_check(peer, json, n, &sig));
    if (id)
        *id = mem_strdup(s->signer->id);
    return NULL;
}
