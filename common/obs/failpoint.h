/* Places at which a test may have this process die or stand still, by name. Compiled in
 * only with STILLPOINT_FAILPOINTS (the sanitizer builds); elsewhere nothing is left of
 * them. */
#ifndef COMMON_OBS_FAILPOINT_H
#define COMMON_OBS_FAILPOINT_H

#ifdef STILLPOINT_FAILPOINTS
/* If the environment's STILLPOINT_FAILPOINT is "<machine>:<state>": SIGKILL. If it is
 * that with ":stop" behind it: SIGSTOP, each time. If it is "@FILE", FILE holds one of
 * these, and is removed when it comes true. Whichever thread makes the change. */
void failpoint(const char *machine, const char *state);
#else
static inline void failpoint(const char *machine, const char *state)
{
    (void)machine;
    (void)state;
}
#endif

#endif
