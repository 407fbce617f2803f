#include "coordinator/flow/plan.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/cut.h"
#include "common/wire/convert.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "tests/unit/suite.h"

enum { NOW = 100000 };

/* Registers a node whose partitions "a", "b"... share one domain if `shared`. */
static void add_node(struct registry *r, const char *name, size_t n, bool shared,
                     int64_t seen_ms)
{
    struct node_info info = {.n_parts = n};
    snprintf(info.node.text, sizeof info.node.text, "%s", name);
    snprintf(info.address, sizeof info.address, "%s:7421", name);
    info.parts = mem_array(n, sizeof *info.parts);
    for (size_t i = 0; i < n; i++) {
        struct part_info *p = &info.parts[i];
        snprintf(p->part.text, sizeof p->part.text, "%c", (char)('a' + i));
        snprintf(p->domain.text, sizeof p->domain.text, "%s/cgroup:%c", name,
                 (char)(shared ? 'x' : 'a' + i));
        snprintf(p->path, sizeof p->path, "/srv/%c", (char)('a' + i));
        p->quiesces = true;
    }
    ck_ok(registry_put(r, &info, seen_ms));
}

static struct part_info *part_of(struct registry *r, const char *node, size_t i)
{
    struct node_id id;
    snprintf(id.text, sizeof id.text, "%s", node);
    return &registry_find(r, &id)->info.parts[i];
}

static void refuses(const struct registry *r, const char *const *names, size_t n,
                    enum err_kind kind, const char *says)
{
    struct plan *p = NULL;
    AUTO(err) struct err *e = plan_make(r, names, n, true, NOW, &p);
    ck_assert_ptr_nonnull(e);
    ck_assert_ptr_null(p);
    AUTO(str) char *text = err_text(e);
    ck_assert_str_eq(text, says);
    ck_assert_str_eq(err_kind_name(e->kind), err_kind_name(kind));
}

START_TEST(parts_are_sorted_and_grouped_by_node)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "n1", 2, false, NOW);
    add_node(&r, "n2", 1, false, NOW);
    static const char *const names[] = {"n2/a", "n1/b", "n1/a"};
    AUTO(plan) struct plan *p = NULL;
    ck_ok(plan_make(&r, names, 3, true, NOW, &p));
    ck_assert_uint_eq(p->n_parts, 3);
    ck_assert_str_eq(p->parts[0].part.text, "a");
    ck_assert_str_eq(p->parts[1].part.text, "b");
    ck_assert_str_eq(p->parts[2].node.text, "n2");
    ck_assert_str_eq(p->parts[1].path, "/srv/b");
    ck_assert_uint_eq(p->n_nodes, 2);
    ck_assert_str_eq(p->nodes[0].address, "n1:7421");
    ck_assert_uint_eq(p->nodes[0].first, 0);
    ck_assert_uint_eq(p->nodes[0].n, 2);
    ck_assert_uint_eq(p->nodes[1].first, 2);
    ck_assert_uint_eq(p->nodes[1].n, 1);
    ck_assert_uint_eq(p->n_domains, 3);
    registry_fini(&r);
}
END_TEST

START_TEST(a_shared_domain_is_locked_once)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "n1", 3, true, NOW);
    static const char *const names[] = {"n1/a", "n1/b", "n1/c"};
    AUTO(plan) struct plan *p = NULL;
    ck_ok(plan_make(&r, names, 3, true, NOW, &p));
    ck_assert_uint_eq(p->n_parts, 3);
    ck_assert_uint_eq(p->n_domains, 1);
    ck_assert_str_eq(p->domains[0].text, "n1/cgroup:x");
    registry_fini(&r);
}
END_TEST

