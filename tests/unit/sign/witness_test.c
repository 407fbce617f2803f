/* Signatures by every kind of key, and whom they are believed of. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/sign/witness.h"
#include "common/wire/convert.h"
#include "common/wire/wire.h"
#include "tests/unit/suite.h"

static char dir[64];
static const int64_t now_ms =
    1893456000000; /* 2030, within the life of these certificates */

static void shell(const char *command)
{
    AUTO(str)
    char *line = mem_printf("cd %s && ( set -e; %s ) >/dev/null 2>&1", dir, command);
    ck_assert_msg(system(line) == 0, "%s", command);
}

/* A key of that kind and its certificate, issued by `ca` for that identity. */
static void issue(const char *ca, const char *name, const char *key, const char *id)
{
    AUTO(str)
    char *line = mem_printf(
        "openssl genpkey %s -out %s.key; chmod 600 %s.key;"
        "openssl req -new -key %s.key -subj /O=t |"
        "openssl x509 -req -CA %s.pem -CAkey %s.key -days 20000 -set_serial 0x$(openssl "
        "rand -hex 8)"
        " -extfile <(printf "
        "'subjectAltName=URI:%s\\nbasicConstraints=critical,CA:FALSE') -out %s.pem",
        key, name, name, name, ca, ca, id, name);
    AUTO(str) char *bash = mem_printf("bash -c \"%s\"", line);
    shell(bash);
}

static void authority(const char *name)
{
    AUTO(str)
    char *line = mem_printf("openssl req -x509 -newkey ec -pkeyopt "
                            "ec_paramgen_curve:P-256 -nodes -subj /CN=%s "
                            "-days 20000 -keyout %s.key -out %s.pem -addext "
                            "basicConstraints=critical,CA:TRUE",
                            name, name, name);
    shell(line);
}

static const char ec[] = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

