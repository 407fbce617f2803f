/* What an agent says to the guardian on its node, over a SOCK_SEQPACKET Unix socket whose
 * other end must be root: one request, one reply, each one datagram of a header and `n`
 * fixed-size items. Partitions are named; paths and commands are not for the wire (I10).
 *
 *   - HELLO → text says who answers: "stillpoint-guardian PID"
 *   - ARM: set, token, hold_ms (0: do not judge the pause), parts' names, probe (only to
 *     check: it holds no domain and cannot freeze) → per part: ok or kind and text;
 *     domain, pause_ms, flush_ms, dirty_bytes. Those that are ok are armed.
 *   - FREEZE: set, token, hold_ms, freeze_timeout_ms, parts' names (none: all), with
 * their domains → per armed part: ok, epoch, frozen_at_ns; or kind and text. What is
 * frozen stays so; hold_ms counts from the first
 *   - COMMIT: set, token, digest, parts' names, epochs and capture ids → per part: ok,
 *     capture, path, the three times, unbroken, evidence; or kind and text
 *   - ABORT: set, token → ok once everything is thawed and its captures are removed; per
 *     part: frozen_at_ns and thawed_at_ns, 0 if it was not; no parts of an unknown set
 *   - DROP: parts' names and capture ids → per part: ok, or kind and text
 *   - LIST: from → captures present from that number on (`total` of them): part, capture,
 *     path, partial; then the holds' sets in `text`
 *
 * One version, no negotiation: agent and guardian are installed together. */
#ifndef AGENT_GUARDIAN_WIRE_H
#define AGENT_GUARDIAN_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/model/cut.h"
#include "common/model/ids.h"
#include "common/model/token.h"

#define GUARD_MAGIC 0x53504744u /* "SPGD" */
#define GUARD_VERSION 3
#define GUARD_MAX_PARTS 256
#define GUARD_TEXT_BYTES 320
#define GUARD_PATH_BYTES 400
#define GUARD_OK (-1) /* in place of an enum err_kind */

enum guard_type {
    GUARD_HELLO,
    GUARD_ARM,
    GUARD_FREEZE,
    GUARD_COMMIT,
    GUARD_ABORT,
    GUARD_DROP,
    GUARD_LIST,
    GUARD_TYPES,
};

struct guard_part {
    struct part_id part;
    struct capture_id capture; /* COMMIT, DROP */
    struct epoch epoch;        /* COMMIT: as FREEZE answered it */
};

struct guard_request {
    uint32_t magic;
    uint16_t version, type;
    uint32_t seq; /* the reply repeats it */
    uint32_t n;   /* parts */
    struct set_id set;
    struct token token;
    struct digest digest; /* COMMIT: of all epochs of the set */
    int64_t hold_ms, freeze_timeout_ms;
    uint32_t from;                            /* LIST */
    uint32_t probe;                           /* ARM: 1 */
    struct guard_part parts[GUARD_MAX_PARTS]; /* n of them are sent */
};
#define GUARD_REQUEST_BYTES(n)                                                           \
    (offsetof(struct guard_request, parts) + (size_t)(n) * sizeof(struct guard_part))

struct guard_item {
    struct part_id part;
    int32_t kind; /* GUARD_OK or enum err_kind */
    uint8_t unbroken, partial;
    uint8_t evidence; /* enum evidence */
    struct epoch epoch;
    struct domain_id domain;
    struct capture_id capture;
    int64_t pause_ms, flush_ms, dirty_bytes;
    int64_t frozen_at_ns, captured_at_ns, thawed_at_ns; /* CLOCK_BOOTTIME */
    char text[GUARD_TEXT_BYTES];
    char path[GUARD_PATH_BYTES];
};

struct guard_reply {
    uint32_t magic;
    uint16_t version, type;
    uint32_t seq;
    uint32_t n;     /* items */
    int32_t kind;   /* of the request as a whole: GUARD_OK or enum err_kind */
    uint32_t total; /* LIST */
    char text[GUARD_TEXT_BYTES];
    struct guard_item items[GUARD_MAX_PARTS]; /* n of them are sent */
};
#define GUARD_REPLY_BYTES(n)                                                             \
    (offsetof(struct guard_reply, items) + (size_t)(n) * sizeof(struct guard_item))

#endif