START_TEST(each_fault_says_what_to_do)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "n1", 1, false, NOW);
    add_node(&r, "gone", 1, false, NOW - REGISTRY_GONE_MS);
    add_node(&r, "ill", 1, false, NOW);
    add_node(&r, "loose", 1, false, NOW);
    strcpy(part_of(&r, "ill", 0)->error, "its disk is full");
    part_of(&r, "loose", 0)->quiesces = false;
    refuses(&r, (const char *const[]){"n1"}, 1, ERR_INVALID,
            "partition 'n1' is not of the form node/partition");
    refuses(&r, (const char *const[]){"N1/a"}, 1, ERR_INVALID,
            "node 'N1' is not a name: 1 to 63 of a-z 0-9 . _ -, not beginning with . or "
            "-");
    refuses(&r, (const char *const[]){"n1/a/b"}, 1, ERR_INVALID,
            "partition 'a/b' is not a name: 1 to 63 of a-z 0-9 . _ -, not beginning with "
            ". or -");
    refuses(&r, (const char *const[]){"n9/a"}, 1, ERR_NOT_FOUND,
            "n9/a: no agent of this node has ever registered");
    refuses(&r, (const char *const[]){"n1/z"}, 1, ERR_NOT_FOUND,
            "n1/z: the agent's file has no such partition");
    refuses(&r, (const char *const[]){"gone/a"}, 1, ERR_UNAVAILABLE,
            "gone/a: its agent is away: start it or wait for it");
    refuses(&r, (const char *const[]){"ill/a"}, 1, ERR_CONFLICT,
            "ill/a: its disk is full");
    refuses(&r, (const char *const[]){"loose/a"}, 1, ERR_CONFLICT,
            "loose/a: quiesce 'none' cannot be part of a strict group: choose cgroup, "
            "fsfreeze or hook, or mark the partition read_only");
    refuses(&r, (const char *const[]){"n1/a", "n1/a"}, 2, ERR_INVALID,
            "partition 'n1/a' is listed twice");
    refuses(&r, NULL, 0, ERR_INVALID, "the group has no partitions");
    registry_fini(&r);
}
END_TEST

START_TEST(a_relaxed_group_takes_partitions_that_do_not_quiesce)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "loose", 1, false, NOW);
    part_of(&r, "loose", 0)->quiesces = false;
    static const char *const names[] = {"loose/a"};
    AUTO(plan) struct plan *p = NULL;
    ck_ok(plan_make(&r, names, 1, false, NOW, &p));
    ck_assert_uint_eq(p->n_parts, 1);
    registry_fini(&r);
}
END_TEST

START_TEST(a_relaxed_plan_goes_on_without_what_cannot_be_taken)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "n1", 3, false, NOW);
    add_node(&r, "n2", 1, false, NOW);
    add_node(&r, "gone", 1, false, NOW - REGISTRY_GONE_MS);
    strcpy(part_of(&r, "n1", 1)->error, "its disk is full");
    static const char *const names[] = {"n1/a", "n1/b", "n1/c", "n2/a", "gone/a", "n9/a"};
    AUTO(plan) struct plan *p = NULL;
    ck_ok(plan_make(&r, names, 6, false, NOW, &p));
    ck_assert_uint_eq(p->n_parts, 6);
    ck_assert_uint_eq(p->n_nodes, 2);
    ck_assert_uint_eq(p->n_domains, 3);
    ck_assert_str_eq(p->nodes[0].node.text, "n1");
    ck_assert_uint_eq(p->nodes[0].first, 1); /* behind gone/a */
    ck_assert_uint_eq(p->nodes[0].n, 3);
    ck_assert_str_eq(p->parts[0].error, "its agent is away: start it or wait for it");
    ck_assert_str_eq(p->parts[2].error, "its disk is full");
    ck_assert_str_eq(p->parts[5].error, "no agent of this node has ever registered");
    ck_assert_ptr_null(p->parts[4].error);
    ck_ok(plan_leave_out(p, &r, &p->parts[1].node, "no such repository"));
    ck_assert_uint_eq(p->n_nodes, 1);
    ck_assert_uint_eq(p->n_domains, 1);
    ck_assert_str_eq(p->parts[1].error, "no such repository");
    ck_assert_str_eq(p->parts[2].error, "its disk is full");
    ck_err(plan_leave_out(p, &r, &p->parts[4].node, "none there either"), ERR_CONFLICT);
    registry_fini(&r);
}
END_TEST

