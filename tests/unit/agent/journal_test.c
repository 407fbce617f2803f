#include "agent/shell/journal.h"

#include <string.h>

#include "common/base/mem.h"
#include "tests/unit/cut.h"
#include "tests/unit/suite.h"

static const struct node_id node = {"n0"};

/* A set as the journal keeps it, in `state`. */
static struct session *make_set(const struct cut *c, const char *name,
                                enum session_state state)
{
    struct set_id id;
    snprintf(id.text, sizeof id.text, "%s", name);
    struct session *s = session_new(&id);
    session_restore(s, state);
    s->token = c->token;
    s->hold_limit_ms = 9000;
    s->rehearsal = state == SESSION_FROZEN;
    s->freeze_timeout_ms = 4000;
    s->parts = mem_array(1, sizeof *s->parts);
    s->n_parts = 1;
    s->parts[0].part = c->proofs[0].part;
    s->parts[0].domain = c->epochs[0].domain;
    s->parts[0].predicted_pause_ms = 12;
    if (state >= SESSION_FROZEN) {
        s->epochs = mem_dup(c->epochs, sizeof c->epochs[0]);
        s->n_epochs = 1;
    }
    if (state >= SESSION_COMMITTING) {
        s->all_epochs = mem_dup(c->epochs, sizeof c->epochs);
        s->n_all_epochs = CUT_NODES;
        s->cut_unix_ms = 77;
    }
    if (state >= SESSION_JOURNALING) {
        s->proofs = mem_dup(c->proofs, sizeof c->proofs[0]);
        s->n_proofs = 1;
    }
    if (state >= SESSION_ABORTING)
        strcpy(s->error, "it was \"told\" to");
    return s;
}

static void make_sessions(struct sessions *s)
{
    struct cut c;
    cut_make(&c);
    sessions_init(s, &node);
    for (int state = SESSION_NEW; state <= SESSION_ABORTED; state++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "set%d", state);
        ck_ok(sessions_load(s, make_set(&c, name, (enum session_state)state)));
    }
    fence_raise(&s->fence, &c.epochs[0].domain, &c.token);
    fence_raise(&s->fence, &c.epochs[1].domain, &c.token);
}

static void same_set(const struct session *a, const struct session *b)
{
    ck_assert_str_eq(a->set.text, b->set.text);
    ck_assert_int_eq(token_compare(&a->token, &b->token), TOKEN_SAME);
    ck_assert_int_eq(a->hold_limit_ms, b->hold_limit_ms);
    ck_assert_int_eq(a->rehearsal, b->rehearsal);
    ck_assert_int_eq(a->freeze_timeout_ms, b->freeze_timeout_ms);
    ck_assert_uint_eq(a->n_parts, b->n_parts);
    ck_assert_str_eq(a->parts[0].part.text, b->parts[0].part.text);
    ck_assert_str_eq(a->parts[0].domain.text, b->parts[0].domain.text);
    ck_assert_int_eq(a->parts[0].predicted_pause_ms, b->parts[0].predicted_pause_ms);
    ck_assert_uint_eq(a->n_epochs, b->n_epochs);
    ck_assert_uint_eq(a->n_all_epochs, b->n_all_epochs);
    for (size_t i = 0; i < a->n_all_epochs; i++) {
        ck_assert_str_eq(a->all_epochs[i].domain.text, b->all_epochs[i].domain.text);
        ck_assert_mem_eq(&a->all_epochs[i].epoch, &b->all_epochs[i].epoch,
                         sizeof a->all_epochs[i].epoch);
    }
    ck_assert_int_eq(a->cut_unix_ms, b->cut_unix_ms);
    ck_assert_str_eq(a->error, b->error);
    ck_assert_uint_eq(a->n_proofs, b->n_proofs);
    for (size_t i = 0; i < a->n_proofs; i++) {
        ck_assert_str_eq(a->proofs[i].boot_id, b->proofs[i].boot_id);
        ck_assert_str_eq(a->proofs[i].capture.text, b->proofs[i].capture.text);
        ck_assert(digest_equal(&a->proofs[i].epochs, &b->proofs[i].epochs));
        ck_assert_int_eq(a->proofs[i].thawed_at_ns, b->proofs[i].thawed_at_ns);
        ck_assert_int_eq(a->proofs[i].evidence, b->proofs[i].evidence);
        ck_assert_int_eq(a->proofs[i].unbroken, b->proofs[i].unbroken);
    }
}

START_TEST(sets_and_fence_come_back_as_they_were)
{
    struct sessions *was = mem_zalloc(sizeof *was), *is = mem_zalloc(sizeof *is);
    make_sessions(was);
    AUTO(str) char *text = journal_encode(was);
    sessions_init(is, &node);
    ck_ok(journal_decode(text, strlen(text), is));
    ck_assert_uint_eq(is->n_sets, was->n_sets);
    for (size_t i = 0; i < is->n_sets; i++) {
        same_set(is->sets[i], was->sets[i]);
        ck_assert_int_eq(is->sets[i]->sm.state, was->sets[i]->sm.state);
    }
    ck_assert_mem_eq(is->fence.incarnation, was->fence.incarnation, 16);
    ck_assert_uint_eq(is->fence.n_domains, 2);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(
            token_compare(&is->fence.domains[i].token, &was->fence.domains[i].token),
            TOKEN_SAME);
    AUTO(str) char *again = journal_encode(is);
    ck_assert_str_eq(again, text);
    sessions_fini(was);
    sessions_fini(is);
    free(was);
    free(is);
}
END_TEST

