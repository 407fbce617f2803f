#include "common/base/base64.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *bytes, size_t n, struct buf *out)
{
    const uint8_t *b = bytes;
    char *to = buf_room(out, (n + 2) / 3 * 4 + 1);
    char *at = to;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)b[i] << 16;
        v |= i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0;
        v |= i + 2 < n ? b[i + 2] : 0;
        *at++ = alphabet[v >> 18];
        *at++ = alphabet[v >> 12 & 63];
        *at++ = i + 1 < n ? alphabet[v >> 6 & 63] : '=';
        *at++ = i + 2 < n ? alphabet[v & 63] : '=';
    }
    *at = '\0';
    out->len += (size_t)(at - to);
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

bool base64_decode(const char *text, size_t n, struct buf *out)
{
    if (n % 4 == 0 && n >= 4 && text[n - 1] == '=')
        n -= text[n - 2] == '=' ? 2 : 1;
    if (n % 4 == 1)
        return false;
    uint8_t *to = buf_room(out, n / 4 * 3 + 3);
    uint8_t *at = to;
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        int d = value_of(text[i]);
        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
        if (i % 4 == 3) {
            *at++ = (uint8_t)(v >> 16);
            *at++ = (uint8_t)(v >> 8);
            *at++ = (uint8_t)v;
        }
    }
    if (n % 4 == 2)
        *at++ = (uint8_t)(v >> 4);
    if (n % 4 == 3) {
        *at++ = (uint8_t)(v >> 10);
        *at++ = (uint8_t)(v >> 2);
    }
    *at = '\0';
    out->len += (size_t)(at - to);
    return true;
}