START_TEST(a_relaxed_plan_of_nothing_is_refused)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "gone", 1, false, NOW - REGISTRY_GONE_MS);
    static const char *const names[] = {"gone/a", "n9/a"};
    struct plan *p = NULL;
    AUTO(err) struct err *e = plan_make(&r, names, 2, false, NOW, &p);
    ck_assert_ptr_nonnull(e);
    ck_assert_str_eq(e->msg, "gone/a: its agent is away: start it or wait for it; n9/a: "
                             "no agent of this node has ever registered");
    registry_fini(&r);
}
END_TEST

START_TEST(all_faults_are_told_at_once)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "n1", 1, false, NOW);
    refuses(&r, (const char *const[]){"n9/a", "n1/a", "n1/z"}, 3, ERR_NOT_FOUND,
            "n9/a: no agent of this node has ever registered; n1/z: the agent's file has "
            "no such partition");
    registry_fini(&r);
}
END_TEST

/* Waiting helps against a node that is away, not against what else is wrong. */
START_TEST(a_fault_that_waiting_cannot_cure_decides_the_kind)
{
    struct registry r;
    registry_init(&r);
    add_node(&r, "gone", 1, false, 0);
    add_node(&r, "n1", 1, false, NOW);
    static const char *const away = "gone/a: its agent is away: start it or wait for it";
    static const char *const none = "n1/z: the agent's file has no such partition";
    AUTO(str) char *first = mem_printf("%s; %s", away, none);
    AUTO(str) char *last = mem_printf("%s; %s", none, away);
    refuses(&r, (const char *const[]){"gone/a", "n1/z"}, 2, ERR_NOT_FOUND, first);
    refuses(&r, (const char *const[]){"n1/z", "gone/a"}, 2, ERR_NOT_FOUND, last);
    registry_fini(&r);
}
END_TEST

START_TEST(the_text_of_many_faults_is_bounded)
{
    struct registry r;
    registry_init(&r);
    static char names[CUT_MAX_PARTS][16];
    static const char *list[CUT_MAX_PARTS + 1];
    for (size_t i = 0; i < CUT_MAX_PARTS; i++) {
        snprintf(names[i], sizeof names[i], "n%zu/a", i);
        list[i] = names[i];
    }
    list[CUT_MAX_PARTS] = "n1/a";
    struct plan *p = NULL;
    AUTO(err) struct err *e = plan_make(&r, list, CUT_MAX_PARTS, true, NOW, &p);
    ck_assert_int_eq(e->kind, ERR_NOT_FOUND);
    ck_assert_uint_gt(strlen(e->msg), 900);
    ck_assert_uint_lt(strlen(e->msg), 1500);
    ck_err(plan_make(&r, list, CUT_MAX_PARTS + 1, true, NOW, &p), ERR_LIMIT);
    registry_fini(&r);
}
END_TEST

