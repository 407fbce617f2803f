#include "common/wire/convert.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "tests/unit/cut.h"
#include "tests/unit/suite.h"

/* The record of a sound cut. */
static Stillpoint__V1__SetRecord *record_of(const struct cut *c)
{
    Stillpoint__V1__SetRecord *r = mem_alloc(sizeof *r);
    stillpoint__v1__set_record__init(r);
    pb_set(&r->set, c->set.text);
    r->epochs = epochs_to_pb(c->epochs, CUT_NODES);
    r->n_epochs = CUT_NODES;
    for (size_t i = 0; i < CUT_NODES; i++) {
        Stillpoint__V1__Part *p = mem_alloc(sizeof *p);
        stillpoint__v1__part__init(p);
        pb_set(&p->node, c->proofs[i].node.text);
        pb_set(&p->partition, c->proofs[i].part.text);
        p->proof = proof_to_pb(&c->set, &c->proofs[i]);
        *PB_APPEND(r, parts) = p;
    }
    return r;
}

START_TEST(a_proof_survives_the_wire)
{
    struct cut c;
    struct proof back;
    cut_make(&c);
    Stillpoint__V1__Proof *m = proof_to_pb(&c.set, &c.proofs[1]);
    size_t n;
    void *bytes = wire_pack(&m->base, &n);
    AUTO(wire) ProtobufCMessage *read = NULL;
    ck_ok(wire_unpack(&stillpoint__v1__proof__descriptor, bytes, n, &read));
    ck_ok(proof_from_pb((Stillpoint__V1__Proof *)read, &back));
    const struct proof *p = &c.proofs[1];
    ck_assert_str_eq(back.node.text, p->node.text);
    ck_assert_str_eq(back.part.text, p->part.text);
    ck_assert_str_eq(back.boot_id, p->boot_id);
    ck_assert_str_eq(back.domain.text, p->domain.text);
    ck_assert_str_eq(back.capture.text, p->capture.text);
    ck_assert_int_eq(token_compare(&back.token, &p->token), TOKEN_SAME);
    ck_assert_mem_eq(&back.epoch, &p->epoch, sizeof p->epoch);
    ck_assert(digest_equal(&back.epochs, &p->epochs));
    ck_assert_int_eq(back.frozen_at_ns, p->frozen_at_ns);
    ck_assert_int_eq(back.captured_at_ns, p->captured_at_ns);
    ck_assert_int_eq(back.thawed_at_ns, p->thawed_at_ns);
    ck_assert_int_eq(back.cut_unix_ms, p->cut_unix_ms);
    ck_assert_int_eq(back.evidence, p->evidence);
    ck_assert(back.unbroken);
    free(bytes);
    wire_free(&m->base);
}
END_TEST

START_TEST(epochs_survive_and_too_many_are_refused)
{
    struct cut c;
    cut_make(&c);
    struct domain_epoch *back = NULL;
    Stillpoint__V1__SetRecord *r = record_of(&c);
    ck_ok(epochs_from_pb(r->epochs, r->n_epochs, &back));
    for (size_t i = 0; i < CUT_NODES; i++) {
        ck_assert_str_eq(back[i].domain.text, c.epochs[i].domain.text);
        ck_assert_mem_eq(&back[i].epoch, &c.epochs[i].epoch, sizeof back[i].epoch);
    }
    free(back);
    ck_err(epochs_from_pb(r->epochs, CUT_MAX_PARTS + 1, &back), ERR_LIMIT);
    struct proof *proofs = NULL;
    ck_err(proofs_from_pb(NULL, CUT_MAX_PARTS + 1, &proofs), ERR_LIMIT);
    wire_free(&r->base);
}
END_TEST

/* Each way in which a proof from the wire may be wrong, and what must be said of it. */
static void no_node(Stillpoint__V1__Proof *m)
{
    pb_set(&m->node, "");
}
static void climbing_part(Stillpoint__V1__Proof *m)
{
    pb_set(&m->partition, "../etc");
}
static void no_token(Stillpoint__V1__Proof *m)
{
    wire_free(&m->token->base);
    m->token = NULL;
}
static void short_incarnation(Stillpoint__V1__Proof *m)
{
    pb_set_bytes(&m->token->incarnation, "abc", 3);
}
static void no_revision(Stillpoint__V1__Proof *m)
{
    m->token->revision = 0;
}
static void no_domain(Stillpoint__V1__Proof *m)
{
    pb_set(&m->domain, "");
}
static void long_epoch(Stillpoint__V1__Proof *m)
{
    pb_set_bytes(&m->epoch, "0123456789abcdef0", 17);
}
static void no_digest(Stillpoint__V1__Proof *m)
{
    pb_set_bytes(&m->epochs_digest, NULL, 0);
}
static void unknown_evidence(Stillpoint__V1__Proof *m)
{
    m->evidence = 99;
}
static void negative_evidence(Stillpoint__V1__Proof *m)
{
    m->evidence = (Stillpoint__V1__Evidence)-1;
}
static void long_boot_id(Stillpoint__V1__Proof *m)
{
    pb_set(&m->boot_id, "0123456789012345678901234567890123456789");
}
static void long_capture(Stillpoint__V1__Proof *m)
{
    char text[CAPTURE_BYTES + 1];
    memset(text, 'c', CAPTURE_BYTES);
    text[CAPTURE_BYTES] = '\0';
    pb_set(&m->capture, text);
}

