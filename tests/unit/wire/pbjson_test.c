#include "common/wire/pbjson.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/suggest.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "grpc/reflection.pb-c.h"
#include "stillpoint/v1/records.pb-c.h"
#include "tests/unit/suite.h"

#define SET (&stillpoint__v1__set_record__descriptor)
#define SPEC (&stillpoint__v1__group_spec__descriptor)

/* --- a message with the types that our own protos do not use -------------------------
 */

struct odd {
    ProtobufCMessage base;
    double real;
    float small;
    uint64_t large;
    uint32_t fixed;
    int32_t zigzag;
    size_t n_numbers;
    int64_t *numbers;
};

static void odd_init(ProtobufCMessage *m);
#define ODD_FIELD(id, name, label, type, quantifier, member)                             \
    {                                                                                    \
#name, id, label, type, quantifier, offsetof(struct odd, member), NULL, NULL, 0, \
            0, NULL, NULL                                                                \
    }
static const ProtobufCFieldDescriptor odd_fields[] = {
    ODD_FIELD(1, real, PROTOBUF_C_LABEL_NONE, PROTOBUF_C_TYPE_DOUBLE, 0, real),
    ODD_FIELD(2, small, PROTOBUF_C_LABEL_NONE, PROTOBUF_C_TYPE_FLOAT, 0, small),
    ODD_FIELD(3, large_, PROTOBUF_C_LABEL_NONE, PROTOBUF_C_TYPE_UINT64, 0, large),
    ODD_FIELD(4, fixed, PROTOBUF_C_LABEL_NONE, PROTOBUF_C_TYPE_FIXED32, 0, fixed),
    ODD_FIELD(5, zig_zag, PROTOBUF_C_LABEL_NONE, PROTOBUF_C_TYPE_SINT32, 0, zigzag),
    ODD_FIELD(6, numbers, PROTOBUF_C_LABEL_REPEATED, PROTOBUF_C_TYPE_INT64,
              offsetof(struct odd, n_numbers), numbers),
};
static const ProtobufCIntRange odd_ranges[] = {{1, 0}, {0, ARRAY_LEN(odd_fields)}};
static const ProtobufCMessageDescriptor odd_descriptor = {
    .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
    .name = "test.Odd",
    .sizeof_message = sizeof(struct odd),
    .n_fields = ARRAY_LEN(odd_fields),
    .fields = odd_fields,
    .n_field_ranges = 1,
    .field_ranges = odd_ranges,
    .message_init = odd_init,
};

static void odd_init(ProtobufCMessage *m)
{
    *(struct odd *)m = (struct odd){.base = PROTOBUF_C_MESSAGE_INIT(&odd_descriptor)};
}

static ProtobufCMessage *decoded(const ProtobufCMessageDescriptor *md, const char *json)
{
    ProtobufCMessage *m = NULL;
    ck_ok(pbjson_decode(md, json, strlen(json), PBJSON_STRICT, &m));
    return m;
}

START_TEST(numbers_keep_their_value)
{
    AUTO(wire)
    ProtobufCMessage *m =
        decoded(&odd_descriptor, "{\"real\":-0.1,\"small\":1.5,\"large\":"
                                 "\"18446744073709551615\",\"fixed\":4294967295,"
                                 "\"zigZag\":-2147483648,\"numbers\":[\"-9223372036854775"
                                 "808\",9223372036854775807,1e3]}");
    struct odd *o = (struct odd *)m;
    ck_assert(o->real == -0.1);
    ck_assert(o->small == 1.5f);
    ck_assert(o->large == UINT64_MAX);
    ck_assert(o->fixed == UINT32_MAX);
    ck_assert(o->zigzag == INT32_MIN);
    ck_assert_uint_eq(o->n_numbers, 3);
    ck_assert(o->numbers[0] == INT64_MIN && o->numbers[1] == INT64_MAX);
    ck_assert(o->numbers[2] == 1000);
    AUTO(str) char *json = pbjson_encode(m, 0);
    AUTO(wire) ProtobufCMessage *again = decoded(&odd_descriptor, json);
    ck_assert(((struct odd *)again)->real == -0.1);
    ck_assert(((struct odd *)again)->large == UINT64_MAX);
    ck_assert_ptr_nonnull(strstr(json, "\"large\":\"18446744073709551615\""));
    ck_assert_ptr_nonnull(strstr(json, "\"fixed\":4294967295"));
}
END_TEST

