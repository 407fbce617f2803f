#include "common/repo/gotext.h"

#include <string.h>

#include "common/repo/printable.h"

enum { RUNE_BAD = 0xfffd };

/* Decodes one code point as Go does; bytes that are not UTF-8 give width 1 and
 * *valid = false. */
static uint32_t next_rune(const unsigned char *s, size_t n, size_t *width, bool *valid)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned lead = s[0];
    *width = 1;
    *valid = true;
    if (lead < 0x80)
        return lead;
    size_t len = lead >= 0xf0 && lead < 0xf5 ? 4
                 : lead >= 0xe0              ? 3
                 : lead >= 0xc2              ? 2
                                             : 0;
    *valid = false;
    if (!len || lead >= 0xf5 || len > n)
        return RUNE_BAD;
    uint32_t rune = lead & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return RUNE_BAD;
        rune = rune << 6 | (s[i] & 0x3f);
    }
    if (rune < least[len] || rune > 0x10ffff || (rune >= 0xd800 && rune < 0xe000))
        return RUNE_BAD;
    *width = len;
    *valid = true;
    return rune;
}

static void add_rune(struct buf *b, uint32_t r)
{
    if (r < 0x80) {
        buf_char(b, (char)r);
        return;
    }
    if (r < 0x800) {
        buf_char(b, (char)(0xc0 | r >> 6));
    } else {
        if (r < 0x10000) {
            buf_char(b, (char)(0xe0 | r >> 12));
        } else {
            buf_char(b, (char)(0xf0 | r >> 18));
            buf_char(b, (char)(0x80 | (r >> 12 & 0x3f)));
        }
        buf_char(b, (char)(0x80 | (r >> 6 & 0x3f)));
    }
    buf_char(b, (char)(0x80 | (r & 0x3f)));
}

bool go_utf8_valid(const char *s, size_t n)
{
    size_t width;
    for (size_t i = 0; i < n; i += width) {
        bool valid;
        next_rune((const unsigned char *)s + i, n - i, &width, &valid);
        if (!valid)
            return false;
    }
    return true;
}

static void json_control(struct buf *b, unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        buf_char(b, '\\');
        buf_char(b, (char)c);
        return;
    case '\b':
        buf_str(b, "\\b");
        return;
    case '\f':
        buf_str(b, "\\f");
        return;
    case '\n':
        buf_str(b, "\\n");
        return;
    case '\r':
        buf_str(b, "\\r");
        return;
    case '\t':
        buf_str(b, "\\t");
        return;
    default:
        buf_printf(b, "\\u%04x", c);
    }
}

/* How many bytes in front are printable ASCII that no form escapes. */
static size_t plain_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\' &&
           s[i] != '<' && s[i] != '>' && s[i] != '&')
        i++;
    return i;
}

void go_json_string(struct buf *b, const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t width, plain = plain_prefix(s, n);
    buf_char(b, '"');
    buf_add(b, s, plain);
    for (size_t i = plain; i < n; i += width) {
        bool valid;
        uint32_t rune = next_rune(u + i, n - i, &width, &valid);
        if (!valid)
            buf_str(b, "\\ufffd");
        else if (rune == 0x2028 || rune == 0x2029)
            buf_printf(b, "\\u%04x", rune);
        else if (rune < 0x20 || rune == '"' || rune == '\\' || rune == '<' ||
                 rune == '>' || rune == '&')
            json_control(b, (unsigned char)rune);
        else
            buf_add(b, s + i, width);
    }
    buf_char(b, '"');
}

static void quote_rune(struct buf *b, uint32_t rune)
{
    static const char letters[] = "abtnvfr"; /* of the bytes 7 to 13 */
    if (rune == '"' || rune == '\\') {
        buf_char(b, '\\');
        buf_char(b, (char)rune);
    } else if (rune_is_printable(rune)) {
        add_rune(b, rune);
    } else if (rune >= 7 && rune <= 13) {
        buf_char(b, '\\');
        buf_char(b, letters[rune - 7]);
    } else if (rune < ' ' || rune == 0x7f) {
        buf_printf(b, "\\x%02x", rune);
    } else if (rune < 0x10000) {
        buf_printf(b, "\\u%04x", rune);
    } else {
        buf_printf(b, "\\U%08x", rune);
    }
}

void go_quote(struct buf *b, const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t width;
    for (size_t i = 0; i < n; i += width) {
        bool valid;
        uint32_t rune = next_rune(u + i, n - i, &width, &valid);
        if (valid)
            quote_rune(b, rune);
        else
            buf_printf(b, "\\x%02x", u[i]);
    }
}

/* Reads `digits` digits of the given base. */
static bool number(const char *s, size_t n, size_t digits, unsigned base, uint32_t *out)
{
    uint32_t v = 0;
    if (n < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        unsigned d = s[i] >= '0' && s[i] <= '9'   ? (unsigned)(s[i] - '0')
                     : s[i] >= 'a' && s[i] <= 'f' ? (unsigned)(s[i] - 'a' + 10)
                     : s[i] >= 'A' && s[i] <= 'F' ? (unsigned)(s[i] - 'A' + 10)
                                                  : 99;
        if (d >= base)
            return false;
        v = v * base + d;
    }
    *out = v;
    return true;
}