/* The entry that is read is the one that was being made durable. */
START_TEST(a_capture_being_journaled_is_a_capture_once_it_is_read)
{
    struct sessions *s = mem_zalloc(sizeof *s), *is = mem_zalloc(sizeof *is);
    struct cut c;
    cut_make(&c);
    sessions_init(s, &node);
    struct session *set = make_set(&c, "s1", SESSION_COMMITTING);
    ck_ok(sessions_load(s, set));
    const struct session_event ev = {
        .kind = SESSION_EV_COMMITTED, .set = {"s1"}, .proofs = c.proofs, .n_proofs = 1};
    struct session_acts acts;
    session_acts_init(&acts);
    sessions_step(s, &ev, &acts);
    ck_assert_int_eq(set->sm.state, SESSION_JOURNALING);
    AUTO(str) char *text = journal_encode(s);
    sessions_init(is, &node);
    ck_ok(journal_decode(text, strlen(text), is));
    ck_assert_int_eq(is->sets[0]->sm.state, SESSION_CAPTURED);
    session_acts_fini(&acts);
    sessions_fini(s);
    sessions_fini(is);
    free(s);
    free(is);
}
END_TEST

#define TOKEN "{\"incarnation\":\"WlpaWlpaWlpaWlpaWlpaWg==\",\"revision\":\"7\"}"
#define HEAD "{\"schema\":1,\"node\":\"n0\","
#define SET_OF(state)                                                                    \
    "{\"set\":\"s1\",\"state\":\"" state "\",\"token\":" TOKEN                           \
    ",\"parts\":[{\"partition\":\"db\",\"domain\":\"n0/cgroup:db\"}]}"
#define FENCE_OF(revision)                                                               \
    "{\"domain\":\"d\",\"token\":{\"incarnation\":\"WlpaWlpaWlpaWlpaWlpaWg==\","         \
    "\"revision\":\"" revision "\"}}"

static const struct {
    const char *text;
    enum err_kind kind;
    const char *says;
} bad[] = {
    {"", ERR_INVALID, "journal"},
    {"{\"schema\":1,\"node\":\"n0\"", ERR_INVALID, "journal"}, /* cut short */
    {"[]", ERR_INVALID, "journal"},
    {"{}", ERR_CORRUPT, "schema"},
    {"{\"node\":\"n0\"}", ERR_CORRUPT, "schema"},
    {"{\"schema\":1,\"node\":\"n1\"}", ERR_CORRUPT, "belongs to node 'n1', this is 'n0'"},
    {"{\"schema\":2,\"node\":\"n0\"}", ERR_INVALID, "written by a newer version"},
    {HEAD "\"incarnation\":\"WlpaWg==\"}", ERR_CORRUPT, "incarnation of 4 bytes"},
    {HEAD "\"sets\":[" SET_OF("SLEEPING") "]}", ERR_CORRUPT, "unknown state 'SLEEPING'"},
    {HEAD "\"sets\":[{\"set\":\"../x\",\"state\":\"NEW\"}]}", ERR_INVALID,
     "set '../x' is not a name"},
    {HEAD "\"sets\":[{\"set\":\"s1\",\"state\":\"NEW\"}]}", ERR_INVALID,
     "set 's1': field 'token': missing"},
    {HEAD "\"sets\":[" SET_OF("CAPTURED") "]}", ERR_CORRUPT,
     "captured, but 0 proofs for 1 partitions"},
    {HEAD "\"sets\":[" SET_OF("NEW") "," SET_OF("ABORTED") "]}", ERR_CORRUPT,
     "set 's1': listed twice"},
    {HEAD "\"fence\":[" FENCE_OF("9") "," FENCE_OF("8") "]}", ERR_CORRUPT,
     "domain 'd': listed twice"},
    {HEAD "\"fence\":[{\"domain\":\"d\"}]}", ERR_INVALID, "field 'token': missing"},
};

START_TEST(a_journal_that_is_none_is_refused)
{
    struct sessions *s = mem_zalloc(sizeof *s);
    sessions_init(s, &node);
    AUTO(err) struct err *e = journal_decode(bad[_i].text, strlen(bad[_i].text), s);
    ck_assert_ptr_nonnull(e);
    AUTO(str) char *text = err_text(e);
    ck_assert_msg(strstr(text, bad[_i].says) != NULL, "'%s' is not in '%s'", bad[_i].says,
                  text);
    ck_assert_str_eq(err_kind_name(e->kind), err_kind_name(bad[_i].kind));
    sessions_fini(s);
    free(s);
}
END_TEST

/* Within a version, members may be added. */
START_TEST(members_of_a_later_release_are_passed_over)
{
    static const char text[] = HEAD "\"mood\":\"good\",\"sets\":[" SET_OF("NEW") "]}";
    struct sessions *s = mem_zalloc(sizeof *s);
    sessions_init(s, &node);
    ck_ok(journal_decode(text, strlen(text), s));
    ck_assert_uint_eq(s->n_sets, 1);
    sessions_fini(s);
    free(s);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("journal");
    tcase_add_test(tc, sets_and_fence_come_back_as_they_were);
    tcase_add_test(tc, a_capture_being_journaled_is_a_capture_once_it_is_read);
    tcase_add_loop_test(tc, a_journal_that_is_none_is_refused, 0, ARRAY_LEN(bad));
    tcase_add_test(tc, members_of_a_later_release_are_passed_over);
    return suite_main("journal", tc);
}