START_TEST(special_reals_are_text)
{
    AUTO(wire)
    ProtobufCMessage *m =
        decoded(&odd_descriptor, "{\"real\":\"NaN\",\"small\":\"-Infinity\"}");
    ck_assert(isnan(((struct odd *)m)->real));
    ck_assert(isinf(((struct odd *)m)->small));
    AUTO(str) char *json = pbjson_encode(m, 0);
    ck_assert_str_eq(json, "{\"real\":\"NaN\",\"small\":\"-Infinity\"}");
}
END_TEST

START_TEST(numbers_out_of_range_are_refused)
{
    static const char *const bad[] = {
        "{\"fixed\":-1}",          "{\"fixed\":4294967296}",
        "{\"zigZag\":1.5}",        "{\"zigZag\":\"\"}",
        "{\"zigZag\":\" 1\"}",     "{\"zigZag\":2147483648}",
        "{\"large\":-1}",          "{\"large\":\"18446744073709551616\"}",
        "{\"large\":\"1x\"}",      "{\"numbers\":[1e300]}",
        "{\"real\":\"1e999\"}",    "{\"real\":\"nan\"}",
        "{\"real\":\"0x10\"}",     "{\"small\":1e39}",
        "{\"numbers\":[true]}",    "{\"numbers\":[null]}",
        "{\"numbers\":{}}",        "{\"real\":true}",
        "{\"real\":1,\"real\":1}", "{\"zigZag\":1,\"zig_zag\":1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ProtobufCMessage *m = NULL;
        struct err *e = pbjson_decode(&odd_descriptor, bad[i], strlen(bad[i]), 0, &m);
        ck_assert_msg(e && e->kind == ERR_INVALID, "%s", bad[i]);
        err_free(e);
    }
}
END_TEST

/* --- records ------------------------------------------------------------------------ */

START_TEST(records_look_as_proto3_json_says)
{
    Stillpoint__V1__GroupSpec spec = STILLPOINT__V1__GROUP_SPEC__INIT;
    char a[] = "n1/a \"quoted\"\n", b[] = "n2/\xc3\xa9";
    char *partitions[] = {a, b};
    spec.schema = 1;
    spec.n_partitions = 2;
    spec.partitions = partitions;
    spec.consistency = STILLPOINT__V1__CONSISTENCY__CONSISTENCY_RELAXED;
    spec.hold_limit_ms = 10000;
    Stillpoint__V1__Token token = STILLPOINT__V1__TOKEN__INIT;
    uint8_t incarnation[] = {0xff, 0xfe, 0};
    token.incarnation = (ProtobufCBinaryData){3, incarnation};
    Stillpoint__V1__SetRecord set = STILLPOINT__V1__SET_RECORD__INIT;
    set.spec = &spec;
    set.token = &token;
    set.state = STILLPOINT__V1__SET_STATE__SET_CAPTURED;
    AUTO(str) char *json = pbjson_encode(&set.base, 0);
    ck_assert_str_eq(json,
                     "{\"state\":\"SET_CAPTURED\",\"spec\":{\"schema\":1,\"partitions\":["
                     "\"n1/a \\\"quoted\\\"\\n\",\"n2/\xc3\xa9\"],\"consistency\":"
                     "\"CONSISTENCY_RELAXED\",\"holdLimitMs\":\"10000\"},\"token\":{"
                     "\"incarnation\":\"//4A\"}}");
}
END_TEST