static void make_certificates(void)
{
    strcpy(dir, "/tmp/stillpoint-sign-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    authority("ca");
    authority("other");
    issue("ca", "ec", ec, "spiffe://demo/agent/n1");
    issue("ca", "ed", "-algorithm ED25519", "spiffe://demo/agent/n1");
    issue("ca", "rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
          "spiffe://demo/agent/n1");
    issue("ca", "coord", ec, "spiffe://demo/coordinator/c1");
    issue("ca", "elsewhere", ec, "spiffe://else/agent/n1");
    issue("other", "stranger", ec, "spiffe://demo/agent/n1");
}

static void remove_certificates(void)
{
    AUTO(str) char *line = mem_printf("rm -rf %s", dir);
    ck_assert_int_eq(system(line), 0);
}

static struct err *open_signer(const char *name, const char *cluster, struct signer **out)
{
    AUTO(str) char *ca = mem_printf("%s/ca.pem", dir);
    AUTO(str) char *cert = mem_printf("%s/%s.pem", dir, name);
    AUTO(str) char *key = mem_printf("%s/%s.key", dir, name);
    const struct rpc_tls tls = {ca, cert, key};
    return signer_open(&tls, cluster, out);
}

static struct signer *signer_of(const char *name, const char *cluster)
{
    struct signer *s = NULL;
    ck_ok(open_signer(name, cluster, &s));
    return s;
}

static struct trust *trust_in(const char *ca)
{
    AUTO(str) char *file = mem_printf("%s/%s.pem", dir, ca);
    struct trust *t = NULL;
    ck_ok(trust_open(file, "demo", &t));
    return t;
}

static Stillpoint__V1__Proof *some_proof(void)
{
    const struct set_id set = {"s1"};
    struct proof p = {.node = {"n1"},
                      .part = {"p"},
                      .token = {{1}, 7},
                      .boot_id = "b",
                      .domain = {"n1/cgroup:/x"},
                      .frozen_at_ns = 1,
                      .captured_at_ns = 2,
                      .thawed_at_ns = 3,
                      .unbroken = true,
                      .evidence = EVIDENCE_KERNEL,
                      .capture = {"s1.p"}};
    return proof_to_pb(&set, &p);
}

/* As the coordinator would look at it. */
static struct err *judged(const char *who, const char *cluster, const char *ca,
                          const char *node, int64_t when)
{
    AUTO(signer) struct signer *s = signer_of(who, cluster);
    AUTO(trust) struct trust *t = trust_in(ca);
    Stillpoint__V1__Signer *m = signer_to_pb(s);
    Stillpoint__V1__Proof *p = some_proof();
    ck_ok(witness_sign_proofs(s, &p, 1));
    struct err *e = witness_check_proofs(t, m, node, &p, 1, when);
    wire_free(&m->base);
    wire_free(&p->base);
    return e;
}

START_TEST(every_kind_of_key_signs)
{
    ck_ok(judged("ec", "demo", "ca", "n1", now_ms));
    ck_ok(judged("ed", "demo", "ca", "n1", now_ms));
    ck_ok(judged("rsa", "demo", "ca", "n1", now_ms));
}
END_TEST

/* Such a key agrees on secrets, and a certificate may name it all the same. */
START_TEST(a_key_that_cannot_sign_is_refused_at_the_start)
{
    struct signer *s = NULL;
    shell("openssl genpkey -algorithm X25519 -out mute.key");
    shell("openssl pkey -in mute.key -pubout -out mute.pub");
    shell("chmod 600 mute.key");
    shell("bash -c \"openssl req -new -key ec.key -subj /O=t | openssl x509 -req -CA "
          "ca.pem "
          "-CAkey ca.key -days 20000 -set_serial 0x77 -force_pubkey mute.pub -extfile "
          "<(echo 'subjectAltName=URI:spiffe://demo/agent/n1') -out mute.pem\"");
    AUTO(err) struct err *e = open_signer("mute", "demo", &s);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(e->kind, ERR_INVALID);
    AUTO(str) char *text = err_text(e);
    ck_assert_ptr_nonnull(strstr(
        text, "its key (X25519, 253 bits) cannot sign proofs: make one of Ed25519"));
}
END_TEST

START_TEST(only_the_node_itself_is_believed)
{
    ck_err(judged("ec", "demo", "ca", "n2", now_ms), ERR_DENIED);
    ck_err(judged("coord", "demo", "ca", "n1", now_ms), ERR_DENIED);
    ck_err(judged("elsewhere", "else", "ca", "n1", now_ms), ERR_DENIED);
    ck_err(judged("stranger", "demo", "ca", "n1", now_ms), ERR_DENIED);
    ck_ok(judged("stranger", "demo", "other", "n1", now_ms));
}
END_TEST

START_TEST(certificates_count_for_their_time)
{
    ck_err(judged("ec", "demo", "ca", "n1", 1000), ERR_DENIED);          /* 1970 */
    ck_err(judged("ec", "demo", "ca", "n1", 4102444800000), ERR_DENIED); /* 2100 */
}
END_TEST

/* Each member of the statement: changed, the signature is nobody's. */
START_TEST(nothing_can_be_changed_behind_a_signature)
{
    static const size_t numbers[] = {offsetof(Stillpoint__V1__Proof, frozen_at_ns),
                                     offsetof(Stillpoint__V1__Proof, captured_at_ns),
                                     offsetof(Stillpoint__V1__Proof, thawed_at_ns),
                                     offsetof(Stillpoint__V1__Proof, cut_unix_ms)};
    static const size_t texts[] = {
        offsetof(Stillpoint__V1__Proof, set), offsetof(Stillpoint__V1__Proof, partition),
        offsetof(Stillpoint__V1__Proof, boot_id), offsetof(Stillpoint__V1__Proof, domain),
        offsetof(Stillpoint__V1__Proof, capture)};
    AUTO(signer) struct signer *s = signer_of("ec", "demo");
    AUTO(trust) struct trust *t = trust_in("ca");
    Stillpoint__V1__Signer *m = signer_to_pb(s);
    Stillpoint__V1__Proof *p = some_proof();
    ck_ok(witness_sign_proofs(s, &p, 1));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        int64_t *n = (int64_t *)((char *)p + numbers[i]);
        (*n)++;
        ck_err(witness_check_proofs(t, m, "n1", &p, 1, now_ms), ERR_CORRUPT);
        (*n)--;
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        char *text = *(char **)((char *)p + texts[i]);
        text[0] ^= 1;
        ck_err(witness_check_proofs(t, m, "n1", &p, 1, now_ms), ERR_CORRUPT);
        text[0] ^= 1;
    }
    p->epochs_digest.data[31] ^= 1;
    ck_err(witness_check_proofs(t, m, "n1", &p, 1, now_ms), ERR_CORRUPT);
    p->epochs_digest.data[31] ^= 1;
    p->signature.data[p->signature.len - 1] ^= 1;
    ck_err(witness_check_proofs(t, m, "n1", &p, 1, now_ms), ERR_CORRUPT);
    p->signature.data[p->signature.len - 1] ^= 1;
    ck_ok(witness_check_proofs(t, m, "n1", &p, 1, now_ms));
    wire_free(&m->base);
    wire_free(&p->base);
}
END_TEST

