/* The text forms that Go gives restic's JSON: tree hashes depend on these exact bytes.
 * Pure. */
#ifndef COMMON_REPO_GOTEXT_H
#define COMMON_REPO_GOTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

/* A point in time; nsec in [0, 1e9) also before 1970. */
struct go_time {
    int64_t sec;
    uint32_t nsec;
};

/* Appends `"…"` as encoding/json does: < > & U+2028 U+2029 escaped, invalid UTF-8 as
 * \ufffd. */
void go_json_string(struct buf *b, const char *s, size_t n);
/* Appends strconv.Quote(s) without the outer quotes. */
void go_quote(struct buf *b, const char *s, size_t n);
/* Appends what go_quote's text stands for; false when it is not such a text. */
bool go_unquote(struct buf *b, const char *s, size_t n);
bool go_utf8_valid(const char *s, size_t n);

/* Appends RFC 3339 in UTC, fraction without trailing zeros. Years outside 0…9999 become
 * the nearest one inside, as restic does. */
void go_time_format(struct buf *b, struct go_time t);
/* Reads RFC 3339 with any zone and up to nine fraction digits; false when malformed. */
bool go_time_parse(const char *s, size_t n, struct go_time *out);

/* Appends standard base64 with padding. */
void go_base64(struct buf *b, const void *data, size_t n);
/* Appends the bytes that base64 text stands for; false when malformed. */
bool go_base64_decode(struct buf *b, const char *s, size_t n);

#endif
