/* The clock of everything that has to do with holds: it goes on while the machine sleeps,
 * as the pause of a frozen writer does. Any thread. */
#ifndef AGENT_GUARDIAN_CLOCK_H
#define AGENT_GUARDIAN_CLOCK_H

#include <stdint.h>

/* CLOCK_BOOTTIME. */
int64_t clock_ns(void);
int64_t clock_ms(void);

#endif