START_TEST(certificates_that_are_none_are_refused)
{
    AUTO(signer) struct signer *s = signer_of("ec", "demo");
    AUTO(trust) struct trust *t = trust_in("ca");
    AUTO(peer) struct peer *peer = NULL;
    Stillpoint__V1__Signer *m = signer_to_pb(s);
    size_t n = m->certificates[0].len;
    m->certificates[0].len = n - 1;
    ck_err(trust_peer(t, m, RPC_AGENT, now_ms, &peer), ERR_DENIED);
    m->certificates[0].len = 0;
    ck_err(trust_peer(t, m, RPC_AGENT, now_ms, &peer), ERR_DENIED);
    m->certificates[0].len = n;
    m->certificates[0].data[n - 1] ^= 1; /* the authority's signature */
    ck_err(trust_peer(t, m, RPC_AGENT, now_ms, &peer), ERR_DENIED);
    m->certificates[0].data[n - 1] ^= 1;
    pb_set(&m->id, "spiffe://demo/agent/n2");
    ck_err(trust_peer(t, m, RPC_AGENT, now_ms, &peer), ERR_DENIED);
    pb_set(&m->id, "spiffe://demo/agent/n1");
    ck_ok(trust_peer(t, m, RPC_AGENT, now_ms, &peer));
    wire_free(&m->base);
}
END_TEST

START_TEST(a_seal_is_a_coordinators_and_of_these_bytes)
{
    AUTO(signer) struct signer *coord = signer_of("coord", "demo");
    AUTO(signer) struct signer *agent = signer_of("ec", "demo");
    AUTO(trust) struct trust *t = trust_in("ca");
    AUTO(str) char *seal = NULL;
    AUTO(str) char *forged = NULL;
    AUTO(str) char *who = NULL;
    ck_ok(witness_seal(coord, "{}", 2, &seal));
    ck_ok(witness_check_seal(t, "{}", 2, seal, strlen(seal), now_ms, &who));
    ck_assert_str_eq(who, "spiffe://demo/coordinator/c1");
    ck_err(witness_check_seal(t, "{ }", 3, seal, strlen(seal), now_ms, NULL),
           ERR_CORRUPT);
    ck_ok(witness_seal(agent, "{}", 2, &forged));
    ck_err(witness_check_seal(t, "{}", 2, forged, strlen(forged), now_ms, NULL),
           ERR_DENIED);
    ck_err(witness_check_seal(t, "{}", 2, "{}", 2, now_ms, NULL), ERR_CORRUPT);
}
END_TEST

