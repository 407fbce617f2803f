/* Numbers with their unit written behind them: `10s`, `250ms`, `64MiB`. Pure. */
#ifndef COMMON_CONF_UNITS_H
#define COMMON_CONF_UNITS_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* One decimal number directly followed by ms, s, m, h, d or w; a bare 0 needs no unit.
 * INVALID says what would have been understood. */
struct err *units_duration(const char *text, int64_t *out_ms) MUST_USE;
/* One decimal number followed by B, KiB, MiB, GiB or TiB (powers of 1024) or kB, MB, GB,
 * TB (powers of 1000); a bare 0 needs no unit. INVALID otherwise. */
struct err *units_size(const char *text, uint64_t *out_bytes) MUST_USE;
/* A decimal integer, nothing before or behind it. INVALID otherwise. */
struct err *units_int(const char *text, int64_t *out) MUST_USE;

#endif
