/* Between the model's structs and protobuf-c messages. Messages made here live on the
 * heap and are freed with wire_free; what comes from the wire is validated here and
 * nowhere else. Pure. */
#ifndef COMMON_WIRE_CONVERT_H
#define COMMON_WIRE_CONVERT_H

#include "common/model/cut.h"
#include "stillpoint/v1/agent.pb-c.h"
#include "stillpoint/v1/records.pb-c.h"

/* Replaces a text member of a heap message with a copy. */
void pb_set(char **member, const char *text);
/* Replaces a bytes member of a heap message with a copy. */
void pb_set_bytes(ProtobufCBinaryData *member, const void *bytes, size_t n);
/* Appends an empty slot to a repeated message member and returns it. */
#define PB_APPEND(msg, member)                                                           \
    ({                                                                                   \
        (msg)->member =                                                                  \
            mem_resize((msg)->member, (msg)->n_##member + 1, sizeof *(msg)->member);     \
        &(msg)->member[(msg)->n_##member++];                                             \
    })
/* A deep copy of any message. */
ProtobufCMessage *pb_copy(const ProtobufCMessage *msg) MUST_USE;

/* INVALID, naming the field, when the message is missing or out of range. */
struct err *token_from_pb(const Stillpoint__V1__Token *m, struct token *out) MUST_USE;
Stillpoint__V1__Token *token_to_pb(const struct token *t) MUST_USE;

/* The array is the caller's (free); LIMIT above CUT_MAX_PARTS. */
struct err *epochs_from_pb(Stillpoint__V1__DomainEpoch **m, size_t n,
                           struct domain_epoch **out) MUST_USE;
/* A heap array of heap messages, for a repeated member. */
Stillpoint__V1__DomainEpoch **epochs_to_pb(const struct domain_epoch *e,
                                           size_t n) MUST_USE;

/* INVALID when it is too long; none is no error. */
struct err *signature_from_pb(const ProtobufCBinaryData *m,
                              struct signature *out) MUST_USE;
struct err *proof_from_pb(const Stillpoint__V1__Proof *m, struct proof *out) MUST_USE;
Stillpoint__V1__Proof *proof_to_pb(const struct set_id *set,
                                   const struct proof *p) MUST_USE;
struct err *proofs_from_pb(Stillpoint__V1__Proof **m, size_t n,
                           struct proof **out) MUST_USE;
Stillpoint__V1__Proof **proofs_to_pb(const struct set_id *set, const struct proof *p,
                                     size_t n) MUST_USE;

/* Verifies the cut that a record claims, of all parts but those that a relaxed set names
 * as missing. CORRUPT says what is wrong. */
struct err *record_prove(const Stillpoint__V1__SetRecord *r) MUST_USE;
/* Whether the (relaxed) set was captured without this part, and how many there are. */
bool part_is_missing(const Stillpoint__V1__SetRecord *r, const Stillpoint__V1__Part *p);
size_t record_missing(const Stillpoint__V1__SetRecord *r);

/* "COMPLETE", "KERNEL_VERIFIED"…: the enum's name without its prefix. Static. */
const char *set_state_text(Stillpoint__V1__SetState s);
const char *part_state_text(Stillpoint__V1__PartState s);
const char *task_state_text(Stillpoint__V1__TaskState s);
const char *evidence_text(Stillpoint__V1__Evidence e);

#endif