static const struct {
    void (*spoil)(Stillpoint__V1__Proof *m);
    const char *says;
} faults[] = {
    {no_node, "field 'node': '' is not a name"},
    {climbing_part, "field 'partition': '../etc' is not a name"},
    {no_token, "field 'token': missing"},
    {short_incarnation, "field 'token.incarnation': 3 bytes instead of 16"},
    {no_revision, "field 'token.revision': must be above 0"},
    {no_domain, "domain '' has 0 bytes"},
    {long_epoch, "field 'epoch': 17 bytes instead of 16"},
    {no_digest, "field 'epochs_digest': 0 bytes instead of 32"},
    {unknown_evidence, "field 'evidence': unknown value 99"},
    {negative_evidence, "field 'evidence': unknown value -1"},
    {long_boot_id, "field 'boot_id' or 'capture': too long"},
    {long_capture, "field 'boot_id' or 'capture': too long"},
};

START_TEST(what_is_wrong_with_a_proof_is_named)
{
    struct cut c;
    struct proof out;
    cut_make(&c);
    Stillpoint__V1__Proof *m = proof_to_pb(&c.set, &c.proofs[0]);
    faults[_i].spoil(m);
    AUTO(err) struct err *e = proof_from_pb(m, &out);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_INVALID);
    AUTO(str) char *text = err_text(e);
    ck_assert_msg(strstr(text, faults[_i].says) == text, "'%s' does not begin with '%s'",
                  text, faults[_i].says);
    wire_free(&m->base);
}
END_TEST

START_TEST(a_record_of_a_cut_proves_it)
{
    struct cut c;
    cut_make(&c);
    Stillpoint__V1__SetRecord *r = record_of(&c);
    ck_ok(record_prove(r));
    wire_free(&r->base);
}
END_TEST

static void drop_proof(Stillpoint__V1__SetRecord *r)
{
    wire_free(&r->parts[1]->proof->base);
    r->parts[1]->proof = NULL;
}
static void rename_part(Stillpoint__V1__SetRecord *r)
{
    pb_set(&r->parts[1]->partition, "log");
}
static void rename_set(Stillpoint__V1__SetRecord *r)
{
    pb_set(&r->set, "s2");
}
static void swap_epoch(Stillpoint__V1__SetRecord *r)
{
    r->epochs[1]->epoch.data[0] ^= 1;
}
static void break_hold(Stillpoint__V1__SetRecord *r)
{
    r->parts[1]->proof->unbroken = false;
}
static void drop_part(Stillpoint__V1__SetRecord *r)
{
    r->n_parts--;
    wire_free(&r->parts[r->n_parts]->base);
}

static const struct {
    void (*falsify)(Stillpoint__V1__SetRecord *r);
    const char *says;
} forgeries[] = {
    {drop_proof, "part 'n1/db' has no proof"},
    {rename_part, "part 'n1/log' carries the proof of another part"},
    {rename_set, "part 'n0/db' carries the proof of another set"},
    {swap_epoch, "part 'n0/db': its digest is not that of the epochs of this cut"},
    {break_hold, "part 'n1/db': its hold was broken before the capture"},
    {drop_part, "domain 'n2/cgroup:db' was frozen but no part was captured in it"},
};

START_TEST(a_falsified_record_is_found_out)
{
    struct cut c;
    cut_make(&c);
    Stillpoint__V1__SetRecord *r = record_of(&c);
    forgeries[_i].falsify(r);
    AUTO(err) struct err *e = record_prove(r);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_CORRUPT);
    AUTO(str) char *text = err_text(e);
    ck_assert_str_eq(text, forgeries[_i].says);
    wire_free(&r->base);
}
END_TEST

