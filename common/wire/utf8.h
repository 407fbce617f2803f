/* Is it UTF-8? Pure. */
#ifndef COMMON_WIRE_UTF8_H
#define COMMON_WIRE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the character at s (1 to 4), 0 if the bytes there are none (overlong forms,
 * surrogates and values above U+10FFFF are none). s ends with NUL. */
size_t utf8_char(const char *s);
bool utf8_valid(const char *s);
/* A copy (malloc) in which each byte that belongs to no character is U+FFFD. */
char *utf8_repair(const char *s);
/* A copy (malloc) of at most `most` bytes, cut between characters, in which control
 * characters are blanks: text of peers that logs and terminals are to show. */
char *utf8_printable(const char *s, size_t most);

#endif