/* n1/p is captured, n2/q and n2/r are missing; the coordinator has signed the order. */
static Stillpoint__V1__SetRecord *relaxed_record(void)
{
    AUTO(signer) struct signer *coord = signer_of("coord", "demo");
    AUTO(signer) struct signer *agent = signer_of("ec", "demo");
    static const char *const names[][2] = {{"n1", "p"}, {"n2", "q"}, {"n2", "r"}};
    Stillpoint__V1__SetRecord *r = mem_alloc(sizeof *r);
    stillpoint__v1__set_record__init(r);
    pb_set(&r->set, "s1");
    r->cut_unix_ms = now_ms;
    r->spec = mem_alloc(sizeof *r->spec);
    stillpoint__v1__group_spec__init(r->spec);
    r->spec->consistency = STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        Stillpoint__V1__Part *p = mem_alloc(sizeof *p);
        stillpoint__v1__part__init(p);
        pb_set(&p->node, names[i][0]);
        pb_set(&p->partition, names[i][1]);
        p->state = STILLPOINT__V1__PART_STATE__PART_MISSING;
        *PB_APPEND(r, parts) = p;
    }
    r->parts[0]->state = STILLPOINT__V1__PART_STATE__PART_CAPTURED;
    r->parts[0]->proof = some_proof();
    ck_ok(witness_sign_proofs(agent, &r->parts[0]->proof, 1));
    *PB_APPEND(r, signers) = signer_to_pb(agent);
    r->order = mem_alloc(sizeof *r->order);
    stillpoint__v1__cut_order__init(r->order);
    pb_set(&r->order->coordinator, "c1");
    ck_ok(witness_sign_order(coord, r));
    return r;
}

static void forget_a_missing_part(Stillpoint__V1__SetRecord *r)
{
    wire_free(&r->parts[--r->n_parts]->base);
}
static void forget_all_missing_parts(Stillpoint__V1__SetRecord *r)
{
    forget_a_missing_part(r);
    forget_a_missing_part(r);
}
static void rename_a_missing_part(Stillpoint__V1__SetRecord *r)
{
    pb_set(&r->parts[2]->partition, "s");
}
static void call_it_strict(Stillpoint__V1__SetRecord *r)
{
    r->spec->consistency = STILLPOINT__V1__CONSISTENCY__CONSISTENCY_STRICT;
}
static void call_another_missing(Stillpoint__V1__SetRecord *r)
{
    r->parts[0]->state = STILLPOINT__V1__PART_STATE__PART_MISSING;
}

static void (*const relaxed_forgeries[])(Stillpoint__V1__SetRecord *r) = {
    forget_a_missing_part, forget_all_missing_parts, rename_a_missing_part,
    call_it_strict, call_another_missing};

START_TEST(what_a_relaxed_set_misses_is_signed)
{
    AUTO(trust) struct trust *t = trust_in("ca");
    Stillpoint__V1__SetRecord *r = relaxed_record();
    ck_ok(witness_check_record(t, r));
    relaxed_forgeries[_i](r);
    ck_err(witness_check_record(t, r), ERR_CORRUPT);
    wire_free(&r->base);
}
END_TEST

START_TEST(a_clock_before_or_behind_the_certificate_is_told_of)
{
    AUTO(signer) struct signer *s = signer_of("ec", "demo");
    ck_ok(signer_check_time(s, now_ms));
    AUTO(err) struct err *early = signer_check_time(s, 1000);
    AUTO(err) struct err *late = signer_check_time(s, 4102444800000);
    ck_assert_ptr_nonnull(early);
    ck_assert_ptr_nonnull(late);
    ck_assert_ptr_nonnull(strstr(early->msg, "shows 1970-01-01 00:00:01: set the clock"));
    ck_assert_ptr_nonnull(strstr(late->msg,
                                 "shows 2100-01-01 00:00:00: set the clock, or "
                                 "issue a new certificate"));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("witness");
    tcase_add_unchecked_fixture(tc, make_certificates, remove_certificates);
    tcase_add_test(tc, every_kind_of_key_signs);
    tcase_add_test(tc, a_key_that_cannot_sign_is_refused_at_the_start);
    tcase_add_test(tc, only_the_node_itself_is_believed);
    tcase_add_test(tc, certificates_count_for_their_time);
    tcase_add_test(tc, nothing_can_be_changed_behind_a_signature);
    tcase_add_test(tc, certificates_that_are_none_are_refused);
    tcase_add_test(tc, a_seal_is_a_coordinators_and_of_these_bytes);
    tcase_add_loop_test(tc, what_a_relaxed_set_misses_is_signed, 0,
                        ARRAY_LEN(relaxed_forgeries));
    tcase_add_test(tc, a_clock_before_or_behind_the_certificate_is_told_of);
    return suite_main("signatures", tc);
}
