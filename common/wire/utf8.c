#include "common/wire/utf8.h"

#include "common/base/buf.h"
#include "common/base/mem.h"

static bool follows(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t utf8_char(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xc2 || !follows(u[1]))
        return 0;
    if (u[0] < 0xe0)
        return 2;
    if (u[0] < 0xf0) {
        bool overlong = u[0] == 0xe0 && u[1] < 0xa0;
        bool surrogate = u[0] == 0xed && u[1] >= 0xa0;
        return overlong || surrogate || !follows(u[2]) ? 0 : 3;
    }
    bool overlong = u[0] == 0xf0 && u[1] < 0x90;
    bool beyond = u[0] > 0xf4 || (u[0] == 0xf4 && u[1] >= 0x90);
    return overlong || beyond || !follows(u[2]) || !follows(u[3]) ? 0 : 4;
}

bool utf8_valid(const char *s)
{
    while (*s) {
        size_t n = utf8_char(s);
        if (!n)
            return false;
        s += n;
    }
    return true;
}

char *utf8_repair(const char *s)
{
    AUTO_BUF struct buf out;
    buf_init(&out);
    while (*s) {
        size_t n = utf8_char(s);
        if (n)
            buf_add(&out, s, n);
        else
            buf_str(&out, "\xef\xbf\xbd");
        s += n ? n : 1;
    }
    return buf_steal(&out);
}

/* The controls below U+0020, U+007F, and U+0080 to U+009F, which terminals obey too. */
static bool is_control(const char *s, size_t n)
{
    unsigned char c = (unsigned char)*s;
    return c < 0x20 || c == 0x7f || (n == 2 && c == 0xc2 && (unsigned char)s[1] < 0xa0);
}

char *utf8_printable(const char *s, size_t most)
{
    struct buf out;
    buf_init(&out);
    while (*s) {
        size_t n = utf8_char(s);
        size_t width = n ? n : 1;
        if (out.len + width > most)
            break;
        if (n == 0 || is_control(s, n))
            buf_char(&out, n ? ' ' : '?');
        else
            buf_add(&out, s, n);
        s += width;
    }
    char *text = mem_strdup(buf_text(&out));
    buf_fini(&out);
    return text;
}
