/* Memory that nothing points to any more, reported by the sanitizer builds: daemons end
 * by _exit, past which the sanitizer's own look at the end does not happen. */
#ifndef COMMON_OBS_LEAKS_H
#define COMMON_OBS_LEAKS_H

/* Says on stderr what leaked, in builds with ASan; does nothing in others. Needs: what is
 * not lost is still pointed to by a caller's variable. Call it last, on one thread. */
void leaks_report(void);

#endif
