/* What the scripted scenarios share: each file adds its own to the suite. */
#ifndef TESTS_SIM_SCRIPT_H
#define TESTS_SIM_SCRIPT_H

#include "tests/sim/world.h"

/* A world in which a coordinator leads and a set of all partitions has been asked for. */
struct world *script_started(uint64_t seed);
/* Of the first set. */
bool script_captured(const struct world *w);
bool script_aborted(const struct world *w);
/* The coordinator that leads, or -1. */
int script_leader(const struct world *w);

struct TCase;
void script_add(struct TCase *tc);
void script_waves_add(struct TCase *tc);
void script_rehearsal_add(struct TCase *tc);

#endif