/* One escape; s points behind the backslash. Returns the bytes used, 0 when malformed. */
static size_t unquote_escape(struct buf *b, const char *s, size_t n)
{
    static const char letters[] = "abtnvfr";
    uint32_t v = 0;
    if (!n)
        return 0;
    const char *letter = s[0] ? strchr(letters, s[0]) : NULL;
    if (letter) {
        buf_char(b, (char)(7 + (letter - letters)));
        return 1;
    }
    if (s[0] == '"' || s[0] == '\\') {
        buf_char(b, s[0]);
        return 1;
    }
    if (s[0] == 'x' && number(s + 1, n - 1, 2, 16, &v)) {
        buf_char(b, (char)v);
        return 3;
    }
    if (number(s, n, 3, 8, &v) && v < 256) {
        buf_char(b, (char)v);
        return 3;
    }
    size_t digits = s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    if (!digits || !number(s + 1, n - 1, digits, 16, &v) || v > 0x10ffff ||
        (v >= 0xd800 && v < 0xe000))
        return 0;
    add_rune(b, v);
    return 1 + digits;
}

bool go_unquote(struct buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (s[i] == '"' || s[i] == '\n')
            return false;
        if (s[i] != '\\') {
            buf_char(b, s[i++]);
            continue;
        }
        size_t used = unquote_escape(b, s + i + 1, n - i - 1);
        if (!used)
            return false;
        i += 1 + used;
    }
    return true;
}

/* Days since 1970-01-01 of a proleptic Gregorian date, and back (years of 400-year eras
 * that begin on 1 March, so that the leap day is the last of a year). */
static int64_t days_of_date(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * ((int64_t)m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static void date_of_days(int64_t days, int64_t *y, unsigned *m, unsigned *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *d = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *m = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *y = yoe + era * 400 + (*m <= 2);
}

/* Writes the last n decimal digits of v. */
static void digits(char *out, size_t n, uint32_t v)
{
    for (size_t i = n; i > 0; i--, v /= 10)
        out[i - 1] = (char)('0' + v % 10);
}

void go_time_format(struct buf *b, struct go_time t)
{
    int64_t days = t.sec / 86400, rest = t.sec % 86400, year;
    unsigned month, day;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    date_of_days(days, &year, &month, &day);
    year = year < 0 ? 0 : year > 9999 ? 9999 : year;
    char text[] = "0000-00-00T00:00:00.000000000Z";
    size_t end = 19;
    digits(text, 4, (uint32_t)year);
    digits(text + 5, 2, month);
    digits(text + 8, 2, day);
    digits(text + 11, 2, (uint32_t)(rest / 3600));
    digits(text + 14, 2, (uint32_t)(rest / 60 % 60));
    digits(text + 17, 2, (uint32_t)(rest % 60));
    if (t.nsec) {
        digits(text + 20, 9, t.nsec);
        for (end = 29; text[end - 1] == '0';)
            end--;
    }
    text[end++] = 'Z';
    buf_add(b, text, end);
}

/* "Z" or "+hh:mm" at the end of the text; the offset in seconds. */
static bool parse_zone(const char *s, size_t n, int64_t *offset)
{
    uint32_t h, m;
    *offset = 0;
    if (n == 1 && (*s == 'Z' || *s == 'z'))
        return true;
    if (n != 6 || (*s != '+' && *s != '-') || s[3] != ':' ||
        !number(s + 1, 2, 2, 10, &h) || !number(s + 4, 2, 2, 10, &m) || h > 24 || m > 59)
        return false;
    *offset = ((int64_t)h * 60 + m) * 60 * (*s == '-' ? -1 : 1);
    return true;
}

bool go_time_parse(const char *s, size_t n, struct go_time *out)
{
    uint32_t y, mo, d, h, mi, sec, nsec = 0, scale = 100000000;
    if (n < 20 || s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != 't') ||
        s[13] != ':' || s[16] != ':' || !number(s, 4, 4, 10, &y) ||
        !number(s + 5, 2, 2, 10, &mo) || !number(s + 8, 2, 2, 10, &d) ||
        !number(s + 11, 2, 2, 10, &h) || !number(s + 14, 2, 2, 10, &mi) ||
        !number(s + 17, 2, 2, 10, &sec))
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 59)
        return false;
    size_t i = 19;
    if (s[i] == '.') {
        for (i++; i < n && s[i] >= '0' && s[i] <= '9'; i++, scale /= 10)
            nsec += (uint32_t)(s[i] - '0') * scale;
    }
    int64_t offset;
    if (!parse_zone(s + i, n - i, &offset))
        return false;
    out->sec = days_of_date(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - offset;
    out->nsec = nsec;
    return true;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void go_base64(struct buf *b, const void *data, size_t n)
{
    const unsigned char *u = data;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)u[i] << 16;
        v |= left > 1 ? (uint32_t)u[i + 1] << 8 : 0;
        v |= left > 2 ? u[i + 2] : 0;
        buf_char(b, base64_digits[v >> 18]);
        buf_char(b, base64_digits[v >> 12 & 63]);
        buf_char(b, left > 1 ? base64_digits[v >> 6 & 63] : '=');
        buf_char(b, left > 2 ? base64_digits[v & 63] : '=');
    }
}

bool go_base64_decode(struct buf *b, const char *s, size_t n)
{
    if (n % 4)
        return false;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t v = 0;
        size_t digits = 0;
        while (digits < 4 && s[i + digits] != '=') {
            const char *at = s[i + digits] ? strchr(base64_digits, s[i + digits]) : NULL;
            if (!at)
                return false;
            v = v << 6 | (uint32_t)(at - base64_digits);
            digits++;
        }
        bool last = i + 4 == n;
        if (digits < 2 || (digits < 4 && !last) || (digits == 2 && s[i + 3] != '='))
            return false;
        v <<= 6 * (4 - digits);
        buf_char(b, (char)(v >> 16));
        if (digits > 2)
            buf_char(b, (char)(v >> 8));
        if (digits > 3)
            buf_char(b, (char)v);
    }
    return true;
}
