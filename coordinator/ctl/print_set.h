/* Sets for people to read. */
#ifndef COORDINATOR_CTL_PRINT_SET_H
#define COORDINATOR_CTL_PRINT_SET_H

#include <stdbool.h>

#include "stillpoint/v1/admin.pb-c.h"

/* How long its writers waited, by its proof or what agents said of an aborted set; 0:
 * unknown, or not at all. */
double print_pause_ms(const Stillpoint__V1__Part *p);
/* The record with one line a partition: state, pause in milliseconds, bytes. */
void print_set(const Stillpoint__V1__SetRecord *s);
void print_set_list(const Stillpoint__V1__ListSetsReply *r);
/* Why the proof holds, step by step. Needs: record_prove and witness_check_record said
 * yes. */
void print_proof(const Stillpoint__V1__SetRecord *s);

/* Progress: on a terminal lines that are redrawn, elsewhere one line for each change. */
struct progress_view {
    int drawn;       /* lines on the terminal that the next drawing replaces */
    char last[4096]; /* elsewhere: what was printed last, so that repetitions are not */
};
void print_progress(struct progress_view *v, const Stillpoint__V1__SetEvent *ev);
void print_progress_end(struct progress_view *v);

#endif
