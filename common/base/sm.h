/* State machines as tables: names, flags and the allowed moves of every state in one
 * const array; each move is asserted and shown to an observer. Pure; owned by one thread.
 */
#ifndef COMMON_BASE_SM_H
#define COMMON_BASE_SM_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SM_INITIAL = 1, /* a machine may start here */
    SM_FINAL = 2,   /* no move leaves it */
};

struct sm_state {
    const char *name;
    unsigned flags;
    uint64_t allowed; /* bit i set: a move to state i is allowed */
};
#define SM_TO(state) (UINT64_C(1) << (state))

struct sm;
/* Told of each move before anything acts on it; the shells log here. */
typedef void sm_observer(void *ctx, const struct sm *m, const char *from, const char *to);

struct sm {
    const struct sm_state *table; /* static, indexed by state */
    const char *name;             /* of this machine ("round"), static */
    int state;
    sm_observer *observer; /* may be NULL */
    void *observer_ctx;
};

/* Starts in `state`, which must be marked SM_INITIAL. */
void sm_init(struct sm *m, const char *name, const struct sm_state *table, int state);
/* Restores a state read from a journal or record; any state of the table is fine. */
void sm_restore(struct sm *m, const char *name, const struct sm_state *table, int state);
/* Moves; asserts that the table allows it. */
void sm_move(struct sm *m, int to);
bool sm_is_final(const struct sm *m);
const char *sm_name(const struct sm *m);

#endif