/* Its last part was frozen with the others and then failed. */
static Stillpoint__V1__SetRecord *relaxed_record_of(const struct cut *c)
{
    Stillpoint__V1__SetRecord *r = record_of(c);
    Stillpoint__V1__Part *last = r->parts[r->n_parts - 1];
    if (!r->spec) {
        r->spec = mem_alloc(sizeof *r->spec);
        stillpoint__v1__group_spec__init(r->spec);
    }
    r->spec->consistency = STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED;
    wire_free(&last->proof->base);
    last->proof = NULL;
    last->state = STILLPOINT__V1__PART_STATE__PART_MISSING;
    return r;
}

static void make_strict(Stillpoint__V1__SetRecord *r)
{
    r->spec->consistency = STILLPOINT__V1__CONSISTENCY__CONSISTENCY_STRICT;
}
static void require_what_is_missing(Stillpoint__V1__SetRecord *r)
{
    *PB_APPEND(r->spec, required) = mem_strdup("n2/db");
}
static void hide_missing(Stillpoint__V1__SetRecord *r)
{
    drop_part(r);
}
static void miss_what_is_proved(Stillpoint__V1__SetRecord *r)
{
    r->parts[0]->state = STILLPOINT__V1__PART_STATE__PART_MISSING;
}
static void lose_a_second(Stillpoint__V1__SetRecord *r)
{
    drop_proof(r);
}
static void miss_all(Stillpoint__V1__SetRecord *r)
{
    for (size_t i = 0; i < r->n_parts; i++) {
        if (r->parts[i]->proof)
            wire_free(&r->parts[i]->proof->base);
        r->parts[i]->proof = NULL;
        r->parts[i]->state = STILLPOINT__V1__PART_STATE__PART_MISSING;
    }
}

static const struct {
    void (*falsify)(Stillpoint__V1__SetRecord *r);
    const char *says;
} relaxed_forgeries[] = {
    {make_strict, "part 'n2/db' has no proof"},
    {require_what_is_missing, "part 'n2/db' has no proof"},
    {hide_missing, "domain 'n2/cgroup:db' was frozen but no part was captured in it"},
    {miss_what_is_proved, "part 'n0/db' is missing, but proved"},
    {lose_a_second, "part 'n1/db' has no proof"},
    {swap_epoch, "part 'n0/db': its digest is not that of the epochs of this cut"},
    {miss_all, "set 's1' has no proofs"},
};

START_TEST(a_relaxed_record_is_proved_without_what_it_names_as_missing)
{
    struct cut c;
    cut_make(&c);
    Stillpoint__V1__SetRecord *r = relaxed_record_of(&c);
    ck_ok(record_prove(r));
    ck_assert_uint_eq(record_missing(r), 1);
    relaxed_forgeries[_i].falsify(r);
    AUTO(err) struct err *e = record_prove(r);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_CORRUPT);
    AUTO(str) char *text = err_text(e);
    ck_assert_str_eq(text, relaxed_forgeries[_i].says);
    wire_free(&r->base);
}
END_TEST

START_TEST(a_copy_shares_nothing)
{
    struct cut c;
    cut_make(&c);
    Stillpoint__V1__SetRecord *r = record_of(&c);
    Stillpoint__V1__SetRecord *copy = (void *)pb_copy(&r->base);
    wire_free(&r->base);
    ck_ok(record_prove(copy));
    wire_free(&copy->base);
}
END_TEST

START_TEST(names_of_states_have_no_prefix_and_unknown_ones_do_not_crash)
{
    ck_assert_str_eq(set_state_text(STILLPOINT__V1__SET_STATE__SET_COMPLETE), "COMPLETE");
    ck_assert_str_eq(evidence_text(STILLPOINT__V1__EVIDENCE__EVIDENCE_ASSERTED),
                     "ASSERTED");
    ck_assert_str_eq(set_state_text((Stillpoint__V1__SetState)4711), "UNKNOWN");
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("convert");
    tcase_add_test(tc, a_proof_survives_the_wire);
    tcase_add_test(tc, epochs_survive_and_too_many_are_refused);
    tcase_add_loop_test(tc, what_is_wrong_with_a_proof_is_named, 0, ARRAY_LEN(faults));
    tcase_add_test(tc, a_record_of_a_cut_proves_it);
    tcase_add_loop_test(tc, a_falsified_record_is_found_out, 0, ARRAY_LEN(forgeries));
    tcase_add_loop_test(tc, a_relaxed_record_is_proved_without_what_it_names_as_missing,
                        0, ARRAY_LEN(relaxed_forgeries));
    tcase_add_test(tc, a_copy_shares_nothing);
    tcase_add_test(tc, names_of_states_have_no_prefix_and_unknown_ones_do_not_crash);
    return suite_main("convert", tc);
}