START_TEST(default_values_are_shown_when_asked_for)
{
    Stillpoint__V1__Token token = STILLPOINT__V1__TOKEN__INIT;
    AUTO(str) char *none = pbjson_encode(&token.base, 0);
    AUTO(str) char *all = pbjson_encode(&token.base, PBJSON_DEFAULTS);
    ck_assert_str_eq(none, "{}");
    ck_assert_str_eq(all, "{\"incarnation\":\"\",\"revision\":\"0\"}");
}
END_TEST

START_TEST(enums_and_spellings_are_read_generously)
{
    AUTO(wire)
    ProtobufCMessage *m =
        decoded(SET, "{\"state\":7,\"created_unix_ms\":5,\"spec\":null,\"error\":null,"
                     "\"token\":{\"incarnation\":\"__4\"}}");
    Stillpoint__V1__SetRecord *set = (Stillpoint__V1__SetRecord *)m;
    ck_assert_int_eq(set->state, 7);
    ck_assert_int_eq(set->created_unix_ms, 5);
    ck_assert_ptr_null(set->spec);
    ck_assert_str_eq(set->error, "");
    ck_assert_uint_eq(set->token->incarnation.len, 2);
}
END_TEST

START_TEST(errors_name_the_place_and_the_nearest_member)
{
    static const struct {
        const char *json, *message;
    } bad[] = {
        {"{\"spec\":{\"prtitions\":[]}}",
         "spec.prtitions: unknown member, did you mean \"partitions\"?"},
        {"{\"parts\":[{},{\"proof\":{\"epohc\":\"\"}}]}",
         "parts[1].proof.epohc: unknown member, did you mean \"epoch\"?"},
        {"{\"quite_else\":1}", "quite_else: unknown member"},
        {"{\"state\":\"SET_CAPTURD\"}",
         "state: unknown value \"SET_CAPTURD\", did you mean \"SET_CAPTURED\"?"},
        {"{\"moves\":[{\"state\":true}]}", "moves[0].state: must be a name of SetState"},
        {"{\"spec\":[]}", "spec: must be an object"},
        {"{\"spec\":{\"partitions\":\"x\"}}", "spec.partitions: must be a list"},
        {"{\"spec\":{\"partitions\":[1]}}", "spec.partitions[0]: must be text"},
        {"{\"token\":{\"incarnation\":\"*\"}}", "token.incarnation: must be base64"},
        {"[]", "must be an object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ProtobufCMessage *m = NULL;
        AUTO(err)
        struct err *e =
            pbjson_decode(SET, bad[i].json, strlen(bad[i].json), PBJSON_STRICT, &m);
        ck_assert_msg(e, "%s", bad[i].json);
        AUTO(str) char *text = err_text(e);
        ck_assert_str_eq(text, bad[i].message);
    }
    ProtobufCMessage *m = NULL;
    ck_ok(pbjson_decode(SET, bad[0].json, strlen(bad[0].json), 0, &m));
    wire_free(m);
}
END_TEST

START_TEST(text_that_is_no_json_is_refused)
{
    static const char *const bad[] = {
        "",           "{",
        "{}x",        "{\"error\":\"\\u0000\"}",
        "nul",        "{\"a\":01}",
        "{'a':1}",    "{\"error\":\"\xff\"}",
        "{\"a\":1,}", "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ProtobufCMessage *m = NULL;
        ck_err(pbjson_decode(SET, bad[i], strlen(bad[i]), 0, &m), ERR_INVALID);
    }
    char *deep = mem_alloc(200001);
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    ProtobufCMessage *m = NULL;
    ck_err(pbjson_decode(SET, deep, 200000, 0, &m), ERR_INVALID);
    free(deep);
    char *large = mem_zalloc(PBJSON_BYTES + 1);
    ck_err(pbjson_decode(SET, large, PBJSON_BYTES + 1, 0, &m), ERR_LIMIT);
    free(large);
}
END_TEST

START_TEST(one_member_of_a_choice_only)
{
    const ProtobufCMessageDescriptor *md =
        &grpc__reflection__v1__server_reflection_request__descriptor;
    AUTO(wire) ProtobufCMessage *m = decoded(md, "{\"listServices\":\"\"}");
    Grpc__Reflection__V1__ServerReflectionRequest *r = (void *)m;
    ck_assert_int_eq(
        r->message_request_case,
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES);
    AUTO(str) char *json = pbjson_encode(m, 0);
    ck_assert_str_eq(json, "{\"listServices\":\"\"}");
    static const char both[] = "{\"listServices\":\"\",\"fileByFilename\":\"x\"}";
    ProtobufCMessage *none = NULL;
    ck_err(pbjson_decode(md, both, strlen(both), 0, &none), ERR_INVALID);
}
END_TEST

START_TEST(bytes_that_are_no_text_are_shown_repaired)
{
    Stillpoint__V1__Label label = STILLPOINT__V1__LABEL__INIT;
    char raw[] = "a\xff\xc3(\xed\xa0\x80z";
    label.value = raw;
    AUTO(str) char *json = pbjson_encode(&label.base, 0);
    ck_assert_ptr_nonnull(strstr(json, "a\xef\xbf\xbd\xef\xbf\xbd("));
    AUTO(wire)
    ProtobufCMessage *m = decoded(&stillpoint__v1__label__descriptor, json);
    ck_assert(utf8_valid(((Stillpoint__V1__Label *)m)->value));
}
END_TEST

/* --- round trips -------------------------------------------------------------------- */

static void fill(ProtobufCMessage *m, struct rng *rng, int depth);

static char *random_text(struct rng *rng)
{
    static const char *const pieces[] = {
        "a", "Z",    "\"",       "\\",           "\n",
        " ", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8e\x88"};
    char text[64] = "";
    for (uint64_t n = rng_below(rng, 10); n > 0; n--)
        strcat(text, pieces[rng_below(rng, ARRAY_LEN(pieces))]);
    return mem_strdup(text);
}

static uint64_t random_number(struct rng *rng)
{
    uint64_t n = rng_next(rng) >> rng_below(rng, 64);
    return rng_below(rng, 2) ? n : 0 - n;
}

static void fill_value(const ProtobufCFieldDescriptor *fd, void *at, struct rng *rng,
                       int depth)
{
    const ProtobufCMessageDescriptor *md = fd->descriptor;
    const ProtobufCEnumDescriptor *ed = fd->descriptor;
    ProtobufCBinaryData *bytes = at;
    switch (fd->type) {
    case PROTOBUF_C_TYPE_STRING:
        *(char **)at = random_text(rng);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        bytes->len = rng_below(rng, 20);
        bytes->data = bytes->len ? mem_alloc(bytes->len) : NULL;
        for (size_t i = 0; i < bytes->len; i++)
            bytes->data[i] = (uint8_t)rng_next(rng);
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)at = mem_zalloc(md->sizeof_message);
        protobuf_c_message_init(md, *(ProtobufCMessage **)at);
        fill(*(ProtobufCMessage **)at, rng, depth + 1);
        return;
    case PROTOBUF_C_TYPE_ENUM:
        *(int *)at = ed->values[rng_below(rng, ed->n_values)].value;
        return;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)at = (protobuf_c_boolean)rng_below(rng, 2);
        return;
    case PROTOBUF_C_TYPE_INT64:
        *(int64_t *)at = (int64_t)random_number(rng);
        return;
    default:
        *(uint32_t *)at = (uint32_t)random_number(rng);
    }
}

