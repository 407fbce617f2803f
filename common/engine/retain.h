/* Which snapshots a policy keeps: restic's rules, to the letter, plus pins. Decides only;
 * `forget` acts. Pure. */
#ifndef COMMON_ENGINE_RETAIN_H
#define COMMON_ENGINE_RETAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/repo/snapshot.h"

/* Whoever has this tag, or one that begins with RETAIN_PIN "=", is always kept. */
#define RETAIN_PIN "pin"

enum retain_bucket {
    RETAIN_LAST,
    RETAIN_HOURLY,
    RETAIN_DAILY,
    RETAIN_WEEKLY, /* ISO weeks */
    RETAIN_MONTHLY,
    RETAIN_YEARLY,
    RETAIN_BUCKETS,
};

/* A span before the newest snapshot; months and years as the calendar has them. */
struct retain_span {
    int years;
    int months;
    int days;
    int hours;
};

struct retain_policy {
    /* The newest of each of so many hours, days…; -1: of all. The oldest snapshot is kept
     * too while a count is not used up. */
    int keep[RETAIN_BUCKETS];
    /* Everything in this span; by bucket: the newest of each hour, day… in it. That of
     * RETAIN_LAST is the one that keeps everything. */
    struct retain_span within[RETAIN_BUCKETS];
    /* Lists of tags: who has all of one list is kept. Borrowed. */
    const struct strings *tags;
    size_t tags_n;
};

/* True if it would keep nothing. */
bool retain_is_empty(const struct retain_policy *p);
/* "1y5m7d2h", each part optional. INVALID. */
struct err *retain_span_parse(const char *text, struct retain_span *out) MUST_USE;
bool retain_is_pinned(const struct snapshot *s);

/* Sets keep[i] to true for those of the n snapshots (of one group, newest first) that the
 * policy keeps; leaves the others alone. Snapshots later than `now` do not count as the
 * newest, from which spans are measured. */
void retain_apply(const struct retain_policy *p, const struct snapshot *const *list,
                  size_t n, struct go_time now, bool *keep);

#endif
