/* Which code points Go's strconv.Quote leaves as they are. Pure. */
#ifndef COMMON_REPO_PRINTABLE_H
#define COMMON_REPO_PRINTABLE_H

#include <stdbool.h>
#include <stdint.h>

bool rune_is_printable(uint32_t rune);

#endif