static size_t size_of(const ProtobufCFieldDescriptor *fd)
{
    switch (fd->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
    case PROTOBUF_C_TYPE_INT64:
        return 8;
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

static void fill(ProtobufCMessage *m, struct rng *rng, int depth)
{
    const ProtobufCMessageDescriptor *md = m->descriptor;
    for (unsigned i = 0; i < md->n_fields; i++) {
        const ProtobufCFieldDescriptor *fd = &md->fields[i];
        char *at = (char *)m + fd->offset;
        if (rng_below(rng, 3) == 0 || depth > 4)
            continue;
        if (fd->label != PROTOBUF_C_LABEL_REPEATED) {
            fill_value(fd, at, rng, depth);
            continue;
        }
        size_t n = rng_below(rng, 4);
        if (n == 0)
            continue;
        char *items = mem_array(n, size_of(fd));
        *(size_t *)((char *)m + fd->quantifier_offset) = n;
        *(char **)at = items;
        for (size_t k = 0; k < n; k++)
            fill_value(fd, items + k * size_of(fd), rng, depth);
    }
}

static void check_round_trip(const ProtobufCMessageDescriptor *md, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    AUTO(wire) ProtobufCMessage *m = mem_zalloc(md->sizeof_message);
    protobuf_c_message_init(md, m);
    fill(m, &rng, 0);
    AUTO(str) char *json = pbjson_encode(m, seed % 2 ? PBJSON_PRETTY : PBJSON_DEFAULTS);
    AUTO(wire) ProtobufCMessage *back = decoded(md, json);
    size_t n, n_back;
    AUTO(str) char *packed = wire_pack(m, &n);
    AUTO(str) char *packed_back = wire_pack(back, &n_back);
    ck_assert_msg(n == n_back && memcmp(packed, packed_back, n) == 0, "seed %lu: %s",
                  (unsigned long)seed, json);
    AUTO(wire) ProtobufCMessage *unpacked = NULL;
    ck_ok(wire_unpack(md, packed, n, &unpacked));
    AUTO(str) char *text = pbjson_encode(m, 0);
    AUTO(str) char *text_back = pbjson_encode(unpacked, 0);
    ck_assert_str_eq(text, text_back);
}

START_TEST(every_message_survives_json_and_bytes)
{
    const ProtobufCMessageDescriptor *const all[] = {
        SET,
        SPEC,
        &stillpoint__v1__task_record__descriptor,
        &stillpoint__v1__node_record__descriptor,
        &stillpoint__v1__audit_record__descriptor,
    };
    for (uint64_t seed = 0; seed < 400; seed++)
        check_round_trip(all[seed % ARRAY_LEN(all)], seed);
}
END_TEST

/* Whatever bytes come, there is a message or an error. */
START_TEST(damaged_bytes_are_an_error_or_a_message)
{
    struct rng rng;
    rng_init(&rng, 7);
    AUTO(wire) ProtobufCMessage *m = mem_zalloc(SET->sizeof_message);
    protobuf_c_message_init(SET, m);
    fill(m, &rng, 0);
    size_t n;
    AUTO(str) char *packed = wire_pack(m, &n);
    AUTO(str) char *json = pbjson_encode(m, 0);
    size_t json_len = strlen(json);
    for (int i = 0; i < 3000; i++) {
        AUTO(str) char *bytes = mem_dup(packed, n);
        AUTO(str) char *text = mem_dup(json, json_len);
        bytes[rng_below(&rng, n)] ^= (char)(1 << rng_below(&rng, 8));
        text[rng_below(&rng, json_len)] ^= (char)(1 << rng_below(&rng, 8));
        AUTO(wire) ProtobufCMessage *a = NULL;
        AUTO(wire) ProtobufCMessage *b = NULL;
        err_free(wire_unpack(SET, bytes, rng_below(&rng, n + 1), &a));
        err_free(pbjson_decode(SET, text, json_len, 0, &b));
        if (a)
            free(pbjson_encode(a, 0));
    }
}
END_TEST

START_TEST(a_message_may_not_take_more_memory_than_its_share)
{
    /* Each empty Part is two bytes on the wire and some hundred in memory. */
    size_t n = 4 << 20;
    AUTO(str) char *bytes = mem_alloc(n);
    for (size_t i = 0; i < n; i += 2) {
        bytes[i] = 11 << 3 | 2; /* field 11, parts */
        bytes[i + 1] = 0;
    }
    ProtobufCMessage *m = NULL;
    ck_err(wire_unpack(SET, bytes, n, &m), ERR_LIMIT);
}
END_TEST

/* --- merging ------------------------------------------------------------------------ */

START_TEST(what_a_reader_does_not_know_survives_its_update)
{
    static const char old[] =
        "{\"schema\":1,\"future\":{\"a\":[1,2]},\"set\":\"old\",\"error\":\"gone\","
        "\"spec\":{\"group\":\"g\",\"color\":\"red\"},"
        "\"epochs\":[{\"domain\":\"a\",\"note\":\"of a\"},"
        "{\"domain\":\"b\",\"note\":\"of b\"}],"
        "\"moves\":[{\"state\":\"SET_PREPARING\",\"why\":\"due\"}],"
        "\"token\":{\"revision\":\"1\",\"lost\":true}}";
    AUTO(wire)
    ProtobufCMessage *m = decoded(
        SET, "{\"schema\":1,\"set\":\"new\",\"spec\":{\"group\":\"h\"},\"epochs\":["
             "{\"domain\":\"b\",\"epoch\":\"//4A\"},{\"domain\":\"c\"}],"
             "\"moves\":[{\"state\":\"SET_PREPARING\"},{\"state\":\"SET_CAPTURED\"}]}");
    AUTO(str) char *json = NULL;
    ck_ok(pbjson_merge(old, strlen(old), m, &json));
    ck_assert_str_eq(
        json,
        "{\"schema\":1,\"set\":\"new\",\"spec\":{\"group\":\"h\",\"color\":\"red\"},"
        "\"epochs\":[{\"domain\":\"b\",\"epoch\":\"//4A\",\"note\":\"of b\"},"
        "{\"domain\":\"c\"}],\"moves\":[{\"state\":\"SET_PREPARING\",\"why\":\"due\"}"
        ",{\"state\":\"SET_CAPTURED\"}],\"future\":{\"a\":[1,2]}}");
    AUTO(str) char *fresh = NULL;
    ck_ok(pbjson_merge("", 0, m, &fresh));
    AUTO(str) char *plain = pbjson_encode(m, 0);
    ck_assert_str_eq(fresh, plain);
    char *none = NULL;
    ck_err(pbjson_merge("[]", 2, m, &none), ERR_INVALID);
}
END_TEST

START_TEST(suggestions_are_near_or_none)
{
    static const char *const known[] = {"listen", "cluster", "name", "tls"};
    ck_assert_str_eq(suggest_nearest("lisen", known, 4), "listen");
    ck_assert_str_eq(suggest_nearest("NAME", known, 4), "name");
    ck_assert_str_eq(suggest_nearest("clutser", known, 4), "cluster");
    ck_assert_ptr_null(suggest_nearest("tsl", known, 4));
    ck_assert_ptr_null(suggest_nearest("elsewhere", known, 4));
    ck_assert_ptr_null(suggest_nearest("", known, 4));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("pbjson");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, numbers_keep_their_value);
    tcase_add_test(tc, special_reals_are_text);
    tcase_add_test(tc, numbers_out_of_range_are_refused);
    tcase_add_test(tc, records_look_as_proto3_json_says);
    tcase_add_test(tc, default_values_are_shown_when_asked_for);
    tcase_add_test(tc, enums_and_spellings_are_read_generously);
    tcase_add_test(tc, errors_name_the_place_and_the_nearest_member);
    tcase_add_test(tc, text_that_is_no_json_is_refused);
    tcase_add_test(tc, one_member_of_a_choice_only);
    tcase_add_test(tc, bytes_that_are_no_text_are_shown_repaired);
    tcase_add_test(tc, every_message_survives_json_and_bytes);
    tcase_add_test(tc, damaged_bytes_are_an_error_or_a_message);
    tcase_add_test(tc, a_message_may_not_take_more_memory_than_its_share);
    tcase_add_test(tc, what_a_reader_does_not_know_survives_its_update);
    tcase_add_test(tc, suggestions_are_near_or_none);
    return suite_main("pbjson", tc);
}
