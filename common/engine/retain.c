#include "common/engine/retain.h"

#include <limits.h>
#include <string.h>

enum { SPAN_MAX = 100000 };

static bool span_is_zero(const struct retain_span *s)
{
    return !s->years && !s->months && !s->days && !s->hours;
}

bool retain_is_empty(const struct retain_policy *p)
{
    for (int i = 0; i < RETAIN_BUCKETS; i++)
        if (p->keep[i] || !span_is_zero(&p->within[i]))
            return false;
    return p->tags_n == 0;
}

struct err *retain_span_parse(const char *text, struct retain_span *out)
{
    const char *s = text;
    *out = (struct retain_span){0};
    while (*s) {
        int v = 0;
        const char *digits = s;
        for (; *s >= '0' && *s <= '9' && v <= SPAN_MAX; s++)
            v = v * 10 + (*s - '0');
        int *field = *s == 'y'   ? &out->years
                     : *s == 'm' ? &out->months
                     : *s == 'd' ? &out->days
                     : *s == 'h' ? &out->hours
                                 : NULL;
        if (!field || s == digits || v > SPAN_MAX)
            return err_new(ERR_INVALID, "'%s' is not a span (like 1y5m7d2h)", text);
        *field = v;
        s++;
    }
    return NULL;
}

bool retain_is_pinned(const struct snapshot *s)
{
    size_t n = strlen(RETAIN_PIN);
    for (size_t i = 0; i < s->tags.n; i++) {
        const char *tag = s->tags.items[i];
        if (strncmp(tag, RETAIN_PIN, n) == 0 && (!tag[n] || tag[n] == '='))
            return true;
    }
    return false;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01 of a proleptic Gregorian date; `month` from 1, any `day`. Counts
 * from March, so that the leap day comes last in a year of 400-year eras. */
static int64_t days_of(int64_t year, int month, int64_t day)
{
    int64_t y = year - (month <= 2);
    int64_t era = floor_div(y, 400);
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year + day - 1 -
           719468;
}

struct date {
    int64_t year;
    int month;
    int day;
    int hour;
    int64_t days; /* since 1970-01-01 */
    int64_t second_of_day;
};

static struct date date_of(int64_t sec)
{
    struct date d = {.days = floor_div(sec, 86400)};
    d.second_of_day = sec - d.days * 86400;
    d.hour = (int)(d.second_of_day / 3600);
    int64_t z = d.days + 719468;
    int64_t era = floor_div(z, 146097);
    int64_t of_era = z - era * 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * years + years / 4 - years / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    d.day = (int)(of_year - (153 * shifted + 2) / 5) + 1;
    d.month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    d.year = years + era * 400 + (d.month <= 2);
    return d;
}

/* ISO 8601: the week belongs to the year of its Thursday. */
static int64_t iso_week(const struct date *d)
{
    int64_t weekday = (d->days + 3) - floor_div(d->days + 3, 7) * 7; /* Monday is 0 */
    struct date thursday = date_of((d->days - weekday + 3) * 86400);
    int64_t of_year = thursday.days - days_of(thursday.year, 1, 1);
    return thursday.year * 100 + of_year / 7 + 1;
}

/* A number that is equal for two times in the same hour, day… */
static int64_t bucket_of(enum retain_bucket b, const struct snapshot *s, size_t nr)
{
    const struct date d = date_of(s->time.sec + s->zone_s);
    switch (b) {
    case RETAIN_HOURLY:
        return ((d.year * 100 + d.month) * 100 + d.day) * 100 + d.hour;
    case RETAIN_DAILY:
        return (d.year * 100 + d.month) * 100 + d.day;
    case RETAIN_WEEKLY:
        return iso_week(&d);
    case RETAIN_MONTHLY:
        return d.year * 100 + d.month;
    case RETAIN_YEARLY:
        return d.year;
    default:
        return (int64_t)nr;
    }
}

static int compare(struct go_time a, struct go_time b)
{
    if (a.sec != b.sec)
        return a.sec < b.sec ? -1 : 1;
    return a.nsec < b.nsec ? -1 : a.nsec > b.nsec;
}

/* The newest snapshot that is not of the future. */
static const struct snapshot *newest(const struct snapshot *const *list, size_t n,
                                     struct go_time now)
{
    for (size_t i = 0; i < n; i++)
        if (compare(list[i]->time, now) < 0)
            return list[i];
    return NULL;
}

/* Is the snapshot younger than the newest minus the span? A month before March 31 is
 * February 31, which is March 3: calendars are like that. */
static bool is_within(const struct retain_span *span, const struct snapshot *latest,
                      const struct snapshot *s)
{
    if (!latest)
        return true;
    const struct date d = date_of(latest->time.sec + latest->zone_s);
    int64_t months = (d.year - span->years) * 12 + d.month - 1 - span->months;
    int64_t year = floor_div(months, 12);
    int64_t days = days_of(year, (int)(months - year * 12) + 1, d.day - span->days);
    struct go_time from = {.sec = days * 86400 + d.second_of_day - latest->zone_s -
                                  (int64_t)span->hours * 3600,
                           .nsec = latest->time.nsec};
    return compare(s->time, from) > 0;
}

static bool has_all(const struct snapshot *s, const struct strings *tags)
{
    for (size_t i = 0; i < tags->n; i++)
        if (!strings_has(&s->tags, tags->items[i]))
            return false;
    return true;
}

/* What was last seen in each bucket, and how many are left. */
struct state {
    int left[RETAIN_BUCKETS];
    int64_t last[RETAIN_BUCKETS];
    int64_t last_within[RETAIN_BUCKETS];
};

static bool keep_counted(struct state *st, enum retain_bucket b, const struct snapshot *s,
                         size_t nr, size_t n)
{
    int64_t value = bucket_of(b, s, nr);
    if (!st->left[b] || (value == st->last[b] && nr != n - 1))
        return false;
    st->last[b] = value;
    if (st->left[b] > 0)
        st->left[b]--;
    return true;
}

static bool keep_within(const struct retain_policy *p, struct state *st,
                        enum retain_bucket b, const struct snapshot *latest,
                        const struct snapshot *s, size_t nr)
{
    int64_t value = bucket_of(b, s, nr);
    if (span_is_zero(&p->within[b]) || !is_within(&p->within[b], latest, s) ||
        value == st->last_within[b])
        return false;
    st->last_within[b] = value;
    return true;
}

void retain_apply(const struct retain_policy *p, const struct snapshot *const *list,
                  size_t n, struct go_time now, bool *keep)
{
    const struct snapshot *latest = newest(list, n, now);
    struct state st;
    for (int b = 0; b < RETAIN_BUCKETS; b++) {
        st.left[b] = p->keep[b];
        st.last[b] = st.last_within[b] = INT64_MIN;
    }
    for (size_t i = 0; i < n; i++) {
        keep[i] = keep[i] || retain_is_pinned(list[i]);
        for (size_t t = 0; t < p->tags_n; t++)
            keep[i] = keep[i] || has_all(list[i], &p->tags[t]);
        /* Every bucket must see every snapshot, kept already or not. */
        for (int b = 0; b < RETAIN_BUCKETS; b++) {
            bool counted = keep_counted(&st, b, list[i], i, n);
            bool within = keep_within(p, &st, b, latest, list[i], i);
            keep[i] = keep[i] || counted || within;
        }
    }
}