/* As it is stored, with everything as long as it can be. */
static size_t captured_bytes(const struct plan *p)
{
    static const char error[] = "";
    static const uint8_t certificate[1500];
    Stillpoint__V1__SetRecord *r = mem_alloc(sizeof *r);
    stillpoint__v1__set_record__init(r);
    const struct set_id set = {
        "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"};
    pb_set(&r->set, set.text);
    for (size_t i = 0; i < p->n_parts; i++) {
        const struct plan_part *x = &p->parts[i];
        Stillpoint__V1__Part *m = mem_alloc(sizeof *m);
        stillpoint__v1__part__init(m);
        struct proof proof = {.node = x->node,
                              .part = x->part,
                              .token = {{255}, INT64_MAX},
                              .domain = x->domain,
                              .frozen_at_ns = INT64_MAX,
                              .captured_at_ns = INT64_MAX,
                              .thawed_at_ns = INT64_MAX,
                              .unbroken = true,
                              .evidence = EVIDENCE_KERNEL_CURRENT,
                              .cut_unix_ms = INT64_MAX,
                              .signature = {72, {0}}};
        memset(proof.boot_id, 'b', 36);
        capture_id_make(&set, &x->part, &proof.capture);
        m->proof = proof_to_pb(&set, &proof);
        pb_set(&m->node, x->node.text);
        pb_set(&m->partition, x->part.text);
        pb_set(&m->path, x->path);
        pb_set(&m->capture, proof.capture.text);
        pb_set(&m->error, error);
        m->snapshot_id = mem_printf("%064d", 1);
        m->tree_id = mem_printf("%064d", 1);
        m->files = m->bytes_read = m->bytes_stored = m->upload_ms = INT64_MAX;
        m->predicted_pause_ms = INT64_MAX;
        m->state = STILLPOINT__V1__PART_STATE__PART_VERIFIED;
        *PB_APPEND(r, parts) = m;
    }
    r->n_epochs = p->n_domains;
    r->epochs = mem_array(p->n_domains, sizeof(void *));
    for (size_t i = 0; i < p->n_domains; i++) {
        const struct domain_epoch e = {p->domains[i], {{255}}};
        Stillpoint__V1__DomainEpoch **one = epochs_to_pb(&e, 1);
        r->epochs[i] = one[0];
        free(one);
    }
    for (size_t i = 0; i < p->n_nodes; i++) {
        Stillpoint__V1__Signer *s = mem_alloc(sizeof *s);
        stillpoint__v1__signer__init(s);
        s->id = mem_printf("spiffe://%063d/agent/%s", 1, p->nodes[i].node.text);
        ProtobufCBinaryData *der = PB_APPEND(s, certificates);
        *der = (ProtobufCBinaryData){0};
        pb_set_bytes(der, certificate, sizeof certificate);
        *PB_APPEND(r, signers) = s;
    }
    AUTO(str) char *json = pbjson_encode(&r->base, 0);
    wire_free(&r->base);
    return strlen(json);
}

START_TEST(a_record_that_might_not_fit_is_refused_before_anything_freezes)
{
    enum { NODES = 40, EACH = 26 };
    struct registry r;
    registry_init(&r);
    static char names[NODES * EACH][16];
    static const char *list[NODES * EACH];
    for (size_t i = 0; i < NODES; i++) {
        char node[8];
        snprintf(node, sizeof node, "n%zu", i);
        add_node(&r, node, EACH, false, NOW);
        for (size_t k = 0; k < EACH; k++) {
            snprintf(names[i * EACH + k], sizeof names[0], "%s/%c", node,
                     (char)('a' + k));
            list[i * EACH + k] = names[i * EACH + k];
        }
    }
    struct plan *none = NULL;
    ck_err(plan_make(&r, list, NODES * EACH, true, NOW, &none), ERR_LIMIT);
    AUTO(plan) struct plan *p = NULL;
    size_t fits = NODES * EACH / 2;
    ck_ok(plan_make(&r, list, fits, true, NOW, &p));
    ck_assert_uint_le(captured_bytes(p), plan_record_bytes(p));
    registry_fini(&r);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("plan");
    tcase_add_test(tc, parts_are_sorted_and_grouped_by_node);
    tcase_add_test(tc, a_shared_domain_is_locked_once);
    tcase_add_test(tc, each_fault_says_what_to_do);
    tcase_add_test(tc, a_relaxed_group_takes_partitions_that_do_not_quiesce);
    tcase_add_test(tc, a_relaxed_plan_goes_on_without_what_cannot_be_taken);
    tcase_add_test(tc, a_relaxed_plan_of_nothing_is_refused);
    tcase_add_test(tc, all_faults_are_told_at_once);
    tcase_add_test(tc, a_fault_that_waiting_cannot_cure_decides_the_kind);
    tcase_add_test(tc, the_text_of_many_faults_is_bounded);
    tcase_add_test(tc, a_record_that_might_not_fit_is_refused_before_anything_freezes);
    return suite_main("plan", tc);
}
